//! What the last reloads of policies have changed, for people.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::clock::Timestamp;
use crate::lock::lock;
use crate::policy::PolicyEdits;

/// Reloads that are known.
const RELOADS_MAX: usize = 10;

/// The last reloads.
#[derive(Debug, Default)]
pub struct Reloads(Mutex<VecDeque<PolicyReload>>);

/// A reload.
#[derive(Clone, Debug)]
pub struct PolicyReload {
    pub at: Timestamp,
    /// The hashes of the policies before and since.
    pub hashes: [String; 2],
    /// Where they came from, such as `files`.
    pub source: String,
    pub edits: PolicyEdits,
}

impl Reloads {
    /// Notes a reload.
    pub fn note(&self, reload: PolicyReload) {
        let mut known = lock(&self.0);
        known.truncate(RELOADS_MAX - 1);
        known.push_front(reload);
    }

    /// The last reloads, the newest first.
    pub fn list(&self) -> Vec<PolicyReload> {
        lock(&self.0).iter().cloned().collect()
    }
}
