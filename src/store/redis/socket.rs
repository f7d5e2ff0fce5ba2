//! A stream of bytes to a server: over TCP, TLS or a Unix socket.

use std::io;

use ::redis::{ConnectionAddr, ConnectionInfo};
use futures_util::future::select_ok;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};

use crate::tls_client::TlsClient;

/// The bytes of a connection.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// The address of a server, and its TLS.
#[derive(Debug)]
pub struct Target {
    pub connection: ConnectionInfo,
    /// None without TLS.
    pub tls: Option<TlsClient>,
}

impl Target {
    /// Opens a stream. It has no deadline of its own; the caller has one.
    ///
    /// # Errors
    /// If there is no listener, or the TLS handshake fails.
    pub async fn open(&self) -> io::Result<Box<dyn Socket>> {
        match self.connection.addr() {
            ConnectionAddr::Tcp(host, port) => Ok(Box::new(tcp(host, *port).await?)),
            ConnectionAddr::TcpTls { host, port, .. } => {
                let Some(tls) = &self.tls else {
                    return Err(io::ErrorKind::Unsupported.into());
                };
                let stream = tcp(host, *port).await?;
                Ok(Box::new(tls.shake_hands(host, stream).await?))
            }
            ConnectionAddr::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Connects to the first address of a host that answers: some may be unreachable.
async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let connecting: Vec<_> = lookup_host((host, port))
        .await?
        .map(|address| Box::pin(TcpStream::connect(address)))
        .collect();
    if connecting.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
    }
    let (stream, _) = select_ok(connecting).await?;
    // A charge is one small packet, which must not wait for the next one.
    stream.set_nodelay(true)?;
    Ok(stream)
}
