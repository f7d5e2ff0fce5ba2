//! A store that several sidecars share, with the layers of a sidecar in front of it: the local cache
//! (`local_cache/`), the split by shard, refunds, and decisions while the store is unavailable (`fallback/`).

mod extension;
mod parts;
mod sharded_batch;
mod refunds;
#[cfg(test)]
mod simulation;
mod undos;
mod unspent;
mod with_fallback;

use futures_util::future::{self, join_all};
use smallvec::SmallVec;

use super::local_cache::LocalCache;
use super::{Arrival, Batch, Fallback, INLINE_CAP, Notice, Outcome, Store, StoreWait};
use crate::clock::Now;
use crate::policy::Key;

use parts::settle_parts;
use refunds::{Overcharge, Refunded, Refunds, refund_batch};
use sharded_batch::{ShardBatch, join};
use undos::Undos;
use unspent::Unspent;
pub use with_fallback::StoreAnswer;
use with_fallback::WithFallback;

/// How often refunds are sent at the end.
const REFUND_ROUNDS_AT_END: usize = 16;

/// A store that several sidecars share, with the layers of this sidecar in front of it.
#[derive(Debug)]
pub struct Shared<S> {
    inner: WithFallback<S>,
    /// Hits that shards charged for requests that other shards refused.
    refunds: Refunds,
    /// The same for charges with idempotency keys.
    undos: Undos,
}

/// A request with charges on several shards.
struct ShardedRequest<'b> {
    batch: &'b Batch,
    shards: Vec<ShardBatch>,
    arrival: Arrival,
}

impl<S: Store> Shared<S> {
    /// The layers in front of a store. A batch passes them in this order: the split by shard, the fallback, the local
    /// cache, the store.
    pub fn new(store: S, fallback: Fallback) -> Self {
        Self::sharded(WithFallback::new(LocalCache::new(store), fallback))
    }

    fn sharded(inner: WithFallback<S>) -> Self {
        Self { inner, refunds: Refunds::new(), undos: Undos::default() }
    }

    /// The store itself.
    pub fn store(&self) -> &S {
        self.local_cache().store()
    }

    /// The layer in front of the store.
    pub fn local_cache(&self) -> &LocalCache<S> {
        &self.inner.local_cache
    }

    /// The fallback, which decides while the store is unavailable.
    pub fn fallback(&self) -> &Fallback {
        &self.inner.fallback
    }

    /// Decides a batch by the local cache; None if that is not possible.
    pub fn answer(&self, batch: &Batch, now: Now) -> Option<Outcome> {
        self.local_cache().answer(batch, now)
    }

    /// Asks the store to decide a batch without a [`Shared::answer`], for a request that has already waited for it. If
    /// it can't, `on_outage` decides.
    pub async fn ask(&self, batch: &Batch, now: Now, wait: StoreWait) -> StoreAnswer {
        match ShardBatch::split(batch, |key| self.store().shard_of(key)) {
            None => self.inner.ask(batch, Arrival::after(now, wait)).await,
            // Boxed, because it is large.
            Some(mut shards) => {
                let attempt = self.undos.attempt();
                shards.iter_mut().for_each(|shard| shard.attempt(attempt));
                let arrival = Arrival::after(now, wait);
                Box::pin(self.ask_shards(ShardedRequest { batch, shards, arrival })).await
            }
        }
    }

    /// Decides a batch without the store, by `on_outage`.
    pub fn decide_alone(&self, batch: &Batch, now: Now) -> Outcome {
        self.inner.decide_alone(batch, now)
    }

