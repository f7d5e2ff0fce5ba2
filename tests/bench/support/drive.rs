//! Drives a server: many requests in flight on a few connections, each answer checked.
//!
//! It uses only `h2`, with bodies encoded before, on one thread: so it leaves the machine to the server, and still
//! checks every answer.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitResponse;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use h2::client::SendRequest;
use http::header::{CONTENT_TYPE, TE};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

use super::latencies::Latencies;
use super::message;

/// The path of a decision's method.
pub const SHOULD_RATE_LIMIT: &str = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// The path of the method that checks an API key.
pub const CHECK: &str = "envoy.service.auth.v3.Authorization/Check";

/// Timeout of a client.
const GRPC_TIMEOUT: &str = "grpc-timeout";

/// The gRPC statuses of timeouts. tonic's own servers return the second, ours the third.
const OK: &[u8] = b"0";
const CANCELLED: &[u8] = b"1";
const DEADLINE_EXCEEDED: &[u8] = b"4";

/// Flow control window of a server: it never has to wait.
const WINDOW_LEN: u32 = 1 << 24;

/// The number of requests in flight, and their distribution.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub connections: usize,
    /// Requests in flight on one connection.
    pub streams: usize,
}

/// The requests and the expected answers.
pub trait Questions {
    /// The frame of the request with this number, and the expected code.
    fn question(&self, number: usize) -> (Bytes, Code);

    /// The path of their method.
    fn method(&self) -> &'static str {
        SHOULD_RATE_LIMIT
    }

    /// The code in the frame of an answer.
    fn code(&self, answer: &[u8]) -> Option<Code> {
        message::code(answer)
    }
}

/// The result of a run.
#[derive(Debug)]
pub struct Run {
    pub duration: Duration,
    pub latencies: Latencies,
}

/// A request, and the timeout of its client.
#[derive(Clone, Debug)]
pub struct Impatient {
    pub frame: Bytes,
    pub timeout: Duration,
}

/// The result of a run in which not all requests could be answered.
#[derive(Debug, Default)]
pub struct Flood {
    pub duration: Duration,
    /// Of those with the answer OK.
    pub latencies: Latencies,
    /// Those with the answer OVER_LIMIT: the store is overloaded, and the limit's `on_outage` refuses.
    pub refused: usize,
    /// Those that were rejected as late.
    pub late: usize,
}

/// A connection, and the request without its body.
#[derive(Clone)]
pub struct Client {
    sender: SendRequest<Bytes>,
    uri: Uri,
    headers: HeaderMap,
}

/// Sends `requests` to the server. Each must have the expected answer.
///
/// Must run inside [`block_on`].
pub async fn run(
    address: &str,
    shape: Shape,
    requests: usize,
    questions: Rc<dyn Questions>,
) -> Result<Run> {
    let to = (address, questions.method());
    let (duration, latencies) = spread(to, shape, requests, async move |client, number| {
        let (frame, expected) = questions.question(number);
        let start = Instant::now();
        let answer = client.send(frame).await?;
        let latency = start.elapsed();
        let code = questions.code(&answer);
        ensure!(code == Some(expected), "{code:?} instead of {expected:?} for request {number}");
        Ok(latency)
    })
    .await?;
    Ok(Run { duration, latencies: Latencies::new(latencies) })
}

/// Sends the same request repeatedly to the server. Each answer must be a verdict, or a rejection as late.
pub async fn flood(
    address: &str,
    shape: Shape,
    requests: usize,
    Impatient { frame, timeout }: Impatient,
) -> Result<Flood> {
    let timeout = HeaderValue::from_str(&format!("{}m", timeout.as_millis()))?;
    let to = (address, SHOULD_RATE_LIMIT);
    let (duration, answers) = spread(to, shape, requests, async move |client, _| {
        client.headers.insert(GRPC_TIMEOUT, timeout.clone());
        let start = Instant::now();
        let (status, answer) = client.send_for_status(frame.clone()).await?;
        let latency = start.elapsed();
        match status.as_bytes() {
            OK => Ok(Some((message::code(&answer).context("an answer without a code")?, latency))),
            CANCELLED | DEADLINE_EXCEEDED => Ok(None),
            _ => bail!("grpc-status {status:?}"),
        }
    })
    .await?;
    let mut flood = Flood { duration, ..Flood::default() };
    let mut latencies = Vec::new();
    for answer in answers {
        match answer {
            Some((Code::Ok, latency)) => latencies.push(latency),
            Some(_) => flood.refused += 1,
            None => flood.late += 1,
        }
    }
    flood.latencies = Latencies::new(latencies);
    Ok(flood)
}

