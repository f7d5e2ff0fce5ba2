//! One call over HTTP/2: a message comes in, a message goes out, as gRPC frames them.
//!
//! This is what tonic does for every service, less what one call with one small message doesn't need: its
//! buffers, its boxes and its streams were more than half of what a call cost above HTTP/2 itself.

use std::mem;
use std::pin::Pin;
use std::pin::pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Response;
use http::header::CONTENT_TYPE;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use std::future::poll_fn;
use tokio::time::timeout;
use tonic::Status;

use super::BoxError;
use super::MESSAGE_LEN_MAX;
use super::wire::Buffer;

/// What stands before a message: whether it is compressed, and its length in four bytes.
const PREFIX_LEN: usize = 5;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const OK: HeaderValue = HeaderValue::from_static("0");

/// The body of an answer.
#[derive(Debug, Default)]
pub enum ReplyBody {
    /// Nothing more.
    #[default]
    Empty,
    /// A message, and then that all is well.
    Message(Bytes),
    /// That all is well.
    Trailers,
    /// What another service says.
    Other(tonic::body::Body),
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Self::Other(body) = &mut *self {
            return Pin::new(body).poll_frame(cx);
        }
        let frame = match mem::take(&mut *self) {
            Self::Message(message) => {
                *self = Self::Trailers;
                Some(Frame::data(message))
            }
            Self::Trailers => Some(Frame::trailers(one(GRPC_STATUS, OK))),
            Self::Empty | Self::Other(_) => None,
        };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Message(_) | Self::Trailers => false,
            Self::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Other(body) => body.size_hint(),
            // An exact one would become a header.
            _ => SizeHint::default(),
        }
    }
}

/// The answer with the message that `write` writes.
pub fn reply(write: impl FnOnce(&mut Buffer)) -> Response<ReplyBody> {
    let mut bytes = Buffer::from_elem(0, PREFIX_LEN);
    write(&mut bytes);
    let len = u32::try_from(bytes.len() - PREFIX_LEN).expect("an answer is far below 4 GiB");
    bytes[1..PREFIX_LEN].copy_from_slice(&len.to_be_bytes());
    let mut response = Response::new(ReplyBody::Message(Bytes::copy_from_slice(&bytes)));
    *response.headers_mut() = one(CONTENT_TYPE, GRPC);
    response
}

/// The message of a call. Its bytes are not copied if they came together.
///
/// # Errors
/// When it is compressed, too large, cut short or not the only one, or the client has gone.
pub async fn receive<B>(headers: &HeaderMap, body: B) -> Result<Bytes, Status>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    if headers.get(GRPC_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(Status::unimplemented("no compression of messages is supported"));
    }
    let mut body = pin!(body);
    let mut received = Bytes::new();
    let mut joined = BytesMut::new();
    while !body.is_end_stream() {
        let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await else { break };
        // Trailers say nothing here.
        let Ok(data) = frame.map_err(|e| Status::from_error(e.into()))?.into_data() else {
            continue;
        };
        if received.is_empty() && joined.is_empty() {
            received = data;
        } else {
            joined.extend_from_slice(&mem::take(&mut received));
            joined.extend_from_slice(&data);
        }
        let begun = if joined.is_empty() { &received[..] } else { &joined };
        check_len(begun)?;
    }
    message(if joined.is_empty() { received } else { joined.freeze() })
}

/// Whether what has come can become a message.
fn check_len(begun: &[u8]) -> Result<(), Status> {
    let Some((prefix, rest)) = begun.split_first_chunk::<PREFIX_LEN>() else { return Ok(()) };
    let [compressed, len @ ..] = prefix;
    if *compressed != 0 {
        return Err(Status::internal("the message is compressed, but does not say how"));
    }
    let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
    if MESSAGE_LEN_MAX < len {
        let message = format!("a message of {len} bytes is larger than {MESSAGE_LEN_MAX}");
        return Err(Status::out_of_range(message));
    }
    if len < rest.len() {
        return Err(Status::internal("there is more than one message"));
    }
    Ok(())
}

