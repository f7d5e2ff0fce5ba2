//! Serves HTTP/2 connections, with limits on connections, streams, headers and time.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::Services;
use super::in_task_executor::InTaskExecutor;
use super::preface::Prefaced;
use crate::clock::monotonic_now;
use crate::listen;
use crate::listen::{Accepting, Acceptor, Connection, End, Listener};

/// Maximum number of connections of one listener, those in a handshake included. Envoy opens one for each of its
/// workers.
const CONNECTIONS_MAX: usize = 1_024;

/// Maximum number of concurrent requests on one connection: Envoy's default for requests in flight to a cluster. Beyond
/// that it opens another connection.
const STREAMS_MAX: u32 = 1_024;

/// Maximum bytes of a request's headers: Envoy sends a few, and tracing adds some.
const HEADERS_LEN_MAX: u32 = 16 * 1024;

/// Maximum bytes of one frame, the minimum of HTTP/2: a request of Envoy is smaller, and incomplete frames are
/// buffered.
const FRAME_LEN_MAX: u32 = 16 * 1024;

/// Flow control window of a stream: most requests fit completely. A larger one, up to
/// [`super::body_reader::MESSAGE_LEN_MAX`], has to wait for window updates.
const STREAM_WINDOW: u32 = 64 * 1024;

/// Flow control window of a connection: the maximum memory of unread messages, however many there are. A thousand
/// requests of Envoy fit.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Maximum bytes of an answer that wait for a client that does not read. Only answers of reflection are larger.
const ANSWER_LEN_MAX: usize = 64 * 1024;

/// Maximum number of requests that a client resets before they are processed. More are a flood (CVE-2023-44487), and
/// end the connection. h2's default of 20 is too low: if this process has no CPU for some time, an Envoy resets all of
/// its requests that time out meanwhile, and the end of the connection would fail all other requests on it.
const TAKEN_BACK_MAX: usize = 1_024;

/// Maximum number of streams that are reset for a protocol error; a client with more of them is hostile.
const BROKEN_MAX: usize = 256;

/// Interval of keep-alive pings on a silent connection, and the timeout of their answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time of a connection that is shutting down. By then all requests are answered. What remains are endless
/// streams, such as a health watch, and clients that don't read.
const ENDING_TIMEOUT: Duration = Duration::from_secs(20);

/// Random part of the maximum age, earlier or later, so that connections that were opened together don't reconnect
/// together. gRPC's own implementations do the same.
const AGE_SPREAD: f64 = 0.1;

const ACCEPTING: Accepting =
    Accepting { name: "a gRPC connection", connections_max: CONNECTIONS_MAX, evicts: false };

/// Serves `services` on its connections, until `shutdown` and until requests in flight are answered. A connection ends
/// at `age_max`, if it is set.
pub async fn serve<L, O, IO>(
    services: Services,
    acceptor: Acceptor<L, impl Fn(L::Stream) -> O>,
    age_max: Option<Duration>,
    shutdown: impl Future<Output = ()>,
) where
    L: Listener,
    O: Future<Output = io::Result<IO>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Each connection has its own copy, so that cores don't count references in one place.
    let serve = move |connection| serve_connection(connection, Arc::new(services), age_max);
    listen::serve(acceptor, ACCEPTING, serve, shutdown).await;
}

/// Returns when the listener shuts down, or when the connection reaches its age.
async fn ended(mut end: End, age_max: Option<Duration>) {
    let Some(age_max) = age_max else {
        end.reached().await;
        return;
    };
    // The connection ended for another reason.
    let _ = timeout(age_max.mul_f64(spread()), end.reached()).await;
}

/// A random number near 1.
fn spread() -> f64 {
    let mut chance = [0; 4];
    // Without randomness all connections have the same maximum age, which is acceptable.
    let _ = getrandom::fill(&mut chance);
    let chance = f64::from(u32::from_le_bytes(chance)) / f64::from(u32::MAX);
    1.0 + AGE_SPREAD * (2.0 * chance - 1.0)
}

