//! Locks a mutex, even if a thread has panicked with it.
//!
//! std's mutex refuses after a thread has panicked while it held the lock, so that one panic would fail every later
//! request. Here a lock is held for a few steps that leave its value usable wherever they stop; a value of which that
//! isn't true is repaired where it is locked.

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
