//! Envoy's `RateLimitService`: reads a message, asks the engine, writes the answer.

use std::sync::Arc;

use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitResponse;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService;
use prost::Message;
use tonic::Request;
use tonic::Response;
use tonic::Status;

use super::request;
use super::response;
use crate::engine::Engine;

/// Answers `ShouldRateLimit`.
#[derive(Clone)]
pub struct Service {
    engine: Arc<Engine>,
}

impl Service {
    /// Answers what `engine` decides.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl RateLimitService for Service {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        answer(&self.engine, request.get_ref()).await.map(Response::new)
    }
}

/// Answers a message as the wire brings it, bytes for bytes: what a fuzzer feeds.
///
/// # Errors
/// When the bytes are no message, or the message can't be decided.
pub async fn answer_bytes(engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>, Status> {
    let message = RateLimitRequest::decode(bytes)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(answer(engine, &message).await?.encode_to_vec())
}

async fn answer(engine: &Engine, message: &RateLimitRequest) -> Result<RateLimitResponse, Status> {
    let request =
        request::read(message).map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(response::write(engine.check(&request).await))
}
