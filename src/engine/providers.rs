//! The state of providers: how much of the capacity of each is in use, for operators. Nothing is charged or counted.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::limit::{Hits, Scale};
use crate::policy::{Domain, Provider, Rule};
use crate::store::provider_controls::ProviderControl;

use super::Engine;
use super::deadline::DeadlineBudget;
use super::fair_queue::Waiting;
use super::preview::Inspection;
use super::request::{Descriptor, HitsSource, Request};
use super::snapshot::Snapshot;

/// The state of a provider.
#[derive(Clone, Debug)]
pub struct ProviderState {
    pub domain: String,
    pub name: String,
    /// The key of the entry with its name.
    pub key: String,
    /// The time of the state, by the store's clock if the store was asked.
    pub at: Timestamp,
    /// The store was unavailable: the hits in use are those that this process counts alone, and levels are the last known.
    pub fallback: bool,
    pub latency: Option<ProviderLatency>,
    /// Its changes for a while that hold.
    pub controls: Vec<ProviderControl>,
    /// Each limit of a rule with a single counter. Limits that cascade are there once.
    pub limits: Vec<ProviderLimit>,
}

/// The latency that choices assume.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProviderLatency {
    pub ms: f64,
    /// Whether it was reported to this process, and is not the policy's.
    pub is_reported: bool,
}

/// The state of a limit of a provider, for all tiers together.
#[derive(Clone, Debug)]
pub struct ProviderLimit {
    /// The path of its rule.
    pub rule: String,
    pub label: String,
    /// Whether it refuses requests, rather than only reporting them.
    pub refuses: bool,
    /// Hits that can be in use now: what schedules, signals and a cap for all leave of the amount, or of a bucket's burst.
    pub capacity: u64,
    /// How much of the limit the signal that it follows leaves; None if it follows none.
    pub scale: Option<Scale>,
    /// Hits in use; more than the capacity if it is overdrawn or has fallen.
    pub used: u64,
    /// Time until nothing is in use, if nothing more is spent; None if time alone brings nothing back.
    pub reset: Option<Duration>,
    /// The rule's level of pressure; None if it has no levels.
    pub level: Option<u8>,
    /// Requests of each priority that this process holds for it; None if it has no `wait`.
    pub waiting: Option<Waiting>,
    /// What is open to each tier, the lowest first; empty without a reserve.
    pub open: Vec<OpenToTier>,
}

/// What callers of a tier may use of a limit with a reserve. Levels of pressure may leave less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenToTier {
    pub tier: Box<str>,
    /// Hits that may be in use by all callers before theirs are refused.
    pub hits: u64,
}

impl ProviderLimit {
    /// Hits that are left.
    pub fn remaining(&self) -> u64 {
        self.capacity.saturating_sub(self.used)
    }
}

impl Engine {
    /// The state of each provider that `is_wanted` selects by domain and name, in the order of the policies. Each of their
    /// rules costs up to two questions to the store.
    pub async fn providers(&self, is_wanted: impl Fn(&str, &str) -> bool) -> Vec<ProviderState> {
        let snapshot = self.snapshot.load_full();
        let mut states = Vec::new();
        for domain in snapshot.policies.domains() {
            for provider in domain.providers() {
                if is_wanted(&domain.name, provider.name) {
                    // Boxed, because it is large and rare.
                    let state = Box::pin(self.provider(&snapshot, domain, &provider)).await;
                    states.push(state);
                }
            }
        }
        states
    }

