//! Usage of one process, in memory.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use foldhash::fast::RandomState;

use crate::clock::Timestamp;
use crate::engine::DecisionRecord;
use crate::lock::lock;

use super::groups::{Groups, SeriesPlace};
use super::query::{Page, UsageQuery};
use super::rollups::Rollups;
use super::series::SeriesId;

/// Usage of this process since its start. Records are added to fresh sums, which wait for no query; once a second they are
/// collected. The lock of the kept sums is held while they are, and while a query is answered: a few milliseconds, on threads
/// that serve no requests.
#[derive(Debug)]
pub struct UsageMemory {
    since: Timestamp,
    kept: Mutex<Rollups>,
    /// Locked after `kept`, if both are.
    fresh: Mutex<Rollups>,
}

impl UsageMemory {
    /// Empty; counts from then on.
    pub fn new(since: Timestamp) -> Self {
        let (kept, fresh) = (Rollups::kept(since), Rollups::fresh(since));
        Self { since, kept: Mutex::new(kept), fresh: Mutex::new(fresh) }
    }

    /// The time since which it counts.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Requests that were counted so far.
    pub fn requests(&self) -> u64 {
        let kept = lock(&self.kept);
        kept.requests() + lock(&self.fresh).requests()
    }

    /// Adds records.
    pub fn add(&self, records: &[DecisionRecord], now: Timestamp) {
        lock(&self.fresh).add(records, now);
    }

    /// Adds the fresh sums to the kept ones, and returns them.
    pub fn collect(&self, now: Timestamp) -> Rollups {
        let mut kept = lock(&self.kept);
        let collected = std::mem::replace(&mut *lock(&self.fresh), Rollups::fresh(now));
        kept.absorb(&collected, now);
        collected
    }

    /// Adds the counts of callers to the others, and returns their names.
    pub fn erase(&self, is_erased: &dyn Fn(&str) -> bool) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut kept = lock(&self.kept);
        kept.erase(is_erased, &mut names);
        lock(&self.fresh).erase(is_erased, &mut names);
        names
    }

    /// Answers a query. It takes a few milliseconds of CPU.
    pub fn sum(&self, query: &UsageQuery, now: Timestamp) -> Page {
        let granularity = query.granularity;
        let mut groups = Groups::new(Arc::new(query.clone()));
        let kept = lock(&self.kept);
        let fresh = lock(&self.fresh);
        let from = granularity.start(query.from).max(kept.whole_from(granularity, now));
        for rollups in [&*kept, &*fresh] {
            add(rollups, &mut groups, from);
        }
        groups.page(from)
    }
}

