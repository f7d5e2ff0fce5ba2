//! Joins policy and store: the limits of a request, and the verdict.
//!
//! A check keeps one snapshot of the policy to its end. The pipeline (`decide.rs`) makes a verdict, which is counted
//! and returned as a value. It never fails: over limit and an unavailable store are verdicts.

mod access;
mod adjusting;
mod admission;
mod api_key_limits;
mod api_key_uses;
mod api_keys;
mod caller;
mod controlling;
mod controls;
mod credits;
mod deadline;
mod debits;
mod decide;
mod decider;
mod dry_run;
mod explain;
mod fair_queue;
mod gifts;
mod granted;
mod hold;
mod latencies;
mod notices;
mod observed;
mod plan;
mod preview;
mod priced;
mod provider_choice;
mod providers;
mod readiness;
mod reason;
mod recalculate;
mod record;
mod record_name;
mod reference_counts;
mod refusal_id;
mod reloads;
mod request;
mod reserved;
mod reserving;
mod sink;
mod snapshot;
mod store;
pub mod text;
mod unknown_keys;
mod verdict;
mod wait_queues;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, Guard};

use crate::clock::{Stopwatch, Timestamp};
use crate::limit::Hits;
use crate::metrics::Metrics;
use crate::policy::{AbuseEntrySet, KeyEntry, Lineage, PolicySet};
use crate::store::signals::KnownSignals;
use crate::store::{Directory, StoreError};

use caller::CallerContext;
use deadline::DeadlineBudget;
use decider::Decider;
use plan::{Plan, Question};
use refusal_id::RefusalIds;
use reloads::Reloads;

pub use adjusting::{AdjustedLimit, SignalError};
pub use admission::{AdmissionControl, AdmissionGate};
pub use api_keys::{ApiKeyGrant, ApiKeyRefusal, ApiKeyRequest, ApiKeys, api_key_tier};
pub use caller::{AmountSource, Overridden, TierSource};
pub use controlling::{CAP_PERCENT_MAX, CONTROL_LIFE_MAX_MS, CONTROLS_MAX, ControlError};
pub use credits::BonusStanding;
pub use decider::EngineSettings;
pub use dry_run::CandidateState;
pub use explain::{
    ExplainedCaller, ExplainedCandidate, ExplainedChoice, ExplainedDescriptor, ExplainedLimit,
    ExplainedPressure, Explanation, RuleName, UnchargedLimit,
};
pub use fair_queue::Waiting;
pub use gifts::GIFT_PREFIX;
pub use latencies::LatencyError;
pub use plan::{DescriptorMatch, ModeSettings, Uncharged};
pub use preview::{GiveBack, GraceStanding, Preview, Standing};
pub use priced::Spend;
pub use providers::{ProviderLatency, ProviderLimit, ProviderState};
pub use readiness::{Phase, Readiness};
pub use reason::Reason;
pub use recalculate::{Reading, RecalculateError, Recount};
pub use record::{
    ChargeRecord, DecisionRecord, DomainNames, RecordExtras, RefusalRecord, RefusedLimit,
};
pub use record_name::stored_name;
pub use refusal_id::RefusalId;
pub use reloads::PolicyReload;
pub use request::{
    AskedReservation, BroughtLimits, DESCRIPTORS_MAX, Descriptor, ENTRIES_MAX, HitsSource,
    Override, Request, RequestError, Taking,
};
pub use sink::{Sink, Wanted};
pub use snapshot::{NearLimit, Pressure, Snapshot};
pub use store::AnyStore;
pub use verdict::{ChargeDecision, Code, ProviderChoice, Queued, Verdict};

/// Decides requests under the policies in force.
#[derive(Debug)]
pub struct Engine {
    snapshot: ArcSwap<Snapshot>,
    decider: Decider,
    /// None if no consumer needs records.
    sink: Option<Arc<Sink>>,
    /// Signals, what is known of the limits that follow them, and changes of providers. Locked to copy a few texts.
    known_signals: Mutex<KnownSignals>,
    refusal_ids: RefusalIds,
    /// What the last reloads of policies have changed.
    pub reloads: Reloads,
}

