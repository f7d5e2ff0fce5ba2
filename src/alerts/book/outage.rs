//! What is noted in the book of an outage of Redis.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::alert::{ClosedAlert, OpenAlert};
use super::kept::{AlertAnswer, ProviderCount};
use super::silence::Silence;
use crate::alerts::labels::AlertId;

/// Maximum number of changes that are noted; the oldest is forgotten.
pub const DEEDS_MAX: usize = 2_000;

/// What is noted in the book of an outage.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outage {
    /// The version of the book that it began with.
    pub version: u64,
    /// The alerts of that book, and when they were opened.
    pub open: BTreeMap<AlertId, u64>,
    pub silences: BTreeSet<String>,
    /// The sidecar of this book.
    pub sidecar: String,
    /// Oldest first.
    pub deeds: VecDeque<Deed>,
    /// How many were forgotten.
    pub forgotten: u64,
}

/// A change that is made again in the book of the fleet.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// An alert has ended, and that was told.
    Ended(Box<ClosedAlert>),
    Acknowledged {
        id: AlertId,
        by: String,
        at_ms: u64,
    },
    Silenced(Silence),
    SilenceEnded(String),
    /// A notification of the fleet's book was sent.
    Sent(String),
    /// A rule has restricted a caller.
    Answered(AlertAnswer),
    /// The answer to an alert could not be given.
    Released(AlertId),
    Counted(ProviderCount),
}

impl Outage {
    pub fn note(&mut self, deed: Deed) {
        self.deeds.push_back(deed);
        if DEEDS_MAX < self.deeds.len() {
            self.deeds.pop_front();
            self.forgotten += 1;
        }
    }

    /// Forgets what is about a caller.
    pub fn erase(&mut self, caller: &str) {
        self.deeds.retain(|deed| match deed {
            Deed::Ended(closed) => closed.alert.labels.get("caller") != Some(caller),
            Deed::Silenced(silence) => silence.labels.get("caller") != Some(caller),
            Deed::Answered(answer) => answer.caller != caller,
            _ => true,
        });
    }

    /// Whether the book that it began with had this alert, and not one that was opened later.
    pub fn has_begun_with(&self, alert: &OpenAlert) -> bool {
        self.open.get(&alert.id) == Some(&alert.opened_ms)
    }
}
