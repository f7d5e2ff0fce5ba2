//! Whether the file of counters has what was counted so far, for whoever must not go on before a crash can't undo it.
//!
//! Each write has a number, which it takes before it takes the changes. So a write with a higher number than the last one that had
//! begun has all changes of before.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, watch};

/// The writes of a store's file.
#[derive(Debug, Default)]
pub struct Durability {
    /// The number of the last write that has begun.
    begun: AtomicU64,
    ended: watch::Sender<EndedWrite>,
    asked: Notify,
}

/// The last write that has ended.
#[derive(Clone, Copy, Debug, Default)]
struct EndedWrite {
    number: u64,
    has_succeeded: bool,
}

impl Durability {
    /// Notes that a write begins, and returns its number.
    pub fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Notes that the write of that number has ended.
    pub fn end(&self, number: u64, has_succeeded: bool) {
        self.ended.send_replace(EndedWrite { number, has_succeeded });
    }

    /// Returns when somebody waits for a write.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Waits for a write that begins from now on. Returns whether it has succeeded, or a later one.
    pub async fn written(&self) -> bool {
        let mut ended = self.ended.subscribe();
        let needed = self.begun.load(Ordering::SeqCst) + 1;
        self.asked.notify_one();
        // It fails only if the sender is gone, which is in `self`.
        ended.wait_for(|ended| needed <= ended.number).await.is_ok_and(|ended| ended.has_succeeded)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn only_a_write_that_begins_later_has_what_was_changed_before() {
        let writes = Durability::default();
        let running = writes.begin();
        let mut waiting = Box::pin(writes.written());
        assert_eq!((&mut waiting).now_or_never(), None);
        assert_eq!(writes.asked().now_or_never(), Some(()));
        writes.end(running, true);
        assert_eq!((&mut waiting).now_or_never(), None);
        let next = writes.begin();
        assert_eq!((&mut waiting).now_or_never(), None);
        writes.end(next, false);
        assert_eq!(waiting.now_or_never(), Some(false));
    }
}
