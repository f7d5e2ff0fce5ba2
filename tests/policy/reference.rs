//! Configurations for envoyproxy/ratelimit have the same effect here: `reference.yaml`, case by case.

use std::collections::BTreeMap;
use std::fs;
use std::iter::repeat_n;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::envoy::r#type::v3::RateLimitUnit;
use envoy_types::pb::google::protobuf::UInt64Value;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::policy::policies::broken_policies;
use crate::support::client;
use crate::support::client::Grpc;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

#[derive(Deserialize)]
struct Cases {
    configs: BTreeMap<String, String>,
    cases: Vec<Case>,
    config_errors: Vec<ConfigError>,
}

/// A file that must be refused.
#[derive(Deserialize)]
struct ConfigError {
    id: String,
    refuse: String,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    name: String,
    config: String,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    steps: Vec<Step>,
}

/// Identical requests, and the expected answer to each.
#[derive(Deserialize)]
struct Step {
    send: (String, Vec<Vec<(String, String)>>),
    #[serde(default)]
    hits: u32,
    #[serde(default)]
    dhits: Vec<Option<u64>>,
    #[serde(default)]
    limits: Vec<Option<(u32, String)>>,
    #[serde(default = "once")]
    times: usize,
    ramp: Option<(u32, String, u32)>,
    expect: Value,
}

fn once() -> usize {
    1
}

#[tokio::test]
async fn every_case_passes_on_the_embedded_store() {
    check(&Store::Embedded).await;
}

#[tokio::test]
async fn every_case_passes_on_redis() {
    if let Some(server) = Server::start(&[]) {
        check(&Store::Redis(server)).await;
    }
}

/// `QUOTA_MODE` makes every descriptor a quota, also one without limits. A rule's own `quota_mode` doesn't.
#[tokio::test]
async fn in_quota_mode_a_descriptor_without_a_limit_is_a_quota_that_is_left() {
    const POLICY: &str = "
domain: d
descriptors:
  - { key: one, rate_limit: { unit: day, requests_per_unit: 1 } }
  - { key: quota, rate_limit: { unit: day, requests_per_unit: 1 }, quota_mode: true }
  - { key: free, rate_limit: { unlimited: true } }
  - { key: quiet, rate_limit: { unit: day, requests_per_unit: 1 }, shadow_mode: true }
";
    for store in Store::every() {
        let global = Tollgate::serve_with(POLICY, &store, &["--quota-mode=true"]).await;
        let mut client = global.client().await;
        let one: &[(&str, &str)] = &[("one", "v")];
        let mut check = async |descriptors: &[&[(&str, &str)]], expected: &[Code]| {
            let asked = client.should_rate_limit(client::request("d", descriptors)).await;
            let reported = asked.unwrap().into_inner();
            let codes = reported.statuses.iter().map(|status| status.code());
            let codes: Vec<Code> = [reported.overall_code()].into_iter().chain(codes).collect();
            assert_eq!(codes, expected, "{descriptors:?}");
        };
        let (ok, over) = (Code::Ok, Code::OverLimit);
        check(&[one], &[ok, ok]).await;
        check(&[one], &[over, over]).await;
        check(&[one, &[("unknown", "v")]], &[ok, over, ok]).await;
        check(&[one, &[("quiet", "v")]], &[ok, over, ok]).await;
        // An unlimited rule is not a quota.
        check(&[one, &[("free", "v")]], &[over, over, ok]).await;
        check(&[one, one], &[over, over, over]).await;
        drop(global);

        store.clear().await;
        let own = Tollgate::serve(POLICY, &store).await;
        client = own.client().await;
        let quota: &[(&str, &str)] = &[("quota", "v")];
        for code in [ok, over] {
            let ask = client::request("d", &[quota, &[("unknown", "v")]]);
            let reported = client.should_rate_limit(ask).await.unwrap().into_inner();
            assert_eq!(reported.overall_code(), code);
        }
    }
}

