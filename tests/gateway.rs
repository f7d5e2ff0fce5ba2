//! What callers see who stand before a real Envoy that asks Tollgate.
//!
//! Exact counts use windows of a day, so that no speed and no delay of the machine changes them. Envoy
//! refuses what it could not ask about (`failure_mode_deny`), so that a lost question shows as a 500.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::client::Answer;
use crate::support::client::Http;
use crate::support::envoy::Envoy;
use crate::support::eventually;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;
use crate::support::upstream::Upstream;

/// Ten a day for each user, three of them searches; the caller is told all about it.
const POLICY: &str = "
domain: gate
answer:
  headers: [ratelimit, retry-after]
  body: problem
  request_headers: { x-checked-by: tollgate }
descriptors:
  - key: user
    limits: [{ name: daily, rate: 10/day }]
    descriptors:
      - key: operation
        value: search
        limits: [{ name: searches, rate: 3/day }]
";

/// More than any test here asks for.
const GENEROUS: &str = "
domain: gate
descriptors: [{ key: user, limits: [1000000/day] }]
";

/// Nothing passes.
const CLOSED: &str = "
domain: gate
descriptors: [{ key: user, limits: [0/day] }]
";

/// Shared by whoever asks.
const HUNDRED: &str = "
domain: gate
descriptors: [{ key: user, limits: [100/day] }]
";

/// What the policy says while the store is out is all that differs.
const OUTAGE: &str = "
domain: gate
descriptors:
  - { key: user, value: optimist, limits: [{ rate: 5/day, on_outage: allow }] }
  - { key: user, value: pessimist, limits: [{ rate: 5/day, on_outage: deny }] }
";

/// Callers that ask at the same time.
const CALLERS: usize = 4;

/// Requests of one caller under load, should nobody stop it.
const LOAD_LEN_MAX: usize = 100_000;

/// Edits of which one must be live in time: a busy machine may hold up the others.
const EDITS: usize = 5;

#[tokio::test]
async fn exactly_the_limit_passes_over_tcp() {
    check_counts(|tollgate| tcp(tollgate.grpc_address)).await;
}

#[tokio::test]
async fn exactly_the_limit_passes_over_a_unix_socket() {
    check_counts(|tollgate| pipe(&tollgate.socket())).await;
}

async fn check_counts(address: fn(&Tollgate) -> Value) {
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let Some(gateway) = Gateway::start(&[address(&tollgate)]).await else {
            return;
        };
        assert_eq!(gateway.caller.crowd("alice", 25).await, counts(10, 15));
        assert_eq!(gateway.caller.crowd("bob", 8).await, counts(8, 0));
        assert_eq!(gateway.upstream.served(), 18);
    }
}

#[tokio::test]
async fn a_refusal_tells_the_caller_what_to_expect() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let Some(gateway) = Gateway::start(&[tcp(tollgate.grpc_address)]).await else {
            return;
        };
        let passed = gateway.caller.ask("alice", "").await;
        assert_eq!((passed.status, passed.header("x-ratelimit-remaining")), (200, "9"));
        assert_ne!(passed.header("ratelimit"), "", "{passed:?}");
        let reached: Value = serde_json::from_slice(&passed.body).unwrap();
        assert_eq!(reached["x-checked-by"], "tollgate");

        gateway.caller.crowd("alice", 9).await;
        let refused = gateway.caller.ask("alice", "").await;
        let header = |name| refused.header(name);
        assert_eq!((refused.status, header("x-envoy-ratelimited")), (429, "true"));
        assert_eq!(header("x-ratelimit-limit"), "10, 10;w=86400;name=\"daily\"");
        assert_eq!(header("x-ratelimit-remaining"), "0");
        for name in ["x-ratelimit-reset", "retry-after"] {
            let seconds: u64 = header(name).parse().unwrap();
            assert!((80_000..90_000).contains(&seconds), "{name}: {seconds}");
        }
        assert!(header("ratelimit-policy").contains("\"daily\""), "{refused:?}");
        assert_eq!(header("content-type"), "application/problem+json");
        let problem: Value = serde_json::from_slice(&refused.body).unwrap();
        assert_eq!(problem["status"], 429, "{problem}");
    }
}