    /// Asks the shards of the store to decide a request, in stages: extensions that would be refused, cached refusals, then the decision of each shard,
    /// and finally the steps that depend on the joined decision.
    async fn ask_shards(&self, mut request: ShardedRequest<'_>) -> StoreAnswer {
        if let Some(refused) = self.refused_extension(&request).await {
            return refused;
        }
        self.apply_known_refusals(&mut request);
        let mut answers = self.decide_shards(&mut request).await;
        let error = answers.iter_mut().find_map(|answer| answer.error.take());
        let outcomes: Vec<Outcome> = answers.into_iter().map(|answer| answer.outcome).collect();
        let mut joined = join(request.batch, &request.shards, &outcomes);
        match joined.admitted {
            true => self.return_surplus(&request, &outcomes, &mut joined).await,
            false => self.refund_shards(&request, &outcomes, &mut joined).await,
        }
        self.give_back(&request, &mut joined).await;
        StoreAnswer { outcome: joined, error }
    }

    /// If one shard has a cached refusal, the others are only read.
    fn apply_known_refusals(&self, request: &mut ShardedRequest<'_>) {
        let (shards, now) = (&mut request.shards, request.arrival.now);
        for shard in shards.iter_mut() {
            shard.refusal = self.local_cache().refusal(&shard.batch, now);
        }
        if shards.iter().any(|shard| shard.refusal.is_some()) {
            self.local_cache().count_refusal();
            let others = shards.iter_mut().filter(|shard| shard.refusal.is_none());
            others.for_each(|shard| shard.batch.look());
        }
    }

    /// The decisions of the shards, in the order of their decisions: shards that depend on the level of a gauge on
    /// another shard come after it.
    async fn decide_shards(&self, request: &mut ShardedRequest<'_>) -> Vec<StoreAnswer> {
        let (shards, arrival) = (&mut request.shards, request.arrival);
        shards.sort_by_key(|shard| !shard.is_first());
        let first = shards.partition_point(ShardBatch::is_first);
        let (first, others) = shards.split_at_mut(first);
        let ask = |shard: &ShardBatch| {
            self.ask_shard(shard.refusal.clone(), shard.batch.clone(), arrival)
        };
        let mut answers = join_all(first.iter().map(ask)).await;
        let level = |gauge: usize| {
            let mut decided = first.iter().zip(&answers);
            decided.find_map(|(shard, answer)| shard.level(gauge, &answer.outcome)).unwrap_or(0)
        };
        others.iter_mut().for_each(|shard| shard.follow(level));
        answers.extend(join_all(others.iter().map(ask)).await);
        answers
    }

    /// Gives back the hits of a request that passes, or that count although it is refused.
    async fn give_back(&self, request: &ShardedRequest<'_>, joined: &mut Outcome) {
        let batch = request.batch;
        let with_back = request.shards.iter().map(|shard| (shard, shard.give_backs(batch, joined)));
        let (shards, back): (Vec<&ShardBatch>, Vec<Batch>) =
            with_back.filter(|(_, back)| !back.charges.is_empty()).unzip();
        let ask = |back: Batch| self.ask_shard(None, back, request.arrival);
        let answers = join_all(back.into_iter().map(ask)).await;
        for (shard, answer) in shards.into_iter().zip(answers) {
            shard.record_give_backs(batch, &answer.outcome, joined);
        }
    }

    /// Gives back what shards took that other shards have less of, of hits that may be taken in part.
    async fn return_surplus(
        &self,
        request: &ShardedRequest<'_>,
        outcomes: &[Outcome],
        joined: &mut Outcome,
    ) {
        let surplus = settle_parts(request.batch, joined);
        if surplus.is_empty() {
            return;
        }
        let surplus = surplus.as_slice();
        let decided = || request.shards.iter().zip(outcomes);
        let returning = decided().map(|(shard, outcome)| {
            async move {
                let unspent = shard.surplus(outcome, surplus);
                // The mark of the charge stays.
                let overcharges = shard.overcharges(outcome, &unspent).map(|(key, mut all)| {
                    all.iter_mut().for_each(|one| one.undo = None);
                    (key, all)
                });
                let by_fallback = outcome.fallback;
                let refunded = self.refund(overcharges, by_fallback, request.arrival).await;
                let crossings = shard.crossings(outcome, &unspent).filter(|_| !by_fallback);
                let told = match crossings {
                    Some((batch, indexes)) => {
                        Some((self.inner.ask(&batch, request.arrival).await.outcome, indexes))
                    }
                    None => None,
                };
                (unspent, refunded, told)
            }
        });
        let returned = join_all(returning).await;
        for ((shard, outcome), (unspent, refunded, told)) in decided().zip(returned) {
            // What remains was told when the parts were settled.
            shard.unspend((outcome, &unspent), &refunded, joined);
            let Some((told, indexes)) = told else { continue };
            for notice in &told.notices {
                let Some(index) = indexes.get(notice.charge) else { continue };
                Notice::of_charge(&mut joined.notices, *index).crossed = notice.crossed;
            }
        }
        joined.notices.retain(|notice| *notice != Notice::of(notice.charge));
        joined.notices.sort_unstable_by_key(|notice| notice.charge);
    }

