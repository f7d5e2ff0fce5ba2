//! The embedded store with a file: restarts change no answer of a lasting limit, and no fault of the file stops it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use tempfile::TempDir;
use tollgate::clock::Timestamp;
use tollgate::limit::{CalendarUnit, Hits, Limit};
use tollgate::metrics::DataFileMetrics;
use tollgate::policy::{Key, KeyEntry, Mode};
use tollgate::store::embedded::Memory;
use tollgate::store::{CounterFile, Outcome};

use super::parity::{History, amount, history, one_rate_a_bucket, runner};
use crate::support::batch::{
    MARK_LIFE_MS, START_MS, after, batch, bucket, calendar, fixed, key, on_schedule, one, sliding,
    total, with_bonuses, with_id,
};

const HISTORIES: usize = 20;
const KEYS_MAX: usize = 1_000;
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// A folder for the file, with its metrics.
struct Scene {
    folder: TempDir,
    metrics: DataFileMetrics,
}

/// A store and its file, as one process has them.
struct Process {
    memory: Memory,
    file: CounterFile,
}

impl Scene {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), metrics: DataFileMetrics::default() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("counters.redb")
    }

    fn start(&self, ms: u64) -> Process {
        self.start_with(KEYS_MAX, ms)
    }

    fn start_with(&self, keys_max: usize, ms: u64) -> Process {
        let memory = Memory::new(keys_max).keeping();
        let now = after(ms).timestamp();
        let file = CounterFile::open(self.path(), self.metrics.clone(), &memory, now);
        Process { memory, file }
    }

    /// Ends a process after its last write, and starts the next one.
    fn restart(&self, process: Process, ms: u64) -> Process {
        process.end(ms);
        self.start(ms)
    }
}

impl Process {
    fn spend(&self, limit: &Arc<Limit>, hits: u64, ms: u64) -> Outcome {
        self.memory.charge_at(&one("alice", limit, Hits::Spend(hits)), after(ms).timestamp())
    }

    /// Spends hits of a limit and of a bonus of five. Returns whether that passes.
    fn spend_with_bonus(&self, limit: &Arc<Limit>, hits: u64, ms: u64) -> bool {
        let batch = one("alice", limit, Hits::Spend(hits));
        let batch = with_bonuses(batch, &[("gift", 5, 2 * DAY_MS)]);
        self.memory.charge_at(&batch, after(ms).timestamp()).admitted
    }

    fn used(&self, limit: &Arc<Limit>, ms: u64) -> u64 {
        self.used_by("alice", limit, ms)
    }

    fn used_by(&self, name: &str, limit: &Arc<Limit>, ms: u64) -> u64 {
        self.memory.used(&key(name), limit, after(ms).timestamp())
    }

    fn write(&mut self, ms: u64) -> bool {
        self.file.write(&self.memory, after(ms).timestamp())
    }

    fn end(mut self, ms: u64) {
        assert!(self.write(ms));
    }
}

fn lasting() -> impl Strategy<Value = Arc<Limit>> {
    let window_ms = || prop_oneof![Just(HOUR_MS), HOUR_MS..30 * DAY_MS];
    let unit = prop::sample::select(vec![
        CalendarUnit::Hour,
        CalendarUnit::Day,
        CalendarUnit::Week,
        CalendarUnit::Month,
        CalendarUnit::Year,
    ]);
    let zone = prop::sample::select(vec!["UTC", "Europe/Madrid", "America/St_Johns"]);
    let limit = prop_oneof![
        (amount(), window_ms()).prop_map(|(amount, window_ms)| sliding(amount, window_ms)),
        (amount(), window_ms()).prop_map(|(amount, window_ms)| fixed(amount, window_ms)),
        (1_u64..1_000, window_ms(), 0_u64..1_000)
            .prop_map(|(amount, window_ms, burst)| bucket(amount, window_ms, burst)),
        (amount(), unit, zone).prop_map(|(amount, unit, zone)| calendar(amount, unit, zone)),
        amount().prop_map(total),
    ];
    let percent = prop_oneof![2 => Just(None), 1 => (0_u32..250).prop_map(Some)];
    (limit, percent).prop_map(|(limit, percent)| match percent {
        Some(percent) => on_schedule(&limit, &[((908, 912), percent)]),
        None => limit,
    })
}

