//! Reads the body of a request: exactly one message, counted against the memory budget while it arrives.
//!
//! tonic makes room for a message as soon as its length is told, and reads on after it for others, which no method of
//! the service takes. So the length counts when it is told, and what follows the message is an error.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use bytes::Bytes;
use hyper::body::Body;
use hyper::body::Frame;
use hyper::body::SizeHint;
use tonic::Status;

use super::BoxError;
use super::room::Place;

/// The largest message: several times the headers that Envoy takes from a client (60 KiB), of which a client may fill a
/// descriptor of every action. A larger one is an error, so it must not be in the hands of a client to send one.
pub const MESSAGE_LEN_MAX: usize = 1024 * 1024;

/// Bytes before a message: a flag, and its length.
const PREFIX_LEN: usize = 5;

/// The body of a request, which tells the request's place what it costs.
pub struct Arriving<B> {
    body: B,
    place: Arc<Place>,
    prefix: Prefix,
    /// Bytes of the message that may still come, once that is known.
    missing_len: Option<usize>,
}

/// What has come of the bytes before the message.
#[derive(Default)]
struct Prefix {
    bytes: [u8; PREFIX_LEN],
    len: usize,
}

impl<B: Body<Data = Bytes>> Arriving<B> {
    /// The body of a request in that place.
    pub fn new(body: B, place: Arc<Place>) -> Self {
        Self { body, place, prefix: Prefix::default(), missing_len: None }
    }

    /// Counts bytes that have come.
    fn count(&mut self, bytes: &[u8]) -> Result<(), Status> {
        let rest = match self.missing_len {
            Some(_) => bytes,
            None => {
                let rest = self.prefix.take(bytes);
                let Some(len) = self.prefix.message_len() else { return Ok(()) };
                // A longer one is refused as soon as this is read.
                self.place.grow(len.min(MESSAGE_LEN_MAX));
                self.missing_len = Some(len);
                rest
            }
        };
        let missing_len = self.missing_len.unwrap_or_default().checked_sub(rest.len());
        self.missing_len = missing_len;
        if missing_len.is_none() {
            return Err(Status::invalid_argument("there is something after the message"));
        }
        Ok(())
    }
}

impl Prefix {
    /// Takes what it lacks, and leaves the rest.
    fn take<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let (own, rest) = bytes.split_at((PREFIX_LEN - self.len).min(bytes.len()));
        self.bytes[self.len..][..own.len()].copy_from_slice(own);
        self.len += own.len();
        rest
    }

    /// How long the message will be; None while that isn't known.
    fn message_len(&self) -> Option<usize> {
        let [_flag, len @ ..] = self.bytes;
        let len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
        (self.len == PREFIX_LEN).then_some(len)
    }
}

impl<B> Body for Arriving<B>
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
                self.place.is_whole();
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
