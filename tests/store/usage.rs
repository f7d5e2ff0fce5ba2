//! Usage of a simulated month in Redis, compared with the true counts: by the API; and the size of a day, in Redis and a file.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tollgate::clock::{Clock, Timestamp};
use tollgate::engine::{Code, Request, Sink};
use tollgate::metrics::DataFileMetrics;
use tollgate::store::sums::SumsAdded;
use tollgate::store::{FileSums, SumsStore};
use tollgate::usage::{Granularity, Outbox, Retention, Rollups};

use crate::support::client::Http;
use crate::support::engine::{Bench, descriptor};
use crate::support::eventually;
use crate::support::receiver::Receiver;
use crate::support::redis::{Connected, Server, query};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;
use crate::support::usage::items;

const POLICY: &str = "
domain: travel
tiers: [free, premium, enterprise]
caller: { key: user, tier: { key: tier } }
descriptors:
  - key: user
    limits: [{ name: daily, by_tier: { free: 5/day, premium: 40/day, enterprise: 400/day } }]
    descriptors: [{ key: kind, value: plan, limits: [{ name: plan, rate: 5000/total }] }]
  - { key: provider, limits: [{ name: provider, rate: 1000/hour }] }
";

const TIERS: [&str; 3] = ["free", "premium", "enterprise"];
const RETENTION: Retention = Retention { minute_days: 2, hour_days: 90, day_days: 730 };
const HOUR: Duration = Duration::from_secs(3_600);
const DAYS: u64 = 30;

/// Requests, refused requests, and spent hits by day, caller and tier.
type Truth = BTreeMap<(u64, String, String), [u64; 3]>;

/// A process that counts usage, without listeners.
struct Sidecar {
    bench: Bench,
    sink: Arc<Sink>,
    fresh: Rollups,
    outbox: Outbox,
    sums: SumsStore,
    clock: Clock,
}

impl Sidecar {
    fn start(connected: &Connected, clock: &Clock) -> Self {
        Self::storing(SumsStore::Redis(connected.store.sums()), clock)
    }

    fn storing(sums: SumsStore, clock: &Clock) -> Self {
        let (bench, sink) = Bench::recording(clock);
        bench.put_in_force(POLICY).unwrap();
        let now = clock.now().timestamp();
        let (fresh, outbox) = (Rollups::fresh(now), Outbox::new(RETENTION, now));
        Self { bench, sink, fresh, outbox, sums, clock: clock.clone() }
    }

    /// Requests a hit, and returns whether it passed.
    async fn ask(&self, descriptors: &[&str], hits: u64) -> bool {
        let descriptors = descriptors.iter().map(|text| descriptor(text, hits)).collect();
        let request = Request::try_new("travel", descriptors).unwrap();
        let snapshot = self.bench.engine.snapshot();
        self.bench.engine.check(&snapshot, &request).await.code() == Code::Ok
    }

    fn collect(&mut self) {
        let (fresh, now) = (&mut self.fresh, self.clock.now().timestamp());
        self.sink.drain(&mut Vec::new(), &mut |records| fresh.add(records, now));
    }

    /// Sends all counts; every `repeated`th batch twice, as if the first answer had been lost.
    async fn send(&mut self, repeated: u64) {
        self.collect();
        let now = self.clock.now().timestamp();
        let fresh = std::mem::replace(&mut self.fresh, Rollups::fresh(now));
        self.outbox.add(fresh, now);
        while let Some(batch) = self.outbox.next(self.clock.now().timestamp()) {
            let mut added = self.sums.add(&batch).await.unwrap();
            if batch.number.is_multiple_of(repeated) {
                added = self.sums.add(&batch).await.unwrap();
                assert_eq!(added, SumsAdded::Before);
            }
            self.outbox.confirm(added);
        }
    }
}

