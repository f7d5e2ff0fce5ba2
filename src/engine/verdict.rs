//! The answer to a request, without the wire that it goes by.

use std::sync::Arc;
use std::time::Duration;

use crate::policy::Unit;

/// Whether something may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Ok,
    OverLimit,
    /// Nobody knows: the store is out, and a limit that the request meets says that this is an error. Of a request
    /// alone, never of one of its descriptors.
    Unavailable,
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub code: Code,
    /// One for each descriptor, in order.
    pub statuses: Vec<Status>,
    /// To be added to the answer that the caller gets, whether it passes or not.
    pub response_headers: Vec<(String, String)>,
    /// To be added to the request that the upstream gets.
    pub request_headers: Vec<(String, String)>,
    /// The body of a refusal; empty for the gateway's own.
    pub body: Vec<u8>,
    /// For the gateway's logs and later filters; None if there is nothing to say.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// The store was out and the policy's `on_outage` decided.
    pub fallback: bool,
}

/// How one descriptor stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: Code,
    /// The limit that is nearest to refusing, or that made the caller wait longest; None if the
    /// descriptor meets none.
    pub limit: Option<StatusLimit>,
    /// Hits that would still pass. The protocol has 32 bits for it: `u32::MAX` may be more.
    pub remaining: u32,
    /// For a refusal, how long until the same request would pass; else until the limit is whole again.
    /// None where time alone changes nothing.
    pub reset: Option<Duration>,
}

/// A limit as the protocol can say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusLimit {
    /// The name that the policy gives it; empty if it gives none.
    pub name: Arc<str>,
    /// Hits in a window.
    pub amount: u32,
    /// The window; None if the protocol has no unit for it.
    pub unit: Option<Unit>,
}

impl Verdict {
    /// The answer where no policy says anything: everything passes.
    pub fn without_policy(descriptors: usize) -> Self {
        let status = Status { code: Code::Ok, limit: None, remaining: 0, reset: None };
        Self {
            code: Code::Ok,
            statuses: vec![status; descriptors],
            response_headers: Vec::new(),
            request_headers: Vec::new(),
            body: Vec::new(),
            metadata: None,
            fallback: false,
        }
    }
}
