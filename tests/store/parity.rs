//! Rust and Lua agree: the embedded store and Redis answer the same to the same history.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use smallvec::SmallVec;
use tollgate::clock::{Now, Timestamp};
use tollgate::limit::{
    Bonus, CalendarUnit, Crossed, Fit, Hits, Limit, Overdraft, Recurrence, THRESHOLDS_MAX,
};
use tollgate::policy::{Mode, Refused, RetryId};
use tollgate::store::embedded::Memory;
use tollgate::store::{
    Amends, Batch, Charge, Gauge, IdempotencyMark, IdempotencyToken, LEVELS_MAX, Mark, Once, Open,
    Pressed, Reservation, Store,
};

use crate::support::batch::{START_MS, bucket, calendar, fixed, key, on_schedule, sliding, total};
use crate::support::random_seed;
use crate::support::redis::{Connected, Server};

const HISTORIES: usize = 200;
const PROMISES: usize = 1_000;
const REQUESTS: usize = 60;
const LIMITS: usize = 6;
const KEYS: usize = 3;

/// What was drawn for one history.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) limits: Vec<Arc<Limit>>,
    /// Marks of the gauge of each key.
    gauges: Vec<Vec<Measure>>,
    pub(super) requests: Vec<Request>,
}

/// A mark by the use of one of the limits, its points in thousandths of the capacity.
#[derive(Clone, Debug)]
struct Measure {
    limit: usize,
    level: u8,
    rise: u64,
    fall: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    /// Milliseconds since the one before.
    pub(super) step_ms: i64,
    charges: Vec<Asked>,
    /// Whether it looks at gauges.
    looks: bool,
}

#[derive(Clone, Debug)]
struct Asked {
    key: usize,
    new_group: bool,
    mode: Mode,
    limit: usize,
    hits: Hits,
    refused: Refused,
    special: Option<Special>,
}

/// What makes a charge special, in thousandths of its capacity.
#[derive(Clone, Debug)]
struct Special {
    open: u64,
    /// For each gauge of the batch, from the first on: what is open at each level.
    pressed: Vec<Vec<u64>>,
    /// Of each bonus, from the first id on: whether it is there, its hits, its end in milliseconds from now.
    bonuses: Vec<(bool, u64, i64)>,
    /// Which of them alone has the hits.
    alone: Option<usize>,
    /// Whether it tells how they stand.
    tells: bool,
    /// To take ahead.
    ahead: u64,
    /// Until when the hits that it takes back count, in milliseconds from when those spent now do.
    until: Option<i64>,
    /// Of a charge before: what comes back to each bonus, which thresholds it has crossed, and when it began a grace, in
    /// milliseconds before.
    amends: Option<(Vec<u64>, u8, u64)>,
    /// Marks are under one of a few ids.
    once: Option<(Once, &'static str)>,
    /// Which part of the request it is.
    part: u8,
    reservation: Option<Reservation>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_stores_answer_the_same_to_any_history() {
    let steps = prop_oneof![
        5 => Just(0_i64),
        2 => 0_i64..3,
        4 => 0_i64..2_000,
        2 => 0_i64..200_000,
        1 => 0_i64..100_000_000_000,
    ];
    let ends = prop_oneof![-10_i64..3_000, 0_i64..300_000, Just(100_000_000_000)];
    let history = history(limit().boxed(), steps.boxed(), ends.boxed());
    replay("forward", history).await;
}

/// What has expired at one time may be forgotten at once or later, which a clock that goes back would
/// show; so here nothing expires.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_stores_answer_the_same_when_the_clock_goes_back() {
    let lasting = prop_oneof![
        amount().prop_map(|amount| sliding(amount, 10_000_000)),
        (10_000_u64..20_000).prop_map(|amount| bucket(amount, 1_000_000_000, amount)),
        amount().prop_map(total),
    ];
    let ends = 100_000_000_000_i64..100_000_001_000;
    let history = history(lasting.boxed(), (-2_000_i64..2_100).boxed(), ends.boxed());
    let history = history.prop_map(whole_hits_to_buckets).prop_map(lasting_marks_and_reservations);
    replay("back and forth", history).await;
}

/// Short histories at the end of which something has been refused, far more of them than Redis has time for.
#[test]
fn a_refused_request_passes_when_it_was_promised_to() {
    let steps = prop_oneof![0_i64..3, 0_i64..2_000];
    let ends = prop_oneof![1_i64..3_000, 0_i64..300_000];
    let histories = history(limit().boxed(), steps.boxed(), ends.boxed());
    let mut runner = runner("promises");
    for _ in 0..PROMISES {
        let mut history = histories.new_tree(&mut runner).unwrap().current();
        history.limits = one_rate_a_bucket(&history.limits);
        history = small_parts(history);
        let memory = Memory::new(1_000);
        let mut now_ms = START_MS;
        for request in &history.requests {
            now_ms = now_ms.saturating_add_signed(request.step_ms);
            let batch = history.batch("promises", request, now_ms);
            let outcome = memory.charge_at(&batch, Timestamp::from_ms(now_ms));
            if !outcome.admitted && check_wait(&memory, &batch, now_ms) {
                break;
            }
        }
    }
}

/// A server without functions runs the same code as a script.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_stores_answer_the_same_where_there_are_no_functions() {
    let history = history(limit().boxed(), (0_i64..2_000).boxed(), (-10_i64..3_000).boxed());
    replay_on("script", history, &["--rename-command", "FUNCTION", ""]).await;
}

