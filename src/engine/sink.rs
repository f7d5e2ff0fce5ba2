//! The sink: takes records of verdicts to consumers off the data path.
//!
//! A request puts its record into the buffer of its thread; it never waits for a consumer, and wakes none. The consumer
//! takes the buffers 20 times a second. A full buffer drops the record, which is counted.

use std::cell::Cell;
use std::mem;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio::{pin, select};

use crate::lock::lock;
use crate::metrics::Counter;
use crate::policy::AbuseEntrySet;

use super::record::{DecisionRecord, RecordExtras};
use super::verdict::{Code, Verdict};

/// Number of buffers: as many threads add records without contention.
const BUFFERS: usize = 16;

/// Records of one buffer, some 180 bytes each: at 20 drains a second, 80,000 decisions a second of one thread.
const BUFFER_LEN_MAX: usize = 4_096;

/// How often the consumer takes the records.
const DRAIN_INTERVAL: Duration = Duration::from_millis(50);

/// Assigns buffers to threads in turn.
static NEXT_BUFFER: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The index of this thread's buffer, in every sink.
    static BUFFER: Cell<usize> = Cell::new(NEXT_BUFFER.fetch_add(1, Ordering::Relaxed) % BUFFERS);
}

/// Takes records of verdicts, and keeps them until they are drained.
#[derive(Debug)]
pub struct Sink {
    buffers: [Buffer; BUFFERS],
    dropped: Counter,
    wanted: Wanted,
    /// Number of refusals that were considered for the sample.
    considered: AtomicU64,
    /// The entries that alerts about abuse read.
    observed: AtomicU8,
}

/// The records that consumers want. Refusals with an id are always among them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    /// The records of all verdicts.
    pub all: bool,
    /// The share of refusals in the sample, from 0 to 1.
    pub refusals: f64,
}

/// On its own cache line, so that threads don't slow each other down.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Buffer(Mutex<Vec<DecisionRecord>>);

impl Sink {
    /// An empty sink for the records of all verdicts, with the counter of dropped records.
    pub fn new(dropped: Counter) -> Self {
        Self::of(Wanted { all: true, refusals: 0.0 }, dropped)
    }

    /// An empty sink for those records.
    pub fn of(wanted: Wanted, dropped: Counter) -> Self {
        Self {
            buffers: Default::default(),
            dropped,
            wanted,
            considered: AtomicU64::new(0),
            observed: AtomicU8::new(0),
        }
    }

    /// Has records hold these entries of requests, from now on.
    pub fn observe(&self, entries: AbuseEntrySet) {
        self.observed.store(entries.bits(), Ordering::Relaxed);
    }

    /// Takes the record of a verdict if it is wanted. `record` is told what is recorded.
    pub fn see(&self, verdict: &Verdict<'_>, record: impl FnOnce(RecordExtras) -> DecisionRecord) {
        let is_sampled = verdict.code() == Code::OverLimit && self.samples();
        if self.wanted.all || is_sampled || verdict.refusal_id.is_some() {
            let observed = AbuseEntrySet::from_bits(self.observed.load(Ordering::Relaxed));
            self.put(record(RecordExtras { is_sampled, observed }));
        }
    }

    /// Whether the next refusal is in the sample: of any number in a row, the wanted share is.
    fn samples(&self) -> bool {
        let share = self.wanted.refusals;
        if share <= 0.0 {
            return false;
        }
        let before = self.considered.fetch_add(1, Ordering::Relaxed) as f64;
        (before * share).floor() < ((before + 1.0) * share).floor()
    }

    /// Takes a record, or drops it if the buffer of its thread is full.
    pub fn put(&self, record: DecisionRecord) {
        let buffer = &self.buffers[BUFFER.get()];
        let mut records = lock(&buffer.0);
        if records.len() < BUFFER_LEN_MAX {
            records.push(record);
            return;
        }
        drop(records);
        self.dropped.inc();
    }

    /// Passes the records of each buffer to `consume`, those of one thread in order. Pass the same `taken` each time:
    /// its memory is swapped into the buffers, which then need not grow again.
    pub fn drain(
        &self,
        taken: &mut Vec<DecisionRecord>,
        consume: &mut impl FnMut(&[DecisionRecord]),
    ) {
        for buffer in &self.buffers {
            mem::swap(taken, &mut *lock(&buffer.0));
            if !taken.is_empty() {
                consume(taken);
                taken.clear();
            }
        }
    }

