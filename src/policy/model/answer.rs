//! The answer of a domain: which headers, body and metadata go back with each answer.

/// What goes back with each answer of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerSettings {
    /// `RateLimit` and `RateLimit-Policy`.
    pub ratelimit: bool,
    /// `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset`.
    pub ratelimit_legacy: bool,
    /// The same with `X-` before them.
    pub x_ratelimit: bool,
    /// `Retry-After` with refusals.
    pub retry_after: bool,
    /// `X-Quota-Warning` where a threshold was crossed.
    pub quota_warning: bool,
    /// Headers tell of all limits, not only of the tightest.
    pub all_limits: bool,
    /// Refusals have a JSON problem as their body.
    pub problem_body: bool,
    pub metadata: AnswerMetadata,
    /// Fixed headers for the upstream.
    pub request_headers: Vec<(String, String)>,
    /// Fixed headers for the caller.
    pub response_headers: Vec<(String, String)>,
}

/// Which answers carry metadata on their limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerMetadata {
    Always,
    #[default]
    Refused,
    Never,
}
