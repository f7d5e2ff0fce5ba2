//! The upstream of a gateway: it returns the received request, or a requested answer; or what comes over a websocket.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A server that answers a request with the request's headers as a JSON object, and with its path in the header `x-path`.
#[derive(Debug)]
pub struct Upstream {
    pub address: SocketAddr,
    served: Arc<AtomicUsize>,
    answers: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Starts a server.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&served);
        let (answers, released) = watch::channel(false);
        let router = Router::new().fallback(async move |request: Request| {
            count.fetch_add(1, Ordering::SeqCst);
            if request.headers().contains_key("x-held") {
                released.clone().wait_for(|released| *released).await.unwrap();
            }
            let path = HeaderValue::try_from(request.uri().to_string()).unwrap();
            let answer = match request.headers().contains_key(header::UPGRADE) {
                true => upgrade(request),
                false => echo(request.headers()),
            };
            ([("x-path", path)], answer)
        });
        let task = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self { address, served, answers, task }
    }

    /// Answers the requests with a header `x-held`.
    pub fn release(&self) {
        self.answers.send_replace(true);
    }

    /// Requests that reached it.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Switches to the protocol of a websocket, and sends back what comes.
fn upgrade(request: Request) -> Response {
    let caller = request.headers().get("x-caller").cloned();
    let switching = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let (mut from, mut to) = tokio::io::split(TokioIo::new(switching.await.unwrap()));
        tokio::io::copy(&mut from, &mut to).await.ok();
    });
    let switched = [("connection", "upgrade"), ("upgrade", "websocket")];
    let mut response = (StatusCode::SWITCHING_PROTOCOLS, switched).into_response();
    response
        .headers_mut()
        .extend(caller.map(|caller| (HeaderName::from_static("x-caller"), caller)));
    response
}

/// The received headers; or for a request with a number of tokens, that number, in the body or in a header of the
/// answer. A number of removed resources is in a header, too.
fn echo(headers: &HeaderMap) -> Response {
    let text = |value: &HeaderValue| match str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => value.as_bytes().escape_ascii().to_string(),
    };
    if let Some(tokens) = headers.get("x-total-tokens") {
        let tokens: u64 = tokens.to_str().unwrap().parse().unwrap();
        return Json(json!({ "usage": { "total_tokens": tokens } })).into_response();
    }
    let said: BTreeMap<String, String> =
        headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let mut response = Json(said).into_response();
    for name in ["x-tokens", "x-removed"] {
        if let Some(reported) = headers.get(name) {
            response.headers_mut().insert(name, reported.clone());
        }
    }
    response
}