/// Adds the rows from a time on to the groups of a query.
fn add(rollups: &Rollups, groups: &mut Groups, from: Timestamp) {
    let mut places: HashMap<SeriesId, Option<SeriesPlace>, RandomState> = HashMap::default();
    let (granularity, to) = (groups.query().granularity, groups.query().to);
    for (start, bucket) in rollups.buckets(granularity, from, to) {
        for (caller, id, counts) in bucket.rows() {
            let series = rollups.series();
            let new = || series.get(id).and_then(|series| groups.series(series));
            let place = *places.entry(id).or_insert_with(new);
            if let Some(place) = place
                && let Some(caller) = groups.caller(caller)
            {
                groups.add(start, (place, caller), counts);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::engine::testing::{Bench, START, descriptor};
    use crate::engine::{Code, Reason, Sink};
    use crate::limit::Hits;
    use crate::metrics::Counter;
    use crate::usage::{Dimension, Granularity, Rank, Total, View};

    const POLICY: &str = "
domain: d
tiers: [free, paid]
caller: { key: user, tier: { key: tier } }
descriptors:
- { key: user, limits: [{ name: daily, rate: 2/day }] }
- { key: shared, limits: [{ name: shared, rate: 100/day }] }
- { key: quiet, limits: [{ name: quiet, rate: 1/day, mode: shadow }] }";

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3_600);
    const DAY: Duration = Duration::from_secs(24 * 3_600);

    struct Counted {
        bench: Bench,
        sink: Arc<Sink>,
        usage: UsageMemory,
    }

    impl Counted {
        fn by(mut bench: Bench) -> Self {
            let sink = Arc::new(Sink::new(Counter::default()));
            bench.engine = bench.engine.with_sink(sink.clone());
            Self { bench, sink, usage: UsageMemory::new(START) }
        }

        fn new(policy: &str) -> Self {
            let bench = Bench::timed(Clock::manual(START));
            bench.put_in_force(policy);
            Self::by(bench)
        }

        /// Sends requests of one hit each, and counts them.
        async fn ask(&self, descriptors: &[&str]) {
            self.bench.ask_for(descriptors).await;
            self.usage.add(&self.drained(), self.now());
            // Sums are the same before and after they are collected.
            if self.usage.requests().is_multiple_of(2) {
                self.usage.collect(self.now());
            }
        }

        fn drained(&self) -> Vec<DecisionRecord> {
            let mut all = Vec::new();
            self.sink.drain(&mut Vec::new(), &mut |records| all.extend_from_slice(records));
            all
        }

        fn now(&self) -> Timestamp {
            self.bench.engine.now()
        }

        /// The groups, with their names joined.
        fn sum(&self, query: &UsageQuery) -> Vec<(String, Total)> {
            let page = self.usage.sum(query, self.now());
            assert!(!page.more);
            let groups = page.groups.into_iter().map(|(group, total)| {
                let names = group.names.iter().map(|name| name.text().unwrap_or("-"));
                let start = group.start.map(|start| start.since(START).as_secs().to_string());
                let parts: Vec<_> = start.as_deref().into_iter().chain(names).collect();
                (parts.join(" "), total)
            });
            groups.collect()
        }

        fn total(&self, query: &UsageQuery) -> Total {
            self.sum(query).into_iter().next().map(|(_, total)| total).unwrap_or_default()
        }

        /// The requests of each group.
        fn requests(&self, query: &UsageQuery) -> Vec<(String, u64)> {
            let sums = self.sum(query).into_iter();
            sums.map(|(names, total)| (names, total.counts.requests)).collect()
        }

        /// The starts with requests, and their number.
        fn starts(&self, granularity: Granularity) -> Vec<(u64, u64)> {
            let query = UsageQuery { by_time: true, ..query(View::Requests, granularity, &[]) };
            let page = self.usage.sum(&query, self.now());
            let start = |start: Option<Timestamp>| start.unwrap().as_ms() / 1_000;
            let groups = page.groups.into_iter();
            groups.map(|(group, total)| (start(group.start), total.counts.requests)).collect()
        }
    }

    fn query(view: View, granularity: Granularity, group_by: &[Dimension]) -> UsageQuery {
        UsageQuery {
            group_by: group_by.to_vec(),
            range: 0..1_000,
            ..UsageQuery::since(view, granularity, Timestamp::default())
        }
    }

    fn edited(record: &DecisionRecord, edit: impl Fn(&mut DecisionRecord)) -> DecisionRecord {
        let mut record = record.clone();
        edit(&mut record);
        record
    }

    fn named(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[tokio::test]
    async fn requests_and_limits_are_summed_once_each_in_every_granularity() {
        let counted = Counted::new(POLICY);
        let ask = &["user=ann,tier=paid", "user=bob,tier=paid", "shared=x", "quiet=x"];
        for _ in 0..3 {
            counted.ask(ask).await;
        }
        counted.ask(&["user=bob"]).await;
        counted.ask(&["nothing=x"]).await;
        for granularity in Granularity::ALL {
            let requests = counted.total(&query(View::Requests, granularity, &[]));
            assert_eq!(requests.counts.requests, 5);
            assert_eq!((requests.allowed, requests.refused, requests.errors), (3, 2, 0));
            assert_eq!(requests.refused_by[0], 2, "{:?} is the first", Reason::OverLimit);
            assert_eq!(requests.counts.shadow_refused, 1);
            assert_eq!(requests.counts.last_at, START);

            let limits = counted.sum(&query(View::Limits, granularity, &[Dimension::Limit]));
            let [(daily, of_daily), (quiet, of_quiet), (shared, of_shared)] = &limits[..] else {
                panic!("{limits:?}")
            };
            assert_eq!([daily, quiet, shared], ["daily", "quiet", "shared"]);
            let reported = |total: &Total| {
                let Total { counts, .. } = total;
                let requests = [counts.requests, total.allowed, total.refused];
                let hits = [counts.hits_spent, counts.hits_refused, counts.hits_shadow_refused];
                (requests, total.refused_elsewhere, hits)
            };
            // Two users are charged for `daily` in each of the first three.
            assert_eq!(reported(of_daily), ([4, 2, 2], 0, [4, 3, 0]));
            assert_eq!(reported(of_shared), ([3, 2, 0], 1, [2, 0, 0]));
            assert_eq!(reported(of_quiet), ([3, 2, 0], 1, [1, 0, 2]));
            assert_eq!(of_quiet.counts.shadow_refused, 1);
        }
        let by = |granularity, dimensions: &[Dimension]| {
            counted.requests(&query(View::Requests, granularity, dimensions))
        };
        let tiers = by(Granularity::Minute, &[Dimension::Domain, Dimension::Tier]);
        assert_eq!(tiers, named(&[("d free", 2), ("d paid", 3)]));
        let codes = by(Granularity::Day, &[Dimension::Code]);
        assert_eq!(codes, named(&[("ok", 3), ("over_limit", 2)]));
        let callers = by(Granularity::Hour, &[Dimension::Caller]);
        assert_eq!(callers, named(&[("-", 1), ("ann", 3), ("bob", 1)]));
        let callers = by(Granularity::Minute, &[Dimension::Caller]);
        assert_eq!(callers, named(&[("-", 5)]), "minutes have no callers");
        let filters = vec![(Dimension::Caller, "ann".to_owned())];
        let of_ann = query(View::Limits, Granularity::Hour, &[Dimension::Limit]);
        let of_ann = UsageQuery { filters, ..of_ann };
        let limits = named(&[("daily", 3), ("quiet", 3), ("shared", 3)]);
        assert_eq!(counted.requests(&of_ann), limits);
    }

    #[tokio::test]
    async fn hits_are_summed_as_asked_and_given_back() {
        let counted = Counted::new(POLICY);
        for hits in [Hits::Spend(7), Hits::Spend(0), Hits::GiveBack(3), Hits::Spend(100)] {
            let mut one = descriptor("shared=x");
            one.hits = hits;
            counted.bench.ask(vec![one]).await;
        }
        counted.usage.add(&counted.drained(), counted.now());
        let total = counted.total(&query(View::Limits, Granularity::Hour, &[]));
        let Total { counts, .. } = total;
        assert_eq!((counts.requests, total.allowed, total.refused), (4, 3, 1));
        assert_eq!((counts.hits_spent, counts.hits_refused, counts.hits_given_back), (7, 100, 3));
    }

    #[tokio::test]
    async fn hits_that_an_overdraft_clips_are_not_spent() {
        let policy = "
domain: d
descriptors: [{ key: shared, limits: [{ name: shared, rate: 10/day, overdraft: clip }] }]";
        let counted = Counted::new(policy);
        for _ in 0..3 {
            let mut one = descriptor("shared=x");
            one.hits = Hits::Spend(7);
            counted.bench.ask(vec![one]).await;
        }
        counted.usage.add(&counted.drained(), counted.now());
        let Total { counts, .. } = counted.total(&query(View::Limits, Granularity::Hour, &[]));
        assert_eq!((counts.requests, counts.hits_spent), (3, 10));
    }

    #[tokio::test]
    async fn a_refused_step_of_a_reservation_is_in_no_sum() {
        let counted = Counted::new(POLICY);
        counted.bench.ask_for(&["shared=x", "user=ann"]).await;
        counted.bench.ask_for(&["user=ann"]).await;
        counted.bench.ask_for(&["user=ann"]).await;
        let refused = counted.drained().pop().unwrap();
        assert_eq!(refused.code, Code::OverLimit);
        let step = edited(&refused, |record| record.is_request = false);
        counted.usage.add(&[step], counted.now());
        for view in [View::Requests, View::Limits, View::Denials] {
            assert_eq!(counted.sum(&query(view, Granularity::Hour, &[])), []);
        }
    }

    #[tokio::test]
    async fn a_settlement_that_another_limit_refuses_is_summed() {
        let priced = format!("{POLICY}\nprices: [{{ price: 2 EUR, per: 1 }}]");
        let counted = Counted::new(&priced);
        counted.bench.ask_for(&["user=ann"]).await;
        counted.bench.ask_for(&["user=ann"]).await;
        counted.bench.ask_for(&["shared=x", "user=ann"]).await;
        let refused = counted.drained().pop().unwrap();
        let settled = edited(&refused, |record| {
            record.is_request = false;
            record.charges[0].counted = true;
        });
        counted.usage.add(&[settled], counted.now());
        let limits = counted.sum(&query(View::Limits, Granularity::Hour, &[Dimension::Limit]));
        let [(shared, total)] = &limits[..] else { panic!("{limits:?}") };
        assert_eq!((&**shared, total.counts.requests, total.counts.hits_spent), ("shared", 0, 1));
        assert_eq!(counted.sum(&query(View::Denials, Granularity::Hour, &[])), []);
        let costs = query(View::Requests, Granularity::Hour, &[]);
        let all = counted.total(&UsageQuery { currency: Some("EUR".to_owned()), ..costs });
        assert_eq!((all.counts.requests, all.refused, all.spend.spent), (0, 0, 2_000_000));
    }

    #[tokio::test]
    async fn a_request_counts_in_the_hour_and_the_day_that_it_was_decided_in() {
        let counted = Counted::new(POLICY);
        let midnight = Granularity::Day.end(START);
        let to_midnight = midnight.since(START);
        counted.bench.clock.advance(to_midnight - Duration::from_millis(1));
        counted.ask(&["shared=x"]).await;
        counted.bench.clock.advance(Duration::from_millis(1));
        counted.ask(&["shared=x"]).await;
        counted.ask(&["shared=x"]).await;
        let at = midnight.as_ms() / 1_000;
        for (granularity, length) in
            [(Granularity::Minute, MINUTE), (Granularity::Hour, HOUR), (Granularity::Day, DAY)]
        {
            let expected = [(at - length.as_secs(), 1), (at, 2)];
            assert_eq!(counted.starts(granularity), expected, "{granularity:?}");
        }
        let range = UsageQuery {
            from: midnight,
            to: midnight.after(SECOND),
            ..query(View::Requests, Granularity::Hour, &[])
        };
        assert_eq!(counted.total(&range).counts.requests, 2);
        let before = UsageQuery { from: Timestamp::default(), to: midnight, ..range };
        assert_eq!(counted.total(&before).counts.requests, 1);
    }

    #[tokio::test]
    async fn old_sums_are_forgotten_and_what_is_left_keeps_its_names() {
        let counted = Counted::new(POLICY);
        // Until the morning of a day.
        counted.bench.clock.advance(3 * HOUR);
        counted.ask(&["user=ann", "quiet=x"]).await;
        counted.bench.clock.advance(3 * HOUR);
        assert_eq!(counted.starts(Granularity::Minute), []);
        counted.ask(&["shared=x"]).await;
        let lens = |counted: &Counted| Granularity::ALL.map(|one| counted.starts(one).len());
        assert_eq!(lens(&counted), [1, 2, 1]);
        counted.bench.clock.advance(3 * DAY);
        counted.ask(&["shared=x"]).await;
        assert_eq!(lens(&counted), [1, 1, 2]);
        // The first day expires, and its series with it.
        counted.bench.clock.advance(29 * DAY);
        counted.ask(&["user=bob,tier=paid"]).await;
        assert_eq!(lens(&counted), [1, 1, 2]);
        let by_limit =
            query(View::Limits, Granularity::Day, &[Dimension::Limit, Dimension::Caller]);
        assert_eq!(counted.requests(&by_limit), named(&[("daily bob", 1), ("shared -", 1)]));
        assert_eq!(counted.usage.requests(), 4);
    }

    #[tokio::test]
    async fn denials_tell_caller_limit_and_reason_the_most_frequent_first() {
        let callers = "callers: { eve: { disabled: true } }";
        let counted = Counted::by(Bench::with_callers(POLICY, callers));
        for _ in 0..4 {
            counted.ask(&["user=ann", "shared=x"]).await;
        }
        for _ in 0..5 {
            counted.ask(&["user=bob"]).await;
            counted.bench.clock.advance(SECOND);
        }
        counted.ask(&["user=eve"]).await;
        let by = [Dimension::Caller, Dimension::Limit, Dimension::Reason];
        let denials =
            UsageQuery { rank: Rank::Refused, ..query(View::Denials, Granularity::Hour, &by) };
        let sums = counted.sum(&denials);
        let reported: Vec<_> =
            sums.iter().map(|(names, total)| (&**names, total.refused)).collect();
        let expected =
            [("bob daily over_limit", 3), ("ann daily over_limit", 2), ("eve - disabled", 1)];
        assert_eq!(reported, expected);
        assert_eq!(sums[0].1.counts.last_at, START.after(4 * SECOND));
        let page = counted.usage.sum(&UsageQuery { range: 1..2, ..denials }, counted.now());
        assert!(page.more && page.groups.len() == 1);
        assert_eq!(page.groups[0].0.names[0].text(), Some("ann"));
    }

    #[tokio::test]
    async fn a_flood_of_callers_loses_no_request_and_no_busy_caller() {
        let counted = Counted::new(POLICY);
        counted.bench.ask_for(&["user=ann"]).await;
        let record = counted.drained().remove(0);
        for round in 0..50 {
            let name = |number: u32| format!("{round}-{number}").into();
            let mut records: Vec<_> = (0..1_000)
                .map(|number| edited(&record, |record| record.caller = Some(name(number))))
                .collect();
            records.extend(vec![record.clone(); 10]);
            counted.usage.add(&records, counted.now());
            counted.usage.collect(counted.now());
        }
        for granularity in [Granularity::Hour, Granularity::Day] {
            let by = query(View::Requests, granularity, &[Dimension::Caller]);
            let by = UsageQuery { rank: Rank::Requests, range: 0..100_000, ..by };
            let callers = counted.requests(&by);
            assert_eq!(callers.iter().map(|(_, count)| count).sum::<u64>(), 50_500);
            assert_eq!((&*callers[0].0, &callers[1]), ("other", &("ann".to_owned(), 500)));
            assert!((50..1_000).contains(&callers.len()), "{}", callers.len());
        }
    }

    #[tokio::test]
    async fn many_limits_shorten_what_is_kept_and_the_answer_tells() {
        let rules: String = (0..600)
            .map(|rule| {
                format!("\n- {{ key: k{rule}, limits: [{{ name: l{rule}, rate: 1/day }}] }}")
            })
            .collect();
        let counted = Counted::new(&format!("domain: d\ndescriptors:{rules}"));
        for rule in 0..600 {
            counted.bench.ask_for(&[&format!("k{rule}=x")]).await;
        }
        let records = counted.drained();
        for minute in 0..20 {
            let at = START.after(minute * MINUTE);
            let records: Vec<_> =
                records.iter().map(|one| edited(one, |record| record.at = at)).collect();
            counted.usage.add(&records, at);
            counted.usage.collect(at);
        }
        counted.bench.clock.advance(19 * MINUTE);
        let starts = counted.starts(Granularity::Minute);
        assert!((10..20).contains(&starts.len()), "{}", starts.len());
        let page =
            counted.usage.sum(&query(View::Requests, Granularity::Minute, &[]), counted.now());
        assert_eq!(page.from.as_ms() / 1_000, starts[0].0);
        let kept = u64::try_from(starts.len()).unwrap();
        assert_eq!(page.groups[0].1.counts.requests, 600 * kept);
        assert_eq!(
            counted.starts(Granularity::Day).iter().map(|(_, count)| count).sum::<u64>(),
            12_000
        );
    }

    #[tokio::test]
    async fn a_record_from_a_wrong_clock_counts_about_now() {
        let counted = Counted::new(POLICY);
        counted.bench.ask_for(&["shared=x"]).await;
        let record = counted.drained().remove(0);
        let now = counted.now();
        for at in [Timestamp::default(), Timestamp::MAX, now.after(SECOND)] {
            counted.usage.add(&[edited(&record, |record| record.at = at)], now);
        }
        let starts = counted.starts(Granularity::Minute);
        let about = Granularity::Minute.start(now).as_ms() / 1_000;
        assert!(starts.iter().all(|(start, _)| start.abs_diff(about) <= 60), "{starts:?}");
        assert_eq!(counted.total(&query(View::Requests, Granularity::Day, &[])).counts.requests, 3);
    }
}
