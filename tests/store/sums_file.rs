//! Failures of the file of sums: it is never lost, and never prevents a new one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tollgate::clock::Timestamp;
use tollgate::metrics::DataFileMetrics;
use tollgate::store::FileSums;
use tollgate::store::sums::{
    CallersAsked, CallersKept, SumsAdded, SumsBatch, SumsEntry, SumsPeriod, SumsQuestion, SumsTable,
};

use crate::support::sums::SumsAnswer;

const NOW: Timestamp = Timestamp::from_ms(1_000);

/// More than the longest pause.
const LATER: Timestamp = Timestamp::from_ms(1_000_000);

const DAY: SumsPeriod = SumsPeriod { kind: 'd', number: 20_000 };

/// The failures of a file, by name.
type Damage = (&'static str, fn(&Path));

/// A folder for the file, with its metrics.
struct Scene {
    folder: TempDir,
    metrics: DataFileMetrics,
}

impl Scene {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), metrics: DataFileMetrics::default() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("usage.redb")
    }

    fn open(&self) -> FileSums {
        FileSums::open(self.path(), self.metrics.clone(), NOW)
    }

    /// The contents of the renamed files.
    fn damaged(&self) -> Vec<Vec<u8>> {
        let paths = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let is_damaged = |path: &PathBuf| path.to_string_lossy().contains("usage.redb.damaged-");
        paths.filter(is_damaged).map(|path| fs::read(path).unwrap()).collect()
    }
}

/// A batch of one request, which is a round.
fn batch(number: u64) -> SumsBatch {
    let sums = "=a1".to_owned();
    SumsBatch {
        period: DAY,
        number,
        life: Duration::from_secs(3_600),
        oldest: 0,
        is_last: true,
        callers: CallersKept::All,
        entries: vec![SumsEntry { table: SumsTable::Totals, field: "r".to_owned(), sums }],
    }
}

/// The sum that batches of one request add up to.
async fn sum(file: &FileSums) -> Option<String> {
    let question =
        SumsQuestion { periods: vec![DAY], names: Vec::new(), callers: CallersAsked::Totals };
    let answer = file.ask(&question, SumsAnswer::default()).await.unwrap();
    answer.sums.into_iter().next().map(|(_, entry)| entry.sums)
}

/// A closed file with one request.
async fn with_one_request(scene: &Scene) {
    let file = scene.open();
    assert_eq!(file.unavailable(), None);
    file.add(&batch(1)).unwrap();
    assert_eq!(sum(&file).await.as_deref(), Some("=a1"));
}

/// A closed file with more pages than are kept in memory.
fn with_many_callers(scene: &Scene) {
    let file = scene.open();
    let table = SumsTable::Callers;
    let field = |caller| format!("caller-{caller:0600}");
    let sums = |caller| SumsEntry { table, field: field(caller), sums: "r=a1".into() };
    let entries = (0..20_000).map(sums).collect();
    file.add(&SumsBatch { entries, ..batch(1) }).unwrap();
}

fn cut(path: &Path, by: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - by).unwrap();
}

fn overwrite(path: &Path, byte: u8) {
    let len = fs::metadata(path).unwrap().len();
    fs::write(path, vec![byte; usize::try_from(len).unwrap()]).unwrap();
}