/// Thresholds, graces, bonuses, levels, corrections and idempotency marks included.
#[test]
fn restarts_change_no_answer() {
    let steps = prop_oneof![
        4 => Just(0_i64),
        4 => 0_i64..2_000,
        2 => 0_i64..7_200_000,
        1 => 0_i64..3_000_000_000,
    ];
    let ends = prop_oneof![-10_i64..3_000, 0_i64..300_000, Just(100_000_000_000)];
    let histories = history(lasting().boxed(), steps.boxed(), ends.boxed());
    let mut runner = runner("restarts");
    for round in 0..HISTORIES {
        let mut history: History = histories.new_tree(&mut runner).unwrap().current();
        history.limits = one_rate_a_bucket(&history.limits);
        let (scene, steady) = (Scene::new(), Memory::new(KEYS_MAX));
        let mut process = scene.start(0);
        let mut ms = 0;
        for (number, request) in history.requests.iter().enumerate() {
            ms += u64::try_from(request.step_ms).unwrap();
            let now = after(ms).timestamp();
            let batch = history.batch("restarts", request, START_MS + ms);
            let expected = steady.charge_at(&batch, now);
            let outcome = process.memory.charge_at(&batch, now);
            assert_eq!(outcome, expected, "round {round}, request {number} at {ms}: {batch:#?}");
            match number % 6 {
                2 => assert!(process.write(ms)),
                5 => process = scene.restart(process, ms),
                _ => {}
            }
        }
    }
}

#[test]
fn windows_of_an_hour_and_more_survive_and_shorter_ones_start_again() {
    let scene = Scene::new();
    let process = scene.start(0);
    let hour = sliding(10, HOUR_MS);
    let all = [
        (hour.clone(), 3),
        (fixed(10, DAY_MS), 3),
        (bucket(10, HOUR_MS, 10), 3),
        (calendar(10, CalendarUnit::Month, "Europe/Madrid"), 3),
        (total(10), 3),
        (sliding(10, MINUTE_MS), 0),
        (bucket(10, MINUTE_MS, 10), 0),
    ];
    for (limit, _) in &all {
        assert!(process.spend(limit, 3, 0).admitted);
    }
    let process = scene.restart(process, 1_000);
    for (limit, expected) in &all {
        assert_eq!(process.used(limit, 1_000), *expected, "{limit}");
    }
    assert!(!process.spend(&hour, 8, 1_000).admitted);
    assert!(process.spend(&hour, 7, 1_000).admitted);
}

/// As in Redis: another amount keeps the count, another window or name has its own.
#[test]
fn an_edited_policy_keeps_the_count_of_a_limit_that_is_the_same() {
    let scene = Scene::new();
    let process = scene.start(0);
    process.spend(&sliding(10, DAY_MS), 6, 0);
    let process = scene.restart(process, 1_000);
    for (limit, expected) in [
        (sliding(5, DAY_MS), 6),
        (sliding(1_000, DAY_MS), 6),
        (sliding(10, 2 * DAY_MS), 0),
        (fixed(10, DAY_MS), 0),
        (Arc::new(Limit::clone(&sliding(10, DAY_MS)).marked("=daily")), 0),
    ] {
        assert_eq!(process.used(&limit, 1_000), expected, "{}", limit.tag());
    }
    let more = sliding(1_000, DAY_MS);
    assert_eq!(process.spend(&more, 4, 1_000).decisions[0].standing.remaining, 990);
}

