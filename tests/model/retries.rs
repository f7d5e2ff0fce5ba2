//! Which charges of a request an earlier attempt has made, by the documentation.

use super::judge::{Case, counter};
use super::plan::Charge;
use super::who::value_of;
use super::world::{Ask, World};

/// A charge that a request with an idempotency key has made.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    pub hits: i64,
    pub until_ms: u64,
    retries: u64,
}

/// What makes a request a retry.
pub struct RetryKey {
    caller: String,
    id: String,
    life_ms: u64,
    free: u64,
}

impl RetryKey {
    pub fn of(world: &World, ask: &Ask) -> Option<Self> {
        let retries = world.retries.as_ref()?;
        let said = retries.key.as_ref().and_then(|key| value_of(ask, key));
        let (id, life_ms) = match said.filter(|id| !id.is_empty()) {
            Some(id) => (format!("key {id}"), retries.life_ms),
            None => (format!("all of {ask:?}"), retries.fingerprint_ms?),
        };
        let caller = world.caller.as_ref().and_then(|caller| value_of(ask, &caller.key));
        let caller = caller.map_or_else(|| "nobody".to_owned(), |name| format!("caller {name}"));
        Some(Self { caller, id, life_ms, free: retries.free })
    }
}

impl Case<'_, '_> {
    fn mark_key(&self, charge: &Charge<'_>) -> Option<(String, String, String, String)> {
        let retry_key = self.retry_key.as_ref().filter(|_| charge.hits != 0)?;
        let (path, tag) = counter(charge);
        Some((path, tag, retry_key.caller.clone(), retry_key.id.clone()))
    }

    /// What an earlier attempt has charged, as far as that matters.
    pub fn mark(&self, charge: &Charge<'_>) -> Option<Mark> {
        let mark = *self.model.marks.get(&self.mark_key(charge)?)?;
        let counts = mark.hits != charge.hits || mark.retries < self.retry_key.as_ref()?.free;
        (self.now < mark.until_ms && counts).then_some(mark)
    }

    /// Spends unless an earlier attempt has; the thresholds that are crossed.
    pub fn spend_once(&mut self, charge: &Charge<'_>) -> Vec<u64> {
        let known = self.mark(charge);
        if let (Some(key), Some(retry_key)) = (self.mark_key(charge), &self.retry_key) {
            let until_ms = self.now + retry_key.life_ms;
            let new = Mark { hits: charge.hits, until_ms, retries: 0 };
            let mark = known.map_or(new, |mark| Mark { retries: mark.retries + 1, ..mark });
            self.model.marks.insert(key, mark);
        }
        if known.is_some() || charge.hits == 0 {
            return Vec::new();
        }
        let before = self.used(charge, self.now);
        self.spend(charge);
        self.report(charge, before)
    }
}
