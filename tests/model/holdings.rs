//! What the plain model knows of reservations: hits that are held until they are settled or lapse.

use super::judge::{Case, counter};
use super::plan::Charge;
use super::who::value_of;
use super::world::{Ask, Overdraft, World};

pub const ID_KEY: &str = "reservation_id";
pub const ACTION_KEY: &str = "reservation_action";

/// How long an id is known after its reservation has lapsed or was settled.
const KNOWN_MS: u64 = 3_600_000;

/// What a request asks of reservations.
#[derive(Clone, Debug)]
pub struct Acting {
    pub action: Action,
    pub caller: String,
    pub id: String,
    /// For how long, and how long the id is known.
    pub ttl_ms: u64,
    pub known_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Hold,
    Settle,
    Extend,
}

/// What a reservation holds of one limit under one key.
#[derive(Clone, Debug)]
pub struct Held {
    caller: String,
    id: String,
    hits: u64,
    until_ms: u64,
}

impl Held {
    pub fn until_ms(&self) -> u64 {
        self.until_ms
    }
}

impl Acting {
    /// What a request asks of a charge whose rule holds hits; and changes the hits of one that has none of its own.
    pub fn of(world: &World, ask: &Ask, charge: &mut Charge<'_>) -> Option<Self> {
        let ttl_ms = charge.holding_ms?;
        let id = value_of(ask, ID_KEY).filter(|id| !id.is_empty())?.to_owned();
        let caller = world.caller.as_ref().and_then(|caller| value_of(ask, &caller.key));
        let caller = caller.map_or_else(|| "nobody".to_owned(), |name| format!("caller {name}"));
        let (action, known_ms) = match value_of(ask, ACTION_KEY) {
            Some("reserve") if charge.hits <= 0 => return None,
            Some("reserve") => (Action::Hold, ttl_ms + KNOWN_MS),
            Some("extend") => (Action::Extend, 0),
            _ => (Action::Settle, KNOWN_MS),
        };
        if let Some("extend" | "cancel") = value_of(ask, ACTION_KEY) {
            (charge.hits, charge.asks) = (0, true);
        }
        Some(Self { action, caller, id, ttl_ms, known_ms })
    }

    /// As what it is known.
    pub fn name(&self) -> Option<String> {
        match self.action {
            Action::Hold => Some(format!("reserve {}", self.id)),
            Action::Settle => Some(format!("settle {}", self.id)),
            Action::Extend => None,
        }
    }

    fn is(&self, held: &Held) -> bool {
        (&held.caller, &held.id) == (&self.caller, &self.id)
    }
}

impl Case<'_, '_> {
    /// What is held at a time of a charge's limit, all of it, or but for what the charge settles.
    pub fn held(&self, charge: &Charge<'_>, at: u64, all: bool) -> u64 {
        let settling = charge.acting.as_ref().filter(|one| one.action == Action::Settle && !all);
        let counts =
            |held: &&Held| at < held.until_ms && settling.is_none_or(|acting| !acting.is(held));
        self.all_held(charge).iter().filter(counts).map(|held| held.hits).sum()
    }

    /// When what is held lapses.
    pub fn lapses(&self, charge: &Charge<'_>) -> Vec<u64> {
        self.all_held(charge).iter().map(|held| held.until_ms).collect()
    }

    fn all_held(&self, charge: &Charge<'_>) -> &[Held] {
        let held = charge.holding_ms.and_then(|_| self.model.held.get(&counter(charge)));
        held.map_or(&[], Vec::as_slice)
    }

    /// What is held by the reservation that a charge names.
    pub fn own(&self, charge: &Charge<'_>) -> Option<(u64, u64)> {
        let acting = charge.acting.as_ref()?;
        let own = self.all_held(charge).iter().find(|held| acting.is(held));
        own.filter(|own| self.now < own.until_ms).map(|own| (own.hits, own.until_ms))
    }

    /// Whether a charge passes whatever is left, because of what is held for it.
    pub fn fits_by_reservation(&self, charge: &Charge<'_>) -> bool {
        let action = charge.acting.as_ref().map(|acting| acting.action);
        match action {
            Some(Action::Settle) => self.own(charge).is_some(),
            Some(Action::Extend) => true,
            Some(Action::Hold) | None => false,
        }
    }

    /// Does what a charge asks of reservations; how many hits were settled, and what these have crossed.
    pub fn act(&mut self, charge: &Charge<'_>, acting: &Acting) -> (u64, Vec<u64>) {
        let own = self.own(charge);
        let left = self.left(charge, self.now);
        let held = self.model.held.entry(counter(charge)).or_default();
        held.retain(|held| !acting.is(held));
        let mut hold = |hits, until_ms| {
            let Acting { caller, id, .. } = acting.clone();
            held.push(Held { caller, id, hits, until_ms });
        };
        let until_ms = self.now + acting.ttl_ms;
        match (acting.action, own) {
            (Action::Hold, _) => hold(charge.hits.unsigned_abs(), until_ms),
            (Action::Extend, Some((hits, until))) => hold(hits, until_ms.max(until)),
            (Action::Extend, None) => {}
            (Action::Settle, own) => return self.settle(charge, own, left),
        }
        (0, Vec::new())
    }

    /// Spends what was used of what was held, so many hits being left beside it.
    fn settle(
        &mut self,
        charge: &Charge<'_>,
        own: Option<(u64, u64)>,
        left: u64,
    ) -> (u64, Vec<u64>) {
        let hits = charge.hits.unsigned_abs();
        let gives_back = charge.hits < 0 || charge.hits == 0 && !charge.asks;
        let (spent, overdraft) = match (own, charge.form.overdraft) {
            (Some((held, _)), overdraft) => {
                let used = if gives_back { held.saturating_sub(hits) } else { hits };
                let most = if overdraft == Overdraft::Allow { used } else { held.max(left) };
                (used.min(most), Overdraft::Allow)
            }
            // What is not held can't come back.
            (None, _) if gives_back => (0, Overdraft::Allow),
            (None, Overdraft::Clip) => (hits.min(left), Overdraft::Clip),
            (None, Overdraft::None | Overdraft::Allow) => (hits, Overdraft::Allow),
        };
        if spent == 0 {
            return (0, Vec::new());
        }
        let before = self.used(charge, self.now);
        self.spend(charge, spent, overdraft);
        (spent, self.report(charge, before))
    }
}
