//! The name of a limit in metrics: its domain and its label.

use std::sync::Arc;

use super::Limit;

/// What a limit is called; two of one domain may share a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LimitName {
    pub domain: Box<str>,
    pub label: Box<str>,
}

impl Limit {
    /// The same limit by that name.
    pub fn named(self, name: Arc<LimitName>) -> Self {
        self.edited(|limit| Self { name: Some(name), ..limit })
    }

    /// What it is called, if it is called anything.
    pub fn name(&self) -> Option<&Arc<LimitName>> {
        self.name.as_ref()
    }
}