/// Pseudo-random numbers, the same ones each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Thirty days of two sidecars up to yesterday, and the true counts. One of them is restarted in the middle.
async fn month(connected: &Connected, dice: &mut Dice) -> Truth {
    let today = Granularity::Day.start(Clock::system().now().timestamp());
    let begin = Timestamp::from_ms(today.as_ms() - DAYS * 24 * 3_600_000);
    let clock = Clock::manual(begin);
    let mut sidecars = [Sidecar::start(connected, &clock), Sidecar::start(connected, &clock)];
    let mut truth = Truth::new();
    for hour in 0..DAYS * 24 {
        for sidecar in &mut sidecars {
            for _ in 0..dice.below(12) {
                let (user, hits) = (dice.below(30), 1 + dice.below(4));
                let tier = TIERS[usize::try_from(user).unwrap() % 3];
                let name = format!("user-{user}");
                let (who, what) = (format!("user={name}"), format!("tier={tier}"));
                let passed = sidecar.ask(&[&who, &what, "provider=p"], hits).await;
                let sums = truth.entry((hour / 24, name, tier.to_owned())).or_default();
                sums[0] += 1;
                sums[1] += u64::from(!passed);
                sums[2] += if passed { hits } else { 0 };
            }
            sidecar.send(1 + dice.below(5)).await;
        }
        if hour == 15 * 24 + 7 {
            sidecars[0] = Sidecar::start(connected, &clock);
        }
        clock.advance(HOUR);
    }
    truth
}

#[tokio::test]
async fn the_api_agrees_to_the_hit_with_a_simulated_month() {
    let Some(server) = Server::start(&[]) else { return };
    let connected = Connected::open(&server.url()).await;
    let truth = month(&connected, &mut Dice(7)).await;
    let total: u64 = truth.values().map(|[requests, ..]| requests).sum();
    let refused: u64 = truth.values().map(|[_, refused, _]| refused).sum();
    assert!(total > 5_000 && refused > 500, "{total} {refused}");

    let store = Store::Redis(server);
    let tollgate = Tollgate::serve_with(POLICY, &store, &["--usage=true"]).await;
    let today = Granularity::Day.start(Clock::system().now().timestamp());
    let begin = jiff::Timestamp::from_millisecond(i64::try_from(today.as_ms()).unwrap()).unwrap();
    let begin = begin - jiff::SignedDuration::from_hours(24 * i64::try_from(DAYS).unwrap());
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let day = |start: &serde_json::Value| {
        let start: jiff::Timestamp = text(start).parse().unwrap();
        u64::try_from(start.duration_since(begin).as_hours() / 24).unwrap()
    };
    for granularity in ["day", "hour"] {
        let path = format!("/v1/usage?granularity={granularity}&from={begin}");
        let (found, scope) = items(&tollgate, &format!("{path}&group_by=caller,tier")).await;
        assert_eq!(scope, "fleet");
        let mut sums = Truth::new();
        for item in &found {
            let key = (day(&item["start"]), text(&item["caller"]), text(&item["tier"]));
            let [requests, refused, _] = sums.entry(key).or_default();
            *requests += item["requests"].as_u64().unwrap();
            *refused += item["refused"].as_u64().unwrap();
        }
        let (found, _) =
            items(&tollgate, &format!("{path}&group_by=caller,tier&limit=daily")).await;
        for item in &found {
            let key = (day(&item["start"]), text(&item["caller"]), text(&item["tier"]));
            sums.entry(key).or_default()[2] += item["hits"]["spent"].as_u64().unwrap();
        }
        assert_eq!(sums, truth, "{granularity}");
        let (found, _) = items(&tollgate, &path).await;
        let requests = found.iter().map(|item| item["requests"].as_u64().unwrap());
        assert_eq!(requests.sum::<u64>(), total, "{granularity}");
        let (found, _) = items(&tollgate, &format!("{path}&caller=user-4")).await;
        let of_one = truth.iter().filter(|((_, user, _), _)| user == "user-4");
        let requests = found.iter().map(|item| item["requests"].as_u64().unwrap());
        assert_eq!(requests.sum::<u64>(), of_one.map(|(_, [sum, ..])| sum).sum::<u64>());
    }
    check_reports(&tollgate, &truth, begin).await;
}

