//! Serves gRPC: the rate limit service, the check of API keys, health and reflection.
//!
//! Only this folder knows protobuf. [`services`] builds the services; [`serve`] serves them on one listener, and may
//! run several times: for a TCP port and a Unix socket. The services are tonic's, the connections hyper's.

mod authorization;
mod body_reader;
mod codec;
mod preface;
mod eviction_order;
mod health;
mod reflection;
mod repair;
mod request;
mod response;
mod memory_budget;
mod serve;
mod service;
mod in_task_executor;
mod timeout;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_health::pb::health_server::HealthServer;

use crate::engine::{AdmissionControl, ApiKeys, Engine, Readiness};
use crate::metrics::{Invalid, Metrics, Port, Shed};
use crate::observe::invalid::InvalidRequests;
use crate::observe::traces::Traces;

use authorization::Authorization;
use body_reader::{BodyReader, MESSAGE_LEN_MAX};
use memory_budget::{MemoryBudget, Reservation};
use service::{Answer, Service};

pub use serve::serve;
pub use service::answer_bytes;

/// Maximum time of a call, from its headers to its answer: far longer than any gateway waits, and than any policy holds
/// a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// A call is rejected as late once its wait for a turn, multiplied by this, exceeds its timeout: the rest of the time
/// is for the decision and the way back. Without it, under overload the server would answer just those requests whose
/// clients have timed out.
const LATE_FACTOR: u32 = 2;

/// Bytes of a header in addition to its name and value.
const HEADER_COST: usize = 100;

/// The services.
#[derive(Clone)]
pub struct Services {
    budget: MemoryBudget,
    admission: Arc<AdmissionControl>,
    rate_limit: Service,
    /// None: no API keys are checked, and its method is unknown.
    authorization: Option<Authorization>,
    others: Routes,
    invalid: InvalidRequests,
}

/// Builds the services. Calls of the rate limit service are traced if there are `traces`.
pub fn services(
    engine: Arc<Engine>,
    readiness: Readiness,
    metrics: Arc<Metrics>,
    traces: Option<Arc<Traces>>,
) -> Services {
    let admission = engine.admission().clone();
    let rate_limit = Service::new(engine, traces);
    let invalid = InvalidRequests::new(Port::Grpc, metrics.clone());
    let health = HealthServer::new(health::Health::new(readiness))
        .max_decoding_message_size(MESSAGE_LEN_MAX);
    let others = Routes::new(health)
        .add_service(reflection::v1())
        .add_service(reflection::v1alpha())
        .prepare();
    let (budget, authorization) = (MemoryBudget::new(metrics), None);
    Services { budget, admission, rate_limit, authorization, others, invalid }
}

impl Services {
    /// The same services, which also check these API keys.
    pub fn checking(self, engine: Arc<Engine>, keys: Option<Arc<ApiKeys>>) -> Self {
        Self { authorization: keys.map(|keys| Authorization::new(engine, keys)), ..self }
    }

    /// Answers a call of any service. `read_at` is the time when its headers were read.
    ///
    /// The future is kept small: hyper moves it more than once, and the service's own future is boxed.
    async fn answer(&self, call: Request<Incoming>, read_at: Instant) -> Response<Body> {
        let reservation = Reservation::here();
        reservation.grow(headers_len(call.headers()));
        // Its client may reset it until then.
        poll_fn(|cx| reservation.poll_started(cx)).await;
        let waited = read_at.elapsed();
        let is_check = self.decides(call.uri().path());
        let timeout = timeout::client_timeout(call.headers()).unwrap_or(REQUEST_TIMEOUT);
        let is_late = timeout <= waited * LATE_FACTOR;
        let (limit, answer) = if is_late {
            reservation.budget().shed(Shed::Late);
            (REQUEST_TIMEOUT, late_answer(call.into_body(), &reservation))
        } else {
            (timeout.min(REQUEST_TIMEOUT).saturating_sub(waited), self.call(call, &reservation))
        };
        let answer = reservation.unless_evicted(answer);
        let answer = timeout::within(limit, answer, || reservation.mark_slow()).await;
        if answer.is_none() && !is_late && !reservation.is_message_complete() {
            reservation.budget().shed(Shed::Late);
        }
        reservation.response_ready();
        match answer {
            Some(Some(Ok(answer))) => {
                self.report_invalid(is_check, answer.headers());
                answer
            }
            Some(None) => memory_budget::exhausted().into_http(),
            None => late().into_http(),
        }
    }

    /// Reports an error answer that an invalid call has caused. The status of such an answer is in its headers; other
    /// answers have it in their trailers.
    /// have it in their trailers.
    fn report_invalid(&self, is_check: bool, head: &HeaderMap) {
        let Some(error) = Status::from_header_map(head) else { return };
        if let Some(fault) = invalid(is_check, &error) {
            self.invalid.note(fault, error.message());
        }
    }

    /// Whether a method decides about a request of Envoy's.
    fn decides(&self, path: &str) -> bool {
        path == service::PATH || self.authorization.is_some() && path == authorization::PATH
    }

