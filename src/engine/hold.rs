//! Holds a request until there is capacity, if its limits have a `wait`.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::monotonic_now;
use crate::limit::{Fit, Hits};
use crate::metrics::Gauge;
use crate::policy::{Mode, Refused, Wait};
use crate::store::{Batch, Charge, Outcome};

use super::caller::CallerContext;
use super::deadline::DeadlineBudget;
use super::decider::Decider;
use super::fair_queue::Flow;
use super::plan::Plan;
use super::verdict::{Decided, Queued};
use super::wait_queues::{QueueEntry, QueueRef, Turn};

/// A charge whose limit lets requests wait.
#[derive(Clone, Copy, Debug)]
struct Waitable {
    charge: usize,
    wait: Wait,
    queue_id: u64,
}

/// A request that may be held.
pub struct Hold<'h, 'p> {
    pub decider: &'h Decider,
    pub plan: &'h Plan<'p>,
    pub caller: &'h CallerContext<'h>,
    /// The request's budget before it is held.
    pub budget: &'h DeadlineBudget,
}

impl<'h> Hold<'h, '_> {
    /// Asks the store, as soon as there is capacity or when the time to wait is over.
    pub async fn decide(&self) -> Decided {
        let busy = self.waitables().find(|one| self.decider.queues.is_busy(one.queue_id));
        if self.caller.is_paused() {
            return self.paused(busy).await;
        }
        // Requests that already wait ask first.
        let (first, outcome, wait) = match busy {
            Some(first) => (first, None, None),
            None => {
                let outcome = self.charge(&self.plan.batch, self.budget).await;
                match self.bottleneck(&outcome) {
                    Some((first, wait)) if wait <= first.wait.up_to => {
                        (first, Some(outcome), Some(wait))
                    }
                    longer => {
                        let queued =
                            longer.map(|(_, wait)| Queued { position: 1, expected: Some(wait) });
                        return Decided { outcome: Some(outcome), queued, ..Decided::default() };
                    }
                }
            }
        };
        let sharing = &self.decider.settings.metrics.sharing;
        let _waiting = Waiting::new(&sharing.waiting);
        let started = monotonic_now();
        let deadline = started + first.wait.up_to;
        let mut last = outcome;
        let flow = self.flow(last.as_ref());
        let mut decided = match self.join(first, (flow, started), wait) {
            Err(position) => self.refused(last, first, self.queued(first, position)).await,
            Ok(entry) => self.hold((entry, first), &mut last, (started, deadline)).await,
        };
        decided.waited = monotonic_now() - started;
        sharing.wait_duration.observe(decided.waited);
        decided
    }

    /// The answer without a wait, while the queue is paused: at once, and not before those that wait already.
    async fn paused(&self, busy: Option<Waitable>) -> Decided {
        let outcome = match busy {
            Some(first) => {
                let queues = &self.decider.queues;
                let place = queues.len(first.queue_id) + 1;
                self.refused(None, first, self.queued(first, place)).await.outcome
            }
            None => Some(self.charge(&self.plan.batch, self.budget).await),
        };
        Decided { outcome, ..Decided::default() }
    }

    /// Waits in a queue, and asks at the request's turn.
    async fn hold(
        &self,
        (mut entry, mut at): (QueueEntry<'h>, Waitable),
        last: &mut Option<Outcome>,
        (started, deadline): (Instant, Instant),
    ) -> Decided {
        loop {
            if let Turn::Stop { position } = entry.turn(deadline).await {
                let queued = self.queued(at, position);
                drop(entry);
                return self.refused(last.take(), at, queued).await;
            }
            let outcome = self.charge(&self.plan.batch, &self.budget.renewed()).await;
            let Some((next, wait)) = self.bottleneck(&outcome) else {
                if outcome.admitted {
                    entry.serve();
                }
                return Decided { outcome: Some(outcome), ..Decided::default() };
            };
            let flow = self.flow(Some(&outcome));
            *last = Some(outcome);
            if deadline < monotonic_now() + wait {
                // It would never get a turn in time.
                drop(entry);
                return self.refused(last.take(), next, self.queued(next, 1)).await;
            }
            if next.queue_id == at.queue_id {
                entry.ask_after(wait);
                continue;
            }
            // Now another counter has the longest wait.
            at = next;
            drop(entry);
            entry = match self.join(at, (flow, started), Some(wait)) {
                Ok(entry) => entry,
                Err(position) => {
                    return self.refused(last.take(), at, self.queued(at, position)).await;
                }
            };
        }
    }

    async fn charge(&self, batch: &Batch, budget: &DeadlineBudget) -> Outcome {
        self.decider.charge(batch, budget, self.decider.settings.clock.now()).await
    }

    fn join(
        &self,
        at: Waitable,
        (flow, since): (Flow, Instant),
        wait: Option<Duration>,
    ) -> Result<QueueEntry<'h>, usize> {
        let queues = &self.decider.queues;
        let charge = &self.plan.batch.charges[at.charge];
        let key = self.plan.batch.keys[charge.key_index].as_str();
        let counter = queues.counter(key, &charge.limit);
        queues.join(
            QueueRef { id: at.queue_id, counter, len_max: at.wait.queue },
            (flow, since),
            wait,
        )
    }

    /// A refusal of a request that has waited, or could not wait. If the store was not asked because others wait, it is
    /// asked only for the state of the limits.
    async fn refused(&self, last: Option<Outcome>, at: Waitable, queued: Queued) -> Decided {
        let outcome = match last {
            Some(outcome) => outcome,
            None => {
                let mut batch = self.plan.batch.clone();
                for charge in &mut batch.charges {
                    charge.hits = Hits::Spend(0);
                    charge.refused = Refused::Free;
                    charge.reservation = charge.counting();
                }
                let outcome = self.charge(&batch, self.budget).await;
                behind_others(outcome, at.charge, queued.expected)
            }
        };
        Decided { outcome: Some(outcome), queued: Some(queued), ..Decided::default() }
    }

    /// A position, and the expected time of its turn if all requests ahead cost the same: not before the first one
    /// asks, and not faster than the limit's full rate: place x hits x window / amount.
    fn queued(&self, at: Waitable, position: usize) -> Queued {
        let pace = |places: usize| {
            let charge = &self.plan.batch.charges[at.charge];
            let window_ms = u128::from(self.plan.limits[at.charge].window.nominal_ms()?);
            let hits = u128::from(charge.hits.amount());
            let places = u128::try_from(places).unwrap_or(u128::MAX);
            let ms = places.saturating_mul(hits).saturating_mul(window_ms);
            let ms = ms.div_ceil(u128::from(charge.limit.at(self.plan.at).amount().max(1)));
            Some(Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX)))
        };
        let first = self.decider.queues.first_asks_in(at.queue_id);
        let behind = pace(position.saturating_sub(1)).map(|rest| first.saturating_add(rest));
        Queued { position, expected: pace(position).max(behind) }
    }

    fn flow(&self, outcome: Option<&Outcome>) -> Flow {
        let level = outcome.and_then(|outcome| outcome.levels.iter().copied().max());
        let caller = self.caller.name.unwrap_or_default();
        Flow {
            priority: self.caller.priority(level.unwrap_or_default()),
            caller: self.decider.queues.caller(caller),
        }
    }

    /// The charges whose limits have a `wait`, if they spend. Peeks, hits to give back, and hits that count although
    /// they are refused are answered at once. So is a request with booked hits: each question would book them again.
    fn waitables(&self) -> impl Iterator<Item = Waitable> {
        let books = self.plan.batch.charges.iter().any(Charge::is_booked);
        let charges = self.plan.batch.charges.iter().zip(&self.plan.limits).enumerate();
        charges.filter_map(move |(index, (charge, limit))| {
            let spends = matches!(charge.hits, Hits::Spend(1..)) && !charge.is_debit() && !books;
            let wait = limit.wait.filter(|_| charge.mode == Mode::Enforce && spends)?;
            let key = self.plan.batch.keys[charge.key_index].as_str();
            let queue_id = self.decider.queues.id(key, charge);
            Some(Waitable { charge: index, wait, queue_id })
        })
    }

    /// The charge with the longest wait of a refused request, if all refusing limits have a `wait` and waiting helps.
    fn bottleneck(&self, outcome: &Outcome) -> Option<(Waitable, Duration)> {
        if outcome.admitted {
            return None;
        }
        let mut longest: Option<(Waitable, Duration)> = None;
        let charges = self.plan.batch.charges.iter().zip(&outcome.decisions).enumerate();
        for (index, (charge, decision)) in charges {
            let wait = match (charge.mode, decision.fit) {
                (Mode::Warn | Mode::Shadow | Mode::Off, _) | (_, Fit::Now) => continue,
                (Mode::Enforce, Fit::AfterMs(ms)) => Duration::from_millis(ms),
                (Mode::Quota, _) | (_, Fit::Never) => return None,
            };
            let waitable = self.waitables().find(|one| one.charge == index)?;
            if longest.is_none_or(|(_, known)| known < wait) {
                longest = Some((waitable, wait));
            }
        }
        longest
    }
}

