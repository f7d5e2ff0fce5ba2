//! What a limit answers while the store is unavailable.

use std::fmt;

/// What to answer while the store is out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOutage {
    /// The call fails, and the gateway decides: Envoy by its `failure_mode_deny`.
    #[default]
    Error,
    /// Pass.
    Allow,
    /// Refuse.
    Deny,
    /// Decide by this sidecar's share of the limit.
    Local,
}

impl fmt::Display for OnOutage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Local => "local",
        })
    }
}
