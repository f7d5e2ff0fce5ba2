//! A connection whose HTTP/2 preface must arrive in time. hyper itself has no such timeout, and its keep-alive begins
//! only after the preface. Without it, a few silent connections would occupy all places.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Length of the first bytes of every HTTP/2 client (RFC 9113, section 3.4): the 24 bytes of the preface, and the head
/// of the SETTINGS frame that must follow.
const PREFACE_LEN: usize = 24 + 9;

/// Timeout of the preface, counted from the accept: the time of a TLS handshake is included.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection with a timeout for its preface.
pub struct Prefaced<IO> {
    io: IO,
    /// None after the preface has arrived.
    preface: Option<Preface>,
}

/// The missing part of the preface, and its deadline.
struct Preface {
    missing_len: usize,
    deadline: Pin<Box<Sleep>>,
}

impl<IO> Prefaced<IO> {
    /// A connection that was accepted at that time.
    pub fn new(io: IO, accepted_at: Instant) -> Self {
        let deadline = Box::pin(sleep_until(accepted_at + PREFACE_TIMEOUT));
        Self { io, preface: Some(Preface { missing_len: PREFACE_LEN, deadline }) }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Prefaced<IO> {
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

impl<IO: AsyncWrite + Unpin> AsyncWrite for Prefaced<IO> {
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::clock::monotonic_now;

    /// A client's end of a connection, and the server's.
    fn connection() -> (DuplexStream, Prefaced<DuplexStream>) {
        let (client, server) = tokio::io::duplex(64);
        (client, Prefaced::new(server, monotonic_now()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_begin_in_time_loses_its_place() {
        let (mut client, mut server) = connection();
        client.write_all(&[0; PREFACE_LEN - 1]).await.unwrap();
        let late = server.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_has_begun_may_be_silent() {
        let (mut client, mut server) = connection();
        client.write_all(&[0; PREFACE_LEN]).await.unwrap();
        server.read_exact(&mut [0; PREFACE_LEN]).await.unwrap();
        assert!(server.preface.is_none());
    }
}