/// The message after its prefix.
fn message(mut received: Bytes) -> Result<Bytes, Status> {
    let missing = || Status::internal("the message is cut short");
    let prefix = received.first_chunk::<PREFIX_LEN>().ok_or_else(missing)?;
    let [_, len @ ..] = *prefix;
    let message = received.split_off(PREFIX_LEN);
    let is_whole = u32::try_from(message.len()) == Ok(u32::from_be_bytes(len));
    is_whole.then_some(message).ok_or_else(missing)
}

/// How long the client waits for an answer, if it says so: a number and its unit.
pub fn client_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = !digits.is_empty() && digits.len() <= 8;
    let number: u64 = digits.parse().ok().filter(|_| is_number)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// What a future answers within a time; None if it doesn't. One that answers at once needs no timer.
pub async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    match poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => timeout(limit, future).await.ok(),
    }
}

fn one(name: HeaderName, value: HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(1);
    headers.insert(name, value);
    headers
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use tonic::Code;

    use super::*;

    /// A body whose frames are there.
    struct Frames(VecDeque<Bytes>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|data| Ok(Frame::data(data))))
        }
    }

    async fn received(frames: &[&[u8]]) -> Result<Bytes, Code> {
        let frames = frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect();
        receive(&HeaderMap::new(), Frames(frames)).await.map_err(|status| status.code())
    }

    #[tokio::test]
    async fn a_message_is_read_however_it_was_cut() {
        let whole = b"\0\0\0\0\x03abc";
        assert_eq!(received(&[whole]).await.unwrap(), "abc");
        for at in 0..whole.len() {
            let (first, second) = whole.split_at(at);
            assert_eq!(received(&[first, b"", second]).await.unwrap(), "abc", "{at}");
        }
        let bytes: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(received(&bytes).await.unwrap(), "abc");
        assert_eq!(received(&[b"\0\0\0\0\0"]).await.unwrap(), "");
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused() {
        let check = async |frames: &[&[u8]], code| {
            assert_eq!(received(frames).await, Err(code), "{frames:?}");
        };
        check(&[], Code::Internal).await;
        check(&[b"\0\0\0"], Code::Internal).await;
        check(&[b"\0\0\0\0\x03ab"], Code::Internal).await;
        check(&[b"\0\0\0\0\x01ab"], Code::Internal).await;
        check(&[b"\x01\0\0\0\x01a"], Code::Internal).await;
        check(&[b"\0\xff\0", b"\0\0"], Code::OutOfRange).await;
    }

    #[tokio::test]
    async fn a_compressed_message_is_not_supported() {
        let check = async |encoding, code| {
            let headers = one(GRPC_ENCODING, HeaderValue::from_static(encoding));
            let body = Frames([Bytes::from_static(b"\0\0\0\0\0")].into());
            assert_eq!(receive(&headers, body).await.err().map(|status| status.code()), code);
        };
        check("gzip", Some(Code::Unimplemented)).await;
        check("identity", None).await;
    }

    #[test]
    fn a_client_says_how_long_it_waits() {
        let check = |text, expected| {
            let headers = one(GRPC_TIMEOUT, HeaderValue::from_static(text));
            assert_eq!(client_timeout(&headers), expected, "{text}");
        };
        check("20m", Some(Duration::from_millis(20)));
        check("2H", Some(Duration::from_secs(7_200)));
        check("3M", Some(Duration::from_secs(180)));
        check("4S", Some(Duration::from_secs(4)));
        check("5u", Some(Duration::from_micros(5)));
        check("99999999n", Some(Duration::from_nanos(99_999_999)));
        for text in ["", "m", "1", "1x", "-1m", "123456789m"] {
            check(text, None);
        }
        assert_eq!(client_timeout(&HeaderMap::new()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_takes_longer_than_its_time() {
        let limit = Duration::from_secs(1);
        assert_eq!(within(limit, async { 1 }).await, Some(1));
        let sleep = |ms| tokio::time::sleep(Duration::from_millis(ms));
        assert_eq!(within(limit, sleep(999)).await, Some(()));
        assert_eq!(within(limit, sleep(1_001)).await, None);
    }
}