async fn replay(name: &str, histories: impl Strategy<Value = History>) {
    replay_on(name, histories, &[]).await;
}

async fn replay_on(name: &str, histories: impl Strategy<Value = History>, flags: &[&str]) {
    let Some(server) = Server::start(flags) else {
        return;
    };
    let _ = server.raw().await;
    let redis = Connected::open(&server.url()).await;
    let mut runner = runner(name);
    for round in 0..HISTORIES {
        let history = histories.new_tree(&mut runner).unwrap().current();
        run(&redis, &format!("{name} {round}"), history).await;
    }
}

async fn run(redis: &Connected, name: &str, mut history: History) {
    history.limits = one_rate_a_bucket(&history.limits);
    let memory = Memory::new(1_000);
    let mut now_ms = START_MS;
    // Those of one time are asked at once, and so share calls.
    for together in history.requests.chunk_by(|_, next| next.step_ms == 0) {
        now_ms = now_ms.saturating_add_signed(together[0].step_ms);
        let now = Now::Given(Timestamp::from_ms(now_ms));
        let batches: Vec<Batch> =
            together.iter().map(|request| history.batch(name, request, now_ms)).collect();
        let asked = batches.iter().map(|batch| redis.store.charge(batch, now));
        let outcomes = join_all(asked).await;
        for (batch, outcome) in batches.iter().zip(outcomes) {
            let expected = memory.charge_at(batch, now.timestamp());
            let of = together.len();
            assert_eq!(outcome.unwrap(), expected, "{name}, one of {of} at {now_ms}: {batch:#?}");
        }
    }
}

/// Until when a promised wait sees the edges of a schedule.
fn sees_until_ms(charge: &Charge, now_ms: u64) -> u64 {
    let outlook = charge.limit.outlook(Timestamp::from_ms(now_ms));
    let last = outlook.and_then(|outlook| outlook.later.get(7).map(|last| last.from_ms));
    last.unwrap_or(u64::MAX)
}

