//! An xDS server (ADS, state of the world) for rate limits, as Envoy Gateway has one. It runs on its own threads, so
//! that it can be killed with all its connections.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::ratelimit::config::ratelimit::v3::{
    RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit,
};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::eventually;
use super::tls::{Authority, Certificate};

/// The type of the resources.
pub const TYPE_URL: &str = "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig";

/// A running server.
pub struct Ads {
    pub address: SocketAddr,
    state: Arc<State>,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct State {
    /// None: nothing to send yet.
    set: watch::Sender<Option<DiscoveryResponse>>,
    requests: Mutex<Vec<DiscoveryRequest>>,
    /// Of each stream.
    metadata: Mutex<Vec<MetadataMap>>,
    nonces: AtomicU64,
}

struct Service(Arc<State>);

impl Ads {
    /// A server on a free port that has nothing to send yet.
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    /// The same on a known address.
    pub async fn start_at(address: SocketAddr) -> Self {
        let state = Arc::new(State::default());
        let runtime = runtime();
        // After a kill, the port is free as soon as its sockets are dropped.
        let listener =
            eventually("the port", async || std::net::TcpListener::bind(address).ok()).await;
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        runtime.spawn(serve(listener, state.clone()));
        Self { address, state, runtime: Some(runtime) }
    }

    /// A server with a certificate that demands certificates of the same authority from clients.
    pub async fn start_tls(authority: &Authority, own: &Certificate) -> Self {
        let mut server = Self::start().await;
        let acceptor = TlsAcceptor::from(authority.server(own));
        let plain = server.address;
        let runtime = server.runtime.as_ref().unwrap().handle();
        server.address = runtime
            .spawn(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                tokio::spawn(async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        let acceptor = acceptor.clone();
                        tokio::spawn(async move {
                            let mut stream = acceptor.accept(stream).await?;
                            let mut inner = TcpStream::connect(plain).await?;
                            tokio::io::copy_bidirectional(&mut stream, &mut inner).await
                        });
                    }
                });
                address
            })
            .await
            .unwrap();
        server
    }

    /// Sends a whole set.
    pub fn send(&self, version: &str, configs: &[RateLimitConfig]) {
        let resources = configs
            .iter()
            .map(|config| Any { type_url: TYPE_URL.to_owned(), value: config.encode_to_vec() });
        self.send_raw(version, resources.collect());
    }

    /// Sends resources as they are.
    pub fn send_raw(&self, version: &str, resources: Vec<Any>) {
        let (version_info, type_url) = (version.to_owned(), TYPE_URL.to_owned());
        let response =
            DiscoveryResponse { version_info, resources, type_url, ..Default::default() };
        self.state.set.send_replace(Some(response));
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<DiscoveryRequest> {
        self.state.requests.lock().unwrap().clone()
    }

    /// The headers of each stream so far.
    pub fn metadata(&self) -> Vec<MetadataMap> {
        self.state.metadata.lock().unwrap().clone()
    }

    /// Waits until a version is accepted.
    pub async fn accepted(&self, version: &str) {
        eventually(&format!("version {version} accepted"), async || {
            let is_ack = |request: &&DiscoveryRequest| {
                request.version_info == version && request.error_detail.is_none()
            };
            self.requests().iter().find(is_ack).map(drop)
        })
        .await;
    }

    /// Waits for a rejection after `count` others. Returns the request.
    pub async fn rejected(&self, count: usize) -> DiscoveryRequest {
        eventually(&format!("rejection {count}"), async || {
            let requests = self.requests().into_iter();
            requests.filter(|request| request.error_detail.is_some()).nth(count)
        })
        .await
    }

    /// Ends it and all its connections.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Ads {
    fn drop(&mut self) {
        self.kill();
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

async fn serve(listener: std::net::TcpListener, state: Arc<State>) {
    let listener = TcpListener::from_std(listener).unwrap();
    let service = AggregatedDiscoveryServiceServer::new(Service(state));
    let incoming = TcpListenerStream::new(listener);
    Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let state = self.0.clone();
        state.metadata.lock().unwrap().push(request.metadata().clone());
        let mut requests = request.into_inner();
        let (sender, responses) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut sets = state.set.subscribe();
            let Some(Ok(first)) = requests.next().await else { return };
            state.requests.lock().unwrap().push(first);
            sets.mark_changed();
            loop {
                tokio::select! {
                    request = requests.next() => match request {
                        Some(Ok(request)) => state.requests.lock().unwrap().push(request),
                        _ => return,
                    },
                    changed = sets.changed() => {
                        changed.unwrap();
                        let Some(mut set) = sets.borrow_and_update().clone() else { continue };
                        set.nonce = state.nonces.fetch_add(1, Ordering::Relaxed).to_string();
                        if sender.send(Ok(set)).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }

    async fn delta_aggregated_resources(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("state of the world only"))
    }
}

/// A domain with these rules at the top.
pub fn domain(name: &str, descriptors: Vec<RateLimitDescriptor>) -> RateLimitConfig {
    RateLimitConfig { name: name.to_owned(), domain: name.to_owned(), descriptors }
}

/// A rule without a limit.
pub fn rule(key: &str, value: &str, below: Vec<RateLimitDescriptor>) -> RateLimitDescriptor {
    let (key, value) = (key.to_owned(), value.to_owned());
    RateLimitDescriptor { key, value, descriptors: below, ..Default::default() }
}

/// A rule with a limit.
pub fn limit(key: &str, value: &str, amount: u32, unit: RateLimitUnit) -> RateLimitDescriptor {
    let policy =
        RateLimitPolicy { unit: unit.into(), requests_per_unit: amount, ..Default::default() };
    RateLimitDescriptor { rate_limit: Some(policy), ..rule(key, value, Vec::new()) }
}

/// Writes the files of a client into a folder: `ca.crt`, `tls.crt` and `tls.key`, as in the secrets of Envoy Gateway.
pub fn write_identity(folder: &Path, authority: &Authority) {
    std::fs::write(folder.join("ca.crt"), authority.pem()).unwrap();
    authority.sign().write(folder);
}
