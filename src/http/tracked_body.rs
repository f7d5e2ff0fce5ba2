//! The body of a request, which reports when its connection no longer waits for its client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

use crate::listen::Evictable;

/// The body of a request. When it is complete, its connection no longer waits.
#[derive(Debug)]
pub struct TrackedBody<B> {
    body: B,
    connection: Arc<Evictable>,
}

impl<B: HttpBody> TrackedBody<B> {
    /// The body of a request on that connection.
    pub fn new(body: B, connection: Arc<Evictable>) -> Self {
        if body.is_end_stream() {
            connection.stop_waiting();
        }
        Self { body, connection }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for TrackedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.connection.stop_waiting();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use http_body_util::BodyExt;

    use super::*;
    use crate::listen::EvictionQueue;

    #[tokio::test]
    async fn a_connection_waits_until_the_whole_body_has_come() {
        let queue = Arc::<EvictionQueue>::default();
        let check = async |body: Body| {
            let connection = queue.connection();
            connection.wait_for_client();
            let is_empty = body.is_end_stream();
            let body = TrackedBody::new(body, connection.clone());
            assert_eq!(queue.has_waiting(), !is_empty);
            body.collect().await.unwrap();
            assert!(!queue.has_waiting());
        };
        check(Body::empty()).await;
        check(Body::from("whole")).await;
        let pieces = ["in ", "pieces"].map(Ok::<_, Infallible>);
        check(Body::from_stream(tokio_stream::iter(pieces))).await;
    }
}
