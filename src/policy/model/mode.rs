//! The modes of a limit: its effect on a request that exceeds it (`enforce`, `quota`, `shadow`).

use std::fmt;

/// The effect of a limit that does not have the hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// The request is refused.
    #[default]
    Enforce,
    /// The request is refused if no other quota of the request has them either.
    Quota,
    /// The request passes; the answer and metrics report the refusal.
    Warn,
    /// The request passes; the refusal is recorded.
    Shadow,
    /// The request passes, and nothing is charged.
    Off,
}

impl Mode {
    /// Whether a limit of that mode may refuse requests.
    pub fn refuses(self) -> bool {
        matches!(self, Self::Enforce | Self::Quota)
    }

    /// Its name in policies and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Quota => "quota",
            Self::Warn => "warn",
            Self::Shadow => "shadow",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
