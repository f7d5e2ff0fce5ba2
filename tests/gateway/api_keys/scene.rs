//! A Tollgate that checks API keys, its API, and an Envoy with ext_authz and the rate limit filter in one chain.

use std::fs;
use std::process::Command;

use axum::http::Request;
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::client::{Answer, Http};
use crate::support::gateway::{Gateway, tcp};
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, command};

pub const PEPPER: &str = "a pepper of the tests that nobody else has";

pub const POLICY: &str = "
domain: gate
tiers: [free, premium, enterprise]
caller: { key: caller, tier: { key: tier, default: free } }
api_keys:
  from:
    - { header: x-api-key }
    - { header: authorization, scheme: Bearer }
    - { query: api_key }
    - { cookie: api_key }
  headers: { caller: x-caller, tier: x-tier, scopes: x-scopes, key_id: x-key-id }
  routes:
    - { path: '/hotels/{*rest}', methods: [GET], scopes: [hotels:read] }
    - { path: '/hotels/{*rest}', methods: [POST], scopes: [hotels:read, hotels:book], tiers: [premium, enterprise] }
    - { path: '/amadeus/{*rest}', tiers: [premium, enterprise] }
  other_routes: allow
  unknown_keys: 1000/minute
descriptors:
  - key: caller
    limits: [{ name: calls, by_tier: { free: 3/hour, premium: 1000/hour, enterprise: 1000/hour } }]
  - key: key_id
    limits: [{ name: key, rate: 100/hour }]
";

/// A Tollgate that keeps API keys.
pub struct Keeper {
    pub tollgate: Tollgate,
    pub http: Http,
    /// With the pepper.
    _folder: Option<TempDir>,
}

impl Keeper {
    /// Serves [`POLICY`], or another one, with more flags.
    pub async fn start(policy: &str, store: &Store, flags: &[&str]) -> Self {
        Self::start_by(command(), policy, store, flags).await
    }

    /// The same with a command that may have another environment.
    pub async fn start_by(command: Command, policy: &str, store: &Store, flags: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let pepper = folder.path().join("pepper");
        fs::write(&pepper, PEPPER).unwrap();
        let mut all = vec!["--api-key-pepper-file", pepper.to_str().unwrap()];
        all.extend(flags);
        let tollgate = Tollgate::serve_by(command, policy, store, &all).await;
        Self { tollgate, http: Http::new(), _folder: Some(folder) }
    }

    /// A Tollgate that was started with another pepper.
    pub fn of(tollgate: Tollgate) -> Self {
        Self { tollgate, http: Http::new(), _folder: None }
    }

    /// Asks the API.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let url = format!("http://{}/v1/api-keys{path}", self.tollgate.http_address);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder().method(method).uri(url);
        self.http.send(request.body(Full::new(Bytes::from(body))).unwrap()).await
    }

    /// Creates an API key: its text and its id.
    pub async fn create(&self, form: &Value) -> (String, String) {
        let answer = self.call("POST", "", form).await;
        let made = answer.json();
        assert_eq!(answer.status, 201, "{form}: {made}");
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("api_key"), text("id"))
    }

    /// Changes an API key.
    pub async fn patch(&self, id: &str, patch: &Value) {
        let answer = self.call("PATCH", &format!("/{id}"), patch).await;
        assert_eq!(answer.status, 200, "{patch}: {}", answer.json());
    }

    /// An Envoy whose chain has ext_authz and the rate limit filter.
    pub async fn gateway(&self) -> Option<Gateway> {
        gateway(&[&self.tollgate]).await
    }
}

/// An Envoy that calls these Tollgates.
pub async fn gateway(tollgates: &[&Tollgate]) -> Option<Gateway> {
    let entry = |key: &str| {
        json!({ "metadata": {
            "descriptor_key": key,
            "source": "DYNAMIC",
            "metadata_key": { "key": "envoy.filters.http.ext_authz", "path": [{ "key": key }] },
        } })
    };
    let rate_limits = json!([
        { "actions": [entry("caller"), entry("tier")] },
        { "actions": [entry("key_id")] },
    ]);
    limiting(tollgates, &rate_limits).await
}

/// An Envoy that calls these Tollgates, and has this list of `rate_limits`.
pub async fn limiting(tollgates: &[&Tollgate], rate_limits: &Value) -> Option<Gateway> {
    filtering(tollgates, rate_limits, &json!({})).await
}

/// The same with more fields of the configuration of ext_authz.
pub async fn filtering(
    tollgates: &[&Tollgate],
    rate_limits: &Value,
    fields: &Value,
) -> Option<Gateway> {
    let mut filter = ext_authz();
    filter["typed_config"].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let sidecars: Vec<Value> = tollgates.iter().map(|one| tcp(one.grpc_address)).collect();
    Gateway::filtering(&filter, rate_limits, &sidecars).await
}

/// The configuration of ext_authz.
pub fn ext_authz() -> Value {
    json!({
        "name": "envoy.filters.http.ext_authz",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "grpc_service": { "envoy_grpc": { "cluster_name": "tollgate" }, "timeout": "10s" },
            "failure_mode_allow": false,
        },
    })
}
