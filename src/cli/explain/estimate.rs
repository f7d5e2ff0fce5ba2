//! What `tollgate explain` says of the estimate of a limit.

use serde::Serialize;

use crate::policy::Estimate;
use crate::store::{Charge, Reservation};

/// What requests hold until their cost is debited, which of them do, and what this one holds or settles.
#[derive(Debug, Serialize)]
pub struct EstimateReport {
    pub hits: u64,
    /// The entry that states other hits, and their maximum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
    pub held: u64,
    /// Held hits that this one settles, if requests state them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled: Option<u64>,
    pub for_ms: u64,
    pub at: &'static str,
}

impl EstimateReport {
    /// What a charge does with this estimate.
    pub fn new(estimate: &Estimate, charge: &Charge) -> Self {
        let step = charge.reservation.as_deref().copied();
        let stated = estimate.stated.as_ref();
        Self {
            hits: estimate.hits,
            key: stated.map(|stated| stated.key.to_string()),
            max: stated.map(|stated| stated.max),
            held: step.map_or(0, Reservation::estimated),
            settled: match step {
                Some(Reservation::SettleEstimate { hits: hits @ 1.. }) => Some(hits),
                _ => None,
            },
            for_ms: u64::try_from(estimate.life.as_millis()).unwrap_or(u64::MAX),
            at: estimate.at.name(),
        }
    }

    /// The same as text. `lasts`: its `for_ms`.
    pub fn text(&self, action: &str, lasts: &str) -> String {
        let (hits, held, at) = (self.hits, self.held, self.at);
        match (action, self.settled) {
            ("estimate", _) => {
                format!("holds {held} hits until a debit settles them, or for {lasts}")
            }
            ("settle_estimate", None) => {
                format!("a debit: settles the oldest estimate of {hits} hits")
            }
            ("settle_estimate", Some(settled)) => {
                format!("a debit: settles the {settled} oldest of the held hits")
            }
            _ => {
                let stated = self.key.as_ref().map(|key| format!(", or those of `{key}`,"));
                let stated = stated.unwrap_or_default();
                format!(
                    "none: it is no {at} that holds {hits} hits{stated} for {lasts}, and no debit"
                )
            }
        }
    }
}