/// Sends `requests` without a body through a gateway. Each must be forwarded.
pub async fn get(address: &str, shape: Shape, requests: usize) -> Result<Run> {
    let to = (address, SHOULD_RATE_LIMIT);
    let (duration, latencies) = spread(to, shape, requests, async |client, _| {
        let start = Instant::now();
        client.get().await?;
        Ok(start.elapsed())
    })
    .await?;
    Ok(Run { duration, latencies: Latencies::new(latencies) })
}

/// Runs `one` for each number, with the concurrency of the shape, with clients of the address and the method. Returns the
/// total time, and all results.
async fn spread<T: 'static>(
    (address, method): (&str, &str),
    shape: Shape,
    requests: usize,
    one: impl AsyncFn(&mut Client, usize) -> Result<T> + 'static,
) -> Result<(Duration, Vec<T>)> {
    let (next, one) = (Rc::new(Cell::new(0)), Rc::new(one));
    let mut clients = Vec::new();
    for _ in 0..shape.connections {
        clients.push(Client::connect_for(address, method).await?);
    }
    let mut streams = JoinSet::new();
    let start = Instant::now();
    for client in clients.iter().flat_map(|client| vec![client; shape.streams]) {
        let (mut client, one) = (client.clone(), one.clone());
        let numbers = Take { next: next.clone(), end: requests };
        streams.spawn_local(async move {
            let mut given = Vec::new();
            for number in numbers {
                given.push(one(&mut client, number).await?);
            }
            anyhow::Ok(given)
        });
    }
    let mut given = Vec::with_capacity(requests);
    while let Some(ended) = streams.join_next().await {
        given.extend(ended??);
    }
    Ok((start.elapsed(), given))
}

/// Runs a future that uses [`run`], on this thread alone.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}

/// Returns each number once.
struct Take {
    next: Rc<Cell<usize>>,
    end: usize,
}

impl Iterator for Take {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let number = self.next.get();
        self.next.set(number + 1);
        (number < self.end).then_some(number)
    }
}

impl Client {
    /// Connects to `HOST:PORT` for decisions. The connection runs in its own task.
    pub async fn connect(address: &str) -> Result<Self> {
        Self::connect_for(address, SHOULD_RATE_LIMIT).await
    }

    /// The same for a method.
    pub async fn connect_for(address: &str, method: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| address.to_owned())?;
        stream.set_nodelay(true)?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW_LEN).initial_connection_window_size(WINDOW_LEN);
        let (sender, connection) = builder.enable_push(false).handshake(stream).await?;
        // If it ends early, its request reports that.
        tokio::task::spawn_local(async { connection.await.ok() });
        let uri = format!("http://{address}/{method}").parse()?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "application/grpc".parse()?);
        headers.insert(TE, "trailers".parse()?);
        Ok(Self { sender, uri, headers })
    }

    /// The complete answer to one request.
    pub async fn ask(&mut self, frame: Bytes) -> Result<RateLimitResponse> {
        message::answer(&self.send(frame).await?)
    }

    /// The frame of the answer, if its gRPC status is OK.
    pub async fn send(&mut self, frame: Bytes) -> Result<Bytes> {
        let (status, answer) = self.send_for_status(frame).await?;
        ensure!(status.as_bytes() == OK, "grpc-status {status:?}");
        Ok(answer)
    }

    /// The gRPC status, and the frame of the answer.
    async fn send_for_status(&mut self, frame: Bytes) -> Result<(HeaderValue, Bytes)> {
        let mut request = self.request(Method::POST);
        *request.headers_mut() = self.headers.clone();
        let (head, answer, trailers) = self.exchange(request, Some(frame)).await?;
        let status = trailers.as_ref().unwrap_or(&head.headers).get("grpc-status");
        Ok((status.context("an answer without grpc-status")?.clone(), answer))
    }

    /// Sends a request to a gateway, which must forward it.
    pub async fn get(&mut self) -> Result<()> {
        self.exchange(self.request(Method::GET), None).await.map(|_| ())
    }

    fn request(&self, method: Method) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uri.clone();
        request
    }

    /// The head, the body and the trailers of an answer with status 200.
    async fn exchange(
        &mut self,
        request: Request<()>,
        body: Option<Bytes>,
    ) -> Result<(Parts, Bytes, Option<HeaderMap>)> {
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut stream) = sender.send_request(request, body.is_none())?;
        if let Some(body) = body {
            stream.send_data(body, true)?;
        }
        let (head, mut body) = response.await?.into_parts();
        ensure!(head.status == 200, "status {}", head.status);
        let mut answer = Bytes::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            answer = joined(answer, chunk);
        }
        Ok((head, answer, body.trailers().await?))
    }
}

/// Both, without a copy where one is empty.
fn joined(start: Bytes, end: Bytes) -> Bytes {
    if start.is_empty() {
        return end;
    }
    let mut whole = BytesMut::from(start);
    whole.extend_from_slice(&end);
    whole.freeze()
}