#[test]
fn a_retry_after_a_restart_is_free_while_its_mark_lives() {
    let scene = Scene::new();
    let process = scene.start(0);
    let daily = sliding(10, DAY_MS);
    let charge = |process: &Process, ms| {
        let batch = with_id(one("alice", &daily, Hits::Spend(4)), "order 1");
        process.memory.charge_at(&batch, after(ms).timestamp()).decisions[0].retry.is_some()
    };
    assert!(!charge(&process, 0));
    let process = scene.restart(process, 1_000);
    assert!(charge(&process, 1_000));
    assert_eq!(process.used(&daily, 1_000), 4);
    let process = scene.restart(process, MARK_LIFE_MS);
    assert!(!charge(&process, MARK_LIFE_MS));
    assert_eq!(process.used(&daily, MARK_LIFE_MS), 8);
}

#[test]
fn thresholds_are_told_once_and_a_grace_ends_whatever_restarts() {
    let scene = Scene::new();
    let mut process = scene.start(0);
    let limit = Limit::clone(&fixed(10, DAY_MS)).with_thresholds([80].into());
    let limit = Arc::new(limit.with_grace(20, HOUR_MS));
    let crossed = |outcome: &Outcome| outcome.notices.iter().any(|one| !one.crossed.is_none());
    assert!(crossed(&process.spend(&limit, 8, 0)));
    process = scene.restart(process, 1_000);
    let outcome = process.spend(&limit, 3, 1_000);
    assert!(outcome.admitted && !crossed(&outcome), "the grace begins");
    process = scene.restart(process, 2_000);
    assert!(process.spend(&limit, 1, HOUR_MS).admitted);
    process = scene.restart(process, HOUR_MS + 1_001);
    assert!(!process.spend(&limit, 1, HOUR_MS + 1_001).admitted);
}

#[test]
fn spent_bonuses_stay_spent() {
    // Of a shorter window, only the amount is whole again.
    for (window_ms, left) in [(DAY_MS, 2), (MINUTE_MS, 5 + 2)] {
        let scene = Scene::new();
        let process = scene.start(0);
        let limit = sliding(5, window_ms);
        assert!(process.spend_with_bonus(&limit, 8, 0));
        let process = scene.restart(process, 1_000);
        assert!(!process.spend_with_bonus(&limit, left + 1, 1_000));
        assert!(process.spend_with_bonus(&limit, left, 1_000));
        let process = scene.restart(process, 2 * DAY_MS);
        assert_eq!(process.memory.keys(), 0, "the bonus has ended");
    }
}

#[test]
fn hits_that_came_back_and_expired_counters_leave_the_file() {
    let scene = Scene::new();
    let process = scene.start(0);
    let (daily, forever) = (sliding(10, DAY_MS), total(10));
    process.spend(&daily, 5, 0);
    process.spend(&forever, 5, 0);
    let process = scene.restart(process, 1_000);
    let back = batch(&[
        ("alice", 0, Mode::Enforce, &daily, Hits::GiveBack(5)),
        ("alice", 0, Mode::Enforce, &forever, Hits::GiveBack(5)),
    ]);
    assert!(process.memory.charge_at(&back, after(1_000).timestamp()).admitted);
    let process = scene.restart(process, 2_000);
    assert_eq!(process.memory.keys(), 0);
    process.spend(&daily, 5, 2_000);
    let process = scene.restart(process, 2 * DAY_MS);
    assert_eq!(process.memory.keys(), 0);
    // It is gone for good, so a clock that goes back brings nothing back.
    let process = scene.restart(process, 3_000);
    assert_eq!(process.used(&daily, 3_000), 0);
}

#[test]
fn a_clock_that_went_back_frees_nothing() {
    let scene = Scene::new();
    let process = scene.start(3 * DAY_MS);
    let limits = [sliding(10, DAY_MS), fixed(10, DAY_MS), bucket(10, DAY_MS, 10), total(10)];
    limits.iter().for_each(|limit| assert!(process.spend(limit, 10, 3 * DAY_MS).admitted));
    process.end(3 * DAY_MS);
    let process = scene.start(0);
    for limit in &limits {
        assert_eq!(process.used(limit, 0), 10, "{limit}");
        assert!(!process.spend(limit, 1, 0).admitted, "{limit}");
    }
}

