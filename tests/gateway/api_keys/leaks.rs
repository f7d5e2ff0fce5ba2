//! API keys and peppers are nowhere but where they belong: not in logs, metrics, traces, the audit log, the store, answers or
//! pages.

use std::fs;
use std::path::Path;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::checker::{Checker, status_of};
use super::scene::{Keeper, PEPPER, POLICY};
use crate::support::ask::DomainClient;
use crate::support::store::Store;

/// A collector of traces.
struct Collector {
    endpoint: String,
    received: Mutex<UnboundedReceiver<String>>,
}

struct Receiving(UnboundedSender<String>);

#[tonic::async_trait]
impl TraceService for Receiving {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send(format!("{request:?}")).unwrap();
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    fn start() -> Self {
        let (sender, received) = mpsc::unbounded_channel();
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let endpoint = format!("http://{}", incoming.local_addr().unwrap());
        let service = TraceServiceServer::new(Receiving(sender));
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        Self { endpoint, received: Mutex::new(received) }
    }

    /// The next spans.
    async fn spans(&self) -> String {
        self.received.lock().await.recv().await.unwrap()
    }
}

/// What pages and the API answer while an API key is there, also if somebody takes it for an id, or sends it to the wrong place.
async fn pages(keeper: &Keeper, key: &str, id: &str) -> String {
    let mut said = String::new();
    let misused = [format!("v1/api-keys/{key}"), format!("dashboard/api-key?id={key}")];
    let own = format!("dashboard/api-key?id={id}");
    for path in ["metrics", "policy", "v1/openapi.json", "json", "v1/usage", "v1/top"]
        .into_iter()
        .chain(["dashboard", "dashboard/api-keys", "dashboard/caller?name=acme", &own])
        .chain(["dashboard/audit", "dashboard/policies", "dashboard/usage", "me?caller=acme"])
        .chain(misused.iter().map(String::as_str))
    {
        let url = format!("http://{}/{path}", keeper.tollgate.http_address);
        let answer = keeper.http.get(&url, &[("x-api-key", key)]).await;
        said.push_str(&format!("{:?}", answer.headers));
        said.push_str(&String::from_utf8_lossy(&answer.body));
    }
    for (method, operation) in [("PATCH", ""), ("POST", "/rotate"), ("DELETE", "")] {
        let answer = keeper.call(method, &format!("/{key}{operation}"), &json!({})).await;
        assert_eq!(answer.status, 404);
        said.push_str(&String::from_utf8_lossy(&answer.body));
    }
    said
}

/// Everything in the files of a folder.
fn files(folder: &Path) -> String {
    let Ok(files) = fs::read_dir(folder) else { return String::new() };
    let text = |file: fs::DirEntry| fs::read(file.path()).unwrap_or_default();
    files.map(|file| String::from_utf8_lossy(&text(file.unwrap())).into_owned()).collect()
}

/// Everything in Redis.
async fn stored(store: &Store) -> String {
    let mut said = String::new();
    let Store::Redis(server) = store else { return said };
    let mut raw = server.raw().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut raw).unwrap();
    for name in keys {
        let dump: Vec<u8> = redis::cmd("DUMP").arg(&name).query(&mut raw).unwrap();
        said.push_str(&name);
        said.push_str(&String::from_utf8_lossy(&dump));
    }
    said
}

/// The answers to requests with an API key in each place.
async fn checked(checker: &Checker, text: &str, status: i32) -> String {
    let (bearer, cookie) = (format!("Bearer {text}"), format!("api_key={text}"));
    let in_header = checker.check(text, &[("x-other", text)]).await.unwrap();
    let elsewhere = [("authorization", &*bearer), ("cookie", &cookie)];
    let path = format!("/x?api_key={text}");
    let in_others = checker.on(&path).check("", &elsewhere).await.unwrap();
    assert_eq!((status_of(&in_header), status_of(&in_others)), (status, status));
    format!("{in_header:?}{in_others:?}")
}

