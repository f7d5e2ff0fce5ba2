//! The answer of a limit while the store is unavailable.

use std::fmt;

/// The answer while the store is unavailable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOutage {
    /// The call fails, and the gateway decides: Envoy by its `failure_mode_deny`.
    #[default]
    Error,
    /// The limit allows the request.
    Allow,
    /// The limit refuses the request.
    Deny,
    /// This sidecar's share of the limit decides.
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
