//! A connection that must soon say that it speaks HTTP/2; hyper itself sets no such bound, and its keep-alive begins only
//! after the preface. Without it, a few silent connections would take all places for ever.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// The bytes with which every client of HTTP/2 begins (RFC 9113, section 3.4): the 24 of the preface, and the head of
/// the SETTINGS that must follow.
const PREFACE_LEN: usize = 24 + 9;

/// How long a client may take over them, from when it was accepted: a handshake is no time gained.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection whose preface must come in time.
pub struct Prefaced<IO> {
    io: IO,
    /// Until it has come.
    preface: Option<Preface>,
}

/// What is missing of the preface, and until when.
struct Preface {
    missing_len: usize,
    deadline: Pin<Box<Sleep>>,
}

impl<IO> Prefaced<IO> {
    /// A connection that was accepted then.
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