/// A snapshot of the policies in force, kept as long as a request and its verdict need it.
pub struct SnapshotGuard(Guard<Arc<Snapshot>>);

impl Deref for SnapshotGuard {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

impl Engine {
    /// An engine without policies: every request passes until [`Engine::replace`] loads some.
    pub fn new(settings: EngineSettings) -> Self {
        let snapshot = Snapshot::new(PolicySet::empty(), settings.near_limit, &settings.metrics);
        settings.metrics.store_up.set(i64::from(settings.store.is_available()));
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            decider: Decider::new(settings),
            sink: None,
            known_signals: Mutex::default(),
            refusal_ids: RefusalIds::new(),
            reloads: Reloads::default(),
        }
    }

    /// The same engine with a sink, which records its verdicts.
    pub fn with_sink(self, sink: Arc<Sink>) -> Self {
        Self { sink: Some(sink), ..self }
    }

    /// Has records hold these entries of requests, for alerts about abuse.
    pub fn observe(&self, entries: AbuseEntrySet) {
        if let Some(sink) = &self.sink {
            sink.observe(entries);
        }
    }

    /// Replaces the policies in force. Requests in flight keep theirs, and counters are kept.
    pub fn replace(&self, policies: PolicySet) {
        let EngineSettings { near_limit, metrics, .. } = &self.decider.settings;
        let mut snapshot = Snapshot::new(policies, *near_limit, metrics);
        let before = self.snapshot.load();
        snapshot.latencies.share(&before.latencies);
        snapshot.keep_scales(&before);
        snapshot.controls.put(&snapshot.policies, self.provider_controls());
        snapshot.retain_metrics(metrics);
        self.snapshot.store(Arc::new(snapshot));
    }

    /// The policies in force, for a request from its start to its end.
    pub fn snapshot(&self) -> SnapshotGuard {
        SnapshotGuard(self.snapshot.load())
    }

    /// The policies in force.
    pub fn policies(&self) -> Arc<PolicySet> {
        self.snapshot.load().policies.clone()
    }

    /// The store that keeps the counters.
    pub fn store(&self) -> &AnyStore {
        &self.decider.settings.store
    }

