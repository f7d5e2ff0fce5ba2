//! The answer to a request of a race, as far as it counts.

use serde_json::Value;
use tollgate::answer::render;
use tollgate::engine::{Code, Engine, Request};

use crate::support::engine::descriptor;

/// The answer to a request.
#[derive(Debug, Default)]
pub struct RaceAnswer {
    pub admitted: bool,
    pub is_retry: bool,
    pub settled: u64,
    pub granted: u64,
    /// Thresholds, in percent.
    pub crossed: Vec<u64>,
    pub grace_until_ms: Option<u64>,
}

impl RaceAnswer {
    /// The answer of an engine to a request of the domain `races`.
    pub async fn to(engine: &Engine, ask: &str, hits: u64) -> Self {
        let request = Request::try_new("races", vec![descriptor(ask, hits)]).unwrap();
        let snapshot = engine.snapshot();
        let verdict = engine.check(&snapshot, &request).await;
        assert!(!verdict.fallback, "the store decides");
        let answer = render(&verdict);
        let metadata: Value = answer.metadata.map(Into::into).unwrap_or_default();
        let crossed = metadata["thresholds"][0]["crossed_percent"].as_array();
        Self {
            admitted: answer.code == Code::Ok,
            is_retry: metadata["retry"] == true,
            settled: metadata["reservations"][0]["settled"].as_u64().unwrap_or(0),
            granted: metadata["granted"][0]["granted"].as_u64().unwrap_or(0),
            crossed: crossed.into_iter().flatten().filter_map(Value::as_u64).collect(),
            grace_until_ms: metadata["grace"][0]["until_ms"].as_u64(),
        }
    }
}