/// A wait is exact: the hits don't fit a millisecond earlier, and then they do. Says whether there was one.
fn check_wait(memory: &Memory, batch: &Batch, now_ms: u64) -> bool {
    if batch.charges.iter().any(Charge::is_debit) {
        // It would count again with each question.
        return false;
    }
    if batch.charges.iter().any(|charge| charge.bonus_alone.is_some()) {
        return false;
    }
    let acts = |charge: &Charge| {
        charge.reservation.as_deref().is_some_and(|one| *one != Reservation::Count)
    };
    if batch.charges.iter().any(acts) && batch.charges.iter().any(|one| one.mode != Mode::Enforce) {
        // The rest of the request may hold or end something in the question before.
        return false;
    }
    let is_scheduled = |charge: &Charge| charge.limit.scheduled().is_some();
    if batch.charges.iter().any(is_scheduled) && !batch.gauges.is_empty() {
        // A wait doesn't see at what level gauges come to stand when a schedule moves their marks.
        return false;
    }
    let rolls_over_for_long = |bonus: &Bonus| {
        let periods = |recurs: &Arc<Recurrence>| recurs.rollover_max() / bonus.amount.max(1);
        6 <= bonus.recurs.as_ref().map_or(0, periods)
    };
    if batch.charges.iter().any(|charge| charge.bonuses.iter().any(rolls_over_for_long)) {
        // A wait doesn't see what is carried into a period that is far ahead.
        return false;
    }
    let outcome = memory.charge_at(batch, Timestamp::from_ms(now_ms));
    let waits = batch.charges.iter().zip(&outcome.decisions).enumerate();
    // An overdraft can take a bucket longer to pay back than clocks go on.
    let told_ms = Timestamp::MAX.as_ms() - now_ms;
    let mut waits = waits.filter_map(|(index, (charge, decision))| match decision.fit {
        Fit::AfterMs(wait_ms) if charge.mode == Mode::Enforce && wait_ms <= told_ms => {
            let until_ms = sees_until_ms(charge, now_ms);
            (now_ms + wait_ms < until_ms).then_some((index, wait_ms))
        }
        _ => None,
    });
    let Some((index, wait_ms)) = waits.next() else {
        return false;
    };
    let fit = |at_ms| memory.charge_at(batch, Timestamp::from_ms(at_ms)).decisions[index].fit;
    let tell = || format!("charge {index} after {wait_ms} ms from {now_ms}: {batch:#?}");
    assert_eq!(fit(now_ms + wait_ms - 1), Fit::AfterMs(1), "{}", tell());
    assert_eq!(fit(now_ms + wait_ms), Fit::Now, "{}", tell());
    true
}

/// A bucket that a faster rate finds full is forgotten at once or later, which a slower rate on the same
/// state would show; so here all buckets of one tag are the same. Other limits may differ in amount.
pub(super) fn one_rate_a_bucket(limits: &[Arc<Limit>]) -> Vec<Arc<Limit>> {
    let first_of = |limit: &Arc<Limit>| {
        limits.iter().find(|first| first.tag().starts_with('b') && first.tag() == limit.tag())
    };
    limits.iter().map(|limit| Arc::clone(first_of(limit).unwrap_or(limit))).collect()
}

/// What comes back late comes back in part, and may leave a bucket a debt that is paid in a moment, and so expires; here all
/// comes back whole.
fn whole_hits_to_buckets(mut history: History) -> History {
    for asked in history.requests.iter_mut().flat_map(|request| &mut request.charges) {
        let is_bucket = history.limits[asked.limit].tag().starts_with('b');
        if let Some(special) = asked.special.as_mut().filter(|_| is_bucket) {
            special.until = None;
        }
    }
    history
}

/// A request for more than any limit has takes all of it where it may be taken in part: here only small requests do.
fn small_parts(mut history: History) -> History {
    for asked in history.requests.iter_mut().flat_map(|request| &mut request.charges) {
        let is_large = 1_000 < asked.hits.amount();
        if let Some(special) = asked.special.as_mut().filter(|_| is_large) {
            special.part = 0;
        }
    }
    history
}

