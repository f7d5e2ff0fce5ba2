//! Serves HTTP: the rate limit service as JSON, the API, health, metrics, and the policies in force.
//!
//! Only this folder chooses HTTP statuses. The answer to a failed request is a problem document.

mod admin;
mod alerts;
mod api;
mod api_keys;
mod auth;
mod bonuses;
mod callers;
mod change;
mod credits;
mod dashboard;
mod directory_problem;
mod edge;
mod erase;
mod extract;
mod health;
mod json;
mod latencies;
mod merge_patch;
mod openapi;
mod own_page;
mod problem;
mod provider_controls;
mod provider_counts;
mod providers;
mod quota;
mod recorded;
mod replicated;
mod reply;
mod request;
mod reservations;
mod response;
mod restrict;
mod serve;
mod signals;
mod tracked_body;
mod usage;
mod why;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};

use crate::engine::{Engine, Readiness};
use crate::metrics::{Metrics, Port};
use crate::observe::invalid::InvalidRequests;
use edge::Edge;

pub use dashboard::{Dashboard, Live, SigningKey};
pub use edge::{Api, RefusalSources};
pub use json::answer_bytes;
pub use problem::Problem;
pub use restrict::{Restriction, Restrictor};
pub use serve::serve;

/// Maximum size of a request body: several times the headers that a gateway accepts from a client.
pub const BODY_LEN_MAX: usize = 256 * 1024;

/// Timeout of a request, from its head to its answer: longer than any policy holds it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// The paths and their handlers.
pub fn router(
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    api: Api,
) -> Router {
    let invalid = InvalidRequests::new(Port::Http, metrics.clone());
    let has_dashboard = api.dashboard.is_some();
    let edge = Edge { engine, metrics, readiness, api: Arc::new(api), invalid };
    let pages = if has_dashboard { dashboard::routes() } else { Router::new() };
    Router::new()
        .route("/", get(admin::index))
        .route("/json", post(json::handle))
        .route("/policy", get(admin::policy))
        .route("/metrics", get(admin::metrics))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/healthcheck", get(health::ready))
        .merge(api::routes())
        .merge(pages)
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(REQUEST_TIMEOUT, in_time))
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
        .with_state(edge)
}

/// The metrics alone, at a path.
pub fn metrics_router(path: &str, metrics: Arc<Metrics>) -> Router {
    let text = move || {
        let metrics = metrics.clone();
        async move { admin::metrics_text(&metrics) }
    };
    Router::new()
        .route(path, get(text))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(REQUEST_TIMEOUT, in_time))
}

/// Updates the open pages of the dashboard until `shutdown`.
pub async fn run_dashboard(
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    api: Api,
    shutdown: impl Future<Output = ()>,
) {
    let invalid = InvalidRequests::new(Port::Http, metrics.clone());
    let readiness = Readiness::default();
    let edge = Edge { engine, metrics, readiness, api: Arc::new(api), invalid };
    dashboard::run(edge, shutdown).await;
}