    /// Limits the number of requests that wait for the store.
    pub fn admission(&self) -> &Arc<AdmissionControl> {
        &self.decider.admission
    }

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.decider.settings.metrics
    }

    /// The directory of callers.
    pub fn directory(&self) -> &Directory {
        &self.decider.settings.directory
    }

    /// The time by the engine's clock.
    pub fn now(&self) -> Timestamp {
        self.decider.settings.clock.now().timestamp()
    }

    /// The last known levels of pressure.
    pub fn pressure(&self) -> Vec<Pressure> {
        self.snapshot.load().pressure()
    }

    /// The names in choices of the policies in force, each with its latency in milliseconds if it is known.
    pub fn latencies(&self) -> BTreeMap<String, Option<f64>> {
        self.snapshot.load().latencies.known(self.now())
    }

    /// Checks latencies in milliseconds by name.
    ///
    /// # Errors
    /// If a name is in no choice, or a number is not a valid latency.
    pub fn check_latencies(&self, reported: &BTreeMap<String, f64>) -> Result<(), LatencyError> {
        self.snapshot.load().latencies.check(reported)
    }

    /// Stores latencies in milliseconds by name: all of them or none.
    ///
    /// # Errors
    /// If a name is in no choice, or a number is not a valid latency.
    pub fn note_latencies(&self, reported: &BTreeMap<String, f64>) -> Result<(), LatencyError> {
        self.snapshot.load().latencies.note_all(reported, self.now())
    }

    /// Reads the levels of pressure of all rules with a single counter, also of rules that no request matches here:
    /// other processes may have such requests.
    pub async fn read_pressure(&self) {
        let snapshot = self.snapshot.load_full();
        let EngineSettings { clock, modes, .. } = &self.decider.settings;
        for domain in snapshot.policies.domains() {
            let (hits, hits_source) = (Hits::Spend(0), HitsSource::Request);
            let peek = |entries| Descriptor { entries, hits, hits_source, limit: None };
            let peeks: Vec<Descriptor<'_>> =
                domain.paths_with_pressure().into_iter().map(peek).collect();
            for peeks in peeks.chunks(DESCRIPTORS_MAX) {
                let Ok(request) = &Request::try_new(&domain.name, peeks.to_vec()) else { continue };
                let caller = &CallerContext::new(
                    &domain.classes,
                    request,
                    (Lineage::default(), clock.now().timestamp()),
                );
                let (now, modes) = (clock.now(), *modes);
                let question = Question { domain, request, caller, modes, now: now.timestamp() };
                let mut plan = Plan::new(question, None);
                // Nothing is held for what only looks.
                plan.batch.charges.iter_mut().for_each(|peek| peek.reservation = peek.counting());
                let budget = DeadlineBudget::default();
                let outcome = self.decider.charge(&plan.batch, &budget, now).await;
                if !outcome.fallback {
                    let levels = outcome.levels.iter().copied();
                    snapshot.note_levels(&domain.name, plan.gauges.iter().copied().zip(levels));
                }
            }
        }
    }

    /// Decides a request under a snapshot, and counts the verdict.
    pub async fn check<'v>(
        &self,
        snapshot: &'v Snapshot,
        request: &Request<'v>,
    ) -> Box<Verdict<'v>> {
        let EngineSettings { clock, metrics, .. } = &self.decider.settings;
        let _in_flight = metrics.enter();
        let stopwatch = Stopwatch::start();
        let mut verdict = self.decider.decide(snapshot, request, clock.now()).await;
        if verdict.code() == Code::OverLimit && verdict.has_refusal_ids() {
            verdict.refusal_id = Some(self.refusal_ids.next());
        }
        snapshot.count(&verdict, request, metrics);
        if let Some(sink) = &self.sink {
            sink.see(&verdict, |extras| snapshot.record(&verdict, request, extras));
        }
        metrics.check_duration.observe(stopwatch.elapsed());
        verdict
    }

    /// The answer that a request would get now. Nothing is charged or counted.
    pub async fn preview<'v>(&self, snapshot: &'v Snapshot, request: &Request<'v>) -> Preview<'v> {
        self.decider.preview(snapshot, request, self.decider.settings.clock.now()).await
    }

    /// Gives hits back to the limits of a request, at most those in use. It is not counted as a request.
    /// [`GiveBack::All`] is impossible while the store is unavailable.
    pub async fn give_back<'v>(
        &self,
        snapshot: &'v Snapshot,
        request: &Request<'v>,
        how: GiveBack,
    ) -> Preview<'v> {
        let now = self.decider.settings.clock.now();
        self.decider.give_back(snapshot, request, (how, now)).await
    }

    /// Takes the hits of a request from its limits, whether or not they have them. It is not counted as a request.
    pub async fn take_all<'v>(&self, snapshot: &'v Snapshot, request: &Request<'v>) -> Preview<'v> {
        self.decider.take_all(snapshot, request, self.decider.settings.clock.now()).await
    }

    /// Corrects the count of a limit of a request that never resets by what was counted elsewhere. It is not counted as a request.
    ///
    /// # Errors
    /// When there is no such limit, or its reading does not hold any more, or the store is unavailable.
    pub async fn recalculate<'v>(
        &self,
        snapshot: &'v Snapshot,
        request: &Request<'v>,
        recount: Recount<'_>,
    ) -> Result<Preview<'v>, RecalculateError> {
        let now = self.decider.settings.clock.now();
        self.decider.recalculate(snapshot, request, (recount, now)).await
    }

    /// Removes all counters of a caller, as the policies in force name callers, and returns their number. Hits that a
    /// sidecar has leased for it stay until their slot ends.
    ///
    /// # Errors
    /// If Redis does not answer as expected; some may be removed.
    pub async fn erase(&self, caller: &str) -> Result<u64, StoreError> {
        let policies = self.policies();
        let keys = policies.domains().into_iter().filter_map(|one| one.classes.caller_key.clone());
        let keys: BTreeSet<_> = keys.collect();
        let mut entries: Vec<KeyEntry> =
            keys.iter().map(|key| KeyEntry::new(key, caller)).collect();
        entries.push(KeyEntry::of_mark(caller));
        self.store().erase(&entries).await
    }

    /// Maintains the store between requests. Must be called a few times a second.
    pub async fn maintain_store(&self) {
        self.store().maintain(self.decider.settings.clock.now()).await;
    }

    /// Completes the store's pending work before the shutdown, after the last request.
    pub async fn close_store(&self) {
        self.store().close(self.decider.settings.clock.now()).await;
    }

    /// Updates the metrics of the store and of decisions without it.
    pub fn count_store(&self) {
        let EngineSettings { clock, metrics, .. } = &self.decider.settings;
        self.store().count(metrics, clock.now());
    }
}

