//! Serves HTTP/1.1 on a listener, with bounds that `axum::serve` lacks: on the number of connections, with eviction
//! of the slowest client, and on the time that a request's head may take.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use std::{io, mem};

use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::eviction::{Evictable, EvictionQueue, TrackedBody};

/// Open connections: half of the files that a process may usually have open, so that gRPC keeps the other half. When all
/// are in use, a new one replaces the one that has waited for its client longest; if all are being answered, it waits in
/// the listener's backlog. Tests have fewer files still.
const CONNECTIONS_MAX: usize = if cfg!(test) { 4 } else { 512 };

/// The time from the end of an answer, or from the connection, to the end of the next request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes buffered for a connection: a head has to fit.
const BUFFER_LEN_MAX: usize = 64 * 1024;

/// The pause after a failed accept: without file descriptors, for example, the next one fails too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` until `shutdown` is done and the requests in flight are answered. `open` does the handshake in the
/// connection's own task, so a slow one delays no other connection. Dropping this drops the connections too.
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
    let queue = Arc::<EvictionQueue>::default();
    let mut shutdown = pin!(shutdown);
    let mut failing = false;
    loop {
        let is_full = CONNECTIONS_MAX <= connections.len();
        let has_room = !is_full || queue.has_waiting();
        tokio::select! {
            () = &mut shutdown => break,
            (stream, peer) = accept(&listener, &mut failing), if has_room => {
                if is_full {
                    if !queue.evict() {
                        // The last one that waited has its request meanwhile, and no other may be closed.
                        continue;
                    }
                    // The evicted one ends at once, unless another one did before.
                    connections.join_next().await;
                }
                let router = router.clone().layer(Extension(ConnectInfo(peer)));
                let connection = queue.connection();
                let ending = ending.clone();
                let serving = serve_connection(open(stream), router, connection.clone(), ending);
                connections.spawn(async move {
                    tokio::select! {
                        () = serving => {}
                        () = connection.evicted() => {}
                    }
                });
            }
            Some(_) = connections.join_next() => {}
            () = queue.waiting_added(), if !has_room => {}
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
                // Logged once: it may go on failing.
                if !mem::replace(failing, true) {
                    tracing::warn!(%error, "accepting an HTTP connection failed");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection until either side closes it, or `ending` has lost its sender and the request in flight is
/// answered. Errors of the connection are the client's, and are not logged.
async fn serve_connection<O, IO>(
    opening: O,
    router: Router,
    evictable: Arc<Evictable>,
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
        let answering = router.call(request.map(|body| TrackedBody::new(body, evictable.clone())));
        let evictable = evictable.clone();
        async move {
            let answer = answering.await;
            evictable.wait_for_client();
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