fn lasting_marks_and_reservations(mut history: History) -> History {
    let charges = history.requests.iter_mut().flat_map(|request| &mut request.charges);
    for special in charges.filter_map(|asked| asked.special.as_mut()) {
        if let Some((Once::Mark(mark) | Once::Undo(mark) | Once::Look(mark), _)) = &mut special.once
        {
            mark.life_ms = u32::MAX;
        }
        if let Some(
            Reservation::Hold { life_ms, .. }
            | Reservation::Extend { life_ms, .. }
            | Reservation::Estimate { life_ms, .. },
        ) = &mut special.reservation
        {
            *life_ms = u32::MAX;
        }
    }
    history
}

impl History {
    /// No two charges of a batch share key and tag, as the store's contract says.
    pub(super) fn batch(&self, name: &str, request: &Request, now_ms: u64) -> Batch {
        let mut batch = Batch::default();
        let (mut group, mut group_mode) = (0, None);
        for asked in &request.charges {
            let key_index = batch.key_index(key(&format!("{name}:{}", asked.key)));
            let limit = self.limits[asked.limit].clone();
            let taken = |charge: &Charge| {
                charge.key_index == key_index && charge.limit.tag() == limit.tag()
            };
            if batch.charges.iter().any(taken) {
                continue;
            }
            if asked.new_group || group_mode.is_none() {
                group += 1;
                group_mode = Some(asked.mode);
            }
            let mode = group_mode.unwrap_or_default();
            let special = asked.special.as_ref();
            let bonuses = special.map_or(Vec::new(), |special| special.bonuses(&limit, now_ms));
            let until = special.and_then(|special| special.until(&limit, now_ms));
            let counts = limit.overdraft() != Overdraft::Owed;
            let counts = counts && matches!(asked.hits, Hits::Spend(_));
            batch.charges.push(Charge {
                group,
                mode,
                bonuses,
                refused: if counts { asked.refused } else { Refused::Free },
                tells_bonuses: special.is_some_and(|special| special.tells),
                ahead: special.map_or(0, |special| special.ahead),
                part: special.map_or(0, |special| special.part),
                until: until.filter(|_| matches!(asked.hits, Hits::GiveBack(_))),
                amends: special
                    .and_then(|special| special.amends(&limit, (asked.hits, until), now_ms)),
                ..Charge::plain(key_index, limit, asked.hits)
            });
            has_exceptions(&mut batch, special);
        }
        if request.looks {
            self.add_gauges(name, &mut batch);
        }
        for charge in &mut batch.charges {
            let same = |asked: &&Asked| self.limits[asked.limit] == charge.limit;
            let asked = request.charges.iter().find(same);
            if let Some(special) = asked.and_then(|asked| asked.special.as_ref()) {
                charge.open = special.open(&charge.limit, batch.gauges.len());
            }
        }
        batch
    }

    fn add_gauges(&self, name: &str, batch: &mut Batch) {
        for (number, measures) in self.gauges.iter().enumerate() {
            let key = key(&format!("{name}:{number}"));
            let Some(key_index) = batch.keys.iter().position(|known| *known == key) else {
                continue;
            };
            let mark = |measure: &Measure| {
                let limit = &self.limits[measure.limit];
                let is_measured =
                    |charge: &Charge| charge.key_index == key_index && charge.limit == *limit;
                let charge = batch.charges.iter().position(is_measured)?;
                let rise = open(measure.rise, limit);
                let fall = rise * measure.fall / 1_000;
                Some(Mark { charge, level: measure.level, rise, fall })
            };
            let marks = measures.iter().filter_map(mark).collect();
            batch.gauges.push(Gauge { key_index, marks });
        }
    }
}

impl Special {
    fn until(&self, limit: &Limit, now_ms: u64) -> Option<Timestamp> {
        let until = limit.counts_until(1, Timestamp::from_ms(now_ms));
        self.until.map(|ms| Timestamp::from_ms(until.as_ms().saturating_add_signed(ms)))
    }

