//! Sums in Redis and in a file: the effect of a batch, however often it is sent, and the callers that are kept.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use redis::Connection;
use tempfile::TempDir;
use tollgate::clock::Timestamp;
use tollgate::metrics::DataFileMetrics;
use tollgate::store::redis::{Password, Redis, RedisSettings};
use tollgate::store::sums::{
    CallersAsked, CallersKept, SumsAdded, SumsBatch, SumsEntry, SumsError, SumsPeriod,
    SumsQuestion, SumsTable, place,
};
use tollgate::store::{FileSums, SumsStore};

use crate::support::PATIENCE;
use crate::support::cluster::Cluster;
use crate::support::redis::{Connected, Server, calls, query};
use crate::support::sums::SumsAnswer;

const NOW: Timestamp = Timestamp::from_ms(1_000);
const DAY: SumsPeriod = SumsPeriod { kind: 'd', number: 20_000 };
const HOUR: SumsPeriod = SumsPeriod { kind: 'h', number: 480_000 };

fn entry(table: SumsTable, field: &str, sums: &str) -> SumsEntry {
    SumsEntry { table, field: field.to_owned(), sums: sums.to_owned() }
}

fn batch(period: SumsPeriod, number: u64, entries: Vec<SumsEntry>) -> SumsBatch {
    let callers = if period.kind == 'd' { CallersKept::All } else { CallersKept::Busiest };
    let life = Duration::from_secs(3_600);
    SumsBatch { period, number, life, oldest: 0, is_last: true, callers, entries }
}

/// A store of sums with its resources.
struct Kept {
    sums: SumsStore,
    redis: Option<(Server, Connected)>,
    _folder: TempDir,
}

/// The sums in an open file.
fn opened(path: &Path) -> FileSums {
    let file = FileSums::open(path.to_owned(), DataFileMetrics::default(), NOW);
    assert_eq!(file.unavailable(), None);
    file
}

/// Every available store of sums, empty.
async fn every() -> Vec<Kept> {
    let folder = TempDir::new().unwrap();
    let sums = SumsStore::File(opened(&folder.path().join("usage.redb")));
    let mut all = vec![Kept { sums, redis: None, _folder: folder }];
    if let Some(server) = Server::start(&[]) {
        let connected = Connected::open(&server.url()).await;
        let sums = SumsStore::Redis(connected.store.sums());
        let redis = Some((server, connected));
        all.push(Kept { sums, redis, _folder: TempDir::new().unwrap() });
    }
    all
}

/// All sums of a period, by table and field.
async fn reported(
    sums: &SumsStore,
    period: SumsPeriod,
    callers: CallersAsked,
) -> BTreeMap<String, String> {
    let question = SumsQuestion { periods: vec![period], names: vec![period], callers };
    let answer = sums.ask(&question, SumsAnswer::default()).await.unwrap();
    let names = answer.names.into_iter().map(|(name, text)| (format!("Names {name}"), text));
    let entries = answer.sums.into_iter().map(|(of, entry)| {
        assert_eq!(of, period);
        (format!("{:?} {}", entry.table, entry.field), entry.sums)
    });
    let all: Vec<_> = entries.chain(names).collect();
    let count = all.len();
    let all: BTreeMap<_, _> = all.into_iter().collect();
    assert_eq!(all.len(), count, "each caller is in one place");
    all
}

fn expected(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter().map(|(field, sums)| ((*field).to_owned(), (*sums).to_owned())).collect()
}