    /// The answer of a service.
    fn call(&self, call: Request<Incoming>, reservation: &Arc<Reservation>) -> Answer {
        // Nearly all calls are for one service; the router is for the others.
        let body = |body| BodyReader::new(body, reservation.clone());
        if call.uri().path() == service::PATH {
            self.rate_limit.call(call.map(body))
        } else if let Some(authorization) =
            self.authorization.as_ref().filter(|_| call.uri().path() == authorization::PATH)
        {
            authorization.call(call.map(body))
        } else {
            reservation.set_endless();
            Box::pin(self.others.clone().call(call))
        }
    }
}

/// The reason that a call is invalid, if its error answer says so. `is_check`: the call asked for a decision.
fn invalid(is_check: bool, error: &Status) -> Option<Invalid> {
    match error.code() {
        Code::Unimplemented if is_check => Some(Invalid::Compressed),
        Code::Unimplemented => Some(Invalid::UnknownMethod),
        _ if !is_check => None,
        Code::OutOfRange => Some(Invalid::TooLarge),
        Code::InvalidArgument => Some(Invalid::Undecidable),
        Code::Internal => Some(Invalid::Malformed),
        _ => None,
    }
}

/// The answer to a call whose client no longer waits, after its message was read: hyper would count the unread message
/// against the connection's flow control.
/// against the connection's flow control.
fn late_answer(body: Incoming, reservation: &Arc<Reservation>) -> Answer {
    let mut body = BodyReader::new(body, reservation.clone());
    Box::pin(async move {
        while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
        Ok(late().into_http())
    })
}

/// Minimum memory of headers, in bytes.
fn headers_len(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| HEADER_COST + name.as_str().len() + value.len()).sum()
}

fn late() -> Status {
    Status::deadline_exceeded("the request's deadline expired")
}

