//! Locks a mutex, even if a thread has panicked while it held the lock.
//!
//! After such a panic std's mutex returns an error, so one panic would fail all later requests. Here each lock is held
//! for a few steps that leave the value valid at any point. Where that isn't true, the value is repaired when it is
//! locked.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits for the lock, and holds it for as long as the guard lives.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_panic_while_holding_the_lock_does_not_stop_others() {
        let mutex = Mutex::new(1);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            *lock(&mutex) = 2;
            let _guard = mutex.lock();
            panic!("with the lock held");
        }));
        assert!(panicked.is_err());
        assert!(mutex.is_poisoned());
        assert_eq!(*lock(&mutex), 2);
    }
}