#[tokio::test]
async fn a_request_refused_for_one_descriptor_costs_the_others_nothing() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let Some(gateway) = Gateway::start(&[tcp(tollgate.grpc_address)]).await else {
            return;
        };
        let mut searches = Counts::default();
        for _ in 0..5 {
            searches.add(gateway.caller.ask("alice", "search").await.status);
        }
        assert_eq!(searches, counts(3, 2));
        assert_eq!(gateway.caller.crowd("alice", 12).await, counts(7, 5));
        assert_eq!(gateway.caller.ask("bob", "book").await.status, 200);
    }
}

#[tokio::test]
async fn two_sidecars_on_one_redis_never_pass_more_than_one() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let store = Store::Redis(server);
    let one = Tollgate::serve(HUNDRED, &store).await;
    let other = Tollgate::serve(HUNDRED, &store).await;
    let sidecars = [tcp(one.grpc_address), tcp(other.grpc_address)];
    let Some(gateway) = Gateway::start(&sidecars).await else {
        return;
    };
    assert_eq!(gateway.caller.crowd("alice", 150).await, counts(100, 50));
}

#[tokio::test]
async fn an_outage_is_answered_as_the_policy_says_and_ends_by_itself() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut store = Store::Redis(server);
    let tollgate = Tollgate::serve(OUTAGE, &store).await;
    let Some(gateway) = Gateway::start(&[tcp(tollgate.grpc_address)]).await else {
        return;
    };
    assert_eq!(gateway.caller.crowd("pessimist", 2).await, counts(2, 0));
    let Store::Redis(server) = &mut store else {
        unreachable!("it was put there");
    };
    server.kill();
    assert_eq!(gateway.caller.crowd("optimist", 20).await, counts(20, 0));
    assert_eq!(gateway.caller.crowd("pessimist", 20).await, counts(0, 20));
    server.launch();
    gateway.caller.gets("pessimist", 200).await;
    // It came back empty, and one of five is spent.
    assert_eq!(gateway.caller.crowd("pessimist", 20).await, counts(4, 16));
}

#[tokio::test]
async fn an_edit_is_live_within_a_second_and_loses_no_request() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(GENEROUS, &store).await;
        let Some(gateway) = Gateway::start(&[tcp(tollgate.grpc_address)]).await else {
            return;
        };
        let load = Load::start(&gateway.caller);
        let mut fastest = Duration::MAX;
        for _ in 0..EDITS {
            for (policy, status) in [(CLOSED, 429), (GENEROUS, 200)] {
                let edited = Instant::now();
                tollgate.edit(policy);
                gateway.caller.gets("carol", status).await;
                fastest = fastest.min(edited.elapsed());
            }
        }
        let counts = load.stop().await;
        assert!(counts.other.is_empty(), "{counts:?}");
        assert!(fastest < Duration::from_secs(1), "{fastest:?}");
    }
}

/// As in a rolling update of several Tollgates behind one address: the one that is told to end says so
/// in its health checks first, goes on answering until Envoy has noticed, and then ends.
#[tokio::test]
async fn one_of_two_ends_under_load_without_a_failed_request() {
    for store in Store::every() {
        let mut ending = Tollgate::serve(GENEROUS, &store).await;
        let staying = Tollgate::serve(GENEROUS, &store).await;
        let sidecars = [tcp(ending.grpc_address), tcp(staying.grpc_address)];
        let Some(gateway) = Gateway::start(&sidecars).await else {
            return;
        };
        let load = Load::start(&gateway.caller);
        assert_eq!(gateway.caller.crowd("bob", 50).await, counts(50, 0));
        ending.terminate();
        let status = ending.exit().await;
        assert_eq!(status.code(), Some(0));
        assert_eq!(gateway.caller.crowd("bob", 50).await, counts(50, 0));
        let counts = load.stop().await;
        assert_eq!((counts.refused, counts.other), (0, Vec::new()));
    }
}