    fn amends(
        &self,
        limit: &Limit,
        (hits, until): (Hits, Option<Timestamp>),
        now_ms: u64,
    ) -> Option<Box<Amends>> {
        let (bonuses, crossed, ms) = self.amends.as_ref()?;
        let comes_back = matches!(hits, Hits::GiveBack(_)) && until.is_some();
        if !comes_back && hits != Hits::Spend(0) {
            return None;
        }
        let percents = limit.thresholds().map(|thresholds| thresholds.crossed(Crossed(*crossed)));
        Some(Box::new(Amends {
            at: Timestamp::from_ms(now_ms - ms),
            bonuses: bonuses.iter().copied().collect(),
            crossed: percents.into_iter().flatten().collect(),
            grace_since: Some(Timestamp::from_ms(now_ms - ms)),
            is_whole: ms % 2 == 0,
        }))
    }

    fn open(&self, limit: &Limit, gauges: usize) -> Open {
        let pressed = self.pressed.iter().take(gauges).enumerate().map(|(gauge, shares)| {
            let mut hits: SmallVec<[u64; 2]> = shares.iter().map(|one| open(*one, limit)).collect();
            hits.sort_unstable_by(|one, other| other.cmp(one));
            Pressed { gauge, hits }
        });
        Open { hits: open(self.open, limit), pressed: pressed.collect() }
    }

    fn bonuses(&self, limit: &Limit, now_ms: u64) -> Vec<Bonus> {
        let there = self.bonuses.iter().zip(["a", "b", "c"]).filter(|((there, ..), _)| *there);
        let mut bonuses: Vec<Bonus> = there
            .map(|((_, amount, ms), id)| {
                let until = Timestamp::from_ms(now_ms.saturating_add_signed(*ms));
                let bonus = Bonus::new(id, share(*amount, limit) + amount % 3, until);
                Bonus { recurs: recurrence(*amount, *ms, now_ms).filter(|_| id == "c"), ..bonus }
            })
            .collect();
        Bonus::sort(&mut bonuses, Timestamp::from_ms(now_ms));
        bonuses
    }
}

/// So many thousandths of the reference capacity, by which what is open is measured.
fn open(thousandths: u64, limit: &Limit) -> u64 {
    limit.reference_capacity() * thousandths / 1_000
}

/// How the last charge of a batch is made: once, for a reservation, with one bonus alone.
fn has_exceptions(batch: &mut Batch, special: Option<&Special>) {
    // Only hits that come back undo a charge, and only what asks for nothing looks for one.
    let asked = batch.charges.last().unwrap().clone();
    let once = special.and_then(|special| special.once);
    let may_be = |(once, _): &(Once, _)| match once {
        Once::Undo(_) => matches!(asked.hits, Hits::GiveBack(_)),
        Once::Look(_) => asked.hits == Hits::Spend(0),
        Once::Token(_) | Once::Mark(_) | Once::Correction { .. } => true,
    };
    if let Some((once, id)) = once.filter(may_be) {
        let mark = batch.keys[asked.key_index].mark(None, RetryId::Entry(id));
        let once = once.mark().map_or(once, |_| once.under(batch.key_index(mark)));
        batch.charges.last_mut().unwrap().once = Some(once);
    }
    let reservation = special.and_then(|special| special.reservation);
    if let Some(step) = reservation {
        reserve(batch.charges.last_mut().unwrap(), step);
    }
    let charge = batch.charges.last_mut().unwrap();
    if let Some(amends) = &mut charge.amends {
        amends.bonuses.truncate(charge.bonuses.len());
    }
    if special.is_some() && is_one_alone(charge) {
        charge.bonus_alone = special.and_then(|special| special.alone);
    }
}

