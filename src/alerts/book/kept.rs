//! What a book keeps beside alerts and silences.

use serde::{Deserialize, Serialize};

use crate::alerts::labels::AlertId;

/// A caller that a rule has restricted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertAnswer {
    pub alert: AlertId,
    pub rule: String,
    pub caller: String,
    /// The domain of the alert; None: it is about all.
    pub domain: Option<String>,
    pub tier: String,
    pub until_ms: u64,
}

/// The hits that a provider counted in an hour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProviderCount {
    pub domain: String,
    pub provider: String,
    /// The start of the hour.
    pub start_ms: u64,
    pub hits: u64,
}
