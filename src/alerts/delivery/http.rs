//! Posts a body to a receiver. Redirects are not followed, and there are no proxies.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::address::is_public;
use super::send_error::SendError;
use super::tls;

/// Maximum time of an attempt.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// A request to a receiver.
#[derive(Debug)]
pub struct Post<'a> {
    pub url: &'a str,
    pub content_type: &'static str,
    pub headers: Vec<(HeaderName, String)>,
    pub body: String,
    /// The authorities of its certificate, in PEM; None: the well-known ones.
    pub ca: Option<&'a [u8]>,
    /// Whether it may be at an address of the local network.
    pub allow_private: bool,
}

/// The place of a receiver.
#[derive(Debug)]
struct Place<'a> {
    is_tls: bool,
    /// Without the brackets of an IPv6 address.
    host: &'a str,
    port: u16,
}

impl Post<'_> {
    /// Posts it.
    ///
    /// # Errors
    /// If it is not accepted with a status from 200 to 299 in time.
    pub async fn send(&self) -> Result<(), SendError> {
        let late = |_| SendError::Late { timeout: ATTEMPT_TIMEOUT };
        timeout(ATTEMPT_TIMEOUT, self.exchange()).await.map_err(late)?
    }

    async fn exchange(&self) -> Result<(), SendError> {
        let uri: Uri = self.url.parse().map_err(|_| SendError::Address)?;
        let place = place(&uri)?;
        let stream = self.connect(&place).await?;
        let request = self.request(&uri)?;
        match place.is_tls {
            true => post(tls::open(stream, place.host, self.ca).await?, request).await,
            false => post(stream, request).await,
        }
    }

    /// Connects to the first permitted address of the receiver that answers.
    async fn connect(&self, place: &Place<'_>) -> Result<TcpStream, SendError> {
        let reason = |error: std::io::Error| SendError::Connect { reason: error.to_string() };
        let found = lookup_host((place.host, place.port)).await.map_err(reason)?;
        let permitted = |address: &SocketAddr| self.allow_private || is_public(address.ip());
        let (permitted, refused): (Vec<_>, Vec<_>) = found.partition(permitted);
        if let ([], Some(refused)) = (&*permitted, refused.first()) {
            return Err(SendError::Private { address: refused.ip() });
        }
        TcpStream::connect(&*permitted).await.map_err(reason)
    }

    fn request(&self, uri: &Uri) -> Result<Request<Full<Bytes>>, SendError> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = uri.authority().ok_or(SendError::Address)?;
        let mut request = Request::post(path)
            .header(HOST, authority.as_str())
            .header(USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, self.content_type);
        for (name, value) in &self.headers {
            let mut value = HeaderValue::try_from(value).map_err(|_| SendError::Address)?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        request.body(Full::from(self.body.clone())).map_err(|_| SendError::Address)
    }
}

fn place(uri: &Uri) -> Result<Place<'_>, SendError> {
    let is_tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(SendError::Address),
    };
    let host = uri.host().ok_or(SendError::Address)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    // A host such as `0x7f.1` is left to the resolver, whose answer is checked.
    debug_assert!(host.parse::<IpAddr>().is_ok() || !host.contains('['));
    Ok(Place { is_tls, host, port })
}

/// Sends a request over a connection of its own. The body of the answer is not read.
async fn post<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(), SendError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let reason = |error: hyper::Error| SendError::Connect { reason: error.to_string() };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(reason)?;
    let answered = pin!(sender.send_request(request));
    let answer = match select(answered, pin!(connection)).await {
        Either::Left((answer, _)) => answer.map_err(reason)?,
        // The connection may end with the answer.
        Either::Right((_, answered)) => answered.await.map_err(reason)?,
    };
    match answer.status() {
        status if status.is_success() => Ok(()),
        StatusCode::GONE => Err(SendError::Gone),
        status => Err(SendError::Status {
            status: status.as_u16(),
            retry_after: retry_after(answer.headers()),
        }),
    }
}

/// The pause that a receiver asks for, in seconds; a date is not read.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
