//! Puts what several threads have seen in the order of time.
//!
//! Records of a thread come in order, but those of another one up to a drain later. So items wait a little, and are then sorted.

use std::time::Duration;

use crate::clock::Timestamp;

/// How long an item waits for earlier ones: four drains of the sink.
const WAIT: Duration = Duration::from_millis(200);

/// Maximum number of items that wait; beyond it, the first half no longer does.
const WAITING_MAX: usize = 20_000;

/// Items that wait.
#[derive(Debug)]
pub struct InOrder<T> {
    waiting: Vec<(Timestamp, T)>,
    latest: Timestamp,
}

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        Self { waiting: Vec::new(), latest: Timestamp::from_ms(0) }
    }
}

impl<T> InOrder<T> {
    /// Adds an item. Returns those that can't wait any longer, in order; mostly none.
    pub fn add(&mut self, at: Timestamp, item: T) -> Vec<(Timestamp, T)> {
        self.latest = self.latest.max(at);
        self.waiting.push((at, item));
        if self.waiting.len() < WAITING_MAX {
            return Vec::new();
        }
        self.sort();
        self.waiting.drain(..WAITING_MAX / 2).collect()
    }

    /// The items that have waited long enough, in order.
    pub fn ready(&mut self, now: Timestamp) -> Vec<(Timestamp, T)> {
        // The clock of records may be the store's.
        let until = now.max(self.latest).before(WAIT);
        self.sort();
        let count = self.waiting.partition_point(|(at, _)| *at <= until);
        self.waiting.drain(..count).collect()
    }

    /// Removes items.
    pub fn retain(&mut self, is_kept: impl Fn(&T) -> bool) {
        self.waiting.retain(|(_, item)| is_kept(item));
    }

    fn sort(&mut self) {
        self.waiting.sort_by_key(|(at, _)| *at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_two_threads_are_in_order_and_few_wait() {
        let at = Timestamp::from_ms;
        let mut items = InOrder::default();
        for ms in [10, 30, 50, 20, 40, 900] {
            assert!(items.add(at(ms), ms).is_empty());
        }
        let ready = |items: &mut InOrder<u64>, now| -> Vec<u64> {
            items.ready(at(now)).into_iter().map(|(_, item)| item).collect()
        };
        assert_eq!(ready(&mut items, 0), [10, 20, 30, 40, 50], "the last one says what time it is");
        assert_eq!(ready(&mut items, 1_100), [900]);
        let taken = (0..100_000).map(|ms| items.add(at(ms), ms).len()).sum::<usize>();
        assert!(items.waiting.len() < WAITING_MAX && 80_000 <= taken);
    }
}
