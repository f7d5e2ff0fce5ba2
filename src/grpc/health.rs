//! gRPC health (`grpc.health.v1`), read from the process's readiness.
//!
//! `tonic-health` has its own state, which must be updated. This service reads the same state as `/readyz`, so both
//! always agree. A watch ends after it has reported that the process drains; otherwise it would delay the shutdown.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::SERVICE_NAME;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_server};

use crate::engine::{Phase, Readiness};

/// Answers `Check` and `Watch`.
#[derive(Clone, Debug)]
pub struct Health {
    readiness: Readiness,
}

/// The phases of the process, up to draining.
#[derive(Debug)]
pub struct Watch {
    phases: WatchStream<Phase>,
    over: bool,
}

impl Health {
    /// The service for the health in `readiness`.
    pub fn new(readiness: Readiness) -> Self {
        Self { readiness }
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = Watch;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        ensure_known(request.get_ref())?;
        Ok(Response::new(response(self.readiness.phase())))
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watch>, Status> {
        ensure_known(request.get_ref())?;
        let phases = WatchStream::new(self.readiness.watch());
        Ok(Response::new(Watch { phases, over: false }))
    }
}

impl Stream for Watch {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        let phase = ready!(Pin::new(&mut self.phases).poll_next(cx));
        self.over = phase == Some(Phase::Draining);
        Poll::Ready(phase.map(|phase| Ok(response(phase))))
    }
}

/// The service name of envoyproxy/ratelimit, which its users' probes use.
const REFERENCE_NAME: &str = "ratelimit";

/// The known names: the process as a whole, as `""` or [`REFERENCE_NAME`], and its one service.
fn ensure_known(request: &HealthCheckRequest) -> Result<(), Status> {
    match request.service.as_str() {
        "" | REFERENCE_NAME | SERVICE_NAME => Ok(()),
        other => Err(Status::not_found(format!("unknown service {other:?}"))),
    }
}

fn response(phase: Phase) -> HealthCheckResponse {
    let status = match phase.objection() {
        None => ServingStatus::Serving,
        Some(_) => ServingStatus::NotServing,
    };
    HealthCheckResponse { status: status.into() }
}
