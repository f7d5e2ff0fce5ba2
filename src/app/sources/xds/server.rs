//! The connection to the xDS server, and the stream with its policies (ADS, state of the world).
//!
//! The files of certificates are read for each connection, so renewed ones are in use from the next connection on.

use std::future::pending;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{io, mem};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use envoy_types::pb::google::rpc::Status as ErrorDetail;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::select;
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::Service;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status, Streaming};

use super::heard::{HasSent, Heard};
use super::pulse::{Pulse, PulseTimes};
use crate::settings::XdsSettings;
use crate::tls_client::{IdentityFiles, TlsSettings};
use crate::version::VERSION;

/// The type of the resources.
pub const TYPE_URL: &str = "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig";

/// Maximum time until the server has accepted a connection, with its TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls that find a process that is stuck.
const PULSE: PulseTimes =
    PulseTimes { interval: Duration::from_secs(20), timeout: Duration::from_secs(15) };

/// Probes of TCP, which find a host that is gone without a word earlier.
const KEEPALIVE_TIME: Duration = Duration::from_secs(20);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// Requests that wait to be sent: the first one, and an answer to each response. There is one response at a time.
const REQUESTS_MAX: usize = 8;

/// The ALPN name of HTTP/2.
const HTTP_2: &[u8] = b"h2";

/// The xDS server of the settings.
#[derive(Clone, Debug)]
pub struct Server {
    settings: XdsSettings,
}

/// The stream of one connection.
pub struct Subscription {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Responses,
    /// When the first response is late. None: it came, or that it is late was told.
    deadline: Option<Pin<Box<Sleep>>>,
    has_sent: HasSent,
    pulse: Pulse,
    /// Whether there was no response yet.
    is_new: bool,
}

/// What comes from a stream.
pub enum Arrival {
    Response {
        response: Box<DiscoveryResponse>,
        is_first: bool,
    },
    /// The first response is late, but a server of HTTP/2 is there. It may have nothing for this node yet.
    Silence,
}

/// A server may send its headers together with its first response, so opening may take as long as waiting.
enum Responses {
    Opening(Pin<Box<dyn Future<Output = Result<Streaming<DiscoveryResponse>, Status>> + Send>>),
    Open(Box<Streaming<DiscoveryResponse>>),
}

/// The bytes of a connection.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<W: AsyncRead + AsyncWrite + Send + Unpin> Wire for W {}

/// Opens connections to the server, whatever the URI.
#[derive(Clone)]
struct Connector {
    settings: XdsSettings,
    has_sent: HasSent,
}

impl Server {
    /// The server of the settings.
    pub fn new(settings: XdsSettings) -> Self {
        Self { settings }
    }

    /// Host and port, for people.
    pub fn address(&self) -> String {
        authority(&self.settings)
    }

    /// Connects and subscribes.
    ///
    /// # Errors
    /// If there is no connection in time.
    pub async fn subscribe(&self) -> anyhow::Result<Subscription> {
        let scheme = if self.settings.tls { "https" } else { "http" };
        let authority = self.address();
        let endpoint = Endpoint::from_shared(format!("http://{authority}"))?
            .origin(format!("{scheme}://{authority}").parse()?)
            .connect_timeout(CONNECT_TIMEOUT);
        let has_sent = HasSent::default();
        let connector = Connector { settings: self.settings.clone(), has_sent: has_sent.clone() };
        let channel = endpoint.connect_with_connector(connector).await?;
        self.open(channel, has_sent)
    }

    fn open(&self, channel: Channel, has_sent: HasSent) -> anyhow::Result<Subscription> {
        let (requests, sent) = mpsc::channel(REQUESTS_MAX);
        let first = DiscoveryRequest {
            node: Some(self.node()),
            type_url: TYPE_URL.to_owned(),
            ..Default::default()
        };
        // The channel is empty.
        requests.try_send(first)?;
        let mut request = Request::new(ReceiverStream::new(sent));
        for (name, value) in &self.settings.headers {
            let name = AsciiMetadataKey::from_bytes(name.as_bytes())?;
            let value = AsciiMetadataValue::try_from(value.expose())?;
            request.metadata_mut().append(name, value);
        }
        let pulse = Pulse::new(channel.clone(), PULSE);
        let mut client = AggregatedDiscoveryServiceClient::new(channel)
            .max_decoding_message_size(self.settings.message_len_max);
        let opening = async move {
            client.stream_aggregated_resources(request).await.map(tonic::Response::into_inner)
        };
        let responses = Responses::Opening(Box::pin(opening));
        let deadline = Some(Box::pin(sleep(self.settings.response_timeout)));
        Ok(Subscription { requests, responses, deadline, has_sent, pulse, is_new: true })
    }