/// Counts a request as held until this is dropped, also if it is cancelled.
struct Waiting<'m>(&'m Gauge);

impl<'m> Waiting<'m> {
    fn new(waiting: &'m Gauge) -> Self {
        waiting.inc();
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The outcome for a request that did not ask because others wait before it: refused by the limit of their queue.
fn behind_others(mut outcome: Outcome, charge: usize, expected: Option<Duration>) -> Outcome {
    if !outcome.admitted && outcome.decisions.iter().any(|decision| decision.failed) {
        return outcome;
    }
    outcome.admitted = false;
    if let Some(decision) = outcome.decisions.get_mut(charge) {
        let ms = expected.map(|expected| u64::try_from(expected.as_millis()).unwrap_or(u64::MAX));
        decision.fit = ms.map_or(Fit::Never, Fit::AfterMs);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;
    use std::time::Duration;

    use futures_util::{FutureExt, poll};
    use tokio::time::advance;

    use super::super::testing::{Bench, START, descriptor};
    use super::super::{Code, Descriptor, HitsSource};
    use crate::answer::Answer;
    use crate::clock::Clock;
    use crate::limit::Hits;

    const ONE_A_SECOND: &str = "
domain: d
caller: { key: user, priority: { key: priority } }
descriptors:
- key: shared
  limits: [{ rate: 1/second, wait: { up_to: 2500ms, queue: 3 } }]
- key: user
  limits: [100/day]";

    fn bench() -> Bench {
        let bench = Bench::timed(Clock::runtime(START));
        bench.put_in_force(ONE_A_SECOND);
        bench
    }

    fn waited_ms(answer: &Answer) -> Option<u64> {
        answer.metadata.as_ref()?.get("waited_ms")?.as_u64()
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_held_until_there_is_capacity() {
        let bench = bench();
        let first = bench.ask_for(&["shared=x"]).await;
        assert_eq!((first.code, waited_ms(&first)), (Code::Ok, None));
        advance(Duration::from_millis(300)).await;
        let held = bench.ask_for(&["shared=x"]).await;
        assert_eq!((held.code, waited_ms(&held)), (Code::Ok, Some(700)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_would_wait_too_long_is_refused_at_once() {
        let bench = bench();
        bench.ask_for(&["shared=x"]).await;
        let never = Descriptor { hits: Hits::Spend(2), ..descriptor("shared=x") };
        let refused = bench.ask(vec![never]).await;
        assert_eq!((refused.code, waited_ms(&refused)), (Code::OverLimit, None));
        assert!(refused.metadata.unwrap().get("queue").is_none(), "no wait would help");
        assert_eq!(bench.engine.now(), START, "nobody waited");
    }

    #[tokio::test(start_paused = true)]
    async fn the_highest_priority_comes_first_and_callers_take_turns() {
        let bench = bench();
        bench.ask_for(&["shared=x"]).await;
        let asks = ["user=a,priority=1", "user=a,priority=1", "user=b,priority=4"];
        let mut asks: Vec<_> = asks
            .iter()
            .map(|ask| Box::pin(async { bench.ask_for(&["shared=x", ask]).await }))
            .collect();
        for ask in &mut asks {
            assert!(poll!(ask.as_mut()).is_pending());
        }
        let (mut done, mut verdicts) = (Vec::new(), Vec::new());
        for second in 1..=2 {
            advance(Duration::from_secs(1)).await;
            for (index, ask) in asks.iter_mut().enumerate() {
                if done.iter().any(|(_, known)| *known == index) {
                    continue;
                }
                if let Poll::Ready(verdict) = poll!(ask.as_mut()) {
                    verdicts.push(verdict);
                    done.push((second, index));
                }
            }
        }
        assert_eq!(done, [(1, 2), (2, 0), (2, 1)]);
        assert_eq!((verdicts[0].code, verdicts[1].code), (Code::Ok, Code::Ok));
        // The third's two and a half seconds end before the third second, so it can't pass by waiting.
        let last = verdicts.swap_remove(2);
        assert_eq!((last.code, waited_ms(&last)), (Code::OverLimit, Some(2_000)));
        let queue = &last.metadata.unwrap()["queue"];
        assert_eq!(queue["place"], 1);
        assert_eq!(queue["expected_wait_ms"], 1_000);
    }

    #[tokio::test(start_paused = true)]
    async fn peeks_and_give_backs_are_answered_while_others_wait() {
        let bench = bench();
        bench.ask_for(&["shared=x"]).await;
        let mut held = pin!(bench.ask_for(&["shared=x"]));
        assert!(poll!(held.as_mut()).is_pending());
        for hits in [Hits::Spend(0), Hits::GiveBack(1)] {
            let descriptor = descriptor("shared=x");
            let asked = bench.ask(vec![Descriptor { hits, ..descriptor }]);
            let verdict = asked.now_or_never().expect("it doesn't wait");
            assert_eq!((verdict.code, waited_ms(&verdict)), (Code::Ok, None));
        }
        assert_eq!(held.await.code, Code::Ok);
    }

    /// Each question would count the spent hits once more.
    #[tokio::test(start_paused = true)]
    async fn a_request_whose_debit_counts_is_not_held() {
        let bench = Bench::timed(Clock::runtime(START));
        bench.put_in_force(
            "
domain: d
descriptors:
- { key: tokens, limits: [{ rate: 100/day, overdraft: allow }] }
- { key: shared, limits: [{ rate: 1/second, wait: { up_to: 2500ms, queue: 3 } }] }",
        );
        let debit = |text, hits| {
            let hits_source = HitsSource::Descriptor;
            Descriptor { hits: Hits::Spend(hits), hits_source, ..descriptor(text) }
        };
        bench.ask_for(&["shared=x"]).await;
        let refused = bench.ask(vec![debit("tokens=x", 31), debit("shared=x", 1)]).await;
        assert_eq!((refused.code, bench.engine.now()), (Code::OverLimit, START));
        bench.check(&["tokens=x"], Code::Ok, &[68]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_refused_at_once_reports_the_expected_wait() {
        let bench = bench();
        bench.put_in_force(&ONE_A_SECOND.replace("1/second", "1/minute"));
        bench.ask_for(&["shared=x"]).await;
        let refused = bench.ask_for(&["shared=x"]).now_or_never().expect("nobody waits");
        let metadata = refused.metadata.unwrap();
        assert_eq!(metadata.get("waited_ms"), None);
        assert_eq!(
            metadata["queue"],
            serde_json::json!({ "place": 1, "expected_wait_ms": 60_000 })
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_reserved_is_open_while_lower_tiers_wait() {
        let bench = Bench::timed(Clock::runtime(START));
        bench.put_in_force(
            "
domain: d
tiers: [free, enterprise]
caller: { key: user, tier: { key: tier } }
descriptors:
- key: shared
  limits: [{ rate: 10/second, wait: { up_to: 2s } }]
  capacity: { reserve: { enterprise: 20% } }",
        );
        for _ in 0..8 {
            bench.ask_for(&["shared=x"]).await;
        }
        let mut free = pin!(bench.ask_for(&["shared=x"]));
        assert!(poll!(free.as_mut()).is_pending());
        let mut enterprise = bench.ask_for(&["shared=x,tier=enterprise"]).now_or_never();
        let verdict = enterprise.take().expect("it doesn't wait behind free callers");
        assert_eq!((verdict.code, waited_ms(&verdict)), (Code::Ok, None));
        assert_eq!(free.await.code, Code::Ok);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_and_tells_the_place() {
        let bench = bench();
        bench.ask_for(&["shared=x"]).await;
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(bench.ask_for(&["shared=x"]))).collect();
        for ask in &mut waiting {
            assert!(poll!(ask.as_mut()).is_pending());
        }
        let refused = bench.ask_for(&["shared=x"]).await;
        assert_eq!(refused.code, Code::OverLimit);
        assert_eq!(refused.metadata.unwrap()["queue"]["place"], 4);
        assert_eq!(refused.statuses[0].reset, Some(Duration::from_secs(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_to_expect_is_no_shorter_than_the_firsts() {
        let bench = bench();
        bench.put_in_force(&ONE_A_SECOND.replace("1/second", "10/10s"));
        for _ in 0..10 {
            bench.ask_for(&["shared=x"]).await;
        }
        advance(Duration::from_secs(8)).await;
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(bench.ask_for(&["shared=x"]))).collect();
        for ask in &mut waiting {
            assert!(poll!(ask.as_mut()).is_pending());
        }
        let refused = bench.ask_for(&["shared=x"]).await;
        // The first may pass after two seconds; three more follow, one per second.
        let queue = serde_json::json!({ "place": 4, "expected_wait_ms": 5_000 });
        assert_eq!(refused.metadata.unwrap()["queue"], queue);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_request_costs_nothing_and_leaves_the_queue() {
        let bench = bench();
        bench.ask_for(&["shared=x", "user=a"]).await;
        let mut patient = pin!(bench.ask_for(&["shared=x", "user=a"]));
        {
            let mut impatient = Box::pin(bench.ask_for(&["shared=x", "user=b"]));
            assert!(poll!(impatient.as_mut()).is_pending());
            assert!(poll!(patient.as_mut()).is_pending());
        }
        let verdict = patient.await;
        assert_eq!((verdict.code, waited_ms(&verdict)), (Code::Ok, Some(1_000)));
        let left = bench.ask_for(&["user=b"]).now_or_never().unwrap();
        assert_eq!(left.statuses[0].remaining, 99);
        assert!(!bench.engine.decider.queues.is_busy_anywhere(), "queues go with those who waited");
    }
}