#[test]
fn every_file_that_it_refuses_is_among_the_broken_policies() {
    let files = broken_policies().into_iter().flat_map(|path| match path.is_dir() {
        true => fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect(),
        false => vec![path],
    });
    let texts: Vec<String> = files.map(|path| fs::read_to_string(path).unwrap()).collect();
    for ConfigError { id, refuse } in read().config_errors {
        let about = format!("# {id}: ");
        let mut about = texts.iter().filter(|text| text.starts_with(&about));
        // F02 is described in words, because it is two files.
        assert!(about.any(|text| text.contains(&refuse) || id == "F02"), "{id}: {refuse}");
    }
}

/// Runs every case with its own process and counters, and reports all differences.
async fn check(store: &Store) {
    let cases = read();
    let mut failures = Vec::new();
    for case in &cases.cases {
        store.clear().await;
        let flags = flags(&case.settings);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let tollgate = Tollgate::serve_with(&cases.configs[&case.config], store, &flags).await;
        if let Err(difference) = replay(case, tollgate.client().await).await {
            failures.push(format!("{} {}: {difference}", case.id, case.name));
        }
    }
    let count = cases.cases.len();
    assert!(failures.is_empty(), "{} of {count}:\n{}", failures.len(), failures.join("\n"));
}

fn read() -> Cases {
    serde_saphyr::from_str(&fs::read_to_string("tests/policy/reference.yaml").unwrap()).unwrap()
}

async fn replay(case: &Case, mut client: Grpc) -> Result<(), String> {
    for (index, step) in case.steps.iter().enumerate() {
        for (reply, expected) in step.expectations().into_iter().enumerate() {
            let at = || format!("step {}, reply {}", index + 1, reply + 1);
            let got = match client.should_rate_limit(step.request()).await {
                Ok(response) => shown(response.get_ref()),
                Err(status) => return Err(format!("{}: {status}", at())),
            };
            if expected.is_some_and(|expected| expected != got) {
                let expected = &step.expect;
                return Err(format!("{}: got {got}, expected {expected}", at()));
            }
        }
    }
    Ok(())
}

impl Step {
    /// The expected reply; None if any reply is accepted.
    fn expectations(&self) -> Vec<Option<Value>> {
        if let Some((limit, unit, count)) = &self.ramp {
            let nth = |n| json!(["OK", ["OK", limit, unit, limit - n]]);
            return (1..=*count).map(|n| Some(nth(n))).collect();
        }
        let expected = (self.expect != "skip").then(|| self.expect.clone());
        repeat_n(expected, self.times).collect()
    }

    fn request(&self) -> RateLimitRequest {
        let (domain, descriptors) = &self.send;
        let mut request = client::request(domain, &[]);
        request.hits_addend = self.hits;
        for (index, entries) in descriptors.iter().enumerate() {
            let entries: Vec<(&str, &str)> =
                entries.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let mut descriptor = client::descriptor(&entries);
            let hits = self.dhits.get(index).copied().flatten();
            descriptor.hits_addend = hits.map(|value| UInt64Value { value });
            descriptor.limit = self.limits.get(index).and_then(Option::as_ref).map(limit);
            request.descriptors.push(descriptor);
        }
        request
    }
}

fn limit((requests_per_unit, unit): &(u32, String)) -> RateLimitOverride {
    let unit = RateLimitUnit::from_str_name(unit).unwrap().into();
    RateLimitOverride { requests_per_unit: *requests_per_unit, unit }
}

/// The settings that the reference has under these names.
fn flags(settings: &BTreeMap<String, String>) -> Vec<String> {
    let flag = |(name, value): (&String, &String)| {
        format!("--{}={value}", name.to_lowercase().replace('_', "-"))
    };
    settings.iter().map(flag).collect()
}

/// A response in the form of the cases.
fn shown(response: &RateLimitResponse) -> Value {
    let statuses = response.statuses.iter().map(shown_status);
    let overall = json!(response.overall_code().as_str_name());
    Value::Array([overall].into_iter().chain(statuses).collect())
}

fn shown_status(status: &DescriptorStatus) -> Value {
    let code = Code::try_from(status.code).unwrap().as_str_name();
    match (&status.current_limit, status.limit_remaining) {
        (None, 0) => json!([code]),
        (None, u32::MAX) => json!([code, "unlimited"]),
        (None, remaining) => json!([code, "no current_limit", remaining]),
        (Some(limit), remaining) => {
            json!([code, limit.requests_per_unit, limit.unit().as_str_name(), remaining])
        }
    }
}
