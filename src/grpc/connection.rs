//! A connection that counts against a maximum for as long as it lives; tonic itself sets none.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio_stream::Stream;
use tokio_stream::StreamExt;
use tonic::transport::server::Connected;

/// A connection and its place among the others.
pub struct Counted<IO> {
    io: IO,
    _place: OwnedSemaphorePermit,
}

/// The same connections, at most `connections_max` of them alive; the next one waits for a place.
pub fn counted<IO, IE>(
    incoming: impl Stream<Item = Result<IO, IE>>,
    connections_max: usize,
) -> impl Stream<Item = Result<Counted<IO>, IE>> {
    let places = Arc::new(Semaphore::new(connections_max));
    incoming.then(move |io| {
        let places = places.clone();
        async move {
            let place = places.acquire_owned().await.expect("nobody closes the semaphore");
            io.map(|io| Counted { io, _place: place })
        }
    })
}

impl<IO: Connected> Connected for Counted<IO> {
    type ConnectInfo = IO::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Counted<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Counted<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;
    use std::task::Waker;

    use super::*;

    #[tokio::test]
    async fn a_connection_waits_until_another_has_gone() {
        let incoming = tokio_stream::iter([1, 2].map(Ok::<_, Infallible>));
        let mut incoming = pin!(counted(incoming, 1));
        let first = incoming.next().await.unwrap().unwrap();
        assert_eq!(first.io, 1);
        let mut next = pin!(incoming.next());
        let mut idle = Context::from_waker(Waker::noop());
        assert!(next.as_mut().poll(&mut idle).is_pending());
        drop(first);
        assert_eq!(next.await.unwrap().unwrap().io, 2);
    }
}
