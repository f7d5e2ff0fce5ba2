//! Traces by OTLP: a span for each RPC, as part of the caller's trace.
//!
//! The caller's `traceparent` decides whether a request is traced; without one, a random sample is. Ended spans wait in
//! a bounded queue for a thread that sends them in batches. When the queue is full, spans are dropped, so a slow or
//! unavailable collector costs only traces.

use std::time::Duration;

use async_trait::async_trait;
use http::{Request, Response};
use hyper::body::Bytes;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Span as _, SpanKind, Status, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::otlp_http::{exchange, traces_url};
use crate::answer::protocol;
use crate::engine::{Code, Verdict};

/// The traced method.
const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";
const METHOD: &str = "ShouldRateLimit";

/// Maximum number of ended spans in the queue, of some hundred bytes each.
const QUEUE_LEN_MAX: usize = 4_096;

/// Spans sent at once.
const BATCH_LEN_MAX: usize = 512;

/// Maximum time that spans wait for a batch.
const BATCH_DELAY: Duration = Duration::from_secs(1);

/// Timeout of the collector for a batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// How a collector is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtlpProtocol {
    #[default]
    Grpc,
    /// Protobuf by HTTP/1.1.
    Http,
}

/// Traces requests.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
}

/// The span of a request in flight. It ends when this is dropped.
#[derive(Debug)]
pub struct Span(opentelemetry_sdk::trace::Span);

/// The headers with the trace context of a caller (W3C Trace Context).
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceHeaders<'h> {
    pub traceparent: Option<&'h str>,
    pub tracestate: Option<&'h str>,
}

impl Extractor for TraceHeaders<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        match name {
            "traceparent" => self.traceparent,
            "tracestate" => self.tracestate,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

impl Traces {
    /// Sends spans of a resource with these attributes to the collector at an endpoint: those that callers sample, and
    /// `sample_ratio` of requests without a sampling decision. Must be called on a tokio runtime; the collector may be
    /// unavailable.
    ///
    /// # Errors
    /// If the endpoint is not a URL.
    pub fn start(
        (endpoint, protocol): (&str, OtlpProtocol),
        sample_ratio: f64,
        attributes: &[(String, String)],
    ) -> Result<Self, ExporterBuildError> {
        let exporter = exporter(endpoint, protocol)?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_LEN_MAX)
            .with_max_export_batch_size(BATCH_LEN_MAX)
            .with_scheduled_delay(BATCH_DELAY)
            .build();
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let ratio = Sampler::TraceIdRatioBased(sample_ratio);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(Sampler::ParentBased(Box::new(ratio)))
            .with_resource(resource(attributes))
            .build();
        let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
        Ok(Self { provider, tracer, propagator: TraceContextPropagator::new() })
    }

    /// Starts the span of a request with these headers. None if it is not traced.
    pub fn span(&self, headers: TraceHeaders<'_>) -> Option<Span> {
        let caller = self.propagator.extract_with_context(&Context::new(), &headers);
        let span = self
            .tracer
            .span_builder(format!("{SERVICE}/{METHOD}"))
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("rpc.system", "grpc"),
                KeyValue::new("rpc.service", SERVICE),
                KeyValue::new("rpc.method", METHOD),
            ])
            .start_with_context(&self.tracer, &caller);
        span.is_recording().then_some(Span(span))
    }

    /// Sends the queued spans. Blocks until they are sent, or for `timeout`.
    pub fn flush(&self, timeout: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(timeout) {
            tracing::warn!(%error, "sending the last traces failed");
        }
    }
}

/// Calls collectors by HTTP, as tasks of a runtime: the exporter's thread is outside of it.
#[derive(Debug)]
struct OtlpHttp(Handle);

#[async_trait]
impl HttpClient for OtlpHttp {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // A collector that does not answer must not keep tasks.
        self.0.spawn(async { timeout(EXPORT_TIMEOUT, exchange(request)).await }).await??
    }
}

/// Sends batches to the collector at an endpoint.
fn exporter(endpoint: &str, protocol: OtlpProtocol) -> Result<SpanExporter, ExporterBuildError> {
    match protocol {
        OtlpProtocol::Grpc => SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_TIMEOUT)
            .build(),
        OtlpProtocol::Http => SpanExporter::builder()
            .with_http()
            .with_http_client(OtlpHttp(Handle::current()))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(traces_url(endpoint))
            .with_timeout(EXPORT_TIMEOUT)
            .build(),
    }
}

impl Span {
    /// Ends the span with the verdict. The domain is included only if a policy has it, so that it is not a text of the
    /// caller.
    pub fn end(mut self, verdict: &Verdict<'_>) {
        if let Some(policy) = verdict.policy {
            self.0.set_attribute(KeyValue::new("tollgate.domain", policy.name.clone()));
        }
        let code = match verdict.code() {
            Code::Ok => "ok",
            Code::OverLimit => "over_limit",
            Code::Unavailable => "error",
        };
        self.0.set_attribute(KeyValue::new("tollgate.code", code));
        if verdict.code() == Code::Unavailable {
            self.0.set_status(Status::error(protocol::UNAVAILABLE));
        }
        self.0.set_attribute(KeyValue::new("tollgate.fallback", verdict.fallback));
        self.0.end();
    }
}

