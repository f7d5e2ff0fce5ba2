//! The files that add to domains of resources from elsewhere, and what became of them.

use std::sync::Arc;

use crate::policy::problem::Problem;

/// A file of an overlay.
#[derive(Clone, Debug)]
pub struct Overlay {
    pub file: Arc<str>,
    /// Empty if the file does not say it.
    pub domain: String,
    pub state: OverlayState,
    /// Rules of the resource that it adds to.
    pub met_count: usize,
    /// The text in force; None if none is.
    pub text: Option<Arc<str>>,
    /// What is wrong with the file, or waits for the resource.
    pub problems: Vec<Problem>,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OverlayState {
    /// All but the rules that wait.
    InForce,
    /// There is no resource of its domain.
    Waiting,
    /// It is invalid; the text before stays in force.
    Kept,
    /// It is invalid, and nothing of it is in force.
    Rejected,
}

impl OverlayState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::InForce, Self::Waiting, Self::Kept, Self::Rejected];

    /// Its name in `/policy` and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::InForce => "in_force",
            Self::Waiting => "waiting",
            Self::Kept => "kept",
            Self::Rejected => "rejected",
        }
    }
}
