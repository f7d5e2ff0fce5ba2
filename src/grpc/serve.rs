//! Serves HTTP/2 to those who connect, with bounds on connections, streams, headers and time.

use std::convert::Infallible;
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
use tokio_stream::Stream;
use tokio_stream::StreamExt;

use super::BoxError;
use super::Services;
use super::connection::counted;
use super::streams::Streams;

/// Connections at once on one listener; Envoy opens one for each of its workers.
const CONNECTIONS_MAX: usize = 1_024;

/// Requests at once on one connection. Envoy keeps at most 1,024 in flight to a cluster unless
/// it is told otherwise.
const STREAMS_MAX: u32 = 4_096;

/// Bytes of a request's headers: Envoy sends a handful, and tracing adds a few.
const HEADERS_LEN_MAX: u32 = 16 * 1024;

/// When a silent connection is asked whether it lives, and how long it has to say so.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `services` to those who connect, until `shutdown` is done and what is in flight is answered.
/// Whoever drops it drops the connections too.
pub async fn serve<I, IO, IE>(services: Services, incoming: I, shutdown: impl Future<Output = ()>)
where
    I: Stream<Item = Result<IO, IE>>,
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
                    Some(Ok(io)) => {
                        // Its own copy, so that cores don't count references in one place.
                        let services = Arc::new(services.clone());
                        connections.spawn(serve_connection(io, services, ending.clone()));
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

/// Serves one connection until either side ends it, or `ending` has lost its sender and all requests in
/// flight are answered. How it ends is the client's affair.
async fn serve_connection<IO>(io: IO, services: Arc<Services>, mut ending: watch::Receiver<()>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let streams = Streams::default();
    let mut builder = Builder::new(streams.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_LEN_MAX)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        // gRPC has no use for it.
        .auto_date_header(false);
    let service = service_fn(|request: http::Request<Incoming>| {
        let services = services.clone();
        async move { Ok::<_, Infallible>(services.answer(request).await) }
    });
    let connection = builder.serve_connection(TokioIo::new(io), service);
    let mut answering = streams.of(Box::pin(connection));
    tokio::select! {
        _ = &mut answering => return,
        _ = ending.changed() => answering.connection().as_mut().graceful_shutdown(),
    }
    let _ = answering.await;
}
