//! The modes of a limit: whether a request that does not fit is refused (`enforce`, `quota`, `shadow`).

use std::fmt;

/// What it means for a request when a limit does not have the hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// The request is refused.
    #[default]
    Enforce,
    /// The request is refused if no other quota of the request has them either.
    Quota,
    /// Nothing; it is only told.
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