    async fn provider(
        &self,
        snapshot: &Snapshot,
        domain: &Domain,
        provider: &Provider<'_>,
    ) -> ProviderState {
        let latency = |ms, is_reported| ProviderLatency { ms, is_reported };
        let reported = snapshot.latencies.of(provider.name, self.now());
        let assumed = provider.candidate.and_then(|candidate| candidate.latency_ms);
        let mut state = ProviderState {
            domain: domain.name.clone(),
            name: provider.name.to_owned(),
            key: provider.key.to_owned(),
            at: self.now(),
            fallback: false,
            latency: reported.map(|ms| latency(ms, true)).or(assumed.map(|ms| latency(ms, false))),
            controls: self.provider_controls(),
            limits: Vec::new(),
        };
        state.controls.retain(|one| one.domain == domain.name && one.provider == provider.name);
        let mut known = BTreeSet::new();
        for path in &provider.paths {
            // As the highest tier, to which most of the capacity is open.
            let tier = domain.classes.tier_key.as_deref().zip(domain.classes.tiers.last());
            let tier = tier.map(|(key, tier)| (key, &**tier));
            let entries = path.iter().copied().chain(tier).collect();
            let (hits, hits_source) = (Hits::GiveBack(0), HitsSource::Request);
            let descriptor = Descriptor { entries, hits, hits_source, limit: None };
            let Ok(request) = Request::try_new(&domain.name, vec![descriptor]) else { continue };
            let (now, budget) = (self.decider.settings.clock.now(), DeadlineBudget::patient());
            let inspection = self.decider.inspect(snapshot, &request, (now, &budget)).await;
            if let Some(inspection) = inspection {
                let mut limits = self.limits_of(snapshot, (domain, &inspection), &mut state);
                limits.retain(|limit| known.insert((limit.rule.clone(), limit.label.clone())));
                state.limits.append(&mut limits);
            }
        }
        state
    }

