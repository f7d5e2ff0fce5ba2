//! Serves gRPC on its TCP port, plain or with TLS, and on its Unix socket.

use std::future::Ready;
use std::future::ready;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::TcpIncoming;

use super::listen::UnixSocket;
use super::tasks::Tasks;
use super::tls::Tls;
use crate::grpc;
use crate::grpc::Services;

/// What gRPC is served on.
#[derive(Debug)]
pub struct GrpcPorts {
    pub tcp: Option<TcpListener>,
    pub unix: Option<UnixSocket>,
    /// Of the port; the socket is guarded by its file's mode.
    pub tls: Option<Arc<Tls>>,
    /// When connections end. None: never for their age.
    pub age_max: Option<Duration>,
}

impl GrpcPorts {
    /// Serves each in a task of its own until `closing`.
    pub fn serve<F>(self, services: Services, servers: &mut Tasks, closing: impl Fn() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let age_max = self.age_max;
        if let Some(listener) = self.tcp {
            // Answers are small; waiting for more to send would only delay them.
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let services = services.clone();
            match self.tls {
                Some(tls) => {
                    let incoming = incoming.map(move |tcp| tcp.map(|tcp| tls.open(tcp)));
                    servers.spawn(grpc::serve(services, incoming, age_max, closing()));
                }
                None => {
                    let incoming = incoming.map(|tcp| tcp.map(plain));
                    servers.spawn(grpc::serve(services, incoming, age_max, closing()));
                }
            }
        }
        if let Some(UnixSocket { listener, file }) = self.unix {
            let incoming = UnixListenerStream::new(listener).map(|unix| unix.map(plain));
            let serving = grpc::serve(services, incoming, age_max, closing());
            servers.spawn(async move {
                serving.await;
                drop(file);
            });
        }
    }
}

/// A connection that needs no handshake.
pub fn plain<IO>(io: IO) -> Ready<io::Result<IO>> {
    ready(Ok(io))
}
