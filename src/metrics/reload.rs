//! The results of reloads, as a label of their metrics.

use prometheus_client::encoding::EncodeLabelSet;

/// The result of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// A new policy is in force.
    Ok,
    /// The files are invalid; the old policy stays in force.
    Error,
    /// The files are unchanged.
    Unchanged,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReloadLabel {
    result: &'static str,
}

impl From<Reload> for ReloadLabel {
    fn from(reload: Reload) -> Self {
        let result = match reload {
            Reload::Ok => "ok",
            Reload::Error => "error",
            Reload::Unchanged => "unchanged",
        };
        Self { result }
    }
}
