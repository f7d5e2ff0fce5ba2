//! Serves gRPC on its TCP port, plain or with TLS, and on its Unix socket.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::listeners::UnixSocket;
use super::tasks::Tasks;
use super::tls::Tls;
use crate::grpc;
use crate::grpc::Services;
use crate::listen::Acceptor;

/// The listeners of gRPC, and their settings.
#[derive(Debug)]
pub struct GrpcPorts {
    pub tcp: Option<TcpListener>,
    pub unix: Option<UnixSocket>,
    /// TLS of the port. The mode of the file protects the socket.
    pub tls: Option<Arc<Tls>>,
    /// Maximum age of a connection. None: no maximum.
    pub age_max: Option<Duration>,
}

impl GrpcPorts {
    /// Serves each listener in its own task until `closing`.
    pub fn serve<F>(self, services: Services, servers: &mut Tasks, closing: impl Fn() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let age_max = self.age_max;
        if let Some(listener) = self.tcp {
            let services = services.clone();
            match self.tls {
                Some(tls) => {
                    let acceptor = Acceptor { listener, open: move |tcp| tls.open(tcp) };
                    servers.spawn(grpc::serve(services, acceptor, age_max, closing()));
                }
                None => {
                    let acceptor = Acceptor::plain(listener);
                    servers.spawn(grpc::serve(services, acceptor, age_max, closing()));
                }
            }
        }
        if let Some(UnixSocket { listener, file }) = self.unix {
            let serving = grpc::serve(services, Acceptor::plain(listener), age_max, closing());
            servers.spawn(async move {
                serving.await;
                drop(file);
            });
        }
    }
}
