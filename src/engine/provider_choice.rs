//! Chooses among the providers, or other values, that can serve a request.
//!
//! A dry run of all candidates ranks them by their remaining capacity. Then the request is decided for the best one. If
//! its limits are exhausted by then, the next best is asked.

use std::borrow::Cow;
use std::cmp::Reverse;

use smallvec::SmallVec;

use crate::clock::Now;
use crate::policy::{CandidateFigures, Choice, Domain, Lineage};
use crate::store::INLINE_CAP;

use super::caller::entry;
use super::deadline::DeadlineBudget;
use super::decider::Decider;
use super::dry_run::{CandidateState, DryRun};
use super::plan::{Plan, Question};
use super::reason::Reason;
use super::request::Request;
use super::snapshot::Snapshot;
use super::verdict::{ChargeDecision, ProviderChoice, Verdict};

/// The context of the decision.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'v, 'r> {
    pub snapshot: &'v Snapshot,
    pub domain: &'v Domain,
    /// The caller's record in the directory.
    pub lineage: &'r Lineage,
    pub budget: &'r DeadlineBudget,
    pub now: Now,
}

/// An open choice of a request.
#[derive(Debug)]
struct Open<'p> {
    choice: &'p Choice,
    /// The descriptors with the choice, by index; at least one.
    descriptors: SmallVec<[usize; INLINE_CAP]>,
}

/// The candidates of a choice, ranked for one request.
#[derive(Debug)]
pub struct Ranking<'p> {
    pub choice: &'p Choice,
    /// The descriptors with the choice.
    descriptors: SmallVec<[usize; INLINE_CAP]>,
    dry_run: DryRun,
    /// The state of each candidate, by index.
    pub states: SmallVec<[CandidateState; INLINE_CAP]>,
    /// Scores and latencies of those that are not excluded.
    pub figures: SmallVec<[CandidateFigures; INLINE_CAP]>,
    /// Candidates by index, the best first, with their scores.
    pub running: SmallVec<[(usize, f64); INLINE_CAP]>,
    /// If all are excluded, the one whose refusal has the shortest wait.
    last_resort: usize,
    /// Number of candidates that have been asked and have refused.
    tried: usize,
}

/// Whether a request has an open choice.
pub fn is_open(domain: &Domain, request: &Request<'_>) -> bool {
    domain.choices.iter().any(|choice| Open::new(choice, request).is_some())
}

impl<'p> Open<'p> {
    /// None if the request does not have this choice.
    fn new(choice: &'p Choice, request: &Request<'_>) -> Option<Self> {
        let descriptors = request.descriptors().iter().enumerate();
        let open = descriptors.filter(|(_, descriptor)| choice.is_left_by(&descriptor.entries));
        let descriptors: SmallVec<[usize; INLINE_CAP]> = open.map(|(index, _)| index).collect();
        (!descriptors.is_empty()).then_some(Self { choice, descriptors })
    }
}

