//! Requests with batches of traces over HTTP/1.1, each over a connection of its own.

use std::pin::pin;

use futures_util::future::{Either, select};
use http::header::{HOST, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The path of traces at a collector.
const TRACES_PATH: &str = "/v1/traces";

/// Maximum length of an answer: a few lines about refused spans.
const ANSWER_LEN_MAX: usize = 64 * 1_024;

/// What the exporter takes for an error.
pub type ExchangeError = Box<dyn std::error::Error + Send + Sync>;

/// The URL for traces at an endpoint: with the usual path if it has none.
pub fn traces_url(endpoint: &str) -> String {
    let has_path = endpoint.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    if has_path { endpoint.to_owned() } else { format!("{endpoint}{TRACES_PATH}") }
}

/// The answer to a request.
///
/// # Errors
/// If the server can't be reached, ends the connection, or answers with more than 64 KiB.
pub async fn exchange(mut request: Request<Bytes>) -> Result<Response<Bytes>, ExchangeError> {
    let uri = request.uri();
    let (Some(host), Some(authority)) = (uri.host(), uri.authority()) else {
        return Err("the endpoint has no host".into());
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
    let authority = HeaderValue::try_from(authority.as_str())?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse::<Uri>()?;
    request.headers_mut().insert(HOST, authority);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answered = async {
        let (parts, body) = sender.send_request(request.map(Full::new)).await?.into_parts();
        let body = Limited::new(body, ANSWER_LEN_MAX).collect().await?.to_bytes();
        Ok(Response::from_parts(parts, body))
    };
    match select(pin!(answered), pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        // The connection may end with the answer.
        Either::Right((_, answered)) => answered.await,
    }
}

#[cfg(test)]
mod tests {
    use super::traces_url;

    #[test]
    fn an_endpoint_without_a_path_gets_the_usual_one() {
        for (endpoint, url) in [
            ("http://c:4318", "http://c:4318/v1/traces"),
            ("http://c:4318/", "http://c:4318/"),
            ("http://c/otlp/v1/traces", "http://c/otlp/v1/traces"),
        ] {
            assert_eq!(traces_url(endpoint), url);
        }
    }
}