/// Only what was changed is written, or all of it if that is too much.
#[test]
fn a_write_of_many_changes_and_evictions_leaves_the_file_as_memory_is() {
    let scene = Scene::new();
    let mut process = scene.start_with(100, 0);
    let daily = sliding(10, DAY_MS);
    let spend = |process: &Process, name: &str, hits| {
        let batch = one(name, &daily, Hits::Spend(hits));
        process.memory.charge_at(&batch, after(0).timestamp());
    };
    for number in 0..1_000 {
        spend(&process, &format!("user {number}"), 1 + number % 9);
        if number == 400 || number == 450 {
            assert!(process.write(0));
        }
    }
    let names = (0..1_000).map(|number| format!("user {number}"));
    let counts = |process: &Process| -> Vec<u64> {
        names.clone().map(|name| process.used_by(&name, &daily, 1_000)).collect()
    };
    let expected = counts(&process);
    assert_eq!(expected.iter().filter(|count| **count != 0).count(), 100);
    process.end(1_000);
    let process = scene.start_with(200, 1_000);
    assert_eq!(counts(&process), expected);
    assert_eq!(process.memory.keys(), 100);
    // A smaller store keeps what matters most.
    process.end(1_000);
    let process = scene.start_with(10, 1_000);
    assert_eq!(process.memory.keys(), 10);
    assert_eq!(process.memory.evicted(), 90);
}

#[test]
fn a_damaged_part_is_set_aside_and_the_rest_goes_on() {
    let scene = Scene::new();
    let process = scene.start(0);
    let daily = sliding(10, DAY_MS);
    let name = |number: u64| format!("user-{number:04}");
    let counts = |process: &Process, ms| -> u64 {
        (0..500).map(|number| process.used_by(&name(number), &daily, ms)).sum()
    };
    for number in 0..500 {
        let batch = one(&name(number), &daily, Hits::Spend(2));
        process.memory.charge_at(&batch, after(0).timestamp());
    }
    process.end(0);
    // A bit of one record.
    let mut bytes = fs::read(scene.path()).unwrap();
    let text = name(250);
    let places = bytes.windows(text.len()).enumerate();
    let places: Vec<usize> =
        places.filter(|(_, found)| *found == text.as_bytes()).map(|(at, _)| at).collect();
    places.into_iter().for_each(|at| bytes[at + text.len() + 6] ^= 1);
    fs::write(scene.path(), &bytes).unwrap();
    let process = scene.start(1_000);
    let left = counts(&process, 1_000);
    assert!((900..1_000).contains(&left), "{left}");
    assert_eq!(scene.metrics.damaged.get(), 1);
    let process = scene.restart(process, 2_000);
    assert_eq!((counts(&process, 2_000), scene.metrics.damaged.get()), (left, 1));
    // All of it.
    process.end(2_000);
    fs::write(scene.path(), "no database").unwrap();
    let process = scene.start(3_000);
    assert_eq!((counts(&process, 3_000), scene.metrics.damaged.get()), (0, 2));
    assert!(process.spend(&daily, 3, 3_000).admitted);
    let process = scene.restart(process, 4_000);
    assert_eq!(process.used(&daily, 4_000), 3);
    let names = fs::read_dir(scene.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().contains(".damaged-")).count(), 2);
}

/// No flipped bit and no missing end of the file stops a start, and what comes back is never more than was spent.
#[test]
fn no_damage_of_the_file_stops_a_start() {
    let scene = Scene::new();
    let mut process = scene.start(0);
    let daily = sliding(1_000, DAY_MS);
    for round in 0..5 {
        (0..50).for_each(|number| {
            let batch = one(&format!("user {number}"), &daily, Hits::Spend(7));
            process.memory.charge_at(&batch, after(round).timestamp());
        });
        assert!(process.write(round));
    }
    process.end(5);
    let whole = fs::read(scene.path()).unwrap();
    let places = (0..whole.len()).step_by(whole.len() / 60 + 1);
    for place in places {
        for is_cut in [false, true] {
            let scene = Scene::new();
            let mut bytes = whole.clone();
            if is_cut {
                bytes.truncate(place);
            } else {
                bytes[place] ^= 0x10;
            }
            fs::write(scene.path(), &bytes).unwrap();
            let process = scene.start(10);
            for number in 0..50 {
                let used = process.used_by(&format!("user {number}"), &daily, 10);
                assert!(used <= 35, "{used} after a damage at {place}");
            }
            assert!(process.spend(&daily, 3, 10).admitted);
            let process = scene.restart(process, 20);
            assert_eq!(process.used(&daily, 20), 3, "after a damage at {place}");
        }
    }
}

