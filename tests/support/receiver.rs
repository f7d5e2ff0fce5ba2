//! A receiver of notifications over HTTP, which answers as a test says.

use std::collections::VecDeque;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What a receiver does with a request.
#[derive(Clone, Debug)]
pub enum Reaction {
    /// It answers with this status and header.
    Answer(u16, Option<(&'static str, String)>),
    /// It never answers.
    Hang,
}

/// A request that was received.
#[derive(Clone, Debug)]
pub struct Received {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// A receiver; it ends with this.
#[derive(Debug)]
pub struct Receiver {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    received: Mutex<Vec<Received>>,
    /// The reactions to the next requests; then each is answered with 204.
    reactions: Mutex<VecDeque<Reaction>>,
}

impl Receiver {
    /// A receiver with reactions to its first requests.
    pub async fn start(reactions: &[Reaction]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let reactions = Mutex::new(reactions.iter().cloned().collect());
        let shared = Arc::new(Shared { reactions, ..Shared::default() });
        let router = Router::new().fallback(receive).with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shared, server }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}/hook?a=b", self.address)
    }

    /// The requests so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Received {
    /// The value of a header.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

async fn receive(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    let path = parts.uri.to_string();
    let received = Received { path, headers: parts.headers, body };
    let reaction = shared.reactions.lock().unwrap().pop_front();
    shared.received.lock().unwrap().push(received);
    match reaction.unwrap_or(Reaction::Answer(204, None)) {
        Reaction::Answer(status, header) => {
            let mut answer = Response::builder().status(status);
            if let Some((name, value)) = header {
                answer = answer.header(name, value);
            }
            answer.body(Body::empty()).unwrap()
        }
        Reaction::Hang => pending().await,
    }
}
