//! The floor: an empty tonic handler that always says OK, served just as Tollgate serves its own.
//!
//! It reads the whole request, as tonic does before any handler sees it, and decides nothing. What
//! Tollgate costs beyond it is what deciding costs.

use std::future::pending;

use anyhow::Result;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitResponse;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tollgate::grpc;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;

struct Floor;

#[tonic::async_trait]
impl RateLimitService for Floor {
    async fn should_rate_limit(
        &self,
        _: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let overall_code = Code::Ok.into();
        Ok(Response::new(RateLimitResponse { overall_code, ..RateLimitResponse::default() }))
    }
}

/// Serves until the process is killed, and says where in the words of Tollgate's greeting.
pub fn serve() -> Result<()> {
    Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("  gRPC  {}", listener.local_addr()?);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let routes = Routes::new(RateLimitServiceServer::new(Floor)).prepare();
        Ok(grpc::serve(routes, incoming, pending()).await?)
    })
}