async fn unknown_path(uri: Uri) -> Problem {
    let detail = format!("no such path: {}; see / for the paths", uri.path());
    Problem::new(StatusCode::NOT_FOUND, detail)
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not support {method}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

async fn in_time(
    State(deadline): State<Duration>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let answer = tokio::time::timeout(deadline, next.run(request)).await;
    let detail = || format!("the request took longer than {deadline:?}");
    answer.map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, detail()))
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io;
    use std::net::SocketAddr;

    use axum::Extension;
    use axum::body::{Body, Bytes};
    use axum::extract::ConnectInfo;
    use axum::http::{HeaderMap, header};
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::{mpsc, oneshot};
    use tower::ServiceExt;

    use super::*;
    use crate::engine::{ModeSettings, testing};
    use crate::listen::Acceptor;

    const ASK: &str =
        r#"{"domain":"edges","descriptors":[{"entries":[{"key":"user","value":"alice"}]}]}"#;
    const PROBLEM: &str = "application/problem+json";

    struct Answer {
        status: u16,
        headers: HeaderMap,
        body: String,
    }

    fn edge() -> (Router, Readiness) {
        let readiness = Readiness::default();
        let engine = Arc::new(testing::one_an_hour());
        (router(engine, Arc::new(Metrics::new()), readiness.clone(), Api::default()), readiness)
    }

    async fn send(router: &Router, request: Request) -> Answer {
        let response = router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    async fn get(router: &Router, path: &str) -> Answer {
        send(router, Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn post(router: &Router, body: impl Into<Body>) -> Answer {
        send(router, Request::post("/json").body(body.into()).unwrap()).await
    }

    fn check(answer: &Answer, status: u16, content_type: &str, text: &str) {
        assert_eq!(answer.status, status, "{}", answer.body);
        assert_eq!(answer.headers[header::CONTENT_TYPE], content_type);
        assert!(answer.body.contains(text), "{}", answer.body);
    }

    #[tokio::test]
    async fn a_request_passes_until_the_limit_is_spent() {
        let (router, _) = edge();
        let json = "application/json";
        check(&post(&router, ASK).await, 200, json, r#"{"overallCode":"OK","#);
        check(&post(&router, ASK).await, 429, json, r#"{"overallCode":"OVER_LIMIT","#);
    }

    #[tokio::test]
    async fn an_invalid_request_is_a_problem() {
        let (router, _) = edge();
        check(&post(&router, "").await, 400, PROBLEM, "EOF while parsing");
        check(&post(&router, "{").await, 400, PROBLEM, r#""status":400"#);
        check(&post(&router, r#"{"x":1}"#).await, 400, PROBLEM, "unknown field `x`");
        check(&post(&router, "{}").await, 400, PROBLEM, "the domain is empty");
        let large = post(&router, vec![b' '; BODY_LEN_MAX + 1]).await;
        check(&large, 413, PROBLEM, "length limit exceeded");
    }

    #[tokio::test]
    async fn other_methods_and_paths_are_problems() {
        let (router, _) = edge();
        let answer = get(&router, "/json").await;
        check(&answer, 405, PROBLEM, "/json does not support GET");
        assert_eq!(answer.headers[header::ALLOW], "POST");
        check(&get(&router, "/nothing").await, 404, PROBLEM, "no such path: /nothing");
    }

    #[tokio::test]
    async fn readiness_has_a_reason() {
        let (router, readiness) = edge();
        let text = "text/plain; charset=utf-8";
        for path in ["/readyz", "/healthcheck"] {
            check(&get(&router, path).await, 503, PROBLEM, "no policy is loaded yet");
        }
        readiness.set_ready();
        for path in ["/readyz", "/healthcheck"] {
            check(&get(&router, path).await, 200, text, "OK");
        }
        readiness.drain();
        for path in ["/readyz", "/healthcheck"] {
            check(&get(&router, path).await, 503, PROBLEM, "the process is draining");
        }
        check(&get(&router, "/livez").await, 200, text, "OK");
    }

    #[tokio::test]
    async fn metrics_policies_and_paths_are_served() {
        let (router, _) = edge();
        let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        check(&get(&router, "/metrics").await, 200, open_metrics, "# EOF");
        check(&get(&router, "/").await, 200, "text/plain; charset=utf-8", "POST /json");

        let policy = get(&router, "/policy").await;
        check(&policy, 200, "application/json", "{");
        let tag = &policy.headers[header::ETAG];
        let request = Request::get("/policy").header(header::IF_NONE_MATCH, tag);
        let again = send(&router, request.body(Body::empty()).unwrap()).await;
        assert_eq!((again.status, again.body.as_str()), (304, ""));
    }

    #[tokio::test]
    async fn only_this_machine_may_report_latencies() {
        let bench = testing::bench(
            "{domain: d, choices: [{key: p, value: any, among: {a: {}, b: {}}}]}",
            ModeSettings::default(),
        );
        let readiness = Readiness::default();
        let router =
            router(Arc::new(bench.engine), Arc::new(Metrics::new()), readiness, Api::default());
        let from = |address: &str| {
            let peer: SocketAddr = address.parse().unwrap();
            router.clone().layer(Extension(ConnectInfo(peer)))
        };
        let local = from("127.0.0.1:7");
        let report = async |router: &Router, body: &'static str| {
            send(router, Request::post("/v1/latencies").body(body.into()).unwrap()).await
        };
        assert_eq!(report(&local, r#"{"a": 12.5}"#).await.status, 204);
        let json = "application/json";
        check(&get(&local, "/v1/latencies").await, 200, json, r#"{"a":12.5,"b":null}"#);
        check(&report(&local, "[]").await, 400, PROBLEM, "not a JSON object");
        check(&report(&local, r#"{"b": 1, "x": 1}"#).await, 422, PROBLEM, "the name `x`");
        check(&report(&local, r#"{"b": -1}"#).await, 422, PROBLEM, "invalid latency -1 of `b`");
        for other in [&from("192.0.2.1:7"), &router] {
            check(
                &report(other, r#"{"a": 1}"#).await,
                403,
                PROBLEM,
                "only requests from this machine",
            );
            check(
                &get(other, "/v1/latencies").await,
                403,
                PROBLEM,
                "only requests from this machine",
            );
        }
        check(&get(&local, "/v1/latencies").await, 200, json, r#"{"a":12.5,"b":null}"#);
    }

    #[tokio::test]
    async fn a_request_that_does_not_arrive_times_out() {
        let deadline = Duration::from_millis(1);
        let router = Router::new()
            .route("/json", axum::routing::post(async |_: Bytes| "never"))
            .layer(middleware::from_fn_with_state(deadline, in_time));
        let never = tokio_stream::pending::<Result<Bytes, io::Error>>();
        let answer = post(&router, Body::from_stream(never)).await;
        check(&answer, 408, PROBLEM, "the request took longer than 1ms");
    }

    #[tokio::test]
    async fn a_shutdown_answers_what_is_in_flight_and_closes_the_rest() {
        let (router, _) = edge();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move { stopped.await.unwrap() };
        let server = tokio::spawn(serve(Acceptor::plain(listener), router, stopped));

        let mut idle = TcpStream::connect(address).await.unwrap();
        let mut busy = TcpStream::connect(address).await.unwrap();
        let head = format!("POST /json HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n", ASK.len());
        busy.write_all(head.as_bytes()).await.unwrap();
        // The server asks for the body when it processes the request.
        busy.write_all(b"expect: 100-continue\r\n\r\n").await.unwrap();
        let mut interim = [0; 25];
        busy.read_exact(&mut interim).await.unwrap();
        assert!(interim.starts_with(b"HTTP/1.1 100 Continue"));

        stop.send(()).unwrap();
        assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
        busy.write_all(ASK.as_bytes()).await.unwrap();
        let mut answer = String::new();
        busy.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        server.await.unwrap();
    }

    /// Serves endlessly; `/held` is never answered, and reports each request.
    async fn served() -> (SocketAddr, mpsc::Receiver<()>) {
        let (router, _) = edge();
        let (holds, held) = mpsc::channel(1);
        let hold = async move |_: Bytes| {
            holds.send(()).await.unwrap();
            pending::<()>().await;
        };
        let router = router.route("/held", axum::routing::post(hold));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(Acceptor::plain(listener), router, pending()));
        (address, held)
    }

    /// A connection on which `text` was sent.
    async fn sent(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    const LIVE: &str = "GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn idle_and_slow_connections_are_evicted_for_new_ones() {
        let (address, _) = served().await;
        let begun = format!("POST /json HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n", ASK.len());
        // Silent, in the middle of a head, and in the middle of a body.
        let beginnings = ["", &begun, &format!("{begun}\r\n{{")];
        let mut held = Vec::new();
        for beginning in beginnings.into_iter().cycle().take(12) {
            held.push(sent(address, beginning).await);
        }
        let mut answer = String::new();
        sent(address, LIVE).await.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        // The oldest were closed first; a reset is accepted too.
        for gone in &mut held[..8] {
            assert_eq!(gone.read(&mut [0]).await.unwrap_or(0), 0);
        }
    }

    #[tokio::test]
    async fn a_connection_with_a_request_in_flight_is_never_evicted() {
        let (address, mut received) = served().await;
        let whole = "POST /held HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx";
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(sent(address, whole).await);
            received.recv().await.unwrap();
        }
        for _ in 0..8 {
            let _silent = sent(address, "").await;
            let mut answer = String::new();
            sent(address, LIVE).await.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        }
        for stream in &held {
            let quiet = stream.try_read(&mut [0]).unwrap_err();
            assert_eq!(quiet.kind(), io::ErrorKind::WouldBlock, "it is still there");
        }
    }
}