/// A busy day leaves pages that nothing uses; the first round of the next day releases them, and the next start keeps that.
#[tokio::test]
async fn the_file_shrinks_each_day() {
    let scene = Scene::new();
    let len = || fs::metadata(scene.path()).unwrap().len();
    let of_day = |number: u64, day: u64, callers: std::ops::Range<u32>| {
        let table = SumsTable::Callers;
        // In any order, as callers come.
        let field = |caller: u32| format!("caller-{}", caller.wrapping_mul(0x9e37_79b1));
        let sums = |caller| SumsEntry { table, field: field(caller), sums: "r=a1e1".into() };
        let mut entries: Vec<SumsEntry> = callers.map(sums).collect();
        entries.push(batch(number).entries.remove(0));
        SumsBatch { period: SumsPeriod { number: day, ..DAY }, entries, ..batch(number) }
    };
    let file = scene.open();
    for number in 1..=10 {
        let first = u32::try_from(number).unwrap() * 2_000;
        file.add(&of_day(number, DAY.number, first..first + 2_000)).unwrap();
    }
    let written = len();
    // The first round of the day has batches of hours and minutes after that of the day.
    let day = SumsBatch { is_last: false, ..of_day(11, DAY.number + 1, 0..1) };
    file.add(&day).unwrap();
    let hour = SumsPeriod { kind: 'h', number: 1 };
    file.add(&SumsBatch { period: hour, ..of_day(12, 0, 0..1) }).unwrap();
    let compacted = len();
    assert!(compacted < written * 3 / 4, "{written} bytes, then {compacted}");
    assert_eq!(sum(&file).await.as_deref(), Some("=a10"));
    file.add(&of_day(13, DAY.number + 1, 0..1)).unwrap();
    drop(file);
    let file = scene.open();
    assert_eq!(sum(&file).await.as_deref(), Some("=a10"));
    drop(file);
    assert!(len() <= compacted * 11 / 10, "{compacted} bytes, {} after the next start", len());
}

/// Each round changes all of the file, which must not take its space a second time.
#[tokio::test]
async fn a_file_that_grows_takes_little_more_space_than_what_it_keeps() {
    const CALLERS: u32 = 60_000;
    const ROUND: u32 = 10_000;
    let scene = Scene::new();
    // A file has space for what it has not written yet, which takes none on the disk.
    let len = || fs::metadata(scene.path()).unwrap().blocks() * 512;
    let file = scene.open();
    let mut most = 0;
    for round in 0..CALLERS / ROUND {
        let field = |caller: u32| format!("caller-{:010}", caller.wrapping_mul(0x9e37_79b1));
        let entries = (round * ROUND..(round + 1) * ROUND).map(|caller| SumsEntry {
            table: SumsTable::Callers,
            field: field(caller),
            sums: "AbCdEf=a1e1T54000".into(),
        });
        file.add(&SumsBatch { entries: entries.collect(), ..batch(u64::from(round) + 1) }).unwrap();
        most = len().max(most);
    }
    drop(file);
    drop(scene.open());
    let kept = len();
    assert!(most < kept * 3 / 2, "{most} bytes, {kept} after the next start");
    assert!(kept < u64::from(CALLERS) * 75, "{kept} bytes");
}

#[tokio::test]
async fn a_damaged_file_is_renamed_and_a_new_one_begins() {
    let damages: [Damage; 5] = [
        ("cut at the end", |path| cut(path, 4_096)),
        ("cut to a few bytes", |path| cut(path, fs::metadata(path).unwrap().len() - 5)),
        ("overwritten by zeros", |path| overwrite(path, 0)),
        ("a text", |path| fs::write(path, "no database").unwrap()),
        ("another header", |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[9..320].fill(0xa5);
            fs::write(path, bytes).unwrap();
        }),
    ];
    for (name, damage) in damages {
        let scene = Scene::new();
        with_one_request(&scene).await;
        damage(&scene.path());
        let left = fs::read(scene.path()).unwrap();
        let file = scene.open();
        assert_eq!(file.unavailable(), None, "{name}");
        // redb may have marked the header before it detected the damage.
        let damaged = scene.damaged();
        assert_eq!(damaged.len(), 1, "{name}");
        assert_eq!(damaged[0].len(), left.len(), "{name}: all of it is kept");
        assert_eq!(sum(&file).await, None, "{name}");
        file.add(&batch(1)).unwrap();
        assert_eq!(sum(&file).await.as_deref(), Some("=a1"), "{name}");
        assert_eq!((scene.metrics.damaged.get(), scene.metrics.unavailable.get()), (1, 0));
    }
}

