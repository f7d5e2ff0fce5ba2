//! Access that a rule's `only` would refuse, and does not: its mode is `warn`, or it is enforced for other callers.

use super::verdict::Verdict;

impl Verdict<'_> {
    /// Whether the caller would have no access if that were enforced.
    pub fn warns_of_access(&self) -> bool {
        self.descriptors.iter().any(|descriptor| descriptor.warned)
    }
}
