//! Reads the body of a request: exactly one message, counted against the memory budget while it arrives.
//!
//! tonic allocates memory for a message as soon as it knows the length, and continues to read more messages, which no
//! method of the service accepts. So the announced length counts at once, and bytes after the message are an error.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tonic::Status;
use tonic::codegen::StdError as BoxError;

use super::memory_budget::Reservation;

/// Maximum size of a message: several times the 60 KiB of headers that Envoy accepts from a client, who may fill a
/// descriptor of every action. A larger message is an error, so a client must not be able to cause one.
pub const MESSAGE_LEN_MAX: usize = 1024 * 1024;

/// Bytes before a message: a flag, and its length.
const PREFIX_LEN: usize = 5;

/// The body of a request, which adds its length to the request's reservation.
pub struct BodyReader<B> {
    body: B,
    reservation: Arc<Reservation>,
    prefix: Prefix,
    /// Missing bytes of the message, once its length is known.
    missing_len: Option<usize>,
}

/// The received bytes before the message.
#[derive(Default)]
struct Prefix {
    bytes: [u8; PREFIX_LEN],
    len: usize,
}

impl<B: Body<Data = Bytes>> BodyReader<B> {
    /// The body of a request with that reservation.
    pub fn new(body: B, reservation: Arc<Reservation>) -> Self {
        Self { body, reservation, prefix: Prefix::default(), missing_len: None }
    }

    /// Counts received bytes.
    fn count(&mut self, bytes: &[u8]) -> Result<(), Status> {
        let rest = match self.missing_len {
            Some(_) => bytes,
            None => {
                let rest = self.prefix.take(bytes);
                let Some(len) = self.prefix.message_len() else { return Ok(()) };
                // If it is too long, it is refused as soon as this is read.
                self.reservation.grow(len.min(MESSAGE_LEN_MAX));
                self.missing_len = Some(len);
                rest
            }
        };
        let missing_len = self.missing_len.unwrap_or_default().checked_sub(rest.len());
        self.missing_len = missing_len;
        if missing_len.is_none() {
            return Err(Status::invalid_argument("unexpected bytes after the message"));
        }
        Ok(())
    }
}

impl Prefix {
    /// Takes the missing bytes, and returns the rest.
    fn take<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let (own, rest) = bytes.split_at((PREFIX_LEN - self.len).min(bytes.len()));
        self.bytes[self.len..][..own.len()].copy_from_slice(own);
        self.len += own.len();
        rest
    }

    /// The length of the message; None while it is unknown.
    fn message_len(&self) -> Option<usize> {
        let [_flag, len @ ..] = self.bytes;
        let len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
        (self.len == PREFIX_LEN).then_some(len)
    }
}

impl<B> Body for BodyReader<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => {
                self.reservation.message_complete();
                return Poll::Ready(None);
            }
        };
        if let Some(Err(error)) = frame.data_ref().map(|bytes| self.count(bytes)) {
            return Poll::Ready(Some(Err(error.into())));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