impl Decider {
    /// Ranks the candidates of each open choice of `request`.
    pub async fn rankings<'v>(
        &self,
        scene: Scene<'v, '_>,
        request: &Request<'v>,
    ) -> Vec<Ranking<'v>> {
        let mut rankings = Vec::new();
        for choice in &scene.domain.choices {
            if let Some(open) = Open::new(choice, request) {
                let request = filled(request, &rankings);
                let ranking = self.rank(scene, &request, open).await;
                rankings.push(ranking);
            }
        }
        rankings
    }

    /// Ranks the candidates of an open choice of `request`.
    async fn rank<'v>(
        &self,
        scene: Scene<'v, '_>,
        request: &Request<'_>,
        Open { choice, descriptors }: Open<'v>,
    ) -> Ranking<'v> {
        let (modes, domain, now) = (self.settings.modes, scene.domain, scene.now.timestamp());
        let mut dry_run = DryRun::default();
        for candidate in &choice.candidates {
            let request = &request.replaced(&choice.key, &choice.value, &candidate.name);
            let caller = &scene.snapshot.caller(domain, request, (scene.lineage.clone(), now));
            let plan = Plan::new(Question { domain, request, caller, modes, now }, None);
            dry_run.add(&plan, &descriptors);
        }
        let time = self.time(scene.now, scene.budget);
        let outcome = self.charge(&dry_run.batch, scene.budget, time).await;
        let states = dry_run.states(&outcome);
        let reported = choice.latency_key.as_deref().and_then(|key| entry(request, key));
        let latency = |index: usize| {
            let candidate = &choice.candidates[index];
            reported
                .and_then(|text| choice.reported_latency(text, index))
                .or_else(|| scene.snapshot.latencies.of(&candidate.name, now))
                .or(candidate.latency_ms)
        };
        let figures = states.iter().enumerate().filter_map(|(candidate, state)| match state {
            CandidateState::Passes(free) => {
                Some(CandidateFigures { candidate, free: *free, latency_ms: latency(candidate) })
            }
            CandidateState::Failed
            | CandidateState::Waits(_)
            | CandidateState::Never
            | CandidateState::Denied => None,
        });
        let figures: SmallVec<[CandidateFigures; INLINE_CAP]> = figures.collect();
        let scores = choice.scores(&figures);
        let mut running: SmallVec<[(usize, f64); INLINE_CAP]> =
            figures.iter().map(|one| one.candidate).zip(scores).collect();
        // The sort is stable: of equals, the first in the file is first.
        running.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        // A retry costs nothing where its first attempt went.
        running.sort_by_key(|(candidate, _)| !dry_run.is_retry(*candidate, &outcome));
        let last_resort = last_resort(&states);
        Ranking { choice, descriptors, dry_run, states, figures, running, last_resort, tried: 0 }
    }
}

/// The candidate whose refusal has the shortest wait; preferably one that may not refuse.
fn last_resort(states: &[CandidateState]) -> usize {
    let preference = |state: &CandidateState| match state {
        CandidateState::Passes(_) => Reverse((4, 0)),
        CandidateState::Failed => Reverse((3, 0)),
        CandidateState::Waits(ms) => Reverse((2, u64::MAX - *ms)),
        CandidateState::Never => Reverse((1, 0)),
        CandidateState::Denied => Reverse((0, 0)),
    };
    let first = states.iter().enumerate().min_by_key(|(_, state)| preference(state));
    first.map_or(0, |(index, _)| index)
}

