//! Envoy's `RateLimitService`: reads a message, asks the engine, writes the answer.

use std::sync::Arc;

use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitResponse;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService;
use prost::Message;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::request;
use super::response;
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
    /// Answers what `engine` decides, and traces it if there are `traces`.
    pub fn new(engine: Arc<Engine>, traces: Option<Arc<Traces>>) -> Self {
        Self { engine, traces }
    }

    fn span(&self, metadata: &MetadataMap) -> Option<Span> {
        let traces = self.traces.as_ref()?;
        let header = |name| metadata.get(name)?.to_str().ok();
        let (traceparent, tracestate) = (header("traceparent"), header("tracestate"));
        traces.span(TraceHeaders { traceparent, tracestate })
    }
}

#[tonic::async_trait]
impl RateLimitService for Service {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let span = self.span(request.metadata());
        let verdict = decide(&self.engine, request.get_ref()).await?;
        if let Some(span) = span {
            let policies = self.engine.policies();
            let known = policies.domain(&request.get_ref().domain);
            span.end(known.map(|domain| domain.name.as_str()), &verdict);
        }
        Ok(Response::new(response::write(verdict)?))
    }
}

/// Answers a message as the wire brings it, bytes for bytes: what a fuzzer feeds.
///
/// # Errors
/// When the bytes are no message, or the message can't be decided.
pub async fn answer_bytes(engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>, Status> {
    let message = RateLimitRequest::decode(bytes)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(response::write(decide(engine, &message).await?)?.encode_to_vec())
}

async fn decide(engine: &Engine, message: &RateLimitRequest) -> Result<Verdict, Status> {
    let request =
        request::read(message).map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(engine.check(&request).await)
}
