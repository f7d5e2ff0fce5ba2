//! The floor: an empty tonic handler that always says OK, to decisions and to checks of API keys, served by tonic.
//!
//! It reads the whole request, as tonic does before any handler runs, and decides nothing. Tollgate does not use
//! tonic's transport, so the savings there offset the cost of deciding.

use std::time::Duration;

use anyhow::Result;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{
    Authorization, AuthorizationServer,
};
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::google::rpc::Status as GrpcStatus;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// The same settings as Tollgate's.
const STREAMS_MAX: u32 = 1_024;
const HEADERS_LEN_MAX: u32 = 16 * 1024;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// The status of a check that is passed.
const OK: GrpcStatus = GrpcStatus { code: 0, message: String::new(), details: Vec::new() };

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

#[tonic::async_trait]
impl Authorization for Floor {
    async fn check(&self, _: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        Ok(Response::new(CheckResponse { status: Some(OK), ..CheckResponse::default() }))
    }
}

/// Serves until the process is killed, and prints its address like Tollgate's banner.
pub fn serve() -> Result<()> {
    Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("  gRPC  {}", listener.local_addr()?);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let routes = Routes::new(RateLimitServiceServer::new(Floor));
        let routes = routes.add_service(AuthorizationServer::new(Floor)).prepare();
        let mut server = Server::builder()
            .max_concurrent_streams(STREAMS_MAX)
            .http2_max_header_list_size(HEADERS_LEN_MAX)
            .timeout(REQUEST_TIMEOUT);
        Ok(server.add_routes(routes).serve_with_incoming(incoming).await?)
    })
}