/// What the API answers about an API key, until it is deleted.
async fn shown_and_changed(keeper: &Keeper, id: &str) -> String {
    let mut said = String::new();
    for (method, path, body) in [
        ("PATCH", format!("/{id}"), json!({ "disabled": true })),
        ("PATCH", format!("/{id}"), json!({ "scopes": ["a b"] })),
        ("GET", String::new(), Value::Null),
        ("GET", format!("/{id}"), Value::Null),
        ("DELETE", format!("/{id}"), Value::Null),
    ] {
        let answer = keeper.call(method, &path, &body).await;
        said.push_str(&String::from_utf8_lossy(&answer.body));
    }
    said
}

/// An API key beyond a limit of its own, and its id.
async fn over_limit(keeper: &Keeper, checker: &Checker, said: &mut String) -> (String, String) {
    let limited = json!({ "caller": "acme", "limits": ["2/hour"] });
    let (key, id) = keeper.create(&limited).await;
    for status in [200, 200, 429] {
        let answer = checker.check(&key, &[]).await.unwrap();
        assert_eq!(status_of(&answer), status);
        said.push_str(&format!("{answer:?}"));
    }
    (key, id)
}

/// What is in the files of a Tollgate after its end.
async fn ended(mut keeper: Keeper, folder: &Path) -> String {
    keeper.tollgate.terminate();
    assert!(keeper.tollgate.exit().await.success());
    files(folder)
}

/// Everything that a Tollgate writes, or answers, without the answers that show an API key once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_api_key_and_no_pepper_leaks() {
    for store in Store::every() {
        let folder = TempDir::new().unwrap();
        let audit = folder.path().join("audit.jsonl");
        let collector = Collector::start();
        let data = folder.path().join("data");
        let flags = [
            ["--audit-log", audit.to_str().unwrap()],
            ["--log-level", "trace"],
            ["--usage", "true"],
            ["--otlp-endpoint", &collector.endpoint],
            ["--otlp-sample-ratio", "1"],
        ];
        let mut flags = flags.concat();
        if let Store::Embedded = store {
            flags.extend(["--data-dir", data.to_str().unwrap()]);
        }
        let keeper = Keeper::start(POLICY, &store, &flags).await;
        let checker = Checker::of(&keeper.tollgate, "192.0.2.1").await;
        let (key, id) = keeper.create(&json!({ "caller": "acme", "name": "engine" })).await;
        let overlap = json!({ "overlap_s": 60 });
        let rotated = keeper.call("POST", &format!("/{id}/rotate"), &overlap).await;
        let rotated = rotated.json()["api_key"].as_str().unwrap().to_owned();
        let last = if key.ends_with('x') { 'y' } else { 'x' };
        let unknown = format!("{}{last}", &key[..key.len() - 1]);
        let mut said = String::new();
        for text in [&key, &rotated, &unknown] {
            let status = if *text == unknown { 401 } else { 200 };
            said.push_str(&checked(&checker, text, status).await);
        }
        said.push_str(&shown_and_changed(&keeper, &id).await);
        let (other, other_id) = over_limit(&keeper, &checker, &mut said).await;
        said.push_str(&pages(&keeper, &other, &other_id).await);
        let mut client = DomainClient::new(&keeper.tollgate, "gate").await;
        client.ask(&["caller=acme", &format!("key_id={other_id}")], 1).await;
        said.push_str(&collector.spans().await);
        said.push_str(&keeper.tollgate.output());
        let log = fs::read_to_string(&audit).unwrap();
        for what in ["create api key", "rotate api key", "patch api key", "delete api key"] {
            assert!(log.contains(&format!(r#""what":"{what}""#)), "{what}: {log}");
        }
        assert!(log.contains(&format!(r#""api_key":"{id}""#)), "{log}");
        said.push_str(&log);
        said.push_str(&stored(&store).await);
        let kept = ended(keeper, &data).await;
        assert_eq!(kept.contains(&other_id), matches!(store, Store::Embedded));
        said.push_str(&kept);
        for part in ["api_key_checks", "ShouldRateLimit", "of which only the beginning is kept"] {
            assert!(said.contains(part), "{part} is there");
        }
        for secret in [&key, &rotated, &unknown, &other, PEPPER] {
            // What a hint shows is no secret.
            let secret = &secret[8..];
            assert!(!said.contains(secret), "{secret} is in what was written or answered");
        }
    }
}