/// The next process of a rolling update starts while the last one still has the file.
#[test]
fn a_file_that_opens_late_adds_what_earlier_processes_counted() {
    let scene = Scene::new();
    let (first, mut second) = (scene.start(0), scene.start(0));
    assert_eq!(scene.metrics.unavailable.get(), 1);
    let limits = [
        sliding(100, DAY_MS),
        fixed(100, DAY_MS),
        bucket(100, DAY_MS, 100),
        calendar(100, CalendarUnit::Year, "UTC"),
        total(100),
    ];
    for limit in &limits {
        first.spend(limit, 10, 0);
        second.spend(limit, 5, 0);
    }
    first.memory.charge_at(&one("bob", &limits[0], Hits::Spend(3)), after(0).timestamp());
    let short = sliding(5, MINUTE_MS);
    assert!(first.spend_with_bonus(&short, 5 + 3, 0) && second.spend_with_bonus(&short, 5 + 1, 0));
    assert!(!second.write(1_000));
    first.end(1_000);
    assert!(second.write(60_000));
    assert_eq!(scene.metrics.unavailable.get(), 0);
    let second = scene.restart(second, 60_000);
    for limit in &limits {
        assert_eq!(second.used(limit, 60_000), 15, "{limit}");
    }
    assert_eq!(second.used_by("bob", &limits[0], 60_000), 3);
    assert!(!second.spend_with_bonus(&short, 5 + 2, 60_000), "one of the bonus is left");
    assert!(second.spend_with_bonus(&short, 5 + 1, 60_000));
}

#[test]
fn without_changes_nothing_is_written() {
    let scene = Scene::new();
    let mut process = scene.start(0);
    let (daily, minute) = (sliding(2, DAY_MS), sliding(10, MINUTE_MS));
    assert!(process.write(0));
    let writes = || scene.metrics.writes.get();
    let first = writes();
    process.spend(&minute, 1, 0);
    assert!(process.write(1));
    assert_eq!(writes(), first, "short windows are not kept");
    process.spend(&daily, 2, 2);
    assert!(process.write(3));
    assert_eq!(writes(), first + 1);
    process.spend(&daily, 1, 4);
    assert!(process.write(5));
    assert_eq!(writes(), first + 1, "a refused request changes nothing");
}

#[test]
fn keys_of_any_text_come_back() {
    let scene = Scene::new();
    let process = scene.start(0);
    let daily = sliding(10, DAY_MS);
    let mut long = Key::of_domain("d");
    (0..100).for_each(|number| long.push_value(&format!("é{number}"), "|=~\u{0}"));
    let long = long.finish();
    let mut asked = one("alice", &daily, Hits::Spend(1));
    asked.keys[0] = long.clone();
    process.memory.charge_at(&asked, Timestamp::from_ms(START_MS));
    let process = scene.restart(process, 1_000);
    assert_eq!(process.memory.used(&long, &daily, after(1_000).timestamp()), 1);
}

#[test]
fn an_erased_caller_stays_erased() {
    let scene = Scene::new();
    let process = scene.start(0);
    let daily = sliding(10, DAY_MS);
    process.spend(&daily, 3, 0);
    process.memory.charge_at(&one("bob", &daily, Hits::Spend(4)), after(0).timestamp());
    let process = scene.restart(process, 1_000);
    assert_eq!(process.memory.erase(&[KeyEntry::new("name", "alice")]), 1);
    let process = scene.restart(process, 2_000);
    assert_eq!(process.used(&daily, 2_000), 0);
    assert_eq!(process.used_by("bob", &daily, 2_000), 4);
}
