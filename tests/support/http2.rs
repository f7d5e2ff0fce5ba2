//! gRPC by hand, for what no client of the service would send.

use std::net::SocketAddr;

use axum::http::{HeaderMap, Request};
use bytes::Bytes;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use h2::client::{ResponseFuture, SendRequest};
use prost::Message;
use tokio::net::TcpStream;
use tonic::Code;

const URL: &str = "http://tollgate/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// What small frames of answers may cost until they are read, in units of h2's own: no bound.
const DATA_FRAMES_MAX: usize = 1_000_000_000;

/// One connection.
#[derive(Clone)]
pub struct Connection(SendRequest<Bytes>);

/// A request that was sent, whole or not.
pub struct Sent {
    answer: ResponseFuture,
    // A request whose stream goes is taken back.
    stream: h2::SendStream<Bytes>,
}

/// What came back: the status, its text, and the verdict if it is OK.
#[derive(Debug)]
pub struct Told {
    pub code: Code,
    pub text: String,
    pub verdict: Option<RateLimitResponse>,
}

impl Connection {
    /// Connects, and waits until the server has said how many requests it takes at once.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut builder = h2::client::Builder::new();
        // Who asks much at once is answered by as many small frames.
        builder.data_frame_budget(DATA_FRAMES_MAX);
        let (client, connection) = builder.handshake(stream).await.unwrap();
        // How it ends is what the requests on it tell.
        tokio::spawn(connection);
        let mut opened = Self(client);
        opened.send(Bytes::new(), true, &[]).await.told().await;
        opened
    }

    /// Sends a body, which is all of it if `end`, with more headers.
    pub async fn send(&mut self, body: Bytes, end: bool, headers: &[(&str, &[u8])]) -> Sent {
        self.0 = self.0.clone().ready().await.unwrap();
        let request = Request::post(URL).header("content-type", "application/grpc");
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let (answer, mut stream) = self.0.send_request(request.body(()).unwrap(), false).unwrap();
        stream.send_data(body, end).unwrap();
        Sent { answer, stream }
    }
}

impl Sent {
    /// Sends the rest of the body.
    pub fn rest(&mut self, body: Bytes) {
        self.stream.send_data(body, true).unwrap();
    }

    /// The answer.
    pub async fn told(self) -> Told {
        let (head, mut body) = self.answer.await.unwrap().into_parts();
        let mut bytes = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            bytes.extend(data);
        }
        let end = body.trailers().await.unwrap().unwrap_or(head.headers);
        let verdict = bytes.get(5..).map(|message| RateLimitResponse::decode(message).unwrap());
        let text = header(&end, "grpc-message").replace("%20", " ");
        Told { code: code(&end), text, verdict }
    }
}

/// A message after the bytes that tell its length.
pub fn framed(message: &RateLimitRequest) -> Bytes {
    framed_bytes(0, &message.encode_to_vec())
}

/// Bytes after a flag, which is 1 for what is compressed, and their length.
pub fn framed_bytes(flag: u8, bytes: &[u8]) -> Bytes {
    let len = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[flag], len.as_slice(), bytes].concat().into()
}

fn code(headers: &HeaderMap) -> Code {
    Code::from_bytes(header(headers, "grpc-status").as_bytes())
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}
