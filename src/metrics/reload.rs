//! The results of a reload of files, as a label of its metrics.

use prometheus_client::encoding::EncodeLabelSet;

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// A new policy is in force.
    Ok,
    /// The files can't be used; the old policy stays.
    Error,
    /// The files say what they said before.
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