    /// Refunds the charges of shards for a request that is refused.
    async fn refund_shards(
        &self,
        request: &ShardedRequest<'_>,
        outcomes: &[Outcome],
        joined: &mut Outcome,
    ) {
        let decided = || request.shards.iter().zip(outcomes);
        let spent: Vec<Unspent> =
            decided().map(|(shard, outcome)| shard.spent(outcome, joined)).collect();
        let refunding = decided().zip(&spent).map(|((shard, outcome), spent)| {
            let overcharges = shard.overcharges(outcome, spent);
            self.refund(overcharges, outcome.fallback, request.arrival)
        });
        let refunded = join_all(refunding).await;
        for (((shard, outcome), spent), refunded) in decided().zip(&spent).zip(refunded) {
            shard.unspend((outcome, spent), &refunded, joined);
        }
    }

    async fn ask_shard(
        &self,
        known: Option<Outcome>,
        batch: Batch,
        arrival: Arrival,
    ) -> StoreAnswer {
        match known.or_else(|| self.local_cache().answer_part(&batch, arrival.now)) {
            Some(outcome) => StoreAnswer { outcome, error: None },
            None => self.inner.ask(&batch, arrival).await,
        }
    }

    /// Refunds charges of a shard that the request does not get; the fallback, if that decided. Refunds are added before
    /// anything is sent, so they are made even if the request is cancelled.
    async fn refund<'k>(
        &self,
        overcharges: impl Iterator<Item = (&'k Key, Vec<Overcharge>)>,
        by_fallback: bool,
        arrival: Arrival,
    ) -> Vec<Refunded> {
        let mut keys: SmallVec<[&Key; INLINE_CAP]> = SmallVec::new();
        let mut undos: SmallVec<[u64; INLINE_CAP]> = SmallVec::new();
        let mut refunded = Vec::new();
        for (key, mut overcharges) in overcharges {
            if by_fallback {
                let refund = refund_batch(key.clone(), overcharges);
                let taken = self.inner.decide_alone(&refund, arrival.now);
                refunded.push((refund, taken));
                continue;
            }
            let marked = overcharges.extract_if(.., |overcharge| overcharge.undo.is_some());
            let marked: Vec<Overcharge> = marked.collect();
            if !marked.is_empty() {
                undos.extend(self.undos.add(key, marked));
            }
            if !overcharges.is_empty() {
                self.refunds.add(key, overcharges);
                keys.push(key);
            }
        }
        let cache = self.local_cache();
        let sending = keys.into_iter();
        let sending = sending.map(|key| self.refunds.give_back(cache, key, arrival));
        let undoing = undos.into_iter().map(|number| self.undos.send(cache, number, arrival));
        let (refunds, undone) = future::join(join_all(sending), join_all(undoing)).await;
        for refund in refunds.into_iter().flatten().chain(undone.into_iter().flatten()) {
            self.learn_refunded(&refund, arrival.now);
            refunded.push(refund);
        }
        refunded
    }

