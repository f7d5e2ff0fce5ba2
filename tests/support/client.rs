//! Clients: Envoy's rate-limit service over gRPC, and plain HTTP.

use std::net::IpAddr;

use axum::http::{HeaderMap, Method, Request};
use bytes::Bytes;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tonic::transport::{Channel, Endpoint};

use super::PATIENCE;

/// The service's client.
pub type Grpc = RateLimitServiceClient<Channel>;

/// Connects to an address such as `http://127.0.0.1:8081` or `unix:///run/tollgate.sock`.
pub async fn grpc(address: &str) -> Grpc {
    try_grpc(address).await.unwrap()
}

/// The same, of a process that may be gone.
pub async fn try_grpc(address: &str) -> Result<Grpc, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(address.to_owned())?.timeout(PATIENCE);
    Ok(RateLimitServiceClient::new(endpoint.connect().await?))
}

/// A request of one hit for each of `descriptors`, given as their entries.
pub fn request(domain: &str, descriptors: &[&[(&str, &str)]]) -> RateLimitRequest {
    RateLimitRequest {
        domain: domain.to_owned(),
        descriptors: descriptors.iter().map(|entries| descriptor(entries)).collect(),
        hits_addend: 0,
    }
}

/// A descriptor of these entries and nothing else.
pub fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
    let entry = |(key, value): &(&str, &str)| Entry { key: (*key).into(), value: (*value).into() };
    RateLimitDescriptor { entries: entries.iter().map(entry).collect(), ..Default::default() }
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The reason that there was no answer over HTTP.
pub type HttpError = hyper_util::client::legacy::Error;

/// A client that keeps its connections.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Http {
    /// A client without a connection yet.
    pub fn new() -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// The same, whose connections come from an address of this machine.
    pub fn from_address(ip: IpAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_local_address(Some(ip));
        Self { client: Client::builder(TokioExecutor::new()).build(connector) }
    }

    /// Gets `url`; there must be an answer.
    pub async fn get(&self, url: &str, headers: &[(&str, &str)]) -> Answer {
        self.try_get(url, headers).await.unwrap_or_else(|error| panic!("GET {url}: {error:?}"))
    }

    /// Sends a request with a body; there must be an answer.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let what = format!("{} {}", request.method(), request.uri());
        self.try_send(request).await.unwrap_or_else(|error| panic!("{what}: {error:?}"))
    }

    /// Posts a text to `url`; there must be an answer.
    pub async fn post(&self, url: &str, headers: &[(&str, &str)], text: &str) -> Answer {
        self.send(http_request(Method::POST, url, headers, text)).await
    }

    /// Puts JSON; there must be an answer.
    pub async fn put(&self, url: &str, text: &str) -> Answer {
        let request = Request::put(url).header("content-type", "application/json");
        self.send(request.body(Full::new(Bytes::from(text.to_owned()))).unwrap()).await
    }

    /// Posts a text to `url`.
    pub async fn try_post(&self, url: &str, text: &str) -> Result<Answer, HttpError> {
        self.try_send(http_request(Method::POST, url, &[], text)).await
    }

    /// Gets `url`.
    pub async fn try_get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Answer, HttpError> {
        self.try_send(http_request(Method::GET, url, headers, "")).await
    }

    /// Sends a request with a body.
    pub async fn try_send(&self, request: Request<Full<Bytes>>) -> Result<Answer, HttpError> {
        let url = request.uri().clone();
        let response = tokio::time::timeout(PATIENCE, self.client.request(request))
            .await
            .unwrap_or_else(|_| panic!("{url}: no answer within {PATIENCE:?}"))?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }
}

fn http_request(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    text: &str,
) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(url);
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(Full::from(text.to_owned())).unwrap()
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null if there is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The header's value; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}
