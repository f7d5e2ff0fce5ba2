//! A Tollgate, an upstream and a real Envoy with given filters and routes.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::support::client::{Answer, Http};
use crate::support::envoy::Envoy;
use crate::support::gateway::{Counts, tcp};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;
use crate::support::upstream::Upstream;

/// The parts of an Envoy configuration, in addition to `tests/gateway/recipes/recipes.yaml`.
pub struct Parts {
    /// Before the router.
    pub filters: Vec<Value>,
    pub virtual_host: Value,
    /// Tollgate's cluster, without its address.
    pub cluster: Value,
}

/// The view of callers.
pub struct Scene {
    pub http: Http,
    ingress: String,
    _envoy: Envoy,
    _upstream: Upstream,
    tollgate: Tollgate,
}

/// Requests of one kind, of which some pass.
pub struct Ask<'a> {
    pub path: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    /// None: a GET.
    pub body: Option<&'a str>,
    pub passed: usize,
    pub sent: usize,
}

/// This many of `sent` requests for a path must pass.
pub fn get<'a>(
    path: &'a str,
    headers: &'a [(&'a str, &'a str)],
    passed: usize,
    sent: usize,
) -> Ask<'a> {
    Ask { path, headers, body: None, passed, sent }
}

impl Scene {
    /// Starts everything; None if there is no Envoy here. Windows of a minute last for a week, so that counts are exact
    /// on a slow machine.
    pub async fn start(policy: &str, store: &Store, parts: Parts) -> Option<Self> {
        let tollgate = Tollgate::serve(&policy.replace("/minute", "/week"), store).await;
        let upstream = Upstream::start().await;
        let mut filters = parts.filters;
        filters.push(json!({ "name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }));
        let mut cluster = parts.cluster;
        cluster["type"] = json!("STATIC");
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] =
            tcp(tollgate.grpc_address);
        let config = fs::read_to_string("tests/gateway/recipes/recipes.yaml")
            .unwrap()
            .replace("HTTP_FILTERS", &Value::from(filters).to_string())
            .replace("VIRTUAL_HOST", &parts.virtual_host.to_string())
            .replace("UPSTREAM", &tcp(upstream.address).to_string())
            .replace("CLUSTER", &cluster.to_string());
        let envoy = Envoy::start(&config).await?;
        let ingress = format!("http://{}", envoy.listener("ingress").await);
        let http = Http::new();
        Some(Self { http, ingress, _envoy: envoy, _upstream: upstream, tollgate })
    }

    /// Sends one of these requests.
    pub async fn send(&self, ask: &Ask<'_>) -> Answer {
        let url = format!("{}{}", self.ingress, ask.path);
        match ask.body {
            Some(body) => self.http.post(&url, ask.headers, body).await,
            None => self.http.get(&url, ask.headers).await,
        }
    }

    /// How many requests of the domain `test` Tollgate has decided, by answer.
    pub async fn decided(&self) -> BTreeMap<String, usize> {
        let url = format!("http://{}/metrics", self.tollgate.http_address);
        let text = String::from_utf8(self.http.get(&url, &[]).await.body.into()).unwrap();
        let series = "tollgate_requests_total{domain=\"test\",code=\"";
        let counts = text.lines().filter_map(|line| line.strip_prefix(series)?.split_once("\"} "));
        counts.map(|(code, count)| (code.to_owned(), count.parse().unwrap())).collect()
    }

    /// Checks that the expected number passes.
    pub async fn check(&self, ask: &Ask<'_>) {
        let mut counts = Counts::default();
        for _ in 0..ask.sent {
            counts.add(self.send(ask).await.status);
        }
        let expected = Counts::new(ask.passed, ask.sent - ask.passed);
        assert_eq!(counts, expected, "{} {:?} {:?}", ask.path, ask.headers, ask.body);
    }
}

/// The rate limit filter for a domain, with these descriptors.
pub fn rate_limit(domain: &str, rate_limits: &Value) -> Value {
    let mut filter = json!({ "name": "envoy.filters.http.ratelimit", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit",
        "domain": domain,
        "rate_limited_as_resource_exhausted": true,
        "rate_limit_service": {
            "transport_api_version": "V3",
            "grpc_service": { "envoy_grpc": { "cluster_name": "tollgate" } },
        },
        "rate_limits": rate_limits,
    } });
    be_patient(&mut filter);
    filter
}

/// Sets a long timeout in a rate limit filter, and refuses requests without an answer of Tollgate.
pub fn be_patient(filter: &mut Value) {
    filter["typed_config"]["timeout"] = json!("10s");
    filter["typed_config"]["failure_mode_deny"] = json!(true);
}

/// A virtual host with these routes.
pub fn virtual_host(routes: &Value) -> Value {
    json!({ "name": "all", "domains": ["*"], "routes": routes })
}

/// Every path leads to the upstream, which reports in `x-tokens-used` the value of `x-use`.
pub fn every_path() -> Value {
    let reported = json!({ "key": "x-tokens-used", "value": "%REQ(x-use)%" });
    json!([{
        "match": { "prefix": "/" },
        "route": { "cluster": "upstream" },
        "response_headers_to_add": [{ "header": reported }],
    }])
}

/// Tollgate's cluster.
pub fn cluster() -> Value {
    json!({
        "name": "tollgate",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        },
        "load_assignment": {
            "cluster_name": "tollgate",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": {} }] }],
        },
    })
}
