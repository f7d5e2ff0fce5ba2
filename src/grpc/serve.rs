//! Serves HTTP/2 to those who connect, with bounds on connections, streams, headers and time.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_stream::StreamExt;

use super::BoxError;
use super::Services;
use super::connection::Arrival;
use super::connection::counted;
use super::streams::Streams;

/// Connections at once on one listener, those that are still shaking hands included; Envoy opens one for each of its
/// workers.
const CONNECTIONS_MAX: usize = 1_024;

/// Requests at once on one connection: as many as Envoy keeps in flight to a cluster unless it is told otherwise. One that
/// has more opens another connection.
const STREAMS_MAX: u32 = 1_024;

/// Bytes of a request's headers: Envoy sends a handful, and tracing adds a few.
const HEADERS_LEN_MAX: u32 = 16 * 1024;

/// Bytes of one frame, the least that HTTP/2 allows: a request of Envoy is smaller, and what is not whole is kept.
const FRAME_LEN_MAX: u32 = 16 * 1024;

/// Bytes of one request that may come before we have read what came: most requests whole. A larger one waits for
/// windows on its way to [`super::MESSAGE_LEN_MAX`].
const STREAM_WINDOW: u32 = 64 * 1024;

/// The same for all requests of a connection together: what unread messages may cost of memory, however many there
/// are. A thousand requests of Envoy fit.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Bytes of one answer that may wait for a client that doesn't read: answers but reflection's are far smaller.
const ANSWER_LEN_MAX: usize = 64 * 1024;

/// Requests that their client took back before we have looked at them. More are a flood (CVE-2023-44487), and end the
/// connection. h2's own 20 are too few: an Envoy whose timeout passes while we get no CPU for a moment takes
/// back all that it asked meanwhile, and the end of the connection would fail all others on it.
const TAKEN_BACK_MAX: usize = 1_024;

/// Requests that we have ended because they broke the protocol; a client with more of them does it on purpose.
const BROKEN_MAX: usize = 256;

/// When a silent connection is asked whether it lives, and how long it has to say so.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may last that is to end. All requests have been answered by then; what remains are streams
/// without an end, such as a watch of health, and clients that don't read.
const ENDING_TIMEOUT: Duration = Duration::from_secs(20);

/// By how much of its age a connection ends early or late, so that those that came together don't all come again
/// together. gRPC's own implementations do the same.
const AGE_SPREAD: f64 = 0.1;

/// Serves `services` to those who connect, until `shutdown` is done and what is in flight is answered. A connection is
/// `incoming` when it is accepted, and opened in its own task: a handshake holds up nobody else. It ends at
/// `age_max`, if there is one. Whoever drops this drops the connections too.
pub async fn serve<I, O, IO, IE>(
    services: Services,
    incoming: I,
    age_max: Option<Duration>,
    shutdown: impl Future<Output = ()>,
) where
    I: Stream<Item = Result<O, IE>>,
    O: Future<Output = io::Result<IO>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    IE: Into<BoxError>,
{
    let (end, ending) = watch::channel(());
    let mut connections = JoinSet::new();
    {
        // It goes before the connections do, so that nobody new comes.
        let mut incoming = pin!(counted(incoming, CONNECTIONS_MAX));
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                next = incoming.next() => match next {
                    Some(Ok(arrival)) => {
                        // Its own copy, so that cores don't count references in one place.
                        let services = Arc::new(services.clone());
                        let ending = until_end(ending.clone(), age_max);
                        connections.spawn(serve_connection(arrival, services, ending));
                    }
                    // It has been told.
                    Some(Err(_)) => {}
                    None => break,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
    drop(end);
    while connections.join_next().await.is_some() {}
}

/// Ends when connections are to: with the sender, or at the age that this one is to reach.
async fn until_end(mut ending: watch::Receiver<()>, age_max: Option<Duration>) {
    let Some(age_max) = age_max else {
        let _ = ending.changed().await;
        return;
    };
    // It has ended, if not for its age.
    let _ = timeout(age_max.mul_f64(spread()), ending.changed()).await;
}

/// A number about 1, by chance.
fn spread() -> f64 {
    let mut chance = [0; 4];
    // Without chance all are as old as each other, which is no error.
    let _ = getrandom::fill(&mut chance);
    let chance = f64::from(u32::from_le_bytes(chance)) / f64::from(u32::MAX);
    1.0 + AGE_SPREAD * (2.0 * chance - 1.0)
}

/// Serves one connection until either side ends it, or `ending` is done and all requests in flight are answered. How it
/// ends is the client's affair.
async fn serve_connection<O, IO>(
    arrival: Arrival<O>,
    services: Arc<Services>,
    ending: impl Future<Output = ()>,
) where
    O: Future<Output = io::Result<IO>>,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut ending = pin!(ending);
    let io = tokio::select! {
        opened = arrival.open() => match opened {
            Ok(io) => io,
            Err(_) => return,
        },
        () = &mut ending => return,
    };
    let streams = Streams::default();
    let service = service_fn(|request: http::Request<Incoming>| {
        let services = services.clone();
        async move { Ok::<_, Infallible>(services.answer(request).await) }
    });
    let connection = builder(streams.clone()).serve_connection(TokioIo::new(io), service);
    let mut answering = streams.of(Box::pin(connection));
    tokio::select! {
        _ = &mut answering => return,
        () = &mut ending => answering.connection().as_mut().graceful_shutdown(),
    }
    let _ = timeout(ENDING_TIMEOUT, answering).await;
}

/// HTTP/2 within our bounds.
fn builder(streams: Streams) -> Builder<Streams> {
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
        // gRPC has no use for it.
        .auto_date_header(false);
    builder
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::future::ready;

    use h2::client::SendRequest;
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::io::DuplexStream;
    use tokio::io::duplex;
    use tokio::time::Instant;
    use tokio::time::sleep;

    use super::*;
    use crate::engine::Readiness;
    use crate::engine::testing;
    use crate::grpc::services;

    /// What a client may write before anybody reads.
    const PIPE_LEN: usize = 1024 * 1024;

    const AGE_MAX: Duration = Duration::from_secs(5);

    /// The clients' ends of connections that are served.
    fn connections<const N: usize>(age_max: Option<Duration>) -> [DuplexStream; N] {
        let services = services(Arc::new(testing::one_an_hour()), Readiness::default(), None);
        let (clients, servers): (Vec<_>, Vec<_>) = (0..N).map(|_| duplex(PIPE_LEN)).unzip();
        let servers = servers.into_iter().map(|server| Ok::<_, Infallible>(ready(Ok(server))));
        let incoming =
            tokio_stream::iter(servers.collect::<Vec<_>>()).chain(tokio_stream::pending());
        tokio::spawn(serve(services, incoming, age_max, pending()));
        clients.try_into().unwrap()
    }

    /// Sends the head of a request, whose body may follow.
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
        // The watch goes on until the connection is cut.
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
        // The server's settings have come with the answer.
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

    /// Whether a connection goes on whose client takes back `count` requests before anybody has looked at them; another
    /// one does in any case.
    async fn check_taken_back(count: u32, goes_on: bool) {
        const GO_AWAY: u8 = 7;
        const PING: u8 = 6;
        let [mut client, other] = connections(None);
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, 0, &[]));
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
