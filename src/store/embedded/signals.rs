//! Signals, and changes of providers, in this process. The changes get into the file of counters, and back from it after a restart.

use std::sync::atomic::Ordering;

use super::memory::Memory;
use crate::lock::lock;
use crate::store::provider_controls::is_control;
use crate::store::signals::{SignalChange, SignalFields};

impl Memory {
    /// All signals, what is known of the limits that follow them, and changes of providers.
    pub fn signals(&self) -> SignalFields {
        lock(&self.signals).clone()
    }

    /// Changes some of them.
    pub fn change_signals(&self, change: &SignalChange) {
        change.apply(&mut lock(&self.signals));
        let set = change.set.iter().map(|(field, _)| field);
        if set.chain(&change.removed).any(|field| is_control(field)) {
            self.has_new_controls.store(true, Ordering::SeqCst);
        }
    }

    /// The changes of providers, by field, if they have changed since the last call, or in any case.
    pub fn take_controls(&self, all: bool) -> Option<Vec<(String, String)>> {
        if !self.has_new_controls.swap(false, Ordering::SeqCst) && !all {
            return None;
        }
        let signals = lock(&self.signals);
        let own = signals.iter().filter(|(field, _)| is_control(field));
        Some(own.map(|(field, text)| (field.clone(), text.clone())).collect())
    }

    /// Takes a change of a provider back from a file, unless there is another one meanwhile.
    pub fn restore_control(&self, field: &str, text: &str) {
        if is_control(field) {
            lock(&self.signals).entry(field.to_owned()).or_insert_with(|| text.to_owned());
        }
    }
}