/// Whether one of its bonuses alone may have its hits.
fn is_one_alone(charge: &Charge) -> bool {
    matches!(charge.hits, Hits::Spend(_))
        && (charge.part, charge.ahead, charge.refused) == (0, 0, Refused::Free)
        && charge.limit.overdraft() == Overdraft::None
        && charge.limit.grace().is_none()
        && charge.reservation.as_deref().is_none_or(|step| *step == Reservation::Count)
}

/// Has a charge do what the store's contract allows.
fn reserve(charge: &mut Charge, step: Reservation) {
    (charge.ahead, charge.until, charge.amends) = (0, None, None);
    charge.reservation = Some(Box::new(step));
    charge.refused = match (step, charge.hits) {
        (Reservation::Count, _) => charge.refused,
        (Reservation::Settle { .. } | Reservation::SettleEstimate { .. }, _) => Refused::Booked,
        _ => Refused::Free,
    };
}

/// How a bonus recurs: each minute or hour, or not at all, since a while ago.
fn recurrence(amount: u64, ms: i64, now_ms: u64) -> Option<Arc<Recurrence>> {
    let unit = match amount % 3 {
        1 => CalendarUnit::Minute,
        2 => CalendarUnit::Hour,
        _ => return None,
    };
    // One that recurs would be forgotten where nothing expires.
    let lasts = 10_000_000_000 < ms;
    let from = Timestamp::from_ms(now_ms.saturating_sub(ms.unsigned_abs()));
    let rollover_max = if amount.is_multiple_of(2) { 0 } else { amount / 7 };
    (!lasts).then(|| Arc::new(Recurrence::new(unit, from, rollover_max)))
}

/// So many thousandths of a limit's capacity.
fn share(thousandths: u64, limit: &Limit) -> u64 {
    limit.capacity() * thousandths / 1_000
}

pub(super) fn history(
    limit: BoxedStrategy<Arc<Limit>>,
    steps: BoxedStrategy<i64>,
    ends: BoxedStrategy<i64>,
) -> impl Strategy<Value = History> {
    let overdraft = prop_oneof![
        3 => Just(Overdraft::None), 1 => Just(Overdraft::Allow), 1 => Just(Overdraft::Clip),
        1 => Just(Overdraft::Owed)
    ];
    let limit = (limit, overdraft, thresholds(), grace());
    let limit = limit.prop_map(|(limit, overdraft, thresholds, grace)| {
        let limit = Limit::clone(&limit).overdrawn(overdraft);
        let limit = match grace {
            Some((percent, for_ms)) => limit.with_grace(percent, for_ms),
            None => limit,
        };
        let percents = thresholds.iter().copied().collect();
        Arc::new(if thresholds.is_empty() { limit } else { limit.with_thresholds(percents) })
    });
    let measure = (0..LIMITS, 1..=LEVELS_MAX, 0_u64..1_100, 0_u64..=1_000)
        .prop_map(|(limit, level, rise, fall)| Measure { limit, level, rise, fall });
    let charges = prop::collection::vec(asked(ends), 1..5);
    let request = (steps, charges, prop::bool::weighted(0.8))
        .prop_map(|(step_ms, charges, looks)| Request { step_ms, charges, looks });
    let gauges = prop::collection::vec(prop::collection::vec(measure, 0..12), KEYS);
    (prop::collection::vec(limit, LIMITS), gauges, prop::collection::vec(request, REQUESTS))
        .prop_map(|(limits, gauges, requests)| History { limits, gauges, requests })
}

/// In percent and milliseconds; none for half of the limits.
fn grace() -> impl Strategy<Value = Option<(u16, u64)>> {
    let for_ms = prop_oneof![1_u64..3_000, 1_u64..300_000, Just(86_400_000)];
    prop::option::of((1_u16..=100, for_ms))
}

/// In percent; none for half of the limits.
fn thresholds() -> impl Strategy<Value = BTreeSet<u16>> {
    let some = prop::collection::btree_set(1_u16..150, 1..=THRESHOLDS_MAX);
    prop_oneof![Just(BTreeSet::new()), some]
}