    /// Stores the state of limits after a refund.
    fn learn_refunded(&self, (batch, outcome): &Refunded, now: Now) {
        self.inner.learn(batch, outcome, now);
    }

    /// Sends the remaining refunds.
    async fn send_refunds(&self, now: Now) {
        let mut refunded = self.refunds.maintain(self.local_cache(), now).await;
        refunded.extend(self.undos.maintain(self.local_cache(), now).await);
        refunded.iter().for_each(|refund| self.learn_refunded(refund, now));
    }

    /// Maintenance between requests: pays debts if the store is available, sends refunds, and gives back leases that
    /// have ended. Must be called a few times a second.
    pub async fn maintain(&self, now: Now) {
        self.inner.pay_debts(now).await;
        self.inner.count_sidecars();
        self.send_refunds(now).await;
        self.local_cache().maintain(now).await;
    }

    /// Completes pending work before the shutdown, after the last request.
    pub async fn close(&self, now: Now) {
        self.inner.pay_debts(now).await;
        for _ in 0..REFUND_ROUNDS_AT_END {
            if !self.refunds.is_empty() || !self.undos.is_empty() {
                self.send_refunds(now).await;
            }
        }
        self.local_cache().close(now).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::FutureExt;

    use super::*;
    use crate::clock::Timestamp;
    use crate::limit::{Algorithm, Bonus, Bucket, Fixed, Hits, Limit, Overdraft, Sliding};
    use crate::policy::OnOutage;
    use crate::store::embedded::Memory;
    use crate::store::{Charge, Reservation, StoreError};

    const NOW: Now = Now::Given(Timestamp::from_ms(1_750_000_000_000));

    /// A store of two shards; one has the keys that end in `c`. Until `takes_back`, it takes no hits back.
    struct TwoShards {
        memory: Memory,
        takes_back: AtomicBool,
    }

    impl Store for TwoShards {
        async fn charge_after(
            &self,
            batch: &Batch,
            now: Now,
            _wait: StoreWait,
        ) -> Result<Outcome, StoreError> {
            let comes_back = |charge: &Charge| matches!(charge.hits, Hits::GiveBack(_));
            if batch.charges.iter().any(comes_back) && !self.takes_back.load(Ordering::Relaxed) {
                return pending().await;
            }
            Ok(self.memory.charge_at(batch, now.timestamp()))
        }

        fn shard_of(&self, key: &Key) -> u32 {
            u32::from(key.as_str().ends_with('c'))
        }

        fn is_healthy(&self) -> bool {
            true
        }

        fn sidecars(&self) -> u32 {
            1
        }
    }

    #[tokio::test]
    async fn overcharges_are_refunded_although_the_request_was_cancelled() {
        let store = TwoShards { memory: Memory::new(1_000), takes_back: AtomicBool::new(false) };
        let shared = Shared::new(store, Fallback::new(1_000, None));
        let limits = [5, 5, 0].map(|amount| Arc::new(Limit::new(amount, Algorithm::Total)));
        let mut batch = Batch::default();
        for (name, limit) in ["a", "b", "c"].into_iter().zip(&limits) {
            let key_index = batch.key_index(Key::of_domain(name));
            batch.charges.push(Charge::plain(key_index, limit.clone(), Hits::Spend(1)));
        }
        let asked = shared.ask(&batch, NOW, StoreWait::default()).now_or_never();
        assert!(asked.is_none(), "it waits for what it gives back");
        let used = || {
            let keys = batch.keys.iter().zip(&limits);
            keys.map(|(key, limit)| shared.store().memory.used(key, limit, NOW.timestamp()))
                .collect::<Vec<_>>()
        };
        assert_eq!(used(), [1, 1, 0]);
        shared.store().takes_back.store(true, Ordering::Relaxed);
        shared.maintain(NOW).await;
        assert_eq!(used(), [0, 0, 0]);
    }

    /// Of requests that were refused one after the other, before the first was given back.
    #[tokio::test]
    async fn all_hits_come_back_to_a_bucket_together() {
        let store = TwoShards { memory: Memory::new(1_000), takes_back: AtomicBool::new(false) };
        let shared = Shared::new(store, Fallback::new(1_000, None));
        let bucket = Algorithm::Bucket(Bucket::new(10, 60_000, 10).unwrap());
        let limit = Arc::new(Limit::new(10, bucket));
        let at = |ms| Now::Given(NOW.timestamp().after(Duration::from_millis(ms)));
        let mut batch = Batch::default();
        let key_index = batch.key_index(Key::of_domain("a"));
        batch.charges.push(Charge::plain(key_index, limit.clone(), Hits::Spend(2)));
        let key_index = batch.key_index(Key::of_domain("c"));
        let nothing = Arc::new(Limit::new(0, Algorithm::Total));
        // A refusal of a caller with a bonus is not cached.
        let bonuses = vec![Bonus::new("none", 0, at(1_000_000).timestamp())];
        let plain = Charge::plain(key_index, nothing, Hits::Spend(1));
        batch.charges.push(Charge { group: 1, bonuses, ..plain });
        for ms in [0, 6_000, 6_000, 6_000] {
            assert!(shared.ask(&batch, at(ms), StoreWait::default()).now_or_never().is_none());
        }
        let used = |ms| {
            let (memory, now) = (&shared.store().memory, at(ms).timestamp());
            memory.used(&batch.keys[0], &limit, now)
        };
        assert_eq!(used(6_000), 7, "one was refilled");
        shared.store().takes_back.store(true, Ordering::Relaxed);
        // The first one had been sent by then, the others come back together.
        shared.maintain(at(6_000)).await;
        assert_eq!(used(6_000), 6);
        shared.maintain(at(6_000)).await;
        assert_eq!(used(6_000), 0);
    }

    /// As with a store of one shard.
    #[tokio::test]
    async fn a_refusal_tells_how_limits_stand_as_if_nothing_had_been_spent() {
        let sliding = Algorithm::Sliding(Sliding::new(60_000, 10));
        let bucket = Algorithm::Bucket(Bucket::new(10, 60_000, 10).unwrap());
        let fixed = Algorithm::Fixed(Fixed::new(60_000));
        for algorithm in [sliding, bucket, fixed, Algorithm::Total] {
            for (overdraft, spent) in [
                (Overdraft::None, 0),
                (Overdraft::None, 4),
                (Overdraft::Allow, 0),
                (Overdraft::Allow, 9),
            ] {
                let limit = Arc::new(Limit::new(10, algorithm.clone()).overdrawn(overdraft));
                let nothing = Arc::new(Limit::new(0, Algorithm::Total));
                let ask = |name, limit: &Arc<Limit>, hits| {
                    let plain = Charge::plain(0, limit.clone(), hits);
                    let charge = Charge { on_outage: OnOutage::Local, ..plain };
                    let keys = std::iter::once(Key::of_domain(name)).collect();
                    Batch { keys, charges: std::iter::once(charge).collect(), gauges: Vec::new() }
                };
                let mut refused = ask("a", &limit, Hits::Spend(2));
                let key_index = refused.key_index(Key::of_domain("c"));
                refused
                    .charges
                    .push(Charge { group: 1, ..Charge::plain(key_index, nothing, Hits::Spend(1)) });
                let whole = Memory::new(10);
                let store =
                    TwoShards { memory: Memory::new(10), takes_back: AtomicBool::new(true) };
                let shared = Shared::new(store, Fallback::new(10, Some(1)));
                let before = ask("a", &limit, Hits::Spend(spent));
                whole.charge_at(&before, NOW.timestamp());
                shared.ask(&before, NOW, StoreWait::default()).await;
                let later = Now::Given(NOW.timestamp().after(Duration::from_millis(1_500)));
                let expected = whole.charge_at(&refused, later.timestamp());
                let asked = shared.ask(&refused, later, StoreWait::default()).await.outcome;
                let name = format!("{algorithm} {overdraft:?} {spent}");
                assert_eq!(asked.decisions, expected.decisions, "{name}");
                // The state for an outage is the same too.
                let peek = ask("a", &limit, Hits::Spend(0));
                let left = |outcome: Outcome| outcome.decisions[0].standing.remaining;
                let alone = left(shared.decide_alone(&peek, later));
                assert_eq!(alone, left(whole.charge_at(&peek, later.timestamp())), "{name}");
            }
        }
    }

    /// A limit on one shard, and one on another that refuses, or has fewer hits: both are as with a store of one shard, to
    /// the last report, then and later.
    #[tokio::test]
    async fn hits_that_come_back_leave_nothing_behind() {
        let sliding = Algorithm::Sliding(Sliding::new(60_000, 10));
        let bucket = Algorithm::Bucket(Bucket::new(10, 60_000, 10).unwrap());
        let fixed = Algorithm::Fixed(Fixed::new(60_000));
        let limits = [sliding, bucket, fixed, Algorithm::Total];
        let limits = limits.into_iter().flat_map(|algorithm| {
            let limit = Limit::new(10, algorithm).with_thresholds([10, 50, 80, 100, 110].into());
            let overdrawn = [Overdraft::None, Overdraft::Allow, Overdraft::Clip]
                .map(|overdraft| limit.clone().overdrawn(overdraft));
            overdrawn.into_iter().chain([limit.with_grace(50, 30_000)])
        });
        for limit in limits.map(Arc::new) {
            for (spent, asked) in [(0, 3), (4, 9), (4, 30), (9, 14), (13, 3), (20, 5)] {
                for others in 0..6 {
                    check_back(&limit, (spent, asked, others)).await;
                }
            }
        }
    }

    async fn check_back(limit: &Arc<Limit>, (spent, asked, others): (u64, u64, u64)) {
        let whole = Memory::new(10);
        let store = TwoShards { memory: Memory::new(10), takes_back: AtomicBool::new(true) };
        let shared = Shared::new(store, Fallback::new(10, Some(1)));
        let at = |ms| Now::Given(NOW.timestamp().after(Duration::from_millis(ms)));
        let until = |ms| at(ms).timestamp();
        let [first, second] = [("first", 5, 300_000), ("second", 7, 400_000)]
            .map(|(id, hits, ms)| Bonus::new(id, hits, until(ms)));
        let other = Arc::new(Limit::new(others, Algorithm::Total));
        let ask = |hits, of_other: Option<u64>, part| {
            let mut batch = Batch::default();
            let key_index = batch.key_index(Key::of_domain("a"));
            let bonuses = vec![first.clone(), second.clone()];
            let plain = Charge::plain(key_index, limit.clone(), hits);
            batch.charges.push(Charge { bonuses, part, ..plain });
            if let Some(hits) = of_other {
                let key_index = batch.key_index(Key::of_domain("c"));
                let plain = Charge::plain(key_index, other.clone(), Hits::Spend(hits));
                batch.charges.push(Charge { group: 1, part, ..plain });
            }
            batch
        };
        let asked = match limit.overdraft() {
            // All are taken of one that may be overdrawn, so that the other one refuses.
            Overdraft::None => ask(Hits::Spend(asked), Some(asked), 1),
            _ => ask(Hits::Spend(asked), Some(6), 0),
        };
        let peek = || ask(Hits::Spend(0), None, 0);
        let steps = [
            (0, ask(Hits::Spend(spent.min(10)), None, 0)),
            (30_500, ask(Hits::Spend(spent.saturating_sub(10)), None, 0)),
            // Some of the limit has come back by then, and bonuses are spent.
            (61_000, asked),
            (61_000, peek()),
            (61_500, ask(Hits::Spend(1), None, 0)),
            (62_000, ask(Hits::GiveBack(8), None, 0)),
            (62_000, ask(Hits::Spend(11), None, 1)),
            (92_500, ask(Hits::Spend(2), None, 1)),
            (200_000, ask(Hits::Spend(9), None, 1)),
        ];
        for (step, (ms, batch)) in steps.into_iter().enumerate() {
            let expected = whole.charge_at(&batch, at(ms).timestamp());
            let outcome = shared.ask(&batch, at(ms), StoreWait::default()).await.outcome;
            let tell = || format!("{limit} {spent} {others}, step {step} of {batch:#?}");
            assert_eq!(outcome.decisions, expected.decisions, "{}", tell());
            assert_eq!(outcome.notices, expected.notices, "{}", tell());
        }
    }

    /// Hits of `c` have lapsed when those of `a` are to be extended.
    #[tokio::test]
    async fn an_extension_that_one_shard_refuses_extends_nothing_on_the_others() {
        let store = TwoShards { memory: Memory::new(10), takes_back: AtomicBool::new(true) };
        let shared = Shared::new(store, Fallback::new(10, Some(1)));
        let at = |ms| Now::Given(NOW.timestamp().after(Duration::from_millis(ms)));
        let limit = Arc::new(Limit::new(9, Algorithm::Total));
        let step = |names: &[&str], step: Reservation, hits| {
            let mut batch = Batch::default();
            for name in names {
                let key_index = batch.key_index(Key::of_domain(name));
                let plain = Charge::plain(key_index, limit.clone(), Hits::Spend(hits));
                batch.charges.push(Charge { reservation: Some(Box::new(step)), ..plain });
            }
            batch
        };
        let hold = |life_ms| Reservation::Hold { id: 1, life_ms };
        let extend = step(&["a", "c"], Reservation::Extend { id: 1, life_ms: 5_000 }, 0);
        let peek = step(&["a"], Reservation::Count, 0);
        let ask =
            async |batch: &Batch, ms| shared.ask(batch, at(ms), StoreWait::default()).await.outcome;
        let left = |outcome: Outcome| outcome.decisions[0].standing.remaining;
        assert!(ask(&step(&["a", "c"], hold(1_000), 4), 0).await.admitted);
        assert!(ask(&extend, 100).await.admitted);
        assert_eq!(left(ask(&peek, 5_099).await), 5);
        assert_eq!(left(ask(&peek, 5_100).await), 9, "both have lapsed");
        assert!(ask(&step(&["a"], hold(2_000), 4), 6_000).await.admitted);
        assert!(ask(&step(&["c"], hold(1_000), 4), 6_000).await.admitted);
        assert!(!ask(&extend, 7_500).await.admitted);
        assert_eq!(left(ask(&peek, 7_999).await), 5);
        assert_eq!(left(ask(&peek, 8_000).await), 9, "it was not extended");
    }

    #[tokio::test]
    async fn hits_given_back_beside_another_shard_are_reported_as_they_stand_then() {
        let store = TwoShards { memory: Memory::new(10), takes_back: AtomicBool::new(true) };
        let shared = Shared::new(store, Fallback::new(10, Some(1)));
        let limit = Arc::new(Limit::new(5, Algorithm::Total));
        let mut batch = Batch::default();
        for (group, (name, hits)) in
            [("a", Hits::Spend(3)), ("c", Hits::Spend(1))].into_iter().enumerate()
        {
            let key_index = batch.key_index(Key::of_domain(name));
            let plain = Charge::plain(key_index, limit.clone(), hits);
            batch.charges.push(Charge { group, ..plain });
        }
        let left = |outcome: Outcome| {
            outcome.decisions.iter().map(|one| one.standing.remaining).collect::<Vec<_>>()
        };
        assert_eq!(left(shared.ask(&batch, NOW, StoreWait::default()).await.outcome), [2, 4]);
        batch.charges[0].hits = Hits::GiveBack(2);
        assert_eq!(left(shared.ask(&batch, NOW, StoreWait::default()).await.outcome), [4, 3]);
    }
}