/// Reports by month and by day agree with the truth, as CSV and as JSON.
async fn check_reports(tollgate: &Tollgate, truth: &Truth, begin: jiff::Timestamp) {
    let report = async |query: &str| {
        let url = format!("http://{}/v1/report?{query}", tollgate.http_address);
        let answer = Http::new().get(&url, &[]).await;
        assert_eq!(answer.status, 200, "{query}");
        answer
    };
    let mut by_caller: BTreeMap<(String, String), [u64; 3]> = BTreeMap::new();
    for ((_, caller, tier), sums) in truth {
        let of = by_caller.entry((caller.clone(), tier.clone())).or_default();
        of.iter_mut().zip(sums).for_each(|(sum, more)| *sum += more);
    }
    let day = |day: u64| begin + jiff::SignedDuration::from_hours(24 * i64::try_from(day).unwrap());
    // The days lie in two months or in one.
    let months: BTreeMap<String, jiff::Timestamp> =
        (0..DAYS).map(|number| (day(number).to_string()[..7].to_owned(), day(number))).collect();
    let mut reported: BTreeMap<(String, String), [u64; 3]> = BTreeMap::new();
    for at in months.values() {
        let query =
            format!("format=csv&period=month&at={at}&group_by=caller,tier,limit&limit=daily");
        let answer = report(&query).await;
        assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8");
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let head = lines.next().unwrap();
        let column = |name: &str| head.iter().position(|column| *column == name).unwrap();
        let columns = ["requests", "refused", "hits_spent"].map(column);
        for line in lines {
            let key = (line[column("caller")].to_owned(), line[column("tier")].to_owned());
            let sums = reported.entry(key).or_default();
            let number = |column: usize| line[column].parse::<u64>().unwrap();
            sums.iter_mut().zip(columns).for_each(|(sum, column)| *sum += number(column));
        }
    }
    assert_eq!(reported, by_caller);
    for number in [0, DAYS - 1] {
        let answer = report(&format!("period=day&at={}&group_by=", day(number))).await.json();
        let expected = truth.iter().filter(|((day, ..), _)| *day == number);
        let expected: u64 = expected.map(|(_, [requests, ..])| requests).sum();
        assert_eq!(answer["items"][0]["requests"], expected, "{answer}");
        assert_eq!(answer["from"].as_str().unwrap(), day(number).to_string());
    }
}

/// A Redis with 28 days of usage until yesterday, in which ann spends 100 hits a day, and bob some in the last days.
async fn planned() -> Option<Store> {
    let server = Server::start(&[])?;
    let connected = Connected::open(&server.url()).await;
    let today = Granularity::Day.start(Clock::system().now().timestamp());
    let clock = Clock::manual(Timestamp::from_ms(today.as_ms() - 28 * 24 * 3_600_000));
    let mut sidecar = Sidecar::start(&connected, &clock);
    for day in 0..28 {
        assert!(sidecar.ask(&["user=ann,kind=plan"], 100).await);
        if 24 <= day {
            sidecar.ask(&["user=bob,kind=plan"], 10).await;
        }
        // Ten a day, and more than all of the plan each day.
        sidecar.ask(&["user=eve,kind=plan"], 10).await;
        assert!(!sidecar.ask(&["user=eve,kind=plan"], 6_000 + 100 * day).await);
        sidecar.send(u64::MAX).await;
        clock.advance(24 * HOUR);
    }
    Some(Store::Redis(server))
}