fn asked(ends: BoxedStrategy<i64>) -> impl Strategy<Value = Asked> {
    let mode =
        prop_oneof![4 => Just(Mode::Enforce), 1 => Just(Mode::Quota), 1 => Just(Mode::Shadow)];
    let special = prop::option::of(special(ends));
    let refused = prop_oneof![
        2 => Just(Refused::Free), 1 => Just(Refused::Counted), 1 => Just(Refused::Booked)
    ];
    (0..KEYS, any::<bool>(), mode, 0..LIMITS, (hits(), refused), special).prop_map(
        |(key, new_group, mode, limit, (hits, refused), special)| Asked {
            key,
            new_group,
            mode,
            limit,
            hits,
            refused,
            special,
        },
    )
}

fn special(ends: BoxedStrategy<i64>) -> impl Strategy<Value = Special> {
    let open = prop_oneof![2 => Just(1_000_u64), 3 => 0_u64..1_000];
    let levels = prop::collection::vec(0_u64..1_000, 0..5);
    let pressed = prop_oneof![
        1 => Just(Vec::new()), 2 => prop::collection::vec(levels, 1..=KEYS)
    ];
    let bonus = (any::<bool>(), 0_u64..800, ends);
    let bonuses = prop_oneof![1 => Just(Vec::new()), 1 => prop::collection::vec(bonus, 3)];
    let alone = prop_oneof![5 => Just(None), 1 => (0_usize..4).prop_map(Some)];
    let ahead = prop_oneof![2 => Just(0_u64), 1 => 0_u64..100];
    let until = prop_oneof![
        2 => Just(None), 1 => Just(Some(0)), 1 => (-3_000_i64..3_000).prop_map(Some)
    ];
    let token = (0_u64..3, 1_u64..20).prop_map(|(by, number)| IdempotencyToken { by, number });
    let mark = (0_u16..3, prop_oneof![1_u32..3, 1_u32..5_000, 1_u32..4_000_000_000], 0_u64..4);
    let mark = mark.prop_map(|(retries_max, life_ms, attempt)| IdempotencyMark {
        key_index: 0,
        retries_max,
        life_ms,
        attempt,
    });
    // Some of what was read is older than the history.
    let correction = prop_oneof![0_u64..100_000, 0_u64..100_000_000];
    let correction = correction.prop_map(|ms| START_MS - 1_000 + ms).prop_map(Timestamp::from_ms);
    let once = prop_oneof![
        1 => token.prop_map(Once::Token),
        1 => correction.prop_map(|read_at| Once::Correction { read_at }),
        3 => mark.clone().prop_map(Once::Mark),
        1 => mark.clone().prop_map(Once::Undo),
        1 => mark.prop_map(Once::Look),
    ];
    let once = (once, prop::sample::select(vec!["1", "2"]));
    let once = prop_oneof![1 => Just(None), 1 => once.prop_map(Some)];
    let part = prop_oneof![2 => Just(0_u8), 2 => Just(1), 1 => Just(2)];
    let back = (until, amends());
    (open, pressed, (bonuses, alone, any::<bool>()), ahead, back, once, part, reservation())
        .prop_map(
            |(
                open,
                pressed,
                (bonuses, alone, tells),
                ahead,
                (until, amends),
                once,
                part,
                reservation,
            )| {
                Special {
                    open,
                    pressed,
                    bonuses,
                    alone,
                    tells,
                    ahead,
                    until,
                    amends,
                    once,
                    part,
                    reservation,
                }
            },
        )
}

fn amends() -> impl Strategy<Value = Option<(Vec<u64>, u8, u64)>> {
    let amends = (prop::collection::vec(0_u64..9, 0..4), any::<u8>(), 0_u64..3_000);
    prop_oneof![1 => Just(None), 1 => amends.prop_map(Some)]
}

