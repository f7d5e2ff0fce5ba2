//! The `answer` of a domain: the headers, body and metadata of its answers.

use std::sync::Arc;

/// The settings of a domain's answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerSettings {
    /// `RateLimit` and `RateLimit-Policy`.
    pub ratelimit: bool,
    /// `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset`.
    pub ratelimit_legacy: bool,
    pub legacy_names: LegacyNames,
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining`, `X-RateLimit-Reset`.
    pub x_ratelimit: bool,
    /// `Retry-After` with refusals.
    pub retry_after: bool,
    /// `X-Quota-Warning` if a threshold was crossed.
    pub quota_warning: bool,
    /// `X-Quota-Granted` where fewer hits may be taken than a request asks for, to the upstream too.
    pub quota_granted: bool,
    /// Headers describe all limits, not only the tightest.
    pub all_limits: bool,
    /// Refusals have a JSON problem as body.
    pub problem_body: bool,
    pub metadata: AnswerMetadata,
    /// Where refusals have an id.
    pub refusal_id: RefusalIdPlaces,
    /// Where a caller gets a higher tier.
    pub upgrade_url: Option<Box<str>>,
    /// Fixed headers for the upstream.
    pub request_headers: Vec<(String, String)>,
    /// Fixed headers for the caller.
    pub response_headers: Vec<(String, String)>,
}

/// The names of `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset`, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyNames {
    pub limit: Arc<str>,
    pub remaining: Arc<str>,
    pub reset: Arc<str>,
}

impl Default for LegacyNames {
    fn default() -> Self {
        let [limit, remaining, reset] =
            ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"].map(Arc::from);
        Self { limit, remaining, reset }
    }
}

/// The places of a refusal's id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusalIdPlaces {
    /// `X-Refusal-Id` for the caller.
    pub header: bool,
    pub metadata: bool,
    /// The JSON problem.
    pub body: bool,
}

impl RefusalIdPlaces {
    /// Whether there is one.
    pub fn is_any(self) -> bool {
        self.header || self.metadata || self.body
    }
}

/// The answers with metadata about their limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerMetadata {
    Always,
    #[default]
    Refused,
    Never,
}
