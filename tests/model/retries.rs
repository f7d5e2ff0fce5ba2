//! Which charges of a request an earlier attempt has made, by the documentation.

use super::holdings::Action;
use super::judge::{Case, counter};
use super::plan::Charge;
use super::who::value_of;
use super::world::{Ask, World};

/// Retries of a reservation, or of a settlement, that are free.
const RESERVATION_RETRIES: u64 = 100;

/// A charge that a request with an idempotency key has made.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    pub hits: i64,
    /// None came back, which is not the same as none that were asked for.
    gives_back: bool,
    pub until_ms: u64,
    retries: u64,
    /// What it got, if that may be less.
    pub granted: u64,
}

/// What makes a request a retry.
pub struct RetryKey {
    caller: String,
    id: String,
    life_ms: u64,
    free: u64,
}

/// Whether a charge was made before.
#[derive(Clone, Copy, Debug)]
pub enum Made {
    No,
    Before(Mark),
    Otherwise(&'static str),
}

impl Mark {
    pub fn new(hits: u64, until_ms: u64) -> Self {
        let hits = i64::try_from(hits).unwrap();
        Self { hits, gives_back: false, until_ms, retries: 0, granted: 0 }
    }

    fn is_of(&self, charge: &Charge<'_>) -> bool {
        (self.hits, self.gives_back) == (charge.hits, gives_none_back(charge))
    }
}

/// Whether no hits come back, which is to say that all that are held were used.
fn gives_none_back(charge: &Charge<'_>) -> bool {
    charge.hits == 0 && !charge.asks
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

    /// What makes a charge a retry: what it asks of reservations, or else the key of the request.
    fn of_charge(request: Option<&Self>, charge: &Charge<'_>) -> Option<Self> {
        if let Some(acting) = &charge.acting {
            let (caller, life_ms) = (acting.caller.clone(), acting.known_ms);
            let id = acting.name()?;
            return Some(Self { caller, id, life_ms, free: RESERVATION_RETRIES });
        }
        let Self { caller, id, life_ms, free } = request.filter(|_| charge.hits != 0)?;
        Some(Self { caller: caller.clone(), id: id.clone(), life_ms: *life_ms, free: *free })
    }
}

impl Case<'_, '_> {
    fn key(&self, charge: &Charge<'_>) -> Option<(RetryKey, (String, String, String, String))> {
        let key = RetryKey::of_charge(self.retry_key.as_ref(), charge)?;
        let (path, tag) = counter(charge);
        let name = (path, tag, key.caller.clone(), key.id.clone());
        Some((key, name))
    }

    /// What an earlier attempt has charged, as far as that matters.
    fn mark(&self, charge: &Charge<'_>) -> Option<Mark> {
        let (key, name) = self.key(charge)?;
        let mark = *self.model.marks.get(&name)?;
        let counts = !mark.is_of(charge) || mark.retries < key.free;
        (self.now < mark.until_ms && counts).then_some(mark)
    }

    /// Whether an earlier attempt has made a charge. An id of a reservation is used once.
    pub fn made(&self, charge: &Charge<'_>) -> Made {
        let action = charge.acting.as_ref().map(|acting| acting.action);
        let conflict = match action {
            Some(_) => Made::Otherwise("reservation_conflict"),
            None => Made::Otherwise("idempotency_conflict"),
        };
        let is_held = self.own(charge).is_some();
        match (self.mark(charge), action) {
            (Some(mark), _) if !mark.is_of(charge) => conflict,
            (Some(_), Some(Action::Hold)) if !is_held => conflict,
            (None, Some(Action::Hold)) if is_held => conflict,
            (None, Some(Action::Extend)) if !is_held => conflict,
            (Some(mark), _) => Made::Before(mark),
            (None, _) => Made::No,
        }
    }

    /// Notes that a charge is made, or made again. What it has got.
    pub fn note(&mut self, charge: &Charge<'_>, granted: u64) {
        let Some((key, name)) = self.key(charge) else { return };
        let new = Mark {
            hits: charge.hits,
            gives_back: gives_none_back(charge),
            until_ms: self.now + key.life_ms,
            retries: 0,
            granted,
        };
        let known = self.mark(charge);
        let mark = known.map_or(new, |mark| Mark { retries: mark.retries + 1, ..mark });
        self.model.marks.insert(name, mark);
    }
}
