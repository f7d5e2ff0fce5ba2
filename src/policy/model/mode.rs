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
    /// The request passes; the refusal is recorded.
    Shadow,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enforce => "enforce",
            Self::Quota => "quota",
            Self::Shadow => "shadow",
        })
    }
}
