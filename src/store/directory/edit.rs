//! A change of a directory in this process, as it is made in memory and in the file.

use std::sync::Arc;

use super::caller_record::Record;
use super::gift::{Gift, GiftEvent};
use crate::clock::Timestamp;

/// A gift, and the time at which it is due if it is pending, else at which it is forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptGift {
    pub gift: Gift,
    pub at: Timestamp,
}

/// One change of the content, made as a whole, in the file and in memory.
#[derive(Debug, Default)]
pub struct Edit {
    /// The revision of the last change of a caller.
    pub revision: u64,
    /// None: removed.
    pub callers: Vec<(Arc<str>, Option<Record>)>,
    /// By id. None: removed.
    pub gifts: Vec<(String, Option<KeptGift>)>,
    /// By caller, as a whole. None: removed.
    pub logs: Vec<(Arc<str>, Option<Vec<GiftEvent>>)>,
}

impl Edit {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.callers.is_empty() && self.gifts.is_empty() && self.logs.is_empty()
    }
}
