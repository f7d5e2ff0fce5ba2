//! Serves HTTP/1.1 on a listener, with bounds that `axum::serve` does not have: how many connections
//! there may be, how long one may take to say what it wants, and which goes when there are too many.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::places::Arriving;
use super::places::Place;
use super::places::Places;

/// Connections at once: half of the files that a process may usually have open, so that gRPC keeps the other half. When
/// there are as many, a new one takes the place of one whose client keeps us waiting; if all are being answered, it
/// waits in the listener's backlog. Tests have fewer files still.
const CONNECTIONS_MAX: usize = if cfg!(test) { 4 } else { 512 };

/// How long a connection may take over the head of a request, silence before it included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that a connection keeps of what was not read yet: a head has to fit.
const BUFFER_LEN_MAX: usize = 64 * 1024;

/// A pause after the system refused a connection for want of something, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` to those who connect, until `shutdown` is done and what is in flight is answered. A connection is
/// opened by `open` in its own task: a handshake holds up nobody else. Whoever drops this drops the connections too.
pub async fn serve<O, IO>(
    listener: TcpListener,
    open: impl Fn(TcpStream) -> O,
    router: Router,
    shutdown: impl Future<Output = ()>,
) where
    O: Future<Output = io::Result<IO>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (end, ending) = watch::channel(());
    let mut connections = JoinSet::new();
    let places = Arc::<Places>::default();
    let mut shutdown = pin!(shutdown);
    let mut failing = false;
    loop {
        let is_full = CONNECTIONS_MAX <= connections.len();
        let may_come = !is_full || places.has_owing();
        tokio::select! {
            () = &mut shutdown => break,
            (stream, peer) = accept(&listener, &mut failing), if may_come => {
                if is_full {
                    if !places.take() {
                        // The last that owed has paid meanwhile, and nobody else has to go.
                        continue;
                    }
                    // It goes at once, unless another was faster.
                    connections.join_next().await;
                }
                let router = router.clone().layer(Extension(ConnectInfo(peer)));
                let place = places.place();
                let ending = ending.clone();
                let serving = serve_connection(open(stream), router, place.clone(), ending);
                connections.spawn(async move {
                    tokio::select! {
                        () = serving => {}
                        () = place.taken() => {}
                    }
                });
            }
            Some(_) = connections.join_next() => {}
            () = places.owing_came(), if !may_come => {}
        }
    }
    drop(listener);
    drop(end);
    while connections.join_next().await.is_some() {}
}

/// The next connection; `failing` says whether the last attempt failed.
async fn accept(listener: &TcpListener, failing: &mut bool) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                *failing = false;
                return accepted;
            }
            Err(error) => {
                // Told once: the want may last.
                if !mem::replace(failing, true) {
                    tracing::warn!(%error, "an HTTP connection could not be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection until either side ends it, or `ending` has lost its sender and the request
/// in flight is answered. How it ends is the client's affair.
async fn serve_connection<O, IO>(
    opening: O,
    router: Router,
    place: Arc<Place>,
    mut ending: watch::Receiver<()>,
) where
    O: Future<Output = io::Result<IO>>,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = tokio::select! {
        opened = opening => match opened {
            Ok(io) => io,
            Err(_) => return,
        },
        _ = ending.changed() => return,
    };
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_LEN_MAX);
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: Request<Incoming>| {
        let answering = router.call(request.map(|body| Arriving::new(body, place.clone())));
        let place = place.clone();
        async move {
            let answer = answering.await;
            place.owes();
            answer
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ending.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
