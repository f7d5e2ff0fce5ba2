//! Serves HTTP/1.1 on a listener, with limits that `axum::serve` lacks: on the number of connections, with eviction of
//! the slowest client, and on the time for a request head.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

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

use super::tracked_body::TrackedBody;
use crate::listen;
use crate::listen::{Accepting, Acceptor, Connection};

/// Maximum number of connections: half of the usual maximum of open files, so that gRPC has the other half. Beyond it,
/// a new connection replaces the one that has waited for its client longest. If all requests are being answered, it
/// waits in the listener's backlog. Tests have fewer files.
const CONNECTIONS_MAX: usize = if cfg!(test) { 4 } else { 512 };

/// The time from the end of an answer, or from the connection, to the end of the next request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes buffered for a connection; a request head must fit.
const BUFFER_LEN_MAX: usize = 64 * 1024;

const ACCEPTING: Accepting =
    Accepting { name: "an HTTP connection", connections_max: CONNECTIONS_MAX, evicts: true };

/// Serves `router` until `shutdown`, and until requests in flight are answered.
pub async fn serve<O, IO>(
    acceptor: Acceptor<TcpListener, impl Fn(TcpStream) -> O>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) where
    O: Future<Output = io::Result<IO>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let serve = |connection| serve_connection(connection, router);
    listen::serve(acceptor, ACCEPTING, serve, shutdown).await;
}

/// Serves one connection until a side closes it, or until the listener shuts down and the request in flight is
/// answered. Errors of the connection are the client's, and are not logged.
async fn serve_connection<IO>(connection: Connection<IO, SocketAddr>, router: Router)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Connection { io, peer, evictable, mut end, .. } = connection;
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_LEN_MAX);
    let router = TowerToHyperService::new(router.layer(Extension(ConnectInfo(peer))));
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
        () = end.reached() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