#[cfg(test)]
pub mod testing;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::testing::{START, bench, bench_on, descriptor};
    use super::verdict::Decided;
    use super::*;
    use crate::answer::{Answer, Status};
    use crate::clock::Clock;
    use crate::policy::{Mode, Unit};
    use crate::store::redis::{Redis, RedisSettings};
    use crate::store::{Fallback, StoreWait};

    #[tokio::test]
    async fn a_refused_request_spends_nothing_anywhere() {
        let policy = "{domain: d, descriptors: [{key: a, limits: [5/day]}, {key: b, limits: [1/day, 9/hour]}]}";
        let bench = bench(policy, ModeSettings::default());
        bench.check(&["a=1", "b=1"], Code::Ok, &[4, 0]).await;
        bench.check(&["a=1", "b=1"], Code::OverLimit, &[4, 0]).await;
        bench.check(&["a=1"], Code::Ok, &[3]).await;
    }

    #[tokio::test]
    async fn a_cascading_limit_is_charged_once_a_request() {
        let policy = "
domain: d
descriptors:
- key: user
  cascade: true
  limits: [3/day]
  descriptors: [{key: op, limits: [9/day]}]";
        let bench = bench(policy, ModeSettings::default());
        bench.check(&["user=1", "user=1,op=r"], Code::Ok, &[2, 2]).await;
        bench.check(&["user=1,other=x"], Code::Ok, &[1]).await;
        bench.check(&["user=1,op=r"], Code::Ok, &[0]).await;
        bench.check(&["user=1,op=w"], Code::OverLimit, &[0]).await;
        bench.check(&["user=2,op=w"], Code::Ok, &[2]).await;
    }

    #[tokio::test]
    async fn descriptors_of_one_path_add_up() {
        let bench =
            bench("{domain: d, descriptors: [{key: a, limits: [3/day]}]}", ModeSettings::default());
        bench.check(&["a=1", "a=1"], Code::Ok, &[1, 1]).await;
        bench.check(&["a=1", "a=1"], Code::OverLimit, &[0, 0]).await;
        bench.check(&["a=1"], Code::Ok, &[0]).await;
    }

    #[tokio::test]
    async fn the_wait_that_a_refusal_tells_is_exact() {
        let policy = "{domain: d, answer: {headers: [retry-after]}, descriptors: [{key: a, limits: [2/minute]}]}";
        let bench = bench(policy, ModeSettings::default());
        bench.check(&["a=1"], Code::Ok, &[1]).await;
        bench.clock.advance(Duration::from_millis(500));
        bench.check(&["a=1"], Code::Ok, &[0]).await;
        let refusal = bench.ask(vec![descriptor("a=1")]).await;
        let wait = refusal.statuses[0].reset.unwrap();
        assert_eq!(refusal.response_headers, [("retry-after".to_owned(), "60".to_owned())]);
        bench.clock.advance(wait - Duration::from_millis(1));
        bench.check(&["a=1"], Code::OverLimit, &[0]).await;
        bench.clock.advance(Duration::from_millis(1));
        bench.check(&["a=1"], Code::Ok, &[0]).await;
    }

    #[tokio::test]
    async fn of_two_limits_brought_along_the_smaller_holds() {
        let bench = bench("{domain: d, descriptors: []}", ModeSettings::default());
        let brought = |amount| {
            let limit = Some(BroughtLimits::Override(Override { amount, unit: Unit::Day }));
            Descriptor { limit, ..descriptor("x=1") }
        };
        let verdict = bench.ask(vec![brought(5), brought(2)]).await;
        let amounts: Vec<_> =
            verdict.statuses.iter().map(|status| status.limit.as_ref().unwrap().amount).collect();
        assert_eq!((verdict.code, amounts), (Code::Ok, vec![2, 2]));
        assert_eq!(bench.ask(vec![brought(5), brought(2)]).await.code, Code::OverLimit);
    }

    #[tokio::test]
    async fn headers_tell_of_the_tightest_limit_or_of_all() {
        let policy = |limits: &str| {
            format!(
                "{{domain: d, answer: {{headers: [ratelimit, ratelimit-legacy, x-ratelimit], limits: {limits}}}, \
                 descriptors: [{{key: a, limits: [{{rate: 9/minute, name: burst}}, 20/day]}}]}}"
            )
        };
        let headers = async |limits: &str| {
            let bench = bench(&policy(limits), ModeSettings::default());
            let verdict = bench.ask(vec![descriptor("a=1")]).await;
            let lines = verdict.response_headers.into_iter();
            lines.map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
        };
        let tightest = headers("tightest").await;
        assert_eq!(
            tightest,
            [
                "ratelimit-policy: \"burst\";q=9;w=60",
                "ratelimit: \"burst\";r=8;t=60",
                "ratelimit-limit: 9",
                "ratelimit-remaining: 8",
                "ratelimit-reset: 60",
                "x-ratelimit-limit: 9",
                "x-ratelimit-remaining: 8",
                "x-ratelimit-reset: 60",
            ]
        );
        let all = headers("all").await;
        assert_eq!(all[0], "ratelimit-policy: \"burst\";q=9;w=60, \"a 20/day\";q=20;w=86400");
        assert_eq!(all[2], "ratelimit-limit: 9, 9;w=60, 20;w=86400");
    }

    /// The remaining hits of a bucket count against its burst, not its rate.
    #[tokio::test]
    async fn a_buckets_quota_is_its_burst() {
        let policy = "
domain: d
answer: {headers: [ratelimit, ratelimit-legacy, x-ratelimit], limits: all, metadata: always}
descriptors: [{key: a, limits: [{rate: 100/minute, name: b, algorithm: token_bucket, burst: 200}]}]";
        let bench = bench(policy, ModeSettings::default());
        let verdict = bench.ask(vec![descriptor("a=1")]).await;
        let lines = verdict.response_headers.iter().map(|(name, value)| format!("{name}: {value}"));
        let lines: Vec<String> = lines.collect();
        for line in [
            "ratelimit-policy: \"b\";q=200;w=60",
            "ratelimit: \"b\";r=199;t=1",
            "ratelimit-limit: 200, 200;w=60",
            "x-ratelimit-limit: 200, 200;w=60",
            "x-ratelimit-remaining: 199",
        ] {
            assert!(lines.iter().any(|known| known == line), "{line}: {lines:?}");
        }
        let status = &verdict.statuses[0];
        assert_eq!((status.limit.as_ref().unwrap().amount, status.remaining), (200, 199));
        let reported = &verdict.metadata.unwrap()["limits"][0];
        let reported = ["amount", "burst", "remaining"].map(|name| reported[name].as_u64());
        assert_eq!(reported, [Some(100), Some(200), Some(199)]);
    }

    #[tokio::test]
    async fn a_refusal_explains_itself_in_body_and_metadata() {
        let policy = "
domain: d
answer: {body: problem}
descriptors: [{key: a, limits: [{rate: 0/day, name: none}], metadata: {plan: gold}}]";
        let bench = bench(policy, ModeSettings::default());
        let verdict = bench.ask(vec![descriptor("a=1")]).await;
        let body: serde_json::Value = serde_json::from_slice(&verdict.body).unwrap();
        assert_eq!(body["violated-policies"], serde_json::json!(["none"]));
        assert!(body["retry_after_ms"].is_null(), "waiting does not help: {body}");
        let metadata = verdict.metadata.unwrap();
        assert_eq!(metadata["limits"][0]["over"], true);
        assert!(!metadata.contains_key("metadata"), "only passing descriptors carry theirs");
    }

    #[tokio::test]
    async fn an_answer_that_tells_no_metadata_tells_none_of_the_rules_either() {
        let policy = |word: &str| {
            format!(
                "{{domain: d, answer: {{metadata: {word}}}, \
                 descriptors: [{{key: a, limits: [1/day], metadata: {{plan: gold}}}}]}}"
            )
        };
        for (word, passed, refused) in
            [("never", false, false), ("refused", true, true), ("always", true, true)]
        {
            let bench = bench(&policy(word), ModeSettings::default());
            for tells in [passed, refused] {
                let verdict = bench.ask_for(&["a=1"]).await;
                assert_eq!(verdict.metadata.is_some(), tells, "{word} {:?}", verdict.code);
            }
        }
    }

    #[tokio::test]
    async fn a_status_that_refuses_has_nothing_remaining_and_comes_before_all_that_have_as_little()
    {
        let policy = "
domain: d
answer: {headers: [ratelimit-legacy]}
descriptors:
- {key: quiet, limits: [{rate: 0/day, mode: shadow}]}
- {key: a, limits: [9/day]}
- {key: b, limits: [5/hour]}";
        let bench = bench(policy, ModeSettings::default());
        let two = |text| Descriptor { hits: Hits::Spend(3), ..descriptor(text) };
        let reported = |verdict: &Answer| -> Vec<(Code, u32, Option<u32>)> {
            let statuses = verdict.statuses.iter();
            let amount = |status: &Status| status.limit.as_ref().map(|limit| limit.amount);
            statuses.map(|status| (status.code, status.remaining, amount(status))).collect()
        };
        let passed = bench.ask(vec![two("quiet=1"), two("a=1"), two("b=1")]).await;
        let (ok, over) = (Code::Ok, Code::OverLimit);
        assert_eq!(reported(&passed), [(ok, 0, Some(0)), (ok, 6, Some(9)), (ok, 2, Some(5))]);
        let refused = bench.ask(vec![two("quiet=1"), two("a=1"), two("b=1")]).await;
        assert_eq!(reported(&refused), [(ok, 0, None), (ok, 6, Some(9)), (over, 0, Some(5))]);
        assert_eq!(refused.response_headers[0], ("ratelimit-limit".to_owned(), "5".to_owned()));
        let refused = bench.ask(vec![two("b=1"), two("quiet=1")]).await;
        assert_eq!(reported(&refused), [(over, 0, Some(5)), (ok, 0, Some(0))]);
    }

    #[tokio::test]
    async fn the_wait_ignores_a_quota_that_is_over_while_another_is_left() {
        let policy = "
domain: d
descriptors:
- {key: day, limits: [{rate: 1/day, mode: quota}]}
- {key: hour, limits: [{rate: 1/hour, mode: quota}]}
- {key: minute, limits: [1/minute]}";
        let bench = bench(policy, ModeSettings::default());
        bench.ask_for(&["day=1", "minute=1"]).await;
        bench.put_in_force(
            &policy.replace("domain: d", "domain: d\nanswer: {headers: [retry-after]}"),
        );
        let retry = async |asks: &[&str]| {
            let verdict = bench.ask_for(asks).await;
            (verdict.code, verdict.response_headers.first().map(|(_, value)| value.clone()))
        };
        let refused = |seconds: &str| (Code::OverLimit, Some(seconds.to_owned()));
        assert_eq!(retry(&["day=1", "hour=1", "minute=1"]).await, refused("60"));
        assert_eq!(retry(&["day=1"]).await, refused("86400"));
        assert_eq!(retry(&["hour=1"]).await.0, Code::Ok);
        assert_eq!(retry(&["day=1", "hour=1"]).await, refused("3600"));
        assert_eq!(retry(&["day=1", "hour=1", "minute=1"]).await, refused("3600"));
    }

    #[tokio::test]
    async fn a_new_policy_keeps_the_counters_of_the_old_one() {
        let bench =
            bench("{domain: d, descriptors: [{key: a, limits: [5/day]}]}", ModeSettings::default());
        bench.check(&["a=1"], Code::Ok, &[4]).await;
        bench.put_in_force("{domain: d, descriptors: [{key: a, limits: [3/day, 7/hour]}]}");
        bench.check(&["a=1"], Code::Ok, &[1]).await;
    }

    #[tokio::test]
    async fn while_the_store_is_out_each_limit_answers_as_it_says() {
        let policy = "
domain: d
descriptors:
- {key: a, limits: [5/day], on_outage: allow}
- {key: b, limits: [5/day], on_outage: deny}
- {key: c, limits: [5/day]}
- {key: d, limits: [{rate: 5/day, mode: shadow}]}
- {key: e, limits: [{rate: 5/day, mode: quota}]}
- {key: f, limits: [5/day], on_outage: local}
- {key: g, limits: [{rate: 5/day, wait: {up_to: 1s}}]}";
        // The connector doesn't run, so the store stays unavailable.
        let (redis, _) = Redis::try_new(&RedisSettings::new("redis://127.0.0.1:1")).unwrap();
        let bench = bench_on(
            AnyStore::redis(redis, Fallback::new(1_000, None)),
            policy,
            ModeSettings::default(),
        );
        bench.check(&["a=1"], Code::Ok, &[5]).await;
        bench.check(&["a=1", "b=1"], Code::OverLimit, &[5, 0]).await;
        // `error` fails the request, unless another limit certainly refuses it.
        bench.check(&["c=1"], Code::Unavailable, &[5]).await;
        bench.check(&["a=1", "c=1", "f=1"], Code::Unavailable, &[5, 5, 5]).await;
        bench.check(&["b=1", "c=1"], Code::OverLimit, &[0, 5]).await;
        bench.check(&["d=1"], Code::Ok, &[5]).await;
        bench.check(&["e=1"], Code::Unavailable, &[5]).await;
        bench.check(&["g=1"], Code::Unavailable, &[5]).await;
        bench.check(&["unlimited=1"], Code::Ok, &[0]).await;
        // The failed requests before have cost it nothing.
        for left in (0..5).rev() {
            bench.check(&["f=1"], Code::Ok, &[left]).await;
        }
        bench.check(&["c=1", "f=1"], Code::OverLimit, &[5, 0]).await;
        for hits in [Hits::Spend(0), Hits::GiveBack(1)] {
            let asked = Descriptor { hits, ..descriptor("c=1") };
            assert_eq!(bench.outcome(vec![asked]).await, (Code::Unavailable, true), "{hits:?}");
        }
        // A peek requests no hits, so nothing is denied.
        let peek = Descriptor { hits: Hits::Spend(0), ..descriptor("b=1") };
        assert_eq!(bench.outcome(vec![peek]).await, (Code::Ok, true));
        // A preview says what a request would be told.
        for (entry, code) in
            [("a=1", Code::Ok), ("b=1", Code::OverLimit), ("c=1", Code::Unavailable)]
        {
            let snapshot = bench.engine.snapshot();
            let request = Request::try_new("d", vec![descriptor(entry)]).unwrap();
            let preview = bench.engine.preview(&snapshot, &request).await;
            assert_eq!(preview.verdict.code(), code, "{entry}");
        }
    }

    #[tokio::test]
    async fn a_process_in_shadow_mode_fails_no_request() {
        let (redis, _) = Redis::try_new(&RedisSettings::new("redis://127.0.0.1:1")).unwrap();
        let store = AnyStore::redis(redis, Fallback::new(1_000, None));
        let modes = ModeSettings { shadow: true, ..ModeSettings::default() };
        let bench = bench_on(store, "{domain: d, descriptors: [{key: a, limits: [5/day]}]}", modes);
        bench.check(&["a=1"], Code::Ok, &[5]).await;
    }

    /// What the settings do not enforce is recorded as if it were: for a caller outside of the part as a warning.
    #[tokio::test]
    async fn a_process_in_shadow_mode_warns_of_what_is_enforced_for_others() {
        let policy = "
domain: d
enforce: 30%
caller: {key: user}
descriptors: [{key: user, limits: [1/day]}]";
        let modes_of_all = async |modes| {
            let (bench, mut all) = (bench(policy, modes), Vec::new());
            for number in 0..40 {
                let user = format!("user=user-{number}");
                let snapshot = bench.engine.snapshot();
                let request = || Request::try_new("d", vec![descriptor(&user)]).unwrap();
                bench.engine.check(&snapshot, &request()).await;
                let second = bench.engine.check(&snapshot, &request()).await.charges()[0].mode;
                all.push(second);
            }
            all
        };
        let enforcing = modes_of_all(ModeSettings::default()).await;
        let shadow = modes_of_all(ModeSettings { shadow: true, quota: false }).await;
        assert_eq!(enforcing, shadow);
        assert!([Mode::Warn, Mode::Enforce].iter().all(|mode| shadow.contains(mode)));
    }

    /// The directory, or its node of a cluster, is unavailable. Then the limits of a caller that isn't in memory are
    /// unknown.
    #[tokio::test]
    async fn an_unknown_caller_of_an_unavailable_directory_is_answered_by_on_outage() {
        let (redis, _) = Redis::try_new(&RedisSettings::new("redis://127.0.0.1:1")).unwrap();
        let (directory, _) = redis.directory(10);
        let lineage = Directory::Redis(directory).lineage("alice", StoreWait::default()).await;
        assert!(lineage.is_incomplete && lineage.members.is_empty());
        let policy = "
domain: d
caller: {key: user}
descriptors:
- {key: user, limits: [5/day]}
- {key: a, limits: [5/day], on_outage: allow}";
        let store = AnyStore::redis(redis, Fallback::new(1_000, None));
        let bench = bench_on(store, policy, ModeSettings::default());
        let snapshot = bench.engine.snapshot();
        let domain = snapshot.policies.domain("d").unwrap();
        for (text, code) in [("user=alice", Code::Unavailable), ("a=1", Code::Ok)] {
            let request = Request::try_new("d", vec![descriptor(text)]).unwrap();
            let caller = CallerContext::new(&domain.classes, &request, (lineage.clone(), START));
            let (modes, now) = (ModeSettings::default(), Clock::manual(START).now());
            let question = Question {
                domain,
                request: &request,
                caller: &caller,
                modes,
                now: now.timestamp(),
            };
            let mut plan = Plan::new(question, None);
            let budget = DeadlineBudget::default();
            budget.exhaust();
            let outcome = bench.engine.decider.charge(&plan.batch, &budget, now).await;
            assert!(outcome.fallback);
            let decided = Decided { outcome: Some(outcome), ..Decided::default() };
            let verdict = Verdict::new(domain, caller, &mut plan, decided);
            assert_eq!(verdict.code(), code, "{text}");
        }
    }
}
