//! An Envoy between callers and an upstream, which calls one Tollgate or several.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::client::{Answer, Http};
use super::envoy::Envoy;
use super::eventually;
use super::upstream::Upstream;

const CONFIG: &str = include_str!("gateway.yaml");

/// Number of concurrent callers.
const CALLERS: usize = 4;

/// Maximum number of requests of one caller, if it is not stopped.
const ASKS_MAX: usize = 100_000;

/// An Envoy between a caller and an upstream.
pub struct Gateway {
    envoy: Envoy,
    pub upstream: Upstream,
    pub caller: Caller,
}

/// A caller of Envoy.
#[derive(Clone)]
pub struct Caller {
    http: Http,
    gateway: SocketAddr,
}

/// Callers that send requests continuously.
pub struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Counts>,
}

/// Number of answers by status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: usize,
    pub refused: usize,
    pub other: Vec<u16>,
}

impl Gateway {
    /// Starts an Envoy that calls the Tollgates at `sidecars` with the descriptors `user`, and `user` and `operation`;
    /// None if there is no Envoy here.
    pub async fn start(sidecars: &[Value]) -> Option<Self> {
        Self::start_with(CONFIG, &users(), sidecars).await
    }

    /// The same, but requests without an answer of Tollgate pass.
    pub async fn failing_open(sidecars: &[Value]) -> Option<Self> {
        let open = CONFIG.replace("failure_mode_deny: true", "failure_mode_deny: false");
        assert_ne!(open, CONFIG);
        Self::start_with(&open, &users(), sidecars).await
    }

    /// Starts an Envoy with this list of `rate_limits`, which calls the Tollgates at `sidecars`.
    pub async fn limiting(rate_limits: &Value, sidecars: &[Value]) -> Option<Self> {
        Self::start_with(CONFIG, rate_limits, sidecars).await
    }

    /// The same with another filter before the rate limit filter.
    pub async fn filtering(
        filter: &Value,
        rate_limits: &Value,
        sidecars: &[Value],
    ) -> Option<Self> {
        Self::start_with(&with_filter(CONFIG, filter), rate_limits, sidecars).await
    }

    /// The same without `rate_limits`, on all addresses of this machine, IPv4 and IPv6: the address of a client is that of its
    /// connection.
    pub async fn of_both_families(filter: &Value, sidecars: &[Value]) -> Option<Self> {
        let one = "address: 127.0.0.1, port_value: 0 } }\n      filter_chains";
        let both = "address: '::', port_value: 0, ipv4_compat: true } }\n      filter_chains";
        let prefix = "stat_prefix: gateway\n";
        let remote = format!("{prefix}                use_remote_address: true\n");
        assert_eq!((CONFIG.matches(one).count(), CONFIG.matches(prefix).count()), (1, 1));
        let config = CONFIG.replace(one, both).replace(prefix, &remote);
        Self::start_with(&with_filter(&config, filter), &json!([]), sidecars).await
    }

    /// Starts an Envoy with a configuration like that of these tests.
    pub async fn of(config: &str, rate_limits: &Value, sidecars: &[Value]) -> Option<Self> {
        Self::start_with(config, rate_limits, sidecars).await
    }

    async fn start_with(config: &str, rate_limits: &Value, sidecars: &[Value]) -> Option<Self> {
        let upstream = Upstream::start().await;
        let hosts = sidecars.iter().map(|address| json!({ "endpoint": { "address": address } }));
        let config = config
            .replace("RATE_LIMITS", &rate_limits.to_string())
            .replace("SIDECARS", &hosts.collect::<Value>().to_string())
            .replace("UPSTREAM", &tcp(upstream.address).to_string());
        let envoy = Envoy::start(&config).await?;
        envoy.healthy("tollgate", u64::try_from(sidecars.len()).unwrap()).await;
        let caller = Caller { http: Http::new(), gateway: envoy.listener("gateway").await };
        Some(Self { envoy, upstream, caller })
    }
}

impl Gateway {
    /// Starts an Envoy with a file of `deploy/envoy` and other ports: its own ports are chosen by the system, and the
    /// ports that it connects to are replaced by `ports`. Its timeout for Tollgate is longer, and requests without an
    /// answer are refused, so that counts are exact on a busy machine. None if there is no Envoy here.
    pub async fn deployed(file: &str, ports: &[(u16, SocketAddr)]) -> Option<Self> {
        let config = fs::read_to_string(format!("deploy/envoy/{file}")).unwrap();
        Self::configured(config, ports).await
    }

    /// The same with the text of such a file.
    pub async fn configured(mut config: String, ports: &[(u16, SocketAddr)]) -> Option<Self> {
        let upstream = Upstream::start().await;
        let own = [(9901, 0), (10000, 0), (8000, upstream.address.port())];
        let asked = ports.iter().map(|(port, address)| (*port, address.port()));
        let ports = own.into_iter().chain(asked);
        let ports = ports.map(|(port, other)| {
            (format!("port_value: {port} }}"), format!("port_value: {other} }}"))
        });
        let timeout =
            ["timeout: 0.050s", "timeout: 2.5s"].into_iter().find(|text| config.contains(text));
        let words = [
            ("0.0.0.0", "127.0.0.1"),
            (timeout.unwrap(), "timeout: 10s"),
            ("failure_mode_deny: false", "failure_mode_deny: true"),
        ];
        let words = words.map(|(word, other)| (word.to_owned(), other.to_owned()));
        for (word, other) in words.into_iter().chain(ports) {
            assert!(config.contains(&word), "`{word}` is not in\n{config}");
            config = config.replace(&word, &other);
        }
        let envoy = Envoy::start(&config).await?;
        envoy.healthy("tollgate", 1).await;
        let caller = Caller { http: Http::new(), gateway: envoy.listener("ingress").await };
        Some(Self { envoy, upstream, caller })
    }

