//! Envoy's `RateLimitService`: reads a message, asks the engine, writes the answer.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::Request;
use http::Response;
use http_body::Body;
use tonic::Status;

use super::BoxError;
use super::request;
use super::response;
use super::unary;
use super::unary::ReplyBody;
use super::wire::Buffer;
use crate::engine::Engine;
use crate::engine::Verdict;
use crate::observe::traces::Span;
use crate::observe::traces::TraceHeaders;
use crate::observe::traces::Traces;

/// Answers `ShouldRateLimit`.
#[derive(Clone)]
pub struct Service {
    engine: Arc<Engine>,
    traces: Option<Arc<Traces>>,
}

impl Service {
    /// Its one method, as a path.
    pub const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

    /// Answers what `engine` decides, and traces it if there are `traces`.
    pub fn new(engine: Arc<Engine>, traces: Option<Arc<Traces>>) -> Self {
        Self { engine, traces }
    }

    /// Answers a call.
    pub async fn answer<B>(&self, call: Request<B>) -> Response<ReplyBody>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let (head, body) = call.into_parts();
        let span = self.span(&head.headers);
        match self.decide(&head.headers, body, span).await {
            Ok(verdict) => unary::reply(|bytes| response::write(bytes, &verdict)),
            Err(status) => status.into_http(),
        }
    }

    async fn decide<B>(
        &self,
        headers: &HeaderMap,
        body: B,
        span: Option<Span>,
    ) -> Result<Verdict, Status>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let message = unary::receive(headers, body).await?;
        let request = request::read(&message).map_err(refusal)?;
        let verdict = self.engine.check(&request).await;
        if let Some(span) = span {
            let policies = self.engine.policies();
            let known = policies.domain(request.domain());
            span.end(known.map(|domain| domain.name.as_str()), &verdict);
        }
        Ok(verdict)
    }

    fn span(&self, headers: &HeaderMap) -> Option<Span> {
        let traces = self.traces.as_ref()?;
        let header = |name| headers.get(name)?.to_str().ok();
        let (traceparent, tracestate) = (header("traceparent"), header("tracestate"));
        traces.span(TraceHeaders { traceparent, tracestate })
    }
}

/// Answers a message as the wire brings it, bytes for bytes: what a fuzzer feeds.
///
/// # Errors
/// When the bytes are no message, or the message can't be decided.
pub async fn answer_bytes(engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>, Status> {
    let request = request::read(bytes).map_err(refusal)?;
    let mut answer = Buffer::new();
    response::write(&mut answer, &engine.check(&request).await);
    Ok(answer.into_vec())
}

// By value, because it is what `map_err` hands over.
#[allow(clippy::needless_pass_by_value)]
fn refusal(error: request::ReadError) -> Status {
    Status::invalid_argument(error.to_string())
}