/// The services on an engine with a limit of one request per hour.
#[cfg(test)]
fn testing_services(readiness: Readiness) -> Services {
    let engine = crate::engine::testing::one_an_hour();
    services(Arc::new(engine), readiness, Arc::default(), None)
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::net::SocketAddr;

    use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
    use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{
        Entry, RateLimitOverride,
    };
    use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
    use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
    use hyper_util::rt::TokioIo;
    use prost::Message;
    use tokio::net::{TcpListener, UnixListener, UnixStream};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;
    use tonic::transport::{Channel, Endpoint};
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    use super::*;
    use crate::engine::testing;
    use crate::listen::Acceptor;

    const RLS: &str = "envoy.service.ratelimit.v3.RateLimitService";

    struct Running {
        channel: Channel,
        readiness: Readiness,
        stop: oneshot::Sender<()>,
        server: JoinHandle<()>,
    }

    async fn run() -> Running {
        let readiness = Readiness::default();
        let services = testing_services(readiness.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async move { stopped.await.unwrap() };
        let server = tokio::spawn(serve(services, Acceptor::plain(listener), None, stopped));
        let channel = Endpoint::try_from(format!("http://{address}")).unwrap();
        Running { channel: channel.connect().await.unwrap(), readiness, stop, server }
    }

    fn ask() -> RateLimitRequest {
        let entry = Entry { key: "user".to_owned(), value: "alice".to_owned() };
        let descriptor = RateLimitDescriptor { entries: vec![entry], ..Default::default() };
        let domain = "edges".to_owned();
        RateLimitRequest { domain, descriptors: vec![descriptor], hits_addend: 0 }
    }

    #[tokio::test]
    async fn a_request_passes_until_the_limit_is_spent() {
        let running = run().await;
        let mut client = RateLimitServiceClient::new(running.channel);
        let first = client.should_rate_limit(ask()).await.unwrap().into_inner();
        let second = client.should_rate_limit(ask()).await.unwrap().into_inner();
        assert_eq!((first.overall_code, first.statuses.len()), (1, 1));
        assert_eq!((second.overall_code, second.statuses[0].code), (2, 2));
    }

    #[tokio::test]
    async fn a_port_and_a_socket_are_served_at_once() {
        let services = testing_services(Readiness::default());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tollgate.sock");
        let socket = UnixListener::bind(&path).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = port.local_addr().unwrap();
        tokio::spawn(serve(services.clone(), Acceptor::plain(socket), None, pending()));
        tokio::spawn(serve(services, Acceptor::plain(port), None, pending()));

        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://socket");
        let on_socket = endpoint.connect_with_connector(connector).await.unwrap();
        let on_port = Endpoint::try_from(format!("http://{address}")).unwrap();
        for (channel, code) in [(on_socket, 1), (on_port.connect().await.unwrap(), 2)] {
            let answer = RateLimitServiceClient::new(channel).should_rate_limit(ask()).await;
            assert_eq!(answer.unwrap().into_inner().overall_code, code);
        }
    }

    #[tokio::test]
    async fn what_can_not_be_decided_is_an_invalid_argument() {
        let running = run().await;
        let mut client = RateLimitServiceClient::new(running.channel);
        let mut check = async |message: RateLimitRequest, text: &str| {
            let status = client.should_rate_limit(message).await.unwrap_err();
            assert_eq!((status.code(), status.message()), (Code::InvalidArgument, text));
        };
        let limit = Some(RateLimitOverride { requests_per_unit: 1, unit: 9 });
        let descriptors = vec![RateLimitDescriptor { limit, ..Default::default() }];
        check(RateLimitRequest::default(), "the domain is empty").await;
        check(RateLimitRequest { descriptors: vec![], ..ask() }, "the request has no descriptors")
            .await;
        let text = "descriptor 0 brings a limit of unknown unit 9";
        check(RateLimitRequest { descriptors, ..ask() }, text).await;
    }

    #[tokio::test]
    async fn a_message_that_is_too_large_is_refused() {
        let running = run().await;
        let mut client = RateLimitServiceClient::new(running.channel);
        let message = RateLimitRequest { domain: "d".repeat(MESSAGE_LEN_MAX), ..ask() };
        let status = client.should_rate_limit(message).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange, "{status}");
    }

    #[tokio::test]
    async fn a_message_that_is_packed_is_not_unpacked() {
        let running = run().await;
        let mut client = RateLimitServiceClient::new(running.channel);
        let mut request = tonic::Request::new(ask());
        request.metadata_mut().insert("grpc-encoding", "gzip".parse().unwrap());
        let status = client.should_rate_limit(request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{status}");
    }

    #[tokio::test]
    async fn bytes_are_answered_as_the_service_answers_them() {
        let engine = testing::one_an_hour();
        assert!(answer_bytes(&engine, &ask().encode_to_vec()).await.is_ok());
        let bytes = b"\x0a\x01\xff\x12\x06\x0a\x04\x0a\x02\xff\xfe";
        assert!(answer_bytes(&engine, bytes).await.is_ok());
        for bytes in [b"".as_slice(), b"\x0a", b"\xff\xff"] {
            let status = answer_bytes(&engine, bytes).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
        }
    }

    #[tokio::test]
    async fn health_is_readiness_for_the_process_and_its_service() {
        let running = run().await;
        let mut client = HealthClient::new(running.channel);
        let mut check = async |expected: ServingStatus| {
            for service in ["", "ratelimit", RLS] {
                let request = HealthCheckRequest { service: service.to_owned() };
                let answer = client.check(request).await.unwrap().into_inner();
                assert_eq!(answer.status(), expected, "{service:?}");
            }
            let request = HealthCheckRequest { service: "other".to_owned() };
            assert_eq!(client.check(request).await.unwrap_err().code(), Code::NotFound);
        };
        check(ServingStatus::NotServing).await;
        running.readiness.set_ready();
        check(ServingStatus::Serving).await;
        running.readiness.drain();
        check(ServingStatus::NotServing).await;
    }

    #[tokio::test]
    async fn a_watch_tells_each_phase_and_does_not_hold_up_the_shutdown() {
        let running = run().await;
        let mut client = HealthClient::new(running.channel);
        let watch = client.watch(HealthCheckRequest { service: RLS.to_owned() }).await.unwrap();
        let mut watch = watch.into_inner();
        let mut next = async || watch.message().await.unwrap().map(|answer| answer.status());
        assert_eq!(next().await, Some(ServingStatus::NotServing));
        running.readiness.set_ready();
        assert_eq!(next().await, Some(ServingStatus::Serving));
        running.readiness.drain();
        assert_eq!(next().await, Some(ServingStatus::NotServing));
        assert_eq!(next().await, None);
        running.stop.send(()).unwrap();
        running.server.await.unwrap();
    }

    #[tokio::test]
    async fn reflection_tells_the_services_and_their_files() {
        let running = run().await;
        let mut client = ServerReflectionClient::new(running.channel);
        let mut ask = async |message: MessageRequest| {
            let request =
                ServerReflectionRequest { host: String::new(), message_request: Some(message) };
            let stream = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
            let answer = stream.into_inner().message().await.unwrap().unwrap();
            answer.message_response.unwrap()
        };
        let services = ask(MessageRequest::ListServices(String::new())).await;
        let MessageResponse::ListServicesResponse(services) = services else {
            panic!("{services:?}");
        };
        let names: Vec<String> = services.service.into_iter().map(|one| one.name).collect();
        assert!(names.iter().any(|name| name == RLS), "{names:?}");
        assert!(names.iter().any(|name| name == "grpc.health.v1.Health"), "{names:?}");

        let file = ask(MessageRequest::FileContainingSymbol(RLS.to_owned())).await;
        let MessageResponse::FileDescriptorResponse(file) = file else {
            panic!("{file:?}");
        };
        let bytes = file.file_descriptor_proto[0].as_slice();
        let file = prost_types::FileDescriptorProto::decode(bytes).unwrap();
        assert_eq!(file.name(), "envoy/service/ratelimit/v3/rls.proto");
        for path in file.dependency {
            let import = ask(MessageRequest::FileByFilename(path.clone())).await;
            assert!(matches!(import, MessageResponse::FileDescriptorResponse(_)), "{path}");
        }
    }
}