#[tokio::test]
async fn a_limit_that_will_run_out_is_told_once_by_a_fleet() {
    let Some(store) = planned().await else { return };
    let receiver = Receiver::start(&[]).await;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("alerts.yaml");
    let text = format!(
        "channels:\n  hook: {{ type: webhook, url: '{}', allow_private_addresses: true }}\n\
         alerts:\n  late: {{ when: forecast, below: 49d, limit: plan }}\n  \
         soon: {{ when: forecast, below: 51d, limit: plan }}",
        receiver.url()
    );
    fs::write(&path, text).unwrap();
    let flags = ["--usage=true", "--alerts", path.to_str().unwrap()];
    let sidecars = [
        Tollgate::serve_with(POLICY, &store, &flags).await,
        Tollgate::serve_with(POLICY, &store, &flags).await,
    ];
    let told = eventually("the notification", async || receiver.received().first().cloned()).await;
    let data = &told.json()["data"];
    assert_eq!(data["rule"], "soon", "{data}");
    let title = data["title"].as_str().unwrap();
    assert!(title.starts_with("plan of ann will be used up in "), "{title}");
    let labels = json!({ "domain": "travel", "caller": "ann", "limit": "plan" });
    assert_eq!(data["labels"], labels);
    let open = format!("http://{}/v1/alerts?state=open", sidecars[1].http_address);
    let open = Http::new().get(&open, &[]).await.json();
    assert_eq!(open["items"].as_array().unwrap().len(), 1, "{open}");
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn a_forecast_follows_from_the_days_before() {
    let Some(store) = planned().await else { return };
    let tollgate = Tollgate::serve_with(POLICY, &store, &["--usage=true"]).await;
    let forecast = async |query: &str| {
        let url = format!("http://{}/v1/forecast?{query}", tollgate.http_address);
        Http::new().get(&url, &[]).await
    };
    let answer = forecast("caller=ann&entries=kind=plan").await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let body = answer.json();
    let item = &body["items"][0];
    assert_eq!((&body["scope"], &item["limit"]), (&json!("fleet"), &json!("plan")));
    // The sidecar counted in its own memory, and stored only usage.
    assert_eq!((&item["used"], &item["remaining"]), (&json!(0), &json!(5_000)));
    assert_eq!((&item["average"], &item["trend"]), (&json!(100.0), &json!("steady")));
    // The first day may have been counted in part.
    assert_eq!((&item["known"], &item["step"]), (&json!(27), &json!("day")));
    assert_eq!(item["days_left"], json!(50.0), "{item}");
    assert_eq!(item["pattern"], json!(null), "all days are the same");

    assert_eq!(item["demand"], json!(null), "nothing was refused");

    let body = forecast("caller=eve&entries=kind=plan").await.json();
    let item = &body["items"][0];
    assert_eq!((&item["average"], &item["trend"]), (&json!(10.0), &json!("steady")));
    let demand = &item["demand"];
    let trend = (&demand["average"], &demand["trend"]);
    assert_eq!(trend, (&json!(6_010.0 + 2_400.0), &json!("rising")), "{demand}");
    // A part of 100 a day is taken for the pattern of the week.
    assert!((85.0..=105.0).contains(&demand["change"].as_f64().unwrap()), "{demand}");

    let body = forecast("caller=bob&entries=kind=plan").await.json();
    let item = &body["items"][0];
    assert_eq!(item["unknown"], "not enough data: 3 of 7 whole days", "{item}");
    assert_eq!(item["reached_at"], json!(null));
    let daily = forecast("caller=bob").await.json();
    assert_eq!(daily["items"][0]["step"], "hour", "a day is looked at by its hours: {daily}");
    let answer = forecast("caller=").await;
    assert_eq!(answer.status, 400, "{:?}", answer.body);
}

#[tokio::test]
async fn a_redis_that_has_lost_its_data_learns_the_names_again() {
    let Some(server) = Server::start(&[]) else { return };
    let connected = Connected::open(&server.url()).await;
    let clock = Clock::manual(Clock::system().now().timestamp());
    let mut sidecar = Sidecar::start(&connected, &clock);
    for _ in 0..2 {
        sidecar.ask(&["user=ann"], 1).await;
        sidecar.send(u64::MAX).await;
    }
    redis::cmd("FLUSHALL").exec(&mut server.raw().await).unwrap();
    for _ in 0..2 {
        sidecar.ask(&["user=ann"], 1).await;
        sidecar.send(u64::MAX).await;
    }
    let store = Store::Redis(server);
    let tollgate = Tollgate::serve_with(POLICY, &store, &["--usage=true"]).await;
    let (found, _) = items(&tollgate, "/v1/usage?granularity=day&caller=ann").await;
    assert_eq!(found[0]["requests"], 2, "{found:?}");
}

/// A day of so many callers, each with requests in so many hours, which are stored so many at a time.
#[derive(Clone, Copy)]
struct DayOf {
    callers: u64,
    hours: u64,
    stored_at_once: u64,
}

impl DayOf {
    /// The day of the environment, else one of a thousand callers; and what it may take.
    fn asked(stored_at_once: u64) -> (Self, u64) {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let (callers, hours) = (number("TOLLGATE_CALLERS"), number("TOLLGATE_HOURS"));
        let max = if callers.is_some() { 100_000_000 } else { 10_000_000 };
        let (callers, hours) = (callers.unwrap_or(1_000), hours.unwrap_or(24));
        (Self { callers, hours, stored_at_once }, max)
    }

    async fn pass(self, sidecar: &mut Sidecar) {
        let Self { callers, hours, stored_at_once } = self;
        for _ in 0..hours {
            for caller in 0..callers {
                let tier = format!("tier={}", TIERS[usize::try_from(caller % 3).unwrap()]);
                sidecar.ask(&[&format!("user=customer-{caller}"), &tier], 1 + caller % 900).await;
                if caller % 1_000 == 999 {
                    sidecar.collect();
                }
                if caller % stored_at_once == stored_at_once - 1 {
                    sidecar.send(u64::MAX).await;
                }
            }
            sidecar.send(u64::MAX).await;
            sidecar.clock.advance(HOUR);
        }
    }
}

/// The memory of a day in Redis.
async fn bytes_in_redis(day: DayOf) -> Option<u64> {
    let server = Server::start(&[])?;
    let connected = Connected::open(&server.url()).await;
    let begin = Granularity::Day.start(Clock::system().now().timestamp());
    let clock = Clock::manual(begin);
    let mut sidecar = Sidecar::start(&connected, &clock);
    let mut raw = server.raw().await;
    let mut used = || {
        let info: String = query(&mut raw, "INFO memory");
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    sidecar.send(u64::MAX).await;
    let before = used();
    day.pass(&mut sidecar).await;
    Some(used() - before)
}

/// The size of a file of a day: when it ends, and after the next start.
async fn bytes_in_file(day: DayOf) -> [u64; 2] {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("usage.redb");
    let clock = Clock::manual(Granularity::Day.start(Clock::system().now().timestamp()));
    let now = clock.now().timestamp();
    let open = || FileSums::open(path.clone(), DataFileMetrics::default(), now);
    let len = || fs::metadata(&path).unwrap().len();
    let mut sidecar = Sidecar::storing(SumsStore::File(open()), &clock);
    day.pass(&mut sidecar).await;
    let grown = len();
    drop(sidecar);
    drop(open());
    [grown, len()]
}

/// `TOLLGATE_CALLERS=1000000 TOLLGATE_HOURS=1` measures other days.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_of_a_thousand_callers_takes_less_than_ten_megabytes() {
    let (day, max) = DayOf::asked(20_000);
    let Some(bytes) = bytes_in_redis(day).await else { return };
    println!("{bytes} bytes");
    assert!(bytes < max, "{bytes}");
}

/// The size follows from the callers, not from the requests: each hour is written in ten parts, as seconds write it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_of_a_day_of_a_thousand_callers_takes_less_than_ten_megabytes() {
    let (day, max) = DayOf::asked(100);
    let sizes = bytes_in_file(day).await;
    println!("{sizes:?} bytes");
    assert!(sizes.into_iter().all(|bytes| bytes < max), "{sizes:?}");
}