fn reservation() -> impl Strategy<Value = Option<Reservation>> {
    let life = prop_oneof![1_u32..3, 1_u32..3_000, 1_u32..4_000_000_000];
    let step = (0_u8..14, 0_u64..4, life).prop_map(|(step, number, life_ms)| {
        // An id is a hash, so it is not the size of an estimate.
        let (id, hits) = (1_000 + number, 5 * number);
        match step {
            0 | 1 => Reservation::Count,
            2..5 => Reservation::Hold { id, life_ms },
            5 => Reservation::Settle { id },
            6 => Reservation::Extend { id, life_ms },
            7 => Reservation::Release { id },
            8 | 9 => Reservation::Estimate { hits, each: hits, life_ms },
            10 => Reservation::Estimate { hits, each: hits.min(1), life_ms },
            11 => Reservation::SettleEstimate { hits: 0 },
            12 => Reservation::SettleEstimate { hits: 3 * number },
            _ => Reservation::ReleaseEstimates {
                hits: if life_ms % 3 == 0 { 1 } else { hits },
                count: u64::from(life_ms % 4),
            },
        }
    });
    prop_oneof![1 => Just(None), 2 => step.prop_map(Some)]
}

fn hits() -> impl Strategy<Value = Hits> {
    prop_oneof![
        12 => (0_u64..4).prop_map(Hits::Spend),
        4 => (0_u64..200).prop_map(Hits::Spend),
        1 => any::<u64>().prop_map(Hits::Spend),
        3 => (0_u64..50).prop_map(Hits::GiveBack),
        1 => any::<u64>().prop_map(Hits::GiveBack),
    ]
}

pub(super) fn amount() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..5, 1_u64..70, 62_u64..1_000, Just(tollgate::limit::AMOUNT_MAX)]
}

fn window_ms() -> impl Strategy<Value = u64> {
    prop_oneof![1_u64..50, Just(1_000), Just(60_000), 1_u64..100_000_000]
}

/// A limit, every third one with a schedule whose edges lie near the beginning.
fn limit() -> impl Strategy<Value = Arc<Limit>> {
    let range = ((905_u16..912, 905_u16..914), 0_u32..250).prop_map(|((start, end), percent)| {
        ((start, if start == end { end + 1 } else { end }), percent)
    });
    let schedule = prop::collection::vec(range, 1..4);
    let schedule = prop_oneof![2 => Just(Vec::new()), 1 => schedule];
    (unscheduled(), schedule).prop_map(|(limit, ranges)| match ranges.as_slice() {
        [] => limit,
        ranges => on_schedule(&limit, ranges),
    })
}

fn unscheduled() -> impl Strategy<Value = Arc<Limit>> {
    let unit = prop::sample::select(vec![
        CalendarUnit::Minute,
        CalendarUnit::Hour,
        CalendarUnit::Day,
        CalendarUnit::Week,
        CalendarUnit::Month,
        CalendarUnit::Year,
    ]);
    let zone =
        prop::sample::select(vec!["UTC", "Europe/Madrid", "Asia/Kolkata", "America/St_Johns"]);
    prop_oneof![
        (amount(), window_ms()).prop_map(|(amount, window_ms)| sliding(amount, window_ms)),
        (amount(), window_ms()).prop_map(|(amount, window_ms)| fixed(amount, window_ms)),
        (1_u64..1_000, window_ms(), 0_u64..1_000)
            .prop_map(|(amount, window_ms, burst)| bucket(amount, window_ms, burst)),
        (amount(), unit, zone).prop_map(|(amount, unit, zone)| calendar(amount, unit, zone)),
        amount().prop_map(total),
    ]
}

/// Draws what the printed seed says.
pub(super) fn runner(name: &str) -> TestRunner {
    let seed = random_seed();
    println!("{name}: TOLLGATE_TEST_SEED={seed}");
    TestRunner::new(Config { rng_seed: RngSeed::Fixed(seed), ..Config::default() })
}