/// The request with the names of the chosen candidates.
pub fn filled<'r, 'v>(request: &'r Request<'v>, rankings: &[Ranking<'v>]) -> Cow<'r, Request<'v>> {
    rankings.iter().fold(Cow::Borrowed(request), |request, ranking| {
        let choice = ranking.choice;
        Cow::Owned(request.replaced(&choice.key, &choice.value, ranking.chosen()))
    })
}

/// Selects the next candidate, if only the present one refuses and there is another.
pub fn select_next(rankings: &mut [Ranking<'_>], plan: &Plan<'_>, verdict: &Verdict<'_>) -> bool {
    let charges = verdict.charges().iter().enumerate();
    let refusing = charges
        .filter(|(_, charge)| (charge.is_over() || charge.is_failed()) && !charge.is_shadow());
    let refusing: SmallVec<[(usize, &ChargeDecision<'_>); INLINE_CAP]> = refusing.collect();
    // Under another candidate, the caller's own limits may be less restricted by pressure.
    let about = |ranking: &Ranking<'_>, (index, charge): &(usize, &ChargeDecision<'_>)| {
        charge.reason == Reason::Pressure || ranking.is_own((plan, verdict), *index)
    };
    let all = refusing.iter().all(|one| rankings.iter().any(|ranking| about(ranking, one)));
    if refusing.is_empty() || !all {
        return false;
    }
    let turnable = rankings
        .iter_mut()
        .find(|ranking| ranking.has_next() && refusing.iter().any(|one| about(ranking, one)));
    turnable.map(|ranking| ranking.tried += 1).is_some()
}

impl<'p> Ranking<'p> {
    /// The result of the choice.
    pub fn choice(&self) -> ProviderChoice<'p> {
        let (choice, chosen, scores) = (self.choice, self.chosen(), self.running.clone());
        ProviderChoice { choice, chosen, scores }
    }

    /// The index of the selected candidate.
    fn index(&self) -> usize {
        self.running.get(self.tried).map_or(self.last_resort, |(index, _)| *index)
    }

    /// The name of the selected candidate.
    pub fn chosen(&self) -> &'p str {
        &self.choice.candidates[self.index()].name
    }

    /// Whether another candidate is not excluded.
    pub fn has_next(&self) -> bool {
        self.tried + 1 < self.running.len()
    }

    /// Whether a charge belongs to the candidate, and not to every candidate.
    fn is_own(&self, (plan, verdict): (&Plan<'_>, &Verdict<'_>), index: usize) -> bool {
        let charge = &plan.batch.charges[index];
        let key = &plan.batch.keys[charge.key_index];
        let descriptors = &mut self.descriptors.iter().map(|index| &verdict.descriptors[*index]);
        let applies = descriptors.any(|descriptor| descriptor.charges.contains(&index));
        applies && !self.dry_run.is_common(key, charge)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use futures_util::poll;
    use serde_json::json;
    use tokio::time::advance;

    use crate::clock::Clock;
    use crate::engine::testing::{Bench, START};
    use crate::engine::{AnyStore, Code, LatencyError, ModeSettings, testing};
    use crate::store::Fallback;
    use crate::store::redis::{Redis, RedisSettings};

    /// Three providers: `near` is fast and expensive, `far` is slow and cheap, and `closed` has no access for free
    /// callers.
    const POLICY: &str = "
domain: d
tiers: [free, premium]
caller: { key: user, tier: { key: tier } }
answer: { metadata: always }
costs: { bookings: [{ when: { provider: far }, hits: 3 }] }
choices:
  - key: provider
    value: any
    among:
      near: { price: 2.00 EUR, latency: 100ms }
      far: { price: 1.00 EUR, latency: 200ms }
      closed: { price: 1.00 EUR, latency: 50ms }
    latency_key: latencies
    header: X-Provider
descriptors:
  - key: provider
    value: near
    descriptors: [{ key: op, value: search, limits: [10/minute] }]
  - key: provider
    value: far
    descriptors: [{ key: op, value: search, limits: [4/hour] }]
  - { key: provider, value: closed, only: { tier: [premium] }, descriptors: [{ key: op, limits: [10/minute] }] }
  - { key: budget, limits: [{ rate: 5/day, cost: bookings }] }
  - { key: user, cascade: true, limits: [2/day], descriptors: [{ key: provider, limits: [99/day] }] }";

    fn bench() -> Bench {
        testing::bench(POLICY, ModeSettings::default())
    }

    impl Bench {
        /// The provider in the metadata; empty if there is none.
        async fn named(&self, descriptors: &[&str]) -> String {
            let metadata = self.ask_for(descriptors).await.metadata.unwrap_or_default();
            metadata.get("provider").map_or("", |name| name.as_str().unwrap()).to_owned()
        }

        /// The chosen provider; empty if the request is refused.
        async fn chosen(&self, descriptors: &[&str]) -> String {
            let verdict = self.ask_for(descriptors).await;
            let named = verdict.metadata.as_ref().and_then(|map| map.get("provider"));
            let named = named.map_or("", |name| name.as_str().unwrap()).to_owned();
            let header = verdict.request_headers.iter().find(|(name, _)| name == "x-provider");
            assert_eq!(header.map_or("", |(_, value)| value), named, "{verdict:?}");
            assert_eq!(verdict.code == Code::Ok, !named.is_empty(), "{verdict:?}");
            named
        }

        fn report(&self, name: &str, ms: f64) {
            self.engine.note_latencies(&BTreeMap::from([(name.to_owned(), ms)])).unwrap();
        }
    }

    #[tokio::test]
    async fn the_best_is_named_and_charged_alone() {
        let bench = bench();
        let verdict = bench.ask_for(&["provider=any,op=search"]).await;
        let metadata = verdict.metadata.unwrap();
        // Both free; `near` has latency 1 and price 1/2, `far` the other way round: the first wins.
        let expected =
            json!({ "provider": { "chosen": "near", "scores": { "near": 0.833, "far": 0.833 } } });
        assert_eq!((&metadata["provider"], &metadata["choice"]), (&json!("near"), &expected));
        assert_eq!(verdict.statuses[0].remaining, 9);
        assert_eq!(bench.ask_for(&["provider=far,op=search"]).await.statuses[0].remaining, 3);
        // Now `near` has 9 of 10 left and `far` 3 of 4.
        assert_eq!(bench.chosen(&["provider=any,op=search"]).await, "near");
        let counted = bench.engine.decider.settings.metrics.encode();
        assert!(
            counted.contains(r#"tollgate_chosen_total{domain="d",provider="near"} 2"#),
            "{counted}"
        );
    }

    #[tokio::test]
    async fn what_is_used_up_is_left_out_and_at_last_the_shortest_wait_is_told() {
        let bench = bench();
        let mut chosen = Vec::new();
        for _ in 0..14 {
            chosen.push(bench.chosen(&["provider=any,op=search"]).await);
        }
        let count = |name: &str| chosen.iter().filter(|chosen| *chosen == name).count();
        assert_eq!((count("near"), count("far")), (10, 4), "{chosen:?}");
        let verdict = bench.ask_for(&["provider=any,op=search"]).await;
        assert_eq!((verdict.code, verdict.request_headers.len()), (Code::OverLimit, 0));
        assert_eq!(verdict.statuses[0].reset, Some(Duration::from_secs(60)));
        let metadata = verdict.metadata.unwrap();
        assert!(!metadata.contains_key("provider"), "{metadata:?}");
        assert_eq!(metadata["choice"]["provider"]["scores"], json!({}));
    }

    #[tokio::test]
    async fn a_caller_without_access_to_a_candidate_gets_another() {
        let bench = bench();
        assert_eq!(bench.chosen(&["provider=any,op=search", "tier=premium"]).await, "closed");
        assert_eq!(bench.chosen(&["provider=any,op=search", "tier=free"]).await, "near");
    }

    #[tokio::test]
    async fn latencies_turn_the_choice_and_are_forgotten() {
        let bench = bench();
        let ask = &["provider=any,op=search"];
        bench.report("near", 400.0);
        assert_eq!(bench.chosen(ask).await, "far");
        bench.clock.advance(Duration::from_secs(299));
        assert_eq!(bench.chosen(ask).await, "far");
        bench.clock.advance(Duration::from_secs(1));
        assert_eq!(bench.chosen(ask).await, "near");
        // Latencies in the request take precedence.
        assert_eq!(bench.chosen(&[ask[0], "latencies=near=400,far=5"]).await, "far");
    }

    #[tokio::test]
    async fn latencies_move_by_a_quarter_and_outlive_a_new_policy() {
        let bench = bench();
        bench.report("near", 100.0);
        bench.report("near", 200.0);
        bench.put_in_force(&POLICY.replace("100ms", "7ms"));
        let known = bench.engine.latencies();
        assert_eq!((known["near"], known["far"]), (Some(125.0), None));
        let wrong = |name: &str, ms| {
            bench.engine.note_latencies(&BTreeMap::from([(name.to_owned(), ms)])).unwrap_err()
        };
        assert!(matches!(wrong("other", 1.0), LatencyError::UnknownName { .. }));
        for ms in [-1.0, f64::NAN, f64::INFINITY, 1e12] {
            assert!(matches!(wrong("near", ms), LatencyError::OutOfRange { .. }), "{ms}");
        }
    }

    #[tokio::test]
    async fn costs_are_those_of_the_chosen_one() {
        let bench = bench();
        let ask = &["provider=any,op=search", "budget=b", "latencies=near=400,far=5"];
        let verdict = bench.ask_for(ask).await;
        assert_eq!((verdict.code, verdict.statuses[1].remaining), (Code::Ok, 2));
        // `far` would cost 3 of 2, but the budget does not depend on the choice.
        assert_eq!(bench.ask_for(ask).await.code, Code::OverLimit);
    }

    #[tokio::test]
    async fn a_limit_that_all_candidates_meet_decides_alone() {
        let bench = bench();
        let ask = &["user=u,provider=any"];
        assert_eq!(bench.chosen(ask).await, "closed");
        assert_ne!(bench.chosen(ask).await, "");
        let verdict = bench.ask_for(ask).await;
        assert_eq!(verdict.code, Code::OverLimit);
        assert_eq!(verdict.statuses[0].limit.as_ref().unwrap().amount, 2);
    }

    #[tokio::test]
    async fn without_a_store_latency_and_price_decide() {
        // The connector doesn't run, so the store stays unavailable.
        let (redis, _) = Redis::try_new(&RedisSettings::new("redis://127.0.0.1:1")).unwrap();
        let bench = testing::bench_on(
            AnyStore::redis(redis, Fallback::new(1_000, None)),
            &format!("{POLICY}\ndefaults: {{ on_outage: allow }}"),
            ModeSettings::default(),
        );
        assert_eq!(bench.chosen(&["provider=any,op=search"]).await, "near");
        bench.report("near", 400.0);
        assert_eq!(bench.chosen(&["provider=any,op=search"]).await, "far");
        // Candidates with an unknown capacity are chosen last, and then none is.
        let far = "value: far\n    descriptors: [{ key: op, value: search, ";
        let fails = POLICY.replace(far, &format!("{far}on_outage: allow, "));
        bench.put_in_force(&fails);
        assert_eq!(bench.chosen(&["provider=any,op=search"]).await, "far");
        // One that denies all hits is not even tried.
        let denies = POLICY.replace(far, &format!("{far}on_outage: deny, "));
        bench.put_in_force(&format!("{denies}\ndefaults: {{ on_outage: allow }}"));
        let answer = bench.ask_for(&["provider=any,op=search"]).await;
        let metadata = answer.metadata.unwrap();
        let choice = &metadata["choice"]["provider"];
        let scores = choice["scores"].as_object().unwrap();
        let scored: Vec<&str> = scores.keys().map(String::as_str).collect();
        assert_eq!((&choice["chosen"], scored), (&json!("near"), vec!["near"]));
        bench.put_in_force(POLICY);
        let verdict = bench.ask_for(&["provider=any,op=search"]).await;
        assert_eq!((verdict.code, verdict.request_headers), (Code::Unavailable, Vec::new()));
    }

    #[tokio::test]
    async fn a_request_that_names_a_provider_reports_no_choice() {
        let bench = bench();
        let verdict = bench.ask_for(&["provider=far,op=search"]).await;
        let metadata = verdict.metadata.unwrap();
        assert!(!metadata.contains_key("choice") && !metadata.contains_key("provider"));
        assert!(verdict.request_headers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_only_if_no_other_candidate_can_serve_it() {
        let bench = Bench::timed(Clock::runtime(START));
        bench.put_in_force(
            "
domain: d
choices: [{ key: provider, value: any, among: { slow: {}, quick: {} } }]
descriptors:
- { key: provider, value: slow, limits: [{ rate: 1/minute, wait: { up_to: 5s } }] }
- { key: provider, value: quick, limits: [{ rate: 1/second, wait: { up_to: 5s } }] }",
        );
        let waited = async || {
            let metadata = bench.ask_for(&["provider=any"]).await.metadata.unwrap();
            (metadata["provider"].clone(), metadata.get("waited_ms").cloned())
        };
        assert_eq!(waited().await, (json!("slow"), None));
        assert_eq!(waited().await, (json!("quick"), None));
        let mut third = Box::pin(waited());
        assert!(poll!(third.as_mut()).is_pending());
        advance(Duration::from_millis(1_000)).await;
        assert_eq!(third.await, (json!("quick"), Some(json!(1_000))));
    }

    #[tokio::test]
    async fn a_caller_restricted_by_pressure_gets_another_candidate() {
        let pressed = "
domain: d
tiers: [free, premium]
caller: { key: user, tier: { key: tier } }
choices: [{ key: provider, value: any, among: { a: { price: 1 }, b: { price: 9 } }, weights: { capacity: 0 } }]
descriptors:
- key: provider
  value: a
  limits: [10/minute]
  capacity:
    reserve: { premium: 20% }
    pressure: [{ above: 50%, scale: { free: 0.5 } }]
- { key: provider, value: b, limits: [100/minute] }
- { key: user, limits: [4/day] }";
        let bench = testing::bench(pressed, ModeSettings::default());
        for user in ["user=1", "user=2", "user=3"] {
            for _ in 0..2 {
                assert_eq!(bench.named(&["provider=any", user]).await, "a");
            }
        }
        // `a` is under pressure: its free callers may use two of their four hits, which are spent.
        assert_eq!(bench.named(&["provider=any", "user=1"]).await, "b");
        assert_eq!(bench.named(&["provider=any", "user=4"]).await, "a");
        assert_eq!(bench.named(&["provider=any", "user=5"]).await, "a");
        // The last two of `a` are reserved for premium callers.
        assert_eq!(bench.named(&["provider=any", "user=6"]).await, "b");
        assert_eq!(bench.named(&["provider=any", "user=7", "tier=premium"]).await, "a");
    }
}