/// The requests in sums.
fn requests(sums: &str) -> u64 {
    let rows = sums.split(' ').map(|row| row.split_once("=a").unwrap().1);
    rows.map(|row| row.split(char::is_alphabetic).next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn a_batch_is_added_once_however_often_it_is_sent() {
    for kept in every().await {
        check_once(&kept).await;
    }
}

async fn check_once(Kept { sums, redis, .. }: &Kept) {
    let first = batch(
        DAY,
        7,
        vec![
            entry(SumsTable::Names, "r", "=d|request"),
            entry(SumsTable::Totals, "r", "=a2e3T10"),
            entry(SumsTable::Nameless, "r", "=a1T10"),
            entry(SumsTable::Callers, "ann {x} =", "r=a1e3T9"),
        ],
    );
    assert_ne!(sums.add(&first).await.unwrap(), SumsAdded::Before);
    assert_eq!(sums.add(&first).await.unwrap(), SumsAdded::Before);
    let second = batch(
        DAY,
        8,
        vec![
            entry(SumsTable::Totals, "r", "=a1b1T4"),
            entry(SumsTable::Totals, "s", "=a9007199254740992"),
            entry(SumsTable::Callers, "ann {x} =", "s=a1 r=a2T12"),
        ],
    );
    assert_eq!(sums.add(&second).await.unwrap(), SumsAdded::Later);
    let third = vec![
        entry(SumsTable::Totals, "r", "=a100"),
        entry(SumsTable::Totals, "s", "=a5"),
        entry(SumsTable::Totals, "t", "=a1"),
    ];
    assert_eq!(sums.add(&batch(DAY, 9, third)).await.unwrap(), SumsAdded::Later);
    assert_eq!(sums.add(&second).await.unwrap(), SumsAdded::Before);
    assert_eq!(sums.add(&first).await.unwrap(), SumsAdded::Before);
    let mut requests = 103;
    if let Some((_, connected)) = redis {
        // Another sidecar numbers its batches separately.
        let entries = vec![entry(SumsTable::Totals, "r", "=a1000")];
        let other = connected.store.sums();
        assert_eq!(other.add(&batch(DAY, 1, entries)).await.unwrap(), SumsAdded::First);
        requests += 1_000;
    }

    let total = format!("=a{requests}e3T10b1");
    let totals = expected(&[
        ("Names r", "=d|request"),
        ("Totals r", &*total),
        ("Totals s", "=a9007199254740992"),
        ("Totals t", "=a1"),
    ]);
    assert_eq!(reported(sums, DAY, CallersAsked::Totals).await, totals);
    let ann = ("Callers ann {x} =", "r=a3e3T12 s=a1");
    let each = expected(&[("Names r", "=d|request"), ("Nameless r", "=a1T10"), ann]);
    assert_eq!(reported(sums, DAY, CallersAsked::Each).await, each);
    let one = CallersAsked::Named(vec!["ann {x} =".to_owned()]);
    assert_eq!(reported(sums, DAY, one).await, expected(&[("Names r", "=d|request"), ann]));
    let nobody = CallersAsked::Named(vec!["ann".to_owned()]);
    assert_eq!(reported(sums, HOUR, nobody).await, BTreeMap::new());
}

#[tokio::test]
async fn every_key_expires_by_itself() {
    let Some(server) = Server::start(&[]) else { return };
    let connected = Connected::open(&server.url()).await;
    let sums = connected.store.sums();
    let tables = [
        SumsTable::Names,
        SumsTable::Totals,
        SumsTable::Nameless,
        SumsTable::Others,
        SumsTable::Callers,
    ];
    let entries = || tables.map(|table| entry(table, "f", "r=a1")).to_vec();
    sums.add(&batch(DAY, 1, entries())).await.unwrap();
    sums.add(&batch(HOUR, 2, entries())).await.unwrap();
    let mut raw = server.raw().await;
    let keys: Vec<String> = query(&mut raw, "KEYS *");
    let ours: Vec<&String> = keys.iter().filter(|key| key.starts_with("tgu1")).collect();
    assert_eq!(ours.len(), 12, "{keys:?}");
    for key in ours {
        let left: i64 = query(&mut raw, &format!("PTTL {key}"));
        assert!((3_500_000..=3_600_000).contains(&left), "{key}: {left}");
    }
}

#[tokio::test]
async fn a_day_keeps_every_caller_and_an_hour_the_busiest() {
    for kept in every().await {
        check_callers(&kept.sums).await;
        let Some((server, _)) = &kept.redis else { continue };
        // Small enough for Redis to pack them, and for a fold of one to be short.
        let mut raw = server.raw().await;
        for number in 0..64 {
            for period in [DAY, HOUR] {
                let len: u64 = query(&mut raw, &format!("HLEN tgu1{{{period}}}c{number}"));
                assert!((1..=240).contains(&len), "{period}, {number}: {len}");
            }
        }
    }
}

async fn check_callers(sums: &SumsStore) {
    const CALLERS: u64 = 30_000;
    let mut number = 0;
    // Each caller occurs twice; one in a hundred has more requests from the start.
    let name = |caller: u64| format!("caller-{caller}");
    let weight = |caller: u64| if caller.is_multiple_of(100) { 50 } else { 1 };
    for are_in_place in [false, true] {
        let mut all: Vec<u64> = (0..CALLERS).collect();
        if are_in_place {
            all.sort_by_cached_key(|caller| place(&name(*caller)));
        }
        for (chunk, callers) in all.chunks(64).enumerate() {
            for period in [DAY, HOUR] {
                number += 1;
                let is_last = period == HOUR && chunk % 100 == 0 || callers.last() == all.last();
                let sums_of = |caller: &u64| format!("r=a{}", weight(*caller));
                let entries = callers
                    .iter()
                    .map(|caller| entry(SumsTable::Callers, &name(*caller), &sums_of(caller)));
                let batch = batch(period, number, entries.collect());
                sums.add(&SumsBatch { is_last, ..batch }).await.unwrap();
            }
        }
    }
    let total: u64 = (0..CALLERS).map(|caller| 2 * weight(caller)).sum();
    let day = reported(sums, DAY, CallersAsked::Each).await;
    assert_eq!(day.len() as u64, CALLERS);
    assert_eq!(day.values().map(|sums| requests(sums)).sum::<u64>(), total);
    for caller in [0, 1, CALLERS - 1] {
        let of = CallersAsked::Named(vec![name(caller)]);
        let expected = format!("r=a{}", 2 * weight(caller));
        assert_eq!(reported(sums, DAY, of).await[&format!("Callers {}", name(caller))], expected);
    }
    let hour = reported(sums, HOUR, CallersAsked::Each).await;
    // Most of a page are beyond the first hashes of the day, and some are nobody.
    let page: Vec<u64> = (CALLERS - 800..CALLERS + 200).step_by(2).collect();
    for (period, each) in [(DAY, &day), (HOUR, &hour)] {
        let field = |caller: &u64| format!("Callers {}", name(*caller));
        let known = |caller: &u64| Some((field(caller), each.get(&field(caller))?.clone()));
        let expected: BTreeMap<_, _> = page.iter().filter_map(known).collect();
        let named = CallersAsked::Named(page.iter().map(|caller| name(*caller)).collect());
        assert_eq!(reported(sums, period, named).await, expected, "{period}");
    }
    assert_eq!(reported(sums, DAY, CallersAsked::Named(Vec::new())).await, BTreeMap::new());
    assert_eq!(hour.values().map(|sums| requests(sums)).sum::<u64>(), total);
    let kept = hour.keys().filter(|field| field.starts_with("Callers ")).count();
    assert!((10_000..=16_000).contains(&kept), "{kept}");
    let is_kept = |caller: &u64| {
        hour.get(&format!("Callers {}", name(*caller))).map(String::as_str) == Some("r=a100")
    };
    assert!((0..CALLERS).step_by(100).all(|caller| is_kept(&caller)), "the busy ones are whole");
    assert!(requests(&hour["Others r"]) > 10_000);
}

/// Not for each caller; and where the first hashes were never full, the others are not read.
#[tokio::test]
async fn a_page_of_callers_is_read_with_a_command_for_each_of_their_hashes() {
    const PAGE: usize = 500;
    let Some(server) = Server::start(&[]) else { return };
    let connected = Connected::open(&server.url()).await;
    let sums = SumsStore::Redis(connected.store.sums());
    let day = |number| SumsPeriod { kind: 'd', number };
    let name = |caller: usize| format!("caller-{caller}");
    let mut raw = server.raw().await;
    for (number, callers, hashes) in [(1, PAGE, 64), (2, 20_000, 64 + PAGE as u64)] {
        let all: Vec<usize> = (0..callers).collect();
        for (chunk, callers) in (1..).zip(all.chunks(1_000)) {
            let of = |caller: &usize| entry(SumsTable::Callers, &name(*caller), "r=a1");
            let entries = callers.iter().map(of).collect();
            sums.add(&batch(day(number), chunk, entries)).await.unwrap();
        }
        // Of a month, most days have no sums.
        let periods = (0..31).map(|before| day(40 * number - before)).chain([day(number)]);
        let page = (0..PAGE).map(|caller| name(caller * callers / PAGE)).collect();
        let callers = CallersAsked::Named(page);
        let question = SumsQuestion { periods: periods.collect(), names: Vec::new(), callers };
        let mut counts = || ["hlen", "hmget", "exists", "hget"].map(|one| calls(&mut raw, one));
        let before = counts();
        let answer = sums.ask(&question, SumsAnswer::default()).await.unwrap();
        assert_eq!(answer.sums.len(), PAGE);
        let after = counts();
        let [hlen, hmget, exists, hget] = std::array::from_fn(|at| after[at] - before[at]);
        assert_eq!((hlen, exists, hget), (32, 1, 0));
        assert!((64..=hashes).contains(&hmget), "{hmget}");
    }
}

/// One connection is for all periods of a server, in several windows of hashes.
#[tokio::test]
async fn each_caller_of_many_periods_is_read_until_the_reader_is_full() {
    const PERIODS: u64 = 40;
    const CALLERS: usize = 100;
    for Kept { sums, .. } in every().await {
        let hour = |number| SumsPeriod { kind: 'h', number };
        let mut expected = Vec::new();
        for number in 0..PERIODS {
            // Some texts are longer than what is received at once.
            let name = |caller: usize| match caller {
                0 => "long \r\n$3 ".repeat(20_000),
                _ => format!("caller-{caller} {{é}}"),
            };
            let entries = (0..CALLERS).map(|caller| {
                entry(SumsTable::Callers, &name(caller), &format!("r=a{number} s=e{caller}"))
            });
            let others = ["n", "o"].map(|field| entry(SumsTable::Nameless, field, "=a1"));
            let entries: Vec<_> = entries.chain(others).collect();
            expected.extend(entries.iter().map(|entry| (number, entry.clone())));
            sums.add(&batch(hour(number), 1 + number, entries)).await.unwrap();
        }
        let periods = (0..2 * PERIODS).map(hour).collect();
        let question = SumsQuestion { periods, names: Vec::new(), callers: CallersAsked::Each };
        let answer = sums.ask(&question, SumsAnswer::default()).await.unwrap();
        let mut found: Vec<_> =
            answer.sums.into_iter().map(|(period, entry)| (period.number, entry)).collect();
        let key = |(number, entry): &(u64, SumsEntry)| (*number, entry.field.clone());
        found.sort_by_key(key);
        expected.sort_by_key(key);
        assert!(found == expected, "{} of {}", found.len(), expected.len());
        let small = SumsAnswer { max: Some(3_000), ..SumsAnswer::default() };
        assert!(matches!(sums.ask(&question, small).await, Err(SumsError::Full)));
    }
}

#[tokio::test]
async fn callers_are_read_from_a_server_with_a_password_and_another_database() {
    let Some(server) = Server::start(&["--requirepass", "hush"]) else { return };
    let settings = RedisSettings {
        password: Some(Password::Text("hush".to_owned())),
        database: Some(3),
        deadline: PATIENCE,
        ..RedisSettings::new(&server.url())
    };
    let connected = Connected::begin(&settings);
    connected.ready().await;
    let sums = connected.store.sums();
    let one = batch(DAY, 1, vec![entry(SumsTable::Callers, "ann", "r=a1")]);
    sums.add(&one).await.unwrap();
    let question =
        SumsQuestion { periods: vec![DAY], names: Vec::new(), callers: CallersAsked::Each };
    let answer = sums.ask(&question, SumsAnswer::default()).await.unwrap();
    assert_eq!(answer.sums, [(DAY, entry(SumsTable::Callers, "ann", "r=a1"))]);
    let mut raw = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    for command in ["AUTH hush", "SELECT 3"] {
        let () = query(&mut raw, command);
    }
    // A key of another type is an error, and the next question is answered.
    let key: Vec<String> = query(&mut raw, "KEYS tgu1*c*");
    let () = query(&mut raw, &format!("SET {} x", key[0]));
    let error = sums.ask(&question, SumsAnswer::default()).await.unwrap_err();
    assert!(error.to_string().contains("WRONGTYPE"), "{error}");
    let () = query(&mut raw, &format!("DEL {}", key[0]));
    assert_eq!(sums.ask(&question, SumsAnswer::default()).await.unwrap().sums, []);
}

#[tokio::test]
async fn a_cluster_spreads_periods_over_its_masters() {
    let Some(cluster) = Cluster::start(3, false).await else { return };
    let settings = RedisSettings { deadline: PATIENCE, ..cluster.settings() };
    let connected = Connected::begin(&settings);
    connected.ready().await;
    let sums = connected.store.sums();
    let entries =
        || vec![entry(SumsTable::Callers, "ann", "r=a1"), entry(SumsTable::Totals, "r", "=a1")];
    for number in 0..30 {
        let period = SumsPeriod { kind: 'h', number };
        assert_eq!(
            sums.add(&batch(period, 1 + number, entries())).await.unwrap(),
            SumsAdded::First
        );
    }
    let periods: Vec<_> = (0..30).map(|number| SumsPeriod { kind: 'h', number }).collect();
    let question = SumsQuestion { periods, names: Vec::new(), callers: CallersAsked::Each };
    let answer = sums.ask(&question, SumsAnswer::default()).await.unwrap();
    let mut found: Vec<_> = answer.sums.into_iter().map(|(period, _)| period.number).collect();
    found.sort_unstable();
    assert_eq!(found, (0..30).collect::<Vec<_>>());
    let mut held = 0;
    for node in 0..3 {
        let mut raw: Connection = cluster.raw(node).await;
        let keys: Vec<String> = query(&mut raw, "KEYS tgu1*");
        held += usize::from(!keys.is_empty());
    }
    assert_eq!(held, 3, "the periods are spread over the masters");
}

#[tokio::test]
async fn a_redis_that_is_away_is_an_error_and_nothing_waits() {
    let (store, _) = Redis::try_new(&RedisSettings::new("redis://127.0.0.1:1")).unwrap();
    let sums = store.sums();
    assert!(sums.add(&batch(DAY, 1, Vec::new())).await.is_err());
    let callers = CallersAsked::Totals;
    let question = SumsQuestion { periods: vec![DAY], names: Vec::new(), callers };
    assert!(sums.ask(&question, SumsAnswer::default()).await.is_err());
}

#[tokio::test]
async fn a_file_keeps_sums_over_restarts_and_forgets_old_periods() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("usage.redb");
    let open = || SumsStore::File(opened(&path));
    let hour = |number| SumsPeriod { kind: 'h', number };
    let one = |number, period, is_last| {
        let entries = vec![entry(SumsTable::Totals, "r", "=a1")];
        SumsBatch { oldest: 3, is_last, ..batch(hour(period), number, entries) }
    };
    let sums = open();
    sums.add(&one(1, 1, false)).await.unwrap();
    sums.add(&one(2, 4, true)).await.unwrap();
    drop(sums);
    let sums = open();
    // Numbers start again with each process.
    sums.add(&one(1, 3, false)).await.unwrap();
    sums.add(&one(2, 4, true)).await.unwrap();
    let all = reported(&sums, hour(4), CallersAsked::Totals).await;
    assert_eq!(all, expected(&[("Totals r", "=a2")]));
    assert_eq!(reported(&sums, hour(1), CallersAsked::Totals).await, BTreeMap::new());
}
