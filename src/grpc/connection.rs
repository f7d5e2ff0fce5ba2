//! A connection that counts against a maximum from when it is accepted until it is gone, and must soon say that it
//! speaks HTTP/2; hyper itself sets neither bound, and its keep-alive begins only after the preface. Without the
//! second, a few silent connections would take all places for ever.

use std::io;
use std::io::IoSlice;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use tokio::time::sleep;
use tokio_stream::Stream;
use tokio_stream::StreamExt;
use tonic::codegen::StdError as BoxError;

/// The bytes with which every client of HTTP/2 begins (RFC 9113, section 3.4): the 24 of the preface, and the head of
/// the SETTINGS that must follow.
const PREFACE_LEN: usize = 24 + 9;

/// How long a client may take over them, from when it was accepted: a handshake is no time gained.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// A pause after the system refused a connection for want of something, such as file descriptors; tonic
/// would ask again at once, and for ever.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection that was accepted, with its place among the others, and isn't open yet.
pub struct Arrival<O> {
    opening: O,
    preface: Preface,
    place: OwnedSemaphorePermit,
}

impl<O, IO> Arrival<O>
where
    O: Future<Output = io::Result<IO>>,
{
    /// Opens it.
    ///
    /// # Errors
    /// When its client doesn't do its part.
    pub async fn open(self) -> io::Result<Counted<IO>> {
        let io = self.opening.await?;
        Ok(Counted { io, preface: Some(self.preface), _place: self.place })
    }
}

/// A connection and its place among the others.
pub struct Counted<IO> {
    io: IO,
    /// Until it has come.
    preface: Option<Preface>,
    _place: OwnedSemaphorePermit,
}

/// What is missing of the preface, and until when.
struct Preface {
    missing_len: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Preface {
    fn new(timeout: Duration) -> Self {
        Self { missing_len: PREFACE_LEN, deadline: Box::pin(sleep(timeout)) }
    }
}

/// The same connections, at most `connections_max` of them alive; the next one waits for a place.
pub fn counted<O, IE: Into<BoxError>>(
    incoming: impl Stream<Item = Result<O, IE>>,
    connections_max: usize,
) -> impl Stream<Item = Result<Arrival<O>, BoxError>> {
    let places = Arc::new(Semaphore::new(connections_max));
    let mut failing = false;
    incoming.then(move |opening| {
        let places = places.clone();
        let failed_before = mem::replace(&mut failing, opening.is_err());
        async move {
            match opening {
                Ok(opening) => {
                    let place = places.acquire_owned().await.expect("nobody closes the semaphore");
                    Ok(Arrival { opening, preface: Preface::new(PREFACE_TIMEOUT), place })
                }
                Err(error) => {
                    let error = error.into();
                    if !failed_before {
                        tracing::warn!(%error, "a gRPC connection could not be accepted");
                    }
                    sleep(ACCEPT_PAUSE).await;
                    Err(error)
                }
            }
        }
    })
}

impl<IO: AsyncRead + Unpin> AsyncRead for Counted<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(mut preface) = self.preface.take() else {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        };
        if preface.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let len_before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        let len = buffer.filled().len() - len_before;
        preface.missing_len = preface.missing_len.saturating_sub(len);
        self.preface = Some(preface).filter(|preface| 0 < preface.missing_len);
        polled
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
    use std::future::ready;
    use std::pin::pin;
    use std::task::Waker;

    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::io::DuplexStream;

    use super::*;

    #[tokio::test]
    async fn a_connection_waits_until_another_has_gone() {
        let incoming = tokio_stream::iter([1, 2].map(Ok::<_, Infallible>));
        let mut incoming = pin!(counted(incoming, 1));
        let first = incoming.next().await.unwrap().unwrap();
        assert_eq!(first.opening, 1);
        let mut next = pin!(incoming.next());
        let mut idle = Context::from_waker(Waker::noop());
        assert!(next.as_mut().poll(&mut idle).is_pending());
        drop(first);
        assert_eq!(next.await.unwrap().unwrap().opening, 2);
    }

    #[tokio::test]
    async fn a_failure_to_accept_makes_a_pause() {
        let incoming = tokio_stream::iter([Err::<DuplexStream, _>(io::Error::other("no files"))]);
        let mut incoming = pin!(counted(incoming, 1));
        let mut next = pin!(incoming.next());
        assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(next.await.unwrap().is_err());
    }

    /// A client's end of a connection, and the server's.
    async fn connection() -> (DuplexStream, Counted<DuplexStream>) {
        let (client, server) = tokio::io::duplex(64);
        let incoming = tokio_stream::iter([Ok::<_, Infallible>(ready(Ok(server)))]);
        let arrival = pin!(counted(incoming, 1)).next().await.unwrap().unwrap();
        (client, arrival.open().await.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_begin_in_time_loses_its_place() {
        let (mut client, mut server) = connection().await;
        client.write_all(&[0; PREFACE_LEN - 1]).await.unwrap();
        let late = server.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_has_begun_may_be_silent() {
        let (mut client, mut server) = connection().await;
        client.write_all(&[0; PREFACE_LEN]).await.unwrap();
        server.read_exact(&mut [0; PREFACE_LEN]).await.unwrap();
        assert!(server.preface.is_none());
    }
}