#[tokio::test]
async fn a_file_that_is_damaged_while_it_is_open_costs_no_later_sum() {
    let damages: [Damage; 3] = [
        ("emptied", |path| fs::write(path, "").unwrap()),
        ("cut", |path| cut(path, fs::metadata(path).unwrap().len() / 2)),
        ("overwritten by zeros", |path| overwrite(path, 0)),
    ];
    for (name, damage) in damages {
        let scene = Scene::new();
        with_many_callers(&scene);
        // Opened again, so that most of it is not in memory.
        let file = scene.open();
        damage(&scene.path());
        let question =
            SumsQuestion { periods: vec![DAY], names: Vec::new(), callers: CallersAsked::Each };
        assert!(file.ask(&question, SumsAnswer::default()).await.is_err(), "{name}");
        let number = 1;
        assert_eq!(scene.metrics.unavailable.get(), 1, "{name}");
        assert!(file.add(&batch(number)).is_err(), "{name}: it waits for a pause");
        // The first call starts the pause.
        file.reopen(NOW);
        file.reopen(LATER);
        assert_eq!(file.unavailable(), None, "{name}");
        file.add(&batch(number)).unwrap();
        assert!(sum(&file).await.is_some(), "{name}");
        assert_eq!(scene.metrics.unavailable.get(), 0, "{name}");
    }
}

#[tokio::test]
async fn a_new_file_is_complete_when_it_has_its_name() {
    for (name, left) in [("usage.redb.new", "half of a database"), ("usage.redb", "")] {
        let scene = Scene::new();
        fs::write(scene.folder.path().join(name), left).unwrap();
        with_one_request(&scene).await;
        let file = scene.open();
        assert_eq!(sum(&file).await.as_deref(), Some("=a1"), "{name}");
        assert_eq!(scene.damaged().len(), 0, "{name}");
        assert!(!scene.folder.path().join("usage.redb.new").exists(), "{name}");
    }
}

#[tokio::test]
async fn a_file_that_another_process_has_open_is_taken_over_when_it_closes() {
    let scene = Scene::new();
    let first = scene.open();
    first.add(&batch(7)).unwrap();
    let second = scene.open();
    assert!(second.unavailable().unwrap().contains("another process has it open"));
    assert!(second.add(&batch(1)).is_err());
    drop(first);
    second.reopen(NOW);
    assert!(second.unavailable().is_some(), "there is a pause");
    second.reopen(LATER);
    assert_eq!(second.unavailable(), None);
    assert_eq!(second.add(&batch(1)).unwrap(), SumsAdded::Later);
    assert_eq!(sum(&second).await.as_deref(), Some("=a2"), "nothing was lost");
}

#[tokio::test]
async fn a_folder_is_made_and_one_that_can_t_be_is_tried_again() {
    let scene = Scene::new();
    let folder = scene.folder.path().join("a");
    fs::write(&folder, "a file").unwrap();
    let file = FileSums::open(folder.join("b/usage.redb"), scene.metrics.clone(), NOW);
    assert!(file.unavailable().unwrap().contains("a/b/usage.redb"));
    assert_eq!(scene.metrics.unavailable.get(), 1);
    fs::remove_file(&folder).unwrap();
    file.reopen(LATER);
    file.add(&batch(1)).unwrap();
    assert_eq!(sum(&file).await.as_deref(), Some("=a1"));
}

#[test]
fn damaged_files_are_kept_up_to_a_number() {
    let scene = Scene::new();
    for at in 0..9 {
        fs::write(scene.path(), "no database").unwrap();
        let now = Timestamp::from_ms(at);
        let file = FileSums::open(scene.path(), scene.metrics.clone(), now);
        assert_eq!(file.unavailable().is_some(), at == 8);
    }
    assert_eq!(scene.damaged().len(), 8);
    assert_eq!(fs::read(scene.path()).unwrap(), b"no database");
}
