//! What connections are accepted on, a TCP port or a Unix socket, and how they are opened.

use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Accepts connections.
pub trait Listener: Send {
    type Stream;
    /// The other side, as far as it is known.
    type Peer: Send + 'static;

    /// The next connection. It may be dropped at any time; no connection is lost then.
    ///
    /// # Errors
    /// When the system has none to give, such as without file descriptors.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Self::Peer)>> + Send;
}

/// A listener, and how what it accepts is opened: as it is, or by a handshake.
#[derive(Debug)]
pub struct Acceptor<L, F> {
    pub listener: L,
    pub open: F,
}

/// A connection that is open as it is.
pub type Plain<IO> = fn(IO) -> Ready<io::Result<IO>>;

impl<L: Listener> Acceptor<L, Plain<L::Stream>> {
    /// Connections that need no handshake.
    pub fn plain(listener: L) -> Self {
        Self { listener, open: |stream| ready(Ok(stream)) }
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    type Peer = SocketAddr;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.accept().await?;
        // Answers are small; waiting for more to send would only delay them. An error says that the client has gone.
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
