//! gRPC by hand, for requests that no client library would send.

use std::net::SocketAddr;

use axum::http::{HeaderMap, Request};
use bytes::Bytes;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use h2::client::{ResponseFuture, SendRequest};
use prost::Message;
use tokio::net::TcpStream;
use tonic::Code;

const URL: &str = "http://tollgate/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// Maximum cost of small frames until they are read, in h2's own units: unlimited.
const DATA_FRAMES_MAX: usize = 1_000_000_000;

/// One connection.
#[derive(Clone)]
pub struct Connection(SendRequest<Bytes>);

/// A request that was sent, completely or partly.
pub struct Sent {
    answer: ResponseFuture,
    // If the stream is dropped, the request is cancelled.
    stream: h2::SendStream<Bytes>,
}

/// The answer: the status, its text, and the verdict if it is OK.
#[derive(Debug)]
pub struct Reported {
    pub code: Code,
    pub text: String,
    pub verdict: Option<RateLimitResponse>,
}

impl Connection {
    /// Connects, and waits for the server's maximum of concurrent requests.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut builder = h2::client::Builder::new();
        // A client with many requests gets as many small frames.
        builder.data_frame_budget(DATA_FRAMES_MAX);
        let (client, connection) = builder.handshake(stream).await.unwrap();
        // The requests on it report how it ends.
        tokio::spawn(connection);
        let mut opened = Self(client);
        opened.send(Bytes::new(), true, &[]).await.reported().await;
        opened
    }

    /// Sends a body, complete if `end`, with more headers.
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
    pub async fn reported(self) -> Reported {
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
        Reported { code: code(&end), text, verdict }
    }
}

/// A message after its length prefix.
pub fn framed(message: &RateLimitRequest) -> Bytes {
    framed_bytes(0, &message.encode_to_vec())
}

/// Bytes after a flag, which is 1 if they are compressed, and their length.
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