    fn node(&self) -> Node {
        let metadata = self.settings.node_metadata.iter().map(|(key, value)| {
            (key.clone(), Value { kind: Some(Kind::StringValue(value.clone())) })
        });
        Node {
            id: self.settings.node_id.clone(),
            metadata: Some(Struct { fields: metadata.collect() }),
            user_agent_name: env!("CARGO_PKG_NAME").to_owned(),
            user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(
                VERSION.to_owned(),
            )),
            ..Default::default()
        }
    }
}

impl Subscription {
    /// The next response, or that the first one is late. It is cancel-safe.
    ///
    /// # Errors
    /// If the stream ends, the server is stuck, or the first response is late and the server has not sent anything at all.
    pub async fn next(&mut self) -> Result<Arrival, Status> {
        let silent = || Status::deadline_exceeded("the server does not answer");
        let late = async {
            match &mut self.deadline {
                Some(deadline) => deadline.await,
                None => pending().await,
            }
        };
        let response = select! {
            biased;
            response = self.responses.next() => Some(response?),
            () = late => None,
            () = self.pulse.stopped() => return Err(silent()),
        };
        let Some(response) = response else {
            if !self.has_sent.get() {
                return Err(silent());
            }
            self.deadline = None;
            return Ok(Arrival::Silence);
        };
        self.deadline = None;
        let is_first = mem::replace(&mut self.is_new, false);
        Ok(Arrival::Response { response: Box::new(response), is_first })
    }

    /// Answers a response: accepts it, or says what is wrong with it. `version` is that of the policies in force.
    pub fn answer(&self, response: &DiscoveryResponse, version: &str, error: Option<String>) {
        let code = tonic::Code::InvalidArgument as i32;
        let request = DiscoveryRequest {
            version_info: version.to_owned(),
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: error.map(|message| ErrorDetail { code, message, details: Vec::new() }),
            ..Default::default()
        };
        // If the stream has ended, the next one starts anew; if it is full, the server does not read.
        self.requests.try_send(request).ok();
    }
}

impl Responses {
    /// The next response. It is cancel-safe.
    async fn next(&mut self) -> Result<DiscoveryResponse, Status> {
        loop {
            match self {
                Self::Opening(opening) => {
                    let stream = opening.await?;
                    *self = Self::Open(Box::new(stream));
                }
                Self::Open(stream) => {
                    let ended = || Status::unavailable("the server ended the stream");
                    return stream.message().await?.ok_or_else(ended);
                }
            }
        }
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

impl Connector {
    async fn connect(self) -> io::Result<TokioIo<Box<dyn Wire>>> {
        let Self { settings, has_sent } = self;
        let (host, port) = settings.server.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
        let stream = TcpStream::connect((host.as_str(), *port)).await?;
        stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_TIME)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_RETRIES);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        let wire: Box<dyn Wire> = match settings.tls {
            false => Box::new(stream),
            true => {
                let identity = settings.tls_cert_file.clone().zip(settings.tls_key_file.clone());
                let tls = TlsSettings {
                    ca_file: settings.tls_ca_file.clone(),
                    identity: identity.map(|(certificate, key)| IdentityFiles { certificate, key }),
                    server_name: settings.tls_server_name.clone(),
                    any_name: false,
                };
                let client = tls.client(Some(HTTP_2)).map_err(io::Error::other)?;
                Box::new(client.shake_hands(host, stream).await?)
            }
        };
        Ok(TokioIo::new(Box::new(Heard::new(wire, has_sent))))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Wire>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

/// Host and port, as in a URL.
fn authority(settings: &XdsSettings) -> String {
    match &settings.server {
        Some((host, port)) if host.contains(':') => format!("[{host}]:{port}"),
        Some((host, port)) => format!("{host}:{port}"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    /// An empty frame of settings, with which a server of HTTP/2 begins.
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

    #[tokio::test]
    async fn a_server_that_gets_stuck_is_left_within_a_minute() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stuck = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&SETTINGS).await.unwrap();
            // It reads, and never answers.
            let mut bytes = [0; 1_024];
            while stream.read(&mut bytes).await.is_ok_and(|len| 0 < len) {}
        });
        let settings =
            XdsSettings { server: Some(("127.0.0.1".to_owned(), port)), ..XdsSettings::default() };
        let mut subscription = Server::new(settings).subscribe().await.unwrap();
        while !subscription.has_sent.get() {
            tokio::task::yield_now().await;
        }
        tokio::time::pause();
        let start = Instant::now();
        assert!(matches!(subscription.next().await, Ok(Arrival::Silence)));
        let error = subscription.next().await.err().unwrap();
        assert_eq!(error.message(), "the server does not answer");
        let elapsed = start.elapsed();
        assert!((30..=60).contains(&elapsed.as_secs()), "{elapsed:?}");
        stuck.abort();
    }
}
