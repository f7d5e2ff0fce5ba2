//! Renders a verdict: the statuses, headers, body and metadata of the answer, independent of the protocol.
//!
//! It is pure: the same verdict gives the same answer over gRPC and HTTP.

mod headers;
mod metadata;
mod problem;
pub mod protocol;
mod status;

use smallvec::SmallVec;

use crate::engine::{ChargeDecision, Code, Verdict};
use crate::store::INLINE_CAP;

pub use headers::push_retry_after;
pub use status::{Status, StatusLimit};

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    pub code: Code,
    /// One for each descriptor, in order.
    pub statuses: Vec<Status>,
    /// For the answer to the caller, whether the request passes or not.
    pub response_headers: Vec<(String, String)>,
    /// For the request to the upstream.
    pub request_headers: Vec<(String, String)>,
    /// The body of a refusal; if empty, the gateway uses its own.
    pub body: Vec<u8>,
    /// For the gateway's logs and later filters; None without content.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Answer {
    /// An answer with only a code.
    pub fn new(code: Code) -> Self {
        Self {
            code,
            statuses: Vec::new(),
            response_headers: Vec::new(),
            request_headers: Vec::new(),
            body: Vec::new(),
            metadata: None,
        }
    }
}

/// The answer to a verdict.
pub fn render(verdict: &Verdict<'_>) -> Answer {
    let (code, statuses) = (verdict.code(), status::statuses(verdict));
    let Some(policy) = verdict.policy else { return Answer { statuses, ..Answer::new(code) } };
    let settings = &policy.answer;
    let mut response_headers = settings.response_headers.clone();
    let reported: SmallVec<[&ChargeDecision<'_>; INLINE_CAP]> =
        verdict.charges().iter().filter(|charge| charge.is_reported()).collect();
    let tightest = status::tightest(verdict, reported.iter().copied());
    let refused = code == Code::OverLimit;
    if let Some(tightest) = tightest {
        let limits = if settings.all_limits { reported.as_slice() } else { &[tightest] };
        headers::push_limits(&mut response_headers, settings, tightest, limits);
        if refused && settings.retry_after {
            push_retry_after(&mut response_headers, verdict.wait());
        }
    }
    if settings.quota_warning {
        headers::push_warnings(&mut response_headers, verdict);
    }
    headers::push_unenforced(&mut response_headers, settings, verdict);
    if let Some(id) = verdict.refusal_id.filter(|_| settings.refusal_id.header) {
        headers::push_refusal_id(&mut response_headers, id);
    }
    let body = if refused && settings.problem_body {
        headers::push_problem(&mut response_headers);
        problem::body(verdict)
    } else {
        Vec::new()
    };
    let mut request_headers = settings.request_headers.clone();
    if code == Code::Ok {
        headers::push_chosen(&mut request_headers, &verdict.choices);
    }
    if settings.quota_granted {
        headers::push_granted(&mut request_headers, verdict);
        headers::push_granted(&mut response_headers, verdict);
    }
    let metadata = metadata::metadata(verdict, policy);
    Answer { code, statuses, response_headers, request_headers, body, metadata }
}

#[cfg(test)]
mod parts;
#[cfg(test)]
mod sharing;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod thresholds;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ModeSettings;
    use crate::engine::testing::bench;

    /// The quota `none` is exceeded, with a longer wait than the limit that refuses, but another quota has capacity.
    #[tokio::test]
    async fn a_quota_that_is_over_is_not_reported_as_refusing_while_another_is_left() {
        let policy = "
domain: d
answer: {headers: [ratelimit, ratelimit-legacy, retry-after], body: problem}
descriptors:
- {key: none, limits: [{rate: 0/day, mode: quota}]}
- {key: hour, limits: [{rate: 9/hour, mode: quota}]}
- {key: minute, limits: [{rate: 1/minute, name: pace}]}";
        let bench = bench(policy, ModeSettings::default());
        let ask = ["none=1", "hour=1", "minute=1"];
        assert_eq!(bench.ask_for(&ask).await.code, Code::Ok);
        let refused = bench.ask_for(&ask).await;
        assert_eq!(refused.code, Code::OverLimit);
        let statuses = refused.statuses.iter();
        let statuses = statuses.map(|one| (one.code, one.limit.as_ref().map(|limit| limit.amount)));
        // Envoy shows the first limit with no remaining hits, so only the limit that refuses reports none.
        let (ok, over) = (Code::Ok, Code::OverLimit);
        assert_eq!(statuses.collect::<Vec<_>>(), [(over, None), (ok, Some(9)), (over, Some(1))]);
        let headers =
            refused.response_headers.iter().map(|(name, value)| format!("{name}: {value}"));
        let headers: Vec<String> = headers.collect();
        for line in ["ratelimit: \"pace\";r=0;t=60", "ratelimit-limit: 1", "retry-after: 60"] {
            assert!(headers.iter().any(|header| header == line), "{line}: {headers:?}");
        }
        let body: serde_json::Value = serde_json::from_slice(&refused.body).unwrap();
        assert_eq!(body["violated-policies"], serde_json::json!(["pace"]));
        assert_eq!(body["reason"], "over_limit");
        assert_eq!(body["retry_after_ms"], 60_000);
    }

    /// As a limit that is exceeded: where the rule warns, and outside of the part of callers for whom it is enforced.
    #[tokio::test]
    async fn access_that_is_not_enforced_is_reported() {
        let policy = |said: &str| {
            format!(
                "
domain: d
answer: {{headers: [ratelimit], metadata: refused}}
tiers: [free, premium]
caller: {{key: user, tier: {{key: tier, default: free}}}}
descriptors:
- {{key: user, {said}, only: {{tier: [premium]}}, limits: [9/day]}}"
            )
        };
        for (said, code, warned) in [
            ("mode: warn", Code::Ok, true),
            ("enforce: 0.01%", Code::Ok, true),
            ("mode: shadow", Code::Ok, false),
            ("mode: enforce", Code::OverLimit, false),
        ] {
            let bench = bench(&policy(said), ModeSettings::default());
            let answer = bench.ask_for(&["user=ann"]).await;
            let has_header = answer
                .response_headers
                .contains(&("x-access-warning".to_owned(), "no_access".to_owned()));
            let is_told = answer.metadata.is_some_and(|map| map.contains_key("access_warned"));
            assert_eq!((answer.code, has_header, is_told), (code, warned, warned), "{said}");
            let counted = bench.metrics.sharing.access_warnings("d").get();
            assert_eq!(counted, u64::from(warned), "{said}");
            let premium = bench.ask_for(&["user=ann,tier=premium"]).await;
            assert_eq!((premium.code, premium.metadata), (Code::Ok, None), "{said}");
        }
    }

    #[tokio::test]
    async fn metadata_has_the_mode_of_each_limit() {
        let policy = "
domain: d
answer: {metadata: always}
descriptors:
- {key: a, limits: [{rate: 9/day, mode: strict, thresholds: [10%]}]}
- {key: b, limits: [9/day]}
- {key: c, limits: [{rate: 9/day, mode: warn}]}";
        let bench = bench(policy, ModeSettings::default());
        let metadata = bench.ask_for(&["a=1", "b=1", "c=1"]).await.metadata.unwrap();
        let limits = metadata["limits"].as_array().unwrap().iter();
        let modes: Vec<&str> = limits.map(|limit| limit["mode"].as_str().unwrap()).collect();
        assert_eq!(modes, ["strict", "enforce", "warn"]);
        assert_eq!(metadata["thresholds"][0]["mode"], "strict");
    }
}
