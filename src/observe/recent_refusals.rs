//! The most recent refusals with an id, of this process.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use super::refusal::RefusalForm;
use crate::engine::RefusalId;
use crate::lock::lock;

/// The most recent refusals, of which some 700 bytes each are kept.
#[derive(Debug)]
pub struct RecentRefusals {
    kept_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Oldest first.
    order: VecDeque<RefusalId>,
    by_id: HashMap<RefusalId, Arc<RefusalForm>>,
}

impl RecentRefusals {
    /// None yet; at most so many are kept.
    pub fn new(kept_max: usize) -> Self {
        Self { kept_max, kept: Mutex::default() }
    }

    /// Adds a refusal, in place of the oldest one if there are too many.
    pub fn put(&self, id: RefusalId, refusal: Arc<RefusalForm>) {
        let mut kept = lock(&self.kept);
        while self.kept_max <= kept.order.len() {
            let Some(oldest) = kept.order.pop_front() else { return };
            kept.by_id.remove(&oldest);
        }
        kept.order.push_back(id);
        kept.by_id.insert(id, refusal);
    }

    /// The refusal with an id, if it is kept.
    pub fn get(&self, id: RefusalId) -> Option<Arc<RefusalForm>> {
        lock(&self.kept).by_id.get(&id).cloned()
    }

    /// Removes the refusals of callers, and returns their number.
    pub fn erase(&self, is_erased: &dyn Fn(&str) -> bool) -> usize {
        let mut kept = lock(&self.kept);
        let Kept { order, by_id } = &mut *kept;
        let before = by_id.len();
        by_id.retain(|_, refusal| !refusal.caller.as_deref().is_some_and(is_erased));
        order.retain(|id| by_id.contains_key(id));
        before - by_id.len()
    }
}

impl Default for RecentRefusals {
    fn default() -> Self {
        Self::new(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> RefusalId {
        RefusalId::parse(&format!("000000000000{digit}")).unwrap()
    }

    fn refusal(caller: &str) -> Arc<RefusalForm> {
        let json = format!(
            r#"{{"at":"","domain":"d","caller":"{caller}","priority":2,"reason":"over_limit","limits":[]}}"#
        );
        Arc::new(serde_json::from_str(&json).unwrap())
    }

    #[test]
    fn the_oldest_goes_first_and_erased_callers_at_once() {
        let recent = RecentRefusals::new(3);
        for (digit, caller) in [('1', "a"), ('2', "b"), ('3', "a"), ('4', "c")] {
            recent.put(id(digit), refusal(caller));
        }
        let known = || ['1', '2', '3', '4', '5'].map(|digit| recent.get(id(digit)).is_some());
        assert_eq!(known(), [false, true, true, true, false]);
        recent.erase(&|caller| caller == "a");
        assert_eq!(known(), [false, true, false, true, false]);
        recent.put(id('5'), refusal("d"));
        assert_eq!(known(), [false, true, false, true, true]);
        assert!(RecentRefusals::new(0).get(id('1')).is_none());
    }
}