/// Serves one connection until a side closes it, or until the listener shuts down or the connection reaches its age and
/// all requests in flight are answered. Errors of the connection are not logged.
async fn serve_connection<IO, P>(
    connection: Connection<IO, P>,
    services: Arc<Services>,
    age_max: Option<Duration>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Connection { io, accepted_at, end, .. } = connection;
    let io = Prefaced::new(io, accepted_at);
    let mut ending = pin!(ended(end, age_max));
    let streams = InTaskExecutor::new(&services.budget, services.admission.clone());
    let service = service_fn(|request: http::Request<Incoming>| {
        let (services, read_at) = (services.clone(), monotonic_now());
        async move { Ok::<_, Infallible>(services.answer(request, read_at).await) }
    });
    let connection = builder(streams.clone()).serve_connection(TokioIo::new(io), service);
    let mut answering = streams.of(Box::pin(connection));
    tokio::select! {
        _ = &mut answering => return,
        () = &mut ending => answering.connection().as_mut().graceful_shutdown(),
    }
    let _ = timeout(ENDING_TIMEOUT, answering).await;
}

/// The HTTP/2 settings with our limits.
fn builder(streams: InTaskExecutor) -> Builder<InTaskExecutor> {
    let mut builder = Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_LEN_MAX)
        .max_frame_size(FRAME_LEN_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(ANSWER_LEN_MAX)
        .max_pending_accept_reset_streams(TAKEN_BACK_MAX)
        .max_local_error_reset_streams(BROKEN_MAX)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        // gRPC does not use it.
        .auto_date_header(false);
    builder
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
    use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
    use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
    use h2::client::SendRequest;
    use prost::Message;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{Instant, sleep};
    use tonic::Code;

    use super::*;
    use crate::engine::Readiness;
    use crate::grpc::testing_services;
    use crate::listen::testing::Queued;

    /// Maximum bytes that a client may write before the server reads.
    const PIPE_LEN: usize = 1024 * 1024;

    const AGE_MAX: Duration = Duration::from_secs(5);

    const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

    /// The clients' ends of served connections.
    fn connections<const N: usize>(age_max: Option<Duration>) -> [DuplexStream; N] {
        connections_of(testing_services(Readiness::default()), age_max)
    }

    fn connections_of<const N: usize>(
        services: Services,
        age_max: Option<Duration>,
    ) -> [DuplexStream; N] {
        let (clients, servers): (Vec<_>, Vec<_>) = (0..N).map(|_| duplex(PIPE_LEN)).unzip();
        let acceptor = Acceptor::plain(Queued::new(servers.into_iter().map(Ok)));
        tokio::spawn(serve(services, acceptor, age_max, pending()));
        clients.try_into().unwrap()
    }

    /// Sends the head of a request; its body may follow.
    fn head(
        client: &mut SendRequest<bytes::Bytes>,
        end: bool,
    ) -> (h2::client::ResponseFuture, h2::SendStream<bytes::Bytes>) {
        let request = http::Request::post("http://x/nothing").body(()).unwrap();
        client.send_request(request, end).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_at_its_age_and_without_one_never() {
        let [client] = connections(Some(AGE_MAX));
        let (_client, connection) = h2::client::handshake(client).await.unwrap();
        let begun = Instant::now();
        connection.await.unwrap();
        let age = begun.elapsed().as_secs_f64() / AGE_MAX.as_secs_f64();
        assert!((0.9..=1.11).contains(&age), "{age}");

        let [client] = connections(None);
        let (_client, connection) = h2::client::handshake(client).await.unwrap();
        assert!(timeout(Duration::from_secs(36_000), connection).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_flight_is_answered_though_its_connection_is_old() {
        let [client] = connections(Some(AGE_MAX));
        let (mut client, connection) = h2::client::handshake(client).await.unwrap();
        let connection = tokio::spawn(connection);
        sleep(AGE_MAX.mul_f64(0.85)).await;
        let request = http::Request::post("http://x/grpc.health.v1.Health/Check");
        let request = request.header("content-type", "application/grpc").body(()).unwrap();
        let (answer, mut body) = client.send_request(request, false).unwrap();
        sleep(AGE_MAX.mul_f64(0.3)).await;
        assert!(client.clone().ready().await.is_err(), "no new request is taken");
        body.send_data(bytes::Bytes::from_static(&[0; 5]), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
        drop((client, body));
        connection.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_its_request_unfinished_does_not_outlive_its_age() {
        let [client] = connections(Some(AGE_MAX));
        let (mut client, connection) = h2::client::handshake(client).await.unwrap();
        let request = http::Request::post("http://x/grpc.health.v1.Health/Watch");
        let request = request.header("content-type", "application/grpc").body(()).unwrap();
        let (answer, mut body) = client.send_request(request, false).unwrap();
        body.send_data(bytes::Bytes::from_static(&[0; 5]), true).unwrap();
        let begun = Instant::now();
        // The watch is open until the connection is cut.
        let (_ended, answer) = tokio::join!(connection, answer);
        assert_eq!(answer.unwrap().status(), 200);
        assert!(begun.elapsed() < AGE_MAX * 2 + ENDING_TIMEOUT, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn more_headers_than_are_taken_are_refused_and_the_connection_goes_on() {
        let [client] = connections(None);
        let (mut client, connection) = h2::client::handshake(client).await.unwrap();
        tokio::spawn(connection);
        assert!(head(&mut client, true).0.await.is_ok());
        // The server's settings have arrived with the answer.
        assert_eq!(client.current_max_send_streams(), usize::try_from(STREAMS_MAX).unwrap());
        let large = "x".repeat(usize::try_from(HEADERS_LEN_MAX).unwrap());
        let request = http::Request::post("http://x/nothing").header("x-large", large);
        let (refused, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
        assert_eq!(refused.await.unwrap().status(), 431);
        assert!(head(&mut client, true).0.await.is_ok());
    }

    /// A frame of HTTP/2.
    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// The first bytes of a connection.
    fn preface() -> Vec<u8> {
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, &[])].concat()
    }

    /// The message that asks for alice's only hit.
    fn message() -> Vec<u8> {
        let entry = Entry { key: "user".to_owned(), value: "alice".to_owned() };
        let descriptor = RateLimitDescriptor { entries: vec![entry], ..Default::default() };
        let domain = "edges".to_owned();
        let message = RateLimitRequest { domain, descriptors: vec![descriptor], hits_addend: 0 };
        let message = message.encode_to_vec();
        let len = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], len.as_slice(), &message].concat()
    }

    /// The status of the answer to a body, and the code of the answer, if there is one.
    async fn ask(
        client: &mut SendRequest<bytes::Bytes>,
        timeout: &str,
        body: &[u8],
        end: bool,
    ) -> (Code, Option<u8>) {
        let request = http::Request::post(format!("http://x{PATH}"));
        let request = request.header("content-type", "application/grpc");
        let request = request.header("grpc-timeout", timeout).body(()).unwrap();
        let (answer, mut stream) = client.send_request(request, false).unwrap();
        stream.send_data(bytes::Bytes::copy_from_slice(body), end).unwrap();
        let (head, mut answer) = answer.await.unwrap().into_parts();
        let code = |headers: &http::HeaderMap| {
            Some(Code::from_bytes(headers.get("grpc-status")?.as_bytes()))
        };
        if let Some(code) = code(&head.headers) {
            return (code, None);
        }
        // After the prefix, and the tag of its first field.
        let verdict = answer.data().await.unwrap().unwrap()[6];
        (code(&answer.trailers().await.unwrap().unwrap()).unwrap(), Some(verdict))
    }

    const OK: (Code, Option<u8>) = (Code::Ok, Some(1));

    #[tokio::test]
    async fn requests_that_are_taken_back_before_their_turn_spend_nothing() {
        let [mut raw, other] = connections(None);
        let mut bytes = preface();
        let path_len = u8::try_from(PATH.len()).unwrap();
        // POST, http, the path, the content type and the end of the headers.
        let head =
            [&[0x83, 0x86, 0x04, path_len], PATH.as_bytes(), b"\x0f\x10\x10application/grpc"];
        for stream in (0..100).map(|index| 2 * index + 1) {
            bytes.extend(frame(1, 4, stream, &head.concat()));
            bytes.extend(frame(0, 1, stream, &message()));
            bytes.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
        }
        bytes.extend(frame(6, 0, 0, b"are you?"));
        raw.write_all(&bytes).await.unwrap();
        // When that is answered, everything has been read.
        let mut answer = Vec::new();
        while !answer.windows(8).any(|bytes| bytes == b"are you?") {
            raw.read_buf(&mut answer).await.unwrap();
        }
        let (mut client, connection) = h2::client::handshake(other).await.unwrap();
        tokio::spawn(connection);
        assert_eq!(ask(&mut client, "1S", &message(), true).await, OK);
        assert_eq!(ask(&mut client, "1S", &message(), true).await, (Code::Ok, Some(2)));
    }

    #[tokio::test]
    async fn a_request_whose_time_is_up_spends_nothing() {
        let [client] = connections(None);
        let (mut client, connection) = h2::client::handshake(client).await.unwrap();
        tokio::spawn(connection);
        let late = (Code::DeadlineExceeded, None);
        assert_eq!(ask(&mut client, "1n", &message(), true).await, late);
        assert_eq!(ask(&mut client, "20m", &message()[..9], false).await, late);
        assert_eq!(ask(&mut client, "1S", &message(), true).await, OK);
    }

    #[tokio::test]
    async fn a_request_has_one_message() {
        let [client] = connections(None);
        let (mut client, connection) = h2::client::handshake(client).await.unwrap();
        tokio::spawn(connection);
        let more = [message(), message()].concat();
        let refused = (Code::InvalidArgument, None);
        assert_eq!(ask(&mut client, "1S", &more, true).await, refused);
        assert_eq!(ask(&mut client, "1S", &message(), true).await, OK);
    }

    #[tokio::test]
    async fn a_request_that_stays_takes_room_until_it_is_gone() {
        let services = testing_services(Readiness::default());
        let metrics = services.budget.metrics();
        let [client] = connections_of(services, None);
        let (mut client, connection) = h2::client::handshake(client).await.unwrap();
        tokio::spawn(connection);
        assert_eq!(ask(&mut client, "1S", &message(), true).await, OK);
        assert_eq!(metrics.shed.held.get(), 0, "it did not stay");
        let mut announced = vec![0; 9];
        announced[2] = 3;
        let (late, held) = tokio::join!(ask(&mut client, "100m", &announced, false), async {
            while metrics.shed.held.get() == 0 {
                tokio::task::yield_now().await;
            }
            metrics.shed.held.get()
        });
        assert_eq!(late.0, Code::DeadlineExceeded);
        assert!(3 * 65_536 < held && held < 4 * 65_536, "{held}");
        while 0 < metrics.shed.held.get() {
            tokio::task::yield_now().await;
        }
    }

    /// Whether a connection survives if its client resets `count` requests before they are processed. Another
    /// connection must survive in any case.
    async fn check_taken_back(count: u32, goes_on: bool) {
        const GO_AWAY: u8 = 7;
        const PING: u8 = 6;
        let [mut client, other] = connections(None);
        let mut bytes = preface();
        for stream in (0..count).map(|index| 2 * index + 1) {
            // POST, http and / of HPACK's table, and the end of the headers.
            bytes.extend(frame(1, 4, stream, &[0x83, 0x86, 0x84]));
            bytes.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
        }
        bytes.extend(frame(PING, 0, 0, b"are you?"));
        client.write_all(&bytes).await.unwrap();

        let answered = loop {
            let mut head = [0; 9];
            client.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            client.read_exact(&mut payload).await.unwrap();
            match head[3] {
                PING if payload == b"are you?" => break true,
                GO_AWAY => break false,
                _ => {}
            }
        };
        assert_eq!(answered, goes_on, "{count}");
        let (mut other, connection) = h2::client::handshake(other).await.unwrap();
        tokio::spawn(connection);
        assert!(head(&mut other, true).0.await.is_ok());
    }

    #[tokio::test]
    async fn a_flood_of_requests_taken_back_ends_its_connection_and_no_other() {
        let max = u32::try_from(TAKEN_BACK_MAX).unwrap();
        check_taken_back(max - 1, true).await;
        check_taken_back(2 * max, false).await;
    }
}
