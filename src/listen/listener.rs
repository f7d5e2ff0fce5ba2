//! Listeners, a TCP port or a Unix socket, and the opening of their connections.

use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Accepts connections.
pub trait Listener: Send {
    type Stream;
    /// The address of the client, if known.
    type Peer: Send + 'static;

    /// The next connection. It is cancel-safe: no connection is lost.
    ///
    /// # Errors
    /// If the system can't return one, for example without free file descriptors.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Self::Peer)>> + Send;
}

/// A listener, and the opening of its connections: plain, or with a handshake.
#[derive(Debug)]
pub struct Acceptor<L, F> {
    pub listener: L,
    pub open: F,
}

/// A connection that needs no handshake.
pub type Plain<IO> = fn(IO) -> Ready<io::Result<IO>>;

impl<L: Listener> Acceptor<L, Plain<L::Stream>> {
    /// Plain connections.
    pub fn plain(listener: L) -> Self {
        Self { listener, open: |stream| ready(Ok(stream)) }
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    type Peer = SocketAddr;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.accept().await?;
        // Answers are small, so waiting for more data would only delay them. An error means that the client has
        // disconnected.
        stream.set_nodelay(true).ok();
        Ok((stream, peer))
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;
    type Peer = ();

    async fn accept(&self) -> io::Result<(UnixStream, ())> {
        let (stream, _) = self.accept().await?;
        Ok((stream, ()))
    }
}
