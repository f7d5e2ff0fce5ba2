//! Envoy's `RateLimitService`: decodes a message, calls the engine, and encodes the answer.
//!
//! tonic serves it. It is assembled here and not by generated code, because the generated codec rejects texts that are
//! not UTF-8.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use http::Request;
use hyper::body::Incoming;
use prost::Message;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, UnaryService};
use tonic::{Response, Status};

use super::body_reader::{BodyReader, MESSAGE_LEN_MAX};
use super::codec::Codec;
use super::{repair, request, response, timeout};
use crate::answer::render;
use crate::engine::Engine;
use crate::observe::traces::{Span, TraceHeaders, Traces};

/// The path of the one method.
pub const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// The answer of the service to a call.
pub type Answer = BoxFuture<http::Response<Body>, Infallible>;

/// The service with `ShouldRateLimit`.
#[derive(Clone)]
pub struct Service(Arc<Method>);

struct Method {
    engine: Arc<Engine>,
    traces: Option<Arc<Traces>>,
}

impl Service {
    /// The service on `engine`, traced if there are `traces`.
    pub fn new(engine: Arc<Engine>, traces: Option<Arc<Traces>>) -> Self {
        Self(Arc::new(Method { engine, traces }))
    }

    /// Answers a call.
    pub fn call(&self, call: Request<BodyReader<Incoming>>) -> Answer {
        let method = self.clone();
        Box::pin(async move {
            let mut grpc =
                Grpc::new(Codec).apply_max_message_size_config(Some(MESSAGE_LEN_MAX), None);
            Ok(grpc.unary(method, call).await)
        })
    }
}

impl UnaryService<RateLimitRequest> for Service {
    type Response = RateLimitResponse;
    type Future = BoxFuture<Response<RateLimitResponse>, Status>;

    fn call(&mut self, request: tonic::Request<RateLimitRequest>) -> Self::Future {
        let method = self.0.clone();
        Box::pin(async move { method.answer(&request).await })
    }
}

impl Method {
    async fn answer(
        &self,
        request: &tonic::Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let span = self.span(request.metadata());
        let store_wait_max = timeout::store_wait_max(request.metadata());
        let message = (request.get_ref(), store_wait_max);
        Ok(Response::new(answer(&self.engine, message, span).await?))
    }

    fn span(&self, metadata: &MetadataMap) -> Option<Span> {
        let traces = self.traces.as_ref()?;
        let header = |name| metadata.get(name)?.to_str().ok();
        let (traceparent, tracestate) = (header("traceparent"), header("tracestate"));
        traces.span(TraceHeaders { traceparent, tracestate })
    }
}

/// Answers an encoded message with an encoded message, for the fuzzer.
///
/// # Errors
/// If the bytes are not a message, or the message is invalid.
pub async fn answer_bytes(engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>, Status> {
    let (message, _) =
        repair::decode(bytes).map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(answer(engine, (&message, None), None).await?.encode_to_vec())
}

async fn answer(
    engine: &Engine,
    (message, store_wait_max): (&RateLimitRequest, Option<Duration>),
    span: Option<Span>,
) -> Result<RateLimitResponse, Status> {
    let request =
        request::read(message).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let request = request.waits_at_most(store_wait_max);
    let snapshot = engine.snapshot();
    let verdict = engine.check(&snapshot, &request).await;
    if let Some(span) = span {
        span.end(&verdict);
    }
    response::write(render(&verdict))
}