/// A caller before Envoy.
#[derive(Clone)]
struct Caller {
    http: Http,
    gateway: SocketAddr,
}

/// An Envoy between a caller and an upstream.
struct Gateway {
    _envoy: Envoy,
    upstream: Upstream,
    caller: Caller,
}

impl Gateway {
    /// Starts an Envoy that asks `sidecars`; None if there is no Envoy here.
    async fn start(sidecars: &[Value]) -> Option<Self> {
        let upstream = Upstream::start().await;
        let hosts = sidecars.iter().map(|address| json!({ "endpoint": { "address": address } }));
        let config = include_str!("cases/gateway.yaml")
            .replace("SIDECARS", &hosts.collect::<Value>().to_string())
            .replace("UPSTREAM", &tcp(upstream.address).to_string());
        let envoy = Envoy::start(&config).await?;
        envoy.healthy("tollgate", u64::try_from(sidecars.len()).unwrap()).await;
        let caller = Caller { http: Http::new(), gateway: envoy.listener("gateway").await };
        Some(Self { _envoy: envoy, upstream, caller })
    }
}

impl Caller {
    /// Asks as `user`, who does `operation` if it is not empty.
    async fn ask(&self, user: &str, operation: &str) -> Answer {
        let headers = [("x-user", user), ("x-operation", operation)];
        let headers = if operation.is_empty() { &headers[..1] } else { &headers[..] };
        self.http.get(&format!("http://{}/", self.gateway), headers).await
    }

    /// Asks `count` times in all as `user`, several at once, and counts each status that comes back.
    async fn crowd(&self, user: &'static str, count: usize) -> Counts {
        let asked = Arc::<AtomicUsize>::default();
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (caller, asked) = (self.clone(), Arc::clone(&asked));
            callers.spawn(async move {
                let mut counts = Counts::default();
                while asked.fetch_add(1, Ordering::SeqCst) < count {
                    counts.add(caller.ask(user, "").await.status);
                }
                counts
            });
        }
        total(callers).await
    }

    /// Asks until the answer is `status`.
    async fn gets(&self, user: &str, status: u16) {
        eventually(&format!("a {status}"), async || {
            (self.ask(user, "").await.status == status).then_some(())
        })
        .await;
    }
}

/// Callers that ask again and again.
struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Counts>,
}

impl Load {
    fn start(caller: &Caller) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (caller, stop) = (caller.clone(), Arc::clone(&stop));
            callers.spawn(async move {
                let mut counts = Counts::default();
                for _ in 0..LOAD_LEN_MAX {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    counts.add(caller.ask("alice", "").await.status);
                }
                counts
            });
        }
        Self { stop, callers }
    }

    async fn stop(self) -> Counts {
        self.stop.store(true, Ordering::SeqCst);
        total(self.callers).await
    }
}

async fn total(callers: JoinSet<Counts>) -> Counts {
    callers.join_all().await.into_iter().fold(Counts::default(), Counts::and)
}

/// So many passed and so many were refused, and nothing else happened.
fn counts(passed: usize, refused: usize) -> Counts {
    Counts { passed, refused, other: Vec::new() }
}

/// How often each status came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: usize,
    refused: usize,
    other: Vec<u16>,
}

impl Counts {
    fn add(&mut self, status: u16) {
        match status {
            200 => self.passed += 1,
            429 => self.refused += 1,
            other => self.other.push(other),
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.passed += other.passed;
        self.refused += other.refused;
        self.other.extend(other.other);
        self
    }
}

/// An address as Envoy's configuration writes it.
fn tcp(address: SocketAddr) -> Value {
    let (ip, port) = (address.ip().to_string(), address.port());
    json!({ "socket_address": { "address": ip, "port_value": port } })
}

fn pipe(path: &Path) -> Value {
    json!({ "pipe": { "path": path } })
}
