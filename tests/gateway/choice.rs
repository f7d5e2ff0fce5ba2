//! A request that several providers can serve is sent to the best one, through a real Envoy with the configuration of
//! `deploy/envoy/choice.yaml`.

use std::fs;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::Http;
use crate::support::envoy::Envoy;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;
use crate::support::upstream::Upstream;

/// Hotelbeds is cheaper and has five a day; latency has more weight than the price. The answer has more than the name.
const POLICY: &str = "
domain: travel
answer: { metadata: always }
choices:
  - key: provider
    value: any
    among: { hotelbeds: { price: 12 }, amadeus: { price: 15 } }
    weights: { capacity: 0, latency: 3, price: 1 }
    header: x-provider
descriptors:
  - key: provider
    value: hotelbeds
    descriptors: [{ key: endpoint, limits: [5/day] }]
  - key: provider
    value: amadeus
    descriptors: [{ key: endpoint, limits: [8/day] }]
";

/// An Envoy before three providers.
struct Gateway {
    _envoy: Envoy,
    http: Http,
    address: SocketAddr,
    /// With their names.
    providers: Vec<(&'static str, Upstream)>,
}

impl Gateway {
    /// Starts an Envoy for `tollgate`; None if there is no Envoy here.
    async fn start(tollgate: &Tollgate) -> Option<Self> {
        let mut config = fs::read_to_string("deploy/envoy/choice.yaml")
            .unwrap()
            .replace("address: 0.0.0.0, port_value: 10000", "address: 127.0.0.1, port_value: 0")
            .replace("port_value: 9901", "port_value: 0");
        let mut put = |port: u16, address: SocketAddr| {
            let (old, new) =
                (format!("port_value: {port} "), format!("port_value: {} ", address.port()));
            assert!(config.contains(&old), "{port}");
            config = config.replace(&old, &new);
        };
        put(8081, tollgate.grpc_address);
        let mut providers = Vec::new();
        for (name, port) in [("hotelbeds", 8001), ("amadeus", 8002), ("expedia", 8003)] {
            let upstream = Upstream::start().await;
            put(port, upstream.address);
            providers.push((name, upstream));
        }
        let envoy = Envoy::start(&config).await?;
        envoy.healthy("tollgate", 1).await;
        let address = envoy.listener("ingress").await;
        Some(Self { _envoy: envoy, http: Http::new(), address, providers })
    }

    /// Requests `path`, and returns the provider that served it, or the status.
    async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> String {
        let served = |one: &(&str, Upstream)| one.1.served();
        let before: Vec<usize> = self.providers.iter().map(served).collect();
        let answer = self.http.get(&format!("http://{}{path}", self.address), headers).await;
        if answer.status != 200 {
            return answer.status.to_string();
        }
        let after = self.providers.iter().zip(before);
        let (name, _) =
            after.filter(|(one, before)| *before < served(one)).map(|(one, _)| one).next().unwrap();
        let reached: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(reached["x-provider"], *name, "the header says the same");
        (*name).to_owned()
    }

    /// Sends this many requests, and returns the providers that served them.
    async fn ask_times(&self, path: &str, times: usize) -> Vec<String> {
        let mut served = Vec::new();
        for _ in 0..times {
            served.push(self.ask(path, &[]).await);
        }
        served
    }
}

/// Posts to Tollgate, and returns the answer as it came.
async fn post(tollgate: &Tollgate, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(tollgate.http_address).await.unwrap();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn tell(tollgate: &Tollgate, latencies: &str) {
    let answer = post(tollgate, "/v1/latencies", latencies).await;
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
}

#[tokio::test]
async fn the_best_provider_serves_until_its_limit_is_used_up() {
    for store in Store::every() {
        for path in ["/search", "/booking"] {
            let tollgate = Tollgate::serve(POLICY, &store).await;
            let Some(gateway) = Gateway::start(&tollgate).await else { return };
            let served = gateway.ask_times(path, 15).await;
            let expected = [vec!["hotelbeds"; 5], vec!["amadeus"; 8], vec!["429"; 2]].concat();
            assert_eq!(served, expected, "{path}");
            store.clear().await;
        }
    }
}

#[tokio::test]
async fn latencies_that_are_told_turn_the_choice() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let Some(gateway) = Gateway::start(&tollgate).await else { return };
        assert_eq!(gateway.ask("/search", &[]).await, "hotelbeds");
        tell(&tollgate, r#"{ "hotelbeds": 400, "amadeus": 50.5 }"#).await;
        assert_eq!(gateway.ask("/search", &[]).await, "amadeus");
        assert_eq!(gateway.ask("/booking", &[]).await, "amadeus");
        // A mean: one slow answer is not enough.
        tell(&tollgate, r#"{ "amadeus": 200 }"#).await;
        assert_eq!(gateway.ask("/search", &[]).await, "amadeus");
        tell(&tollgate, r#"{ "amadeus": 4000 }"#).await;
        assert_eq!(gateway.ask("/search", &[]).await, "hotelbeds");
        let unknown = post(&tollgate, "/v1/latencies", r#"{ "expedia": 1 }"#).await;
        assert!(unknown.starts_with("HTTP/1.1 422"), "{unknown}");
    }
}

#[tokio::test]
async fn a_caller_can_not_choose_by_the_header() {
    let tollgate = Tollgate::serve(POLICY, &Store::Embedded).await;
    let Some(gateway) = Gateway::start(&tollgate).await else { return };
    for path in ["/search", "/booking"] {
        assert_eq!(gateway.ask(path, &[("x-provider", "expedia")]).await, "hotelbeds");
    }
}

#[tokio::test]
async fn the_travel_policy_chooses_by_what_the_caller_may_use() {
    let policy = fs::read_to_string("config/policies/travel.yaml").unwrap();
    let tollgate = Tollgate::serve(&policy, &Store::Embedded).await;
    let Some(gateway) = Gateway::start(&tollgate).await else { return };
    // Expedia is the cheapest, but not for free callers.
    let of = |tier| [("x-user-id", "anna"), ("x-tier", tier)];
    assert_eq!(gateway.ask("/search", &of("enterprise")).await, "expedia");
    assert_eq!(gateway.ask("/search", &of("free")).await, "hotelbeds");
    tell(&tollgate, r#"{ "hotelbeds": 900, "amadeus": 100 }"#).await;
    assert_eq!(gateway.ask("/search", &of("free")).await, "amadeus");
}