    /// The limits of a plan, with their state.
    fn limits_of(
        &self,
        snapshot: &Snapshot,
        (domain, inspection): (&Domain, &Inspection<'_>),
        state: &mut ProviderState,
    ) -> Vec<ProviderLimit> {
        let (plan, Some(outcome)) = (&inspection.plan, &inspection.outcome) else {
            return Vec::new();
        };
        state.at = state.at.max(outcome.at);
        state.fallback |= outcome.fallback;
        let levels = plan.gauges.iter().copied().zip(outcome.levels.iter().copied());
        let known = match outcome.fallback {
            true => snapshot.pressure(),
            false => {
                snapshot.note_levels(&domain.name, levels);
                Vec::new()
            }
        };
        let known_level = |path: &str| {
            let level = known.iter().find(|one| one.domain == domain.name && one.rule == path);
            level.and_then(|known| u8::try_from(known.level).ok())
        };
        let level = |path: &str| {
            let gauge = plan.gauges.iter().position(|rule| rule.path == path)?;
            let reported = outcome.levels.get(gauge).copied();
            if outcome.fallback { known_level(path).or(reported) } else { reported }
        };
        let charges = plan.batch.charges.iter().enumerate();
        let limits = charges.map(|(index, charge)| {
            let rule = plan.rules[index].map_or("", |rule| rule.path.as_str());
            let of = &plan.limits[index];
            let scale = of.adjust.as_ref().map(|adjust| adjust.scale());
            let capacity = charge.limit.at(outcome.at).capacity();
            let adjusted = of.adjusted(capacity);
            let entry = (state.key.as_str(), state.name.as_str());
            let cap = snapshot.controls.cap_of_all(domain, entry, (of.index, state.at));
            let capacity = cap.map_or(adjusted, |cap| cap.of(capacity).min(adjusted));
            let open = |rule: &Rule| open(domain, rule, (capacity, outcome.at));
            let reset_ms = outcome.decisions[index].standing.reset_ms;
            let queues = &self.decider.queues;
            let key = plan.batch.keys[charge.key_index].as_str();
            ProviderLimit {
                rule: rule.to_owned(),
                label: of.label.to_string(),
                refuses: plan.mode(index).refuses(),
                capacity,
                scale,
                used: inspection.used[index],
                reset: reset_ms.map(Duration::from_millis),
                level: level(rule),
                waiting: of.wait.map(|_| queues.waiting(queues.counter(key, &charge.limit))),
                open: plan.rules[index].map_or_else(Vec::new, open),
            }
        });
        limits.collect()
    }
}

/// What is open of a limit to each tier; empty without a reserve.
fn open(domain: &Domain, rule: &Rule, (hits, at): (u64, Timestamp)) -> Vec<OpenToTier> {
    let Some(capacity) = &rule.capacity else { return Vec::new() };
    let capacity = capacity.at(at);
    if capacity.ceilings.is_empty() {
        return Vec::new();
    }
    let tiers = domain.classes.tiers.iter().enumerate();
    tiers
        .map(|(tier, name)| OpenToTier { tier: name.clone(), hits: capacity.open(tier, hits) })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::poll;
    use tokio::time::advance;

    use super::ProviderState;
    use crate::clock::Clock;
    use crate::engine::testing::{Bench, START};

    const POLICY: &str = "
domain: d
tiers: [free, paid]
caller: { key: user, tier: { key: tier }, priority: { key: priority } }
choices: [{ key: provider, value: any, among: { near: { latency: 80ms }, far: {} } }]
descriptors:
- key: provider
  value: near
  cascade: true
  limits: [{ name: all, rate: 100/day }]
  descriptors:
  - key: op
    value: search
    only: { tier: [paid] }
    limits: [{ name: search, rate: 10/day, wait: { up_to: 2s } }]
    capacity: { reserve: { paid: 20% }, pressure: [{ above: 50%, only: { tier: [paid] } }] }
  - { key: op, value: book, limits: [{ name: book, rate: 1/second, wait: { up_to: 2s } }] }
- { key: provider, value: far, limits: [{ name: far, rate: 4/hour, mode: shadow }] }";

    /// Limit, capacity, used, level.
    fn limits(state: &ProviderState) -> Vec<(&str, u64, u64, Option<u8>)> {
        let limits = state.limits.iter();
        limits
            .map(|limit| (limit.label.as_str(), limit.capacity, limit.used, limit.level))
            .collect()
    }

    #[tokio::test]
    async fn use_is_that_of_all_tiers_and_each_counter_is_there_once() {
        let bench = Bench::timed(Clock::manual(START));
        bench.put_in_force(POLICY);
        for _ in 0..9 {
            bench.ask_for(&["provider=near,op=search", "tier=paid"]).await;
        }
        let states = bench.engine.providers(|_, _| true).await;
        let names: Vec<&str> = states.iter().map(|state| state.name.as_str()).collect();
        assert_eq!(names, ["near", "far"]);
        let expected = [("all", 100, 9, None), ("search", 10, 9, Some(1)), ("book", 1, 0, None)];
        assert_eq!(limits(&states[0]), expected);
        assert_eq!(
            states[0].latency.map(|latency| (latency.ms, latency.is_reported)),
            Some((80.0, false))
        );
        assert_eq!(
            (limits(&states[1]), states[1].limits[0].refuses),
            (vec![("far", 4, 0, None)], false)
        );
        let open: Vec<_> =
            states[0].limits[1].open.iter().map(|open| (&*open.tier, open.hits)).collect();
        assert_eq!(open, [("free", 8), ("paid", 10)]);
        assert_eq!(states[0].limits[0].open, [], "without a reserve");
        let asked_again = bench.engine.providers(|_, name| name == "near").await;
        assert_eq!(limits(&asked_again[0]), expected, "nothing is charged");
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_of_a_limit_is_told_by_priority() {
        let bench = Bench::timed(Clock::runtime(START));
        bench.put_in_force(POLICY);
        let book = "provider=near,op=book";
        bench.ask_for(&[book]).await;
        let (low, urgent) = ([book, "priority=1"], [book, "priority=4"]);
        let mut held = [Box::pin(bench.ask_for(&low)), Box::pin(bench.ask_for(&urgent))];
        for one in &mut held {
            assert!(poll!(one).is_pending());
        }
        let waiting = async || {
            let states = bench.engine.providers(|_, name| name == "near").await;
            let book = states[0].limits.iter().find(|limit| limit.label == "book").unwrap();
            book.waiting.unwrap().map(|of| (of.requests, of.longest.as_millis()))
        };
        advance(Duration::from_millis(300)).await;
        assert_eq!(waiting().await, [(1, 300), (0, 0), (0, 0), (1, 300)]);
        drop(held);
        advance(Duration::from_secs(1)).await;
        assert_eq!(waiting().await, [(0, 0); 4]);
    }
}
