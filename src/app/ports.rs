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
