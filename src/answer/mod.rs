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
            headers::push_retry_after(&mut response_headers, verdict.wait());
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
}
