//! gRPC health (`grpc.health.v1`), read from the process's readiness.
//!
//! `tonic-health` has a server of its own, whose state is pushed into it; this one looks where `/readyz`
//! looks, so that no answer can lag behind another. A watch ends once it has told that the process
//! drains: it would otherwise hold up the shutdown that it announces.

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

/// The phases of the process as they come, the last one being that it drains.
#[derive(Debug)]
pub struct Watch {
    phases: WatchStream<Phase>,
    over: bool,
}

impl Health {
    /// Answers what `readiness` says.
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

/// The name by which envoyproxy/ratelimit tells its health, and its users' probes ask for it.
const REFERENCE_NAME: &str = "ratelimit";

/// There is the process as a whole, called `""` or [`REFERENCE_NAME`], and its one service.
fn ensure_known(request: &HealthCheckRequest) -> Result<(), Status> {
    match request.service.as_str() {
        "" | REFERENCE_NAME | SERVICE_NAME => Ok(()),
        other => Err(Status::not_found(format!("there is no service {other:?}"))),
    }
}

fn response(phase: Phase) -> HealthCheckResponse {
    let status = match phase.objection() {
        None => ServingStatus::Serving,
        Some(_) => ServingStatus::NotServing,
    };
    HealthCheckResponse { status: status.into() }
}
