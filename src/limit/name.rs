//! The name of a limit in metrics: its domain and its label.

use std::sync::Arc;

use super::Limit;

/// The name of a limit; two limits of one domain may have the same label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LimitName {
    pub domain: Box<str>,
    pub label: Box<str>,
}

impl Limit {
    /// The same limit with that name.
    pub fn named(self, name: Arc<LimitName>) -> Self {
        self.edited(|limit| Self { name: Some(name), ..limit })
    }

    /// The name, if it has one.
    pub fn name(&self) -> Option<&Arc<LimitName>> {
        self.name.as_ref()
    }
}
