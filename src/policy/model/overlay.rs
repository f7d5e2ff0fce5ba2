//! The files that add to domains of resources from elsewhere, and what became of them.

use std::sync::Arc;

use crate::policy::problem::Problem;

/// A file of an overlay.
#[derive(Clone, Debug)]
pub struct Overlay {
    pub file: Arc<str>,
    /// That of `text`, or else of the file; empty if it does not say it.
    pub domain: String,
    pub state: OverlayState,
    /// Rules of the resource that it adds to.
    pub met_count: usize,
    /// The text in force, or if none is, the last one that was: it is in force again when it can be. None if none was, or
    /// if the file waits for another domain now.
    pub text: Option<Arc<str>>,
    /// What is wrong with the file, or waits for the resource.
    pub problems: Vec<Problem>,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OverlayState {
    /// All but the rules that wait.
    InForce,
    /// All but the rules that wait, and what conflicts with rules of the resource.
    Partial,
    /// There is no resource of its domain.
    Waiting,
    /// It is invalid; the text before stays in force.
    Kept,
    /// It is invalid, and nothing of it is in force.
    Rejected,
}

impl OverlayState {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::InForce, Self::Partial, Self::Waiting, Self::Kept, Self::Rejected];

    /// Whether the domain has a text of the file.
    pub fn is_in_force(self) -> bool {
        matches!(self, Self::InForce | Self::Partial | Self::Kept)
    }

    /// Its name in `/policy` and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::InForce => "in_force",
            Self::Partial => "partial",
            Self::Waiting => "waiting",
            Self::Kept => "kept",
            Self::Rejected => "rejected",
        }
    }
}