    /// Waits until Envoy finds so many Tollgates healthy.
    pub async fn healthy(&self, count: u64) {
        self.envoy.healthy("tollgate", count).await;
    }

    /// Waits until Envoy has logged a refusal of this caller.
    pub async fn logs(&self, caller: &Value) {
        eventually("a line of the access log", async || {
            let lines = self.envoy.output();
            let mut lines = lines.lines().filter_map(|line| serde_json::from_str(line).ok());
            lines.any(|line: Value| line["limit"]["caller"] == *caller).then_some(())
        })
        .await;
    }
}

/// A configuration with another filter before the rate limit filter.
fn with_filter(config: &str, filter: &Value) -> String {
    let place = "- name: envoy.filters.http.ratelimit\n";
    assert_eq!(config.matches(place).count(), 1);
    let (before, after) = config.split_once(place).unwrap();
    let indent = before.rsplit('\n').next().unwrap();
    format!("{before}- {filter}\n{indent}{place}{after}")
}

impl Caller {
    /// A caller at an address of this machine, to which it also sends its requests.
    pub fn at(&self, ip: IpAddr) -> Self {
        let gateway = SocketAddr::new(ip, self.gateway.port());
        Self { http: Http::from_address(ip), gateway }
    }

    /// The address of Envoy.
    pub fn address(&self) -> SocketAddr {
        self.gateway
    }

    /// Gets a path.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.http.get(&format!("http://{}{path}", self.gateway), headers).await
    }

    /// Gets a path with a header of any bytes.
    pub async fn get_with_bytes(&self, path: &str, name: &str, value: &[u8]) -> Answer {
        let request = Request::get(format!("http://{}{path}", self.gateway)).header(name, value);
        self.http.send(request.body(Full::default()).unwrap()).await
    }

    /// Posts a text to a path.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], text: &str) -> Answer {
        self.http.post(&format!("http://{}{path}", self.gateway), headers, text).await
    }

    /// Sends a request of `user`, with `operation` if it is not empty.
    pub async fn ask(&self, user: &str, operation: &str) -> Answer {
        let headers = [("x-user", user), ("x-operation", operation)];
        let headers = if operation.is_empty() { &headers[..1] } else { &headers[..] };
        self.http.get(&format!("http://{}/", self.gateway), headers).await
    }

    /// Sends requests until the answer has this status.
    pub async fn gets(&self, user: &str, status: u16) {
        eventually(&format!("a {status}"), async || {
            (self.ask(user, "").await.status == status).then_some(())
        })
        .await;
    }

    /// Sends `count` requests of `user`, several at once.
    pub async fn crowd(&self, user: &'static str, count: usize) -> Counts {
        let asked = Arc::<AtomicUsize>::default();
        total(self.together(user, move || asked.fetch_add(1, Ordering::SeqCst) < count)).await
    }

    /// Sends requests of `user`, several at once, until it is stopped.
    pub fn load(&self, user: &'static str) -> Load {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        Load { stop, callers: self.together(user, move || !stopped.load(Ordering::SeqCst)) }
    }

    /// Callers that each send requests while there is `more`.
    fn together(
        &self,
        user: &'static str,
        more: impl Fn() -> bool + Clone + Send + 'static,
    ) -> JoinSet<Counts> {
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (caller, more) = (self.clone(), more.clone());
            callers.spawn(async move {
                let mut counts = Counts::default();
                for _ in 0..ASKS_MAX {
                    if !more() {
                        break;
                    }
                    counts.add(caller.ask(user, "").await.status);
                }
                counts
            });
        }
        callers
    }
}

impl Load {
    /// Waits for the last answer of each caller.
    pub async fn stop(self) -> Counts {
        self.stop.store(true, Ordering::SeqCst);
        total(self.callers).await
    }
}

impl Counts {
    /// Checks that this many passed, this many were refused, and there were no other answers.
    pub fn new(passed: usize, refused: usize) -> Self {
        Self { passed, refused, other: Vec::new() }
    }

    /// Counts an answer.
    pub fn add(&mut self, status: u16) {
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

async fn total(callers: JoinSet<Counts>) -> Counts {
    callers.join_all().await.into_iter().fold(Counts::default(), Counts::and)
}

/// Envoy's default descriptors.
fn users() -> Value {
    let header = |name: &str, key: &str| json!({ "request_headers": { "header_name": name, "descriptor_key": key } });
    let (user, operation) = (header("x-user", "user"), header("x-operation", "operation"));
    json!([{ "actions": [user] }, { "actions": [user, operation] }])
}

/// An address in Envoy's configuration.
pub fn tcp(address: SocketAddr) -> Value {
    let (ip, port) = (address.ip().to_string(), address.port());
    json!({ "socket_address": { "address": ip, "port_value": port } })
}

/// A Unix socket in Envoy's configuration.
pub fn pipe(path: &Path) -> Value {
    json!({ "pipe": { "path": path } })
}
