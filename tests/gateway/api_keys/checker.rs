//! A client of Envoy's `Authorization` service, in place of Envoy.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::address::Address as AnyAddress;
use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest, CheckResponse};
use tonic::transport::{Channel, Endpoint};

use crate::support::PATIENCE;
use crate::support::tollgate::Tollgate;

/// The client, whose requests come from an address.
#[derive(Clone)]
pub struct Checker {
    client: AuthorizationClient<Channel>,
    address: String,
    path: String,
}

impl Checker {
    /// A client of a Tollgate.
    pub async fn of(tollgate: &Tollgate, address: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{}", tollgate.grpc_address)).unwrap();
        let channel = endpoint.timeout(PATIENCE).connect().await.unwrap();
        Self {
            client: AuthorizationClient::new(channel),
            address: address.to_owned(),
            path: "/".to_owned(),
        }
    }

    /// The same for another path.
    pub fn on(&self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self.clone() }
    }

    /// Checks a request with an API key and other headers.
    pub async fn check(
        &self,
        key: &str,
        headers: &[(&str, &str)],
    ) -> Result<CheckResponse, tonic::Status> {
        let both = headers.iter().copied().chain([("x-api-key", key)]);
        let headers: HashMap<String, String> =
            both.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let http = HttpRequest {
            method: "GET".to_owned(),
            path: self.path.clone(),
            headers,
            ..HttpRequest::default()
        };
        let socket = SocketAddress { address: self.address.clone(), ..SocketAddress::default() };
        let address = Address { address: Some(AnyAddress::SocketAddress(socket)) };
        let source = Peer { address: Some(address), ..Peer::default() };
        let context = AttributeContext {
            source: Some(source),
            request: Some(Request { http: Some(http), ..Request::default() }),
            ..AttributeContext::default()
        };
        let message = CheckRequest { attributes: Some(context) };
        Ok(self.client.clone().check(message).await?.into_inner())
    }

    /// The status that the client of a request gets: 200 if it goes on.
    pub async fn status(&self, key: &str) -> i32 {
        status_of(&self.check(key, &[]).await.unwrap())
    }
}

/// The status that the client of a request gets: 200 if it goes on.
pub fn status_of(answer: &CheckResponse) -> i32 {
    match answer.http_response.as_ref().unwrap() {
        HttpResponse::DeniedResponse(denied) => denied.status.as_ref().unwrap().code,
        HttpResponse::OkResponse(_) | HttpResponse::ErrorResponse(_) => 200,
    }
}