    /// Drains until `shutdown`, and then once more.
    pub async fn run(
        &self,
        mut consume: impl FnMut(&[DecisionRecord]),
        shutdown: impl Future<Output = ()>,
    ) {
        let mut ticks = interval(DRAIN_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut taken = Vec::new();
        pin!(shutdown);
        loop {
            select! {
                // When the runtime shuts down, there is no next tick.
                biased;
                () = &mut shutdown => break,
                _ = ticks.tick() => self.drain(&mut taken, &mut consume),
            }
        }
        self.drain(&mut taken, &mut consume);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot;
    use tokio::time::advance;

    use super::*;
    use crate::clock::Clock;
    use crate::engine::Reason;
    use crate::engine::testing::{Bench, START};
    use crate::limit::Hits;

    const POLICY: &str = "
domain: d
tiers: [free, paid]
caller: { key: user, tier: { key: tier } }
descriptors:
- { key: user, limits: [{ name: daily, rate: 1/day }] }
- { key: provider, limits: [5/minute] }";

    fn bench() -> (Bench, Arc<Sink>) {
        let mut bench = Bench::timed(Clock::manual(START));
        let sink = Arc::new(Sink::new(Counter::default()));
        bench.engine = bench.engine.with_sink(sink.clone());
        bench.put_in_force(POLICY);
        (bench, sink)
    }

    fn drained(sink: &Sink) -> Vec<DecisionRecord> {
        let mut all = Vec::new();
        sink.drain(&mut Vec::new(), &mut |records| all.extend_from_slice(records));
        all
    }

    #[tokio::test]
    async fn each_verdict_is_recorded_once_and_outlives_its_policy() {
        let (bench, sink) = bench();
        let ask = &["user=ann,tier=paid", "provider=a"];
        bench.ask_for(ask).await;
        bench.ask_for(ask).await;
        bench.put_in_force("{domain: other, descriptors: []}");
        bench.ask_for(&["user=ann"]).await;
        let records = drained(&sink);
        let shown: Vec<_> = records
            .iter()
            .map(|record| (record.domain(), record.code, record.reason, record.tier()))
            .collect();
        let over = (Some("d"), Code::OverLimit, Some(Reason::OverLimit), Some("paid"));
        assert_eq!(
            shown,
            [(Some("d"), Code::Ok, None, Some("paid")), over, (None, Code::Ok, None, None)]
        );
        assert_eq!(records[1].caller.as_deref(), Some("ann"));
        let limits: Vec<_> =
            records[1].limits().map(|(label, charge)| (label, charge.hits, charge.fits)).collect();
        let hit = Hits::Spend(1);
        assert_eq!(limits, [("daily", hit, false), ("provider 5/minute", hit, true)]);
        assert!(drained(&sink).is_empty(), "each is taken once");
    }

    #[tokio::test]
    async fn a_share_of_the_refusals_is_in_the_sample_with_details() {
        let mut bench = Bench::timed(Clock::manual(START));
        let wanted = Wanted { all: false, refusals: 0.3 };
        let sink = Arc::new(Sink::of(wanted, Counter::default()));
        bench.engine = bench.engine.with_sink(sink.clone());
        bench.put_in_force(POLICY);
        for _ in 0..11 {
            bench.ask_for(&["user=ann", "provider=x"]).await;
        }
        let records = drained(&sink);
        assert_eq!(records.len(), 3, "of ten refusals");
        let details = records[0].refusal().unwrap();
        assert!(details.is_sampled && details.id.is_none());
        let states = details.limits.iter().map(|limit| (limit.amount, limit.quota));
        assert_eq!(states.collect::<Vec<_>>(), [(1, 1), (5, 5)]);
    }

    #[tokio::test]
    async fn a_refusal_with_an_id_is_always_recorded() {
        let mut bench = Bench::timed(Clock::manual(START));
        let wanted = Wanted { all: false, refusals: 0.0 };
        let sink = Arc::new(Sink::of(wanted, Counter::default()));
        bench.engine = bench.engine.with_sink(sink.clone());
        bench.put_in_force(&format!("{POLICY}\nanswer: {{ refusal_id: [header] }}"));
        let ask = || bench.ask_for(&["user=ann"]);
        assert!(ask().await.response_headers.is_empty());
        let refused = ask().await;
        let records = drained(&sink);
        let details = records[0].refusal().unwrap();
        let id = details.id.unwrap().to_string();
        assert_eq!(refused.response_headers, [("x-refusal-id".to_owned(), id)]);
        assert_eq!((records.len(), details.is_sampled), (1, false));
        assert_eq!(details.wait, Some(Duration::from_secs(24 * 3_600)));
    }

    #[tokio::test]
    async fn a_long_name_is_cut() {
        let (bench, sink) = bench();
        let ask = format!("user={}", "é".repeat(10_000));
        bench.ask_for(&[&ask]).await;
        let name = drained(&sink).remove(0).caller.unwrap();
        assert!(!name.is_empty() && name.len() <= crate::policy::NAME_LEN_MAX, "{}", name.len());
    }

    #[tokio::test]
    async fn a_full_buffer_drops_and_counts_and_holds_up_no_request() {
        let (bench, sink) = bench();
        for _ in 0..BUFFER_LEN_MAX + 3 {
            bench.ask_for(&["other=x"]).await;
        }
        assert_eq!(sink.dropped.get(), 3);
        assert_eq!(drained(&sink).len(), BUFFER_LEN_MAX);
        bench.ask_for(&["other=x"]).await;
        assert_eq!((drained(&sink).len(), sink.dropped.get()), (1, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_put_before_the_end_is_consumed() {
        let (bench, sink) = bench();
        let (end, ended) = oneshot::channel::<()>();
        let (counted, count) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::load);
        let consumer = {
            let (sink, counted) = (sink.clone(), counted.clone());
            async move {
                let add = |records: &[DecisionRecord]| {
                    counted.fetch_add(records.len(), Ordering::SeqCst);
                };
                sink.run(add, async { drop(ended.await) }).await;
            }
        };
        let consumer = tokio::spawn(consumer);
        bench.ask_for(&["provider=a"]).await;
        advance(DRAIN_INTERVAL).await;
        tokio::task::yield_now().await;
        assert_eq!(count(&counted, Ordering::SeqCst), 1);
        bench.ask_for(&["provider=a"]).await;
        end.send(()).unwrap();
        consumer.await.unwrap();
        assert_eq!(count(&counted, Ordering::SeqCst), 2);
    }
}