/// The resource, with these attributes.
fn resource(attributes: &[(String, String)]) -> Resource {
    Resource::builder()
        .with_service_name(env!("CARGO_PKG_NAME"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attributes(
            attributes.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())),
        )
        .build()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::HeaderMap;
    use axum::routing::post;
    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
        TraceService, TraceServiceServer,
    };
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
    };
    use opentelemetry_proto::tonic::trace::v1::Span as SentSpan;
    use prost::Message;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio::task::spawn_blocking;
    use tonic::Status as TonicStatus;
    use tonic::transport::Server;
    use tonic::transport::server::TcpIncoming;

    use super::*;
    use crate::clock::Clock;
    use crate::engine;
    use crate::engine::testing::{Bench, START, descriptor};

    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const NOT_SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    const DEADLINE: Duration = Duration::from_secs(10);

    struct Collector(mpsc::Sender<ExportTraceServiceRequest>);

    #[tonic::async_trait]
    impl TraceService for Collector {
        async fn export(
            &self,
            request: tonic::Request<ExportTraceServiceRequest>,
        ) -> Result<tonic::Response<ExportTraceServiceResponse>, TonicStatus> {
            self.0.send(request.into_inner()).await.unwrap();
            Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
        }
    }

    async fn collector() -> (String, mpsc::Receiver<ExportTraceServiceRequest>) {
        let (sender, received) = mpsc::channel(8);
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        let service = TraceServiceServer::new(Collector(sender));
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        (format!("http://{address}"), received)
    }

    fn traced(traces: &Traces, traceparent: Option<&'static str>) -> Option<Span> {
        traces.span(TraceHeaders { traceparent, tracestate: None })
    }

    fn attribute(span: &SentSpan, key: &str) -> String {
        let found = span.attributes.iter().find(|attribute| attribute.key == key);
        format!("{:?}", found.and_then(|attribute| attribute.value.clone()))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_span_continues_the_callers_trace_and_reaches_the_collector() {
        let (endpoint, received) = collector().await;
        reaches(Traces::start((&endpoint, OtlpProtocol::Grpc), 0.0, &[]).unwrap(), received).await;
    }

    /// The same by HTTP: posts at the path of traces, as a collector takes them.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_span_reaches_a_collector_by_http() {
        let (sender, received) = mpsc::channel(8);
        let take = async move |headers: HeaderMap, body: Bytes| {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            sender.send(ExportTraceServiceRequest::decode(body).unwrap()).await.unwrap();
        };
        let router = Router::new().route("/v1/traces", post(take));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, router).await });
        reaches(Traces::start((&endpoint, OtlpProtocol::Http), 0.0, &[]).unwrap(), received).await;
    }

    /// A collector that takes nothing, and one that does not answer, cost a flush its timeout at most, and no panic.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn collectors_that_fail_cost_only_traces() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = format!("http://{}", silent.local_addr().unwrap());
        for endpoint in ["http://127.0.0.1:9", "http://[::1]:9", &silent] {
            let traces = Traces::start((endpoint, OtlpProtocol::Http), 1.0, &[]).unwrap();
            drop(traced(&traces, Some(SAMPLED)).unwrap());
            spawn_blocking(move || traces.flush(Duration::from_millis(100))).await.unwrap();
        }
    }

    async fn reaches(traces: Traces, mut received: mpsc::Receiver<ExportTraceServiceRequest>) {
        let bench = Bench::timed(Clock::manual(START));
        bench.put_in_force("{domain: shop, descriptors: []}");
        let request = engine::Request::try_new("shop", vec![descriptor("a=1")]).unwrap();
        let snapshot = bench.engine.snapshot();
        let verdict = bench.engine.check(&snapshot, &request).await;
        traced(&traces, Some(SAMPLED)).unwrap().end(&verdict);
        spawn_blocking(move || traces.flush(DEADLINE)).await.unwrap();

        let sent = timeout(DEADLINE, received.recv()).await.unwrap().unwrap();
        let span = &sent.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!(span.name, "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit");
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(&span.trace_id), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(hex(&span.parent_span_id), "b7ad6b7169203331");
        assert!(attribute(span, "tollgate.domain").contains("shop"));
        assert!(attribute(span, "tollgate.code").contains("ok"));
        assert!(attribute(span, "tollgate.fallback").contains("false"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_caller_says_whether_a_request_is_traced() {
        let nobody = ("http://127.0.0.1:9", OtlpProtocol::Grpc);
        let never = Traces::start(nobody, 0.0, &[]).unwrap();
        let always = Traces::start(nobody, 1.0, &[]).unwrap();
        assert!(traced(&never, Some(SAMPLED)).is_some());
        assert!(traced(&always, Some(NOT_SAMPLED)).is_none());
        assert!(traced(&never, None).is_none());
        assert!(traced(&always, None).is_some());
        assert!(traced(&never, Some("not a traceparent")).is_none());
        // There is no listener; the drop at the end must not wait for one on this thread.
        spawn_blocking(move || drop((never, always))).await.unwrap();
    }
}
