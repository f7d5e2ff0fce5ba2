//! Tests of a store on a network: restarts, stalls, credentials, encryption, foreign records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tollgate::clock::{Clock, Now};
use tollgate::limit::Hits::{GiveBack, Spend};
use tollgate::limit::{CalendarUnit, Limit};
use tollgate::policy::Mode::Enforce;
use tollgate::store::redis::{Password, RedisSettings};
use tollgate::store::{Health, Store, StoreError};

use crate::support;
use crate::support::batch::{after, batch, bucket, calendar, fixed, key, one, sliding, total};
use crate::support::ports::free_port;
use crate::support::redis::{Connected, Server, Tls, calls, query, until};
use crate::support::tollgate::Tollgate;
use crate::support::{PATIENCE, client, eventually};

/// Additional time of a call on a busy machine.
const GRACE: Duration = Duration::from_millis(500);

const DEADLINE: Duration = Duration::from_millis(50);

/// Charges one hit by the server's clock.
async fn spend(redis: &Connected, name: &str, limit: &Arc<Limit>) -> bool {
    let ask = one(name, limit, Spend(1));
    redis.store.charge(&ask, Clock::system().now()).await.unwrap().admitted
}

/// Charges until the store is available again.
async fn recovers(redis: &Connected, limit: &Arc<Limit>) {
    let ask = one("recovery", limit, Spend(0));
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let answered = async {
        while redis.store.charge(&ask, Clock::system().now()).await.is_err() {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("the store recovers");
}

fn quick(server: &Server) -> RedisSettings {
    RedisSettings { deadline: DEADLINE, ..RedisSettings::new(&server.url()) }
}

#[tokio::test]
async fn a_request_is_one_round_trip() {
    let Some(server) = Server::start(&[]) else { return };
    let redis = Connected::open(&server.url()).await;
    let mut raw = server.raw().await;
    let (slow, quick) = (sliding(100, 60_000), calendar(100, CalendarUnit::Day, "UTC"));
    let ask = batch(&[
        ("a", 0, Enforce, &slow, Spend(1)),
        ("a", 0, Enforce, &quick, Spend(1)),
        ("b", 1, Enforce, &slow, Spend(1)),
    ]);
    for _ in 0..25 {
        assert!(redis.store.charge(&ask, Clock::system().now()).await.unwrap().admitted);
    }
    assert_eq!(calls(&mut raw, "fcall"), 25);
    // One read and one write for each record, whatever the number of its limits.
    assert_eq!((calls(&mut raw, "get"), calls(&mut raw, "set")), (50, 50));
    let peek = one("a", &slow, Spend(0));
    redis.store.charge(&peek, Clock::system().now()).await.unwrap();
    assert_eq!(calls(&mut raw, "set"), 50, "a peek writes nothing");
}

#[tokio::test]
async fn requests_that_come_together_share_a_call() {
    let Some(server) = Server::start(&[]) else { return };
    let redis = Connected::open(&server.url()).await;
    let mut raw = server.raw().await;
    let limit = sliding(30, 60_000);
    let ask = one("k", &limit, Spend(1));
    let asked = (0..50).map(|_| redis.store.charge(&ask, Clock::system().now()));
    let outcomes = join_all(asked).await;
    let admitted = outcomes.iter().filter(|outcome| outcome.as_ref().unwrap().admitted).count();
    assert_eq!(admitted, 30, "each is decided by itself");
    assert_eq!(calls(&mut raw, "fcall"), 1);
    assert_eq!((calls(&mut raw, "get"), calls(&mut raw, "set")), (1, 1), "and all share a record");
}

#[tokio::test]
async fn a_key_that_holds_something_else_fails_its_request_alone() {
    let Some(server) = Server::start(&[]) else { return };
    let redis = Connected::open(&server.url()).await;
    let mut raw = server.raw().await;
    query::<()>(&mut raw, &format!("LPUSH {} x", key("list").as_str()));
    let limit = sliding(5, 60_000);
    let (bad, good) = (one("list", &limit, Spend(1)), one("k", &limit, Spend(1)));
    let now = Clock::system().now();
    let asked = [&good, &bad, &good].map(|batch| redis.store.charge(batch, now));
    let outcomes = join_all(asked).await;
    assert!(outcomes[0].as_ref().unwrap().admitted && outcomes[2].as_ref().unwrap().admitted);
    let error = outcomes[1].as_ref().unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    assert_eq!(query::<String>(&mut raw, &format!("LINDEX {} 0", key("list").as_str())), "x");
}

#[tokio::test]
async fn a_cancelled_request_is_not_charged_and_queues_are_bounded() {
    let Some(server) = Server::start(&[]) else { return };
    let redis = Connected::begin(&quick(&server));
    redis.ready().await;
    let limit = sliding(1_000_000, 60_000);
    let ask = one("k", &limit, Spend(1));
    assert!(spend(&redis, "k", &limit).await);
    server.signal("STOP");
    let asked = (0..5_000).map(|_| redis.store.charge(&ask, Clock::system().now()));
    let outcomes = join_all(asked).await;
    let errors: Vec<&str> =
        outcomes.iter().filter_map(|one| Some(one.as_ref().err()?.kind())).collect();
    let of = |kind| errors.iter().filter(|one| **one == kind).count();
    assert!(0 < of("late") && 0 < of("crowded"), "late {}, crowded {}", of("late"), of("crowded"));
    assert_eq!(of("late") + of("crowded"), 5_000);
    server.signal("CONT");
    recovers(&redis, &limit).await;
    let left =
        redis.store.charge(&one("k", &limit, Spend(0)), Clock::system().now()).await.unwrap();
    // Two groups may have been under way.
    let charged = 1_000_000 - left.decisions[0].standing.remaining;
    assert!(charged <= 1 + 2 * 64, "{charged} were charged");
}

#[tokio::test]
async fn records_go_when_their_limits_no_longer_need_them() {
    let Some(server) = Server::start(&[]) else { return };
    let redis = Connected::open(&server.url()).await;
    let mut raw = server.raw().await;
    for (name, limit, ttl_max_ms) in [
        ("sliding", sliding(5, 60_000), 60_001),
        ("bucket", bucket(10, 1_000, 1_000), 100),
        ("fixed", fixed(5, 60_000), 60_000),
        ("total", total(5), -1),
    ] {
        assert!(spend(&redis, name, &limit).await);
        let ttl_ms: i64 = query(&mut raw, &format!("PTTL {}", key(name)));
        assert!(ttl_ms <= ttl_max_ms && ttl_max_ms.min(0) <= ttl_ms, "{name}: {ttl_ms}");
    }
    let gone = || query::<i64>(&mut raw, &format!("EXISTS {}", key("bucket"))) == 0;
    until("the bucket's record is gone", gone).await;
    let give_back = one("total", &total(5), GiveBack(1));
    redis.store.charge(&give_back, Clock::system().now()).await.unwrap();
    assert_eq!(query::<i64>(&mut raw, &format!("EXISTS {}", key("total"))), 0);
}

#[tokio::test]
async fn a_record_keeps_what_another_policy_put_there() {
    let Some(server) = Server::start(&[]) else { return };
    let redis = Connected::open(&server.url()).await;
    let (ours, theirs) = (fixed(5, 60_000), sliding(5, 3_600_000));
    let charge = |limit, hits, ms| {
        let ask = one("k", limit, hits);
        let store = redis.store.clone();
        async move { store.charge(&ask, after(ms)).await.unwrap().decisions[0].standing.remaining }
    };
    assert_eq!(charge(&theirs, Spend(4), 0).await, 1);
    assert_eq!(charge(&ours, Spend(1), 1).await, 4);
    assert_eq!(charge(&ours, GiveBack(1), 2).await, 5);
    assert_eq!(charge(&theirs, Spend(0), 3).await, 1);
    // And forgets it with its window.
    assert_eq!(charge(&ours, Spend(1), 3_600_001).await, 4);
    let mut raw = server.raw().await;
    assert!(query::<i64>(&mut raw, &format!("STRLEN {}", key("k"))) < 40);
}

#[tokio::test]
async fn bytes_that_are_no_record_count_as_none() {
    let Some(server) = Server::start(&[]) else { return };
    let redis = Connected::open(&server.url()).await;
    let mut raw = server.raw().await;
    let limit = sliding(100, 60_000);
    assert!(spend(&redis, "k", &limit).await);
    let record: Vec<u8> = redis::cmd("GET").arg(key("k").as_str()).query(&mut raw).unwrap();
    let mut broken: Vec<Vec<u8>> = (0..record.len()).map(|len| record[..len].to_vec()).collect();
    broken.extend((0..record.len()).map(|place| {
        let mut bytes = record.clone();
        bytes[place] ^= 0xff;
        bytes
    }));
    broken.push(b"hello".to_vec());
    broken.push(vec![0xff; 300]);
    for bytes in broken {
        let set = redis::cmd("SET").arg(key("k").as_str()).arg(&bytes).exec(&mut raw);
        set.unwrap();
        // Whether it is admitted depends on the bytes; there must be an answer.
        spend(&redis, "k", &limit).await;
    }
    query::<()>(&mut raw, &format!("SET {} hello", key("k")));
    assert!(spend(&redis, "k", &limit).await);
}

#[tokio::test]
async fn another_type_under_the_key_is_told_and_breaks_nothing_else() {
    let Some(server) = Server::start(&[]) else { return };
    let redis = Connected::open(&server.url()).await;
    let mut raw = server.raw().await;
    query::<()>(&mut raw, &format!("LPUSH {} x", key("k")));
    let limit = sliding(5, 60_000);
    let ask = batch(&[("fine", 0, Enforce, &limit, Spend(1)), ("k", 1, Enforce, &limit, Spend(1))]);
    let error = redis.store.charge(&ask, Clock::system().now()).await.unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    assert_eq!(query::<i64>(&mut raw, &format!("EXISTS {}", key("fine"))), 0);
    assert!(spend(&redis, "fine", &limit).await);
}

#[tokio::test]
async fn a_flushed_script_or_database_is_no_error() {
    let Some(server) = Server::start(&[]) else { return };
    let redis = Connected::open(&server.url()).await;
    let mut raw = server.raw().await;
    let limit = total(2);
    assert!(spend(&redis, "k", &limit).await);
    query::<()>(&mut raw, "SCRIPT FLUSH");
    assert!(spend(&redis, "k", &limit).await);
    assert!(!spend(&redis, "k", &limit).await);
    query::<()>(&mut raw, "FLUSHALL");
    assert!(spend(&redis, "k", &limit).await);
}

#[tokio::test]
async fn a_killed_server_is_told_in_time_and_found_again() {
    let Some(mut server) = Server::start(&[]) else { return };
    let redis = Connected::begin(&quick(&server));
    redis.ready().await;
    let limit = sliding(100, 60_000);
    recovers(&redis, &limit).await;
    server.kill();
    let started = Instant::now();
    let ask = one("k", &limit, Spend(1));
    let error = redis.store.charge(&ask, Clock::system().now()).await.unwrap_err();
    assert!(matches!(error, StoreError::Lost { .. } | StoreError::Disconnected { .. }), "{error}");
    assert!(started.elapsed() < DEADLINE + GRACE);
    until("the loss is known", || redis.store.health() != Health::Healthy).await;
    server.launch();
    recovers(&redis, &limit).await;
    assert_eq!((redis.store.reconnects(), redis.store.breaks()), (1, 1));
}

#[tokio::test]
async fn a_stalled_server_is_late_and_found_again() {
    let Some(server) = Server::start(&[]) else { return };
    let redis = Connected::begin(&quick(&server));
    redis.ready().await;
    let limit = sliding(100, 60_000);
    recovers(&redis, &limit).await;
    server.signal("STOP");
    let started = Instant::now();
    let ask = one("k", &limit, Spend(1));
    let error = redis.store.charge(&ask, Clock::system().now()).await.unwrap_err();
    assert!(matches!(error, StoreError::Late { .. }), "{error}");
    assert!(started.elapsed() < DEADLINE + GRACE);
    until("it is given up", || redis.store.health() != Health::Healthy).await;
    server.signal("CONT");
    recovers(&redis, &limit).await;
    assert_eq!(redis.store.reconnects(), 1);
}

#[tokio::test]
async fn the_server_may_start_after_the_store() {
    let Some(mut server) = Server::prepare(&[]) else { return };
    let redis = Connected::begin(&quick(&server));
    let limit = sliding(100, 60_000);
    let ask = one("k", &limit, Spend(1));
    let error = redis.store.charge(&ask, Clock::system().now()).await.unwrap_err();
    assert!(matches!(error, StoreError::Disconnected { .. }), "{error}");
    server.launch();
    recovers(&redis, &limit).await;
}

#[tokio::test]
async fn a_calendar_follows_the_servers_clock() {
    let Some(server) = Server::start(&[]) else { return };
    let redis = Connected::open(&server.url()).await;
    let limit = calendar(1, CalendarUnit::Minute, "UTC");
    // This process's clock is in 2025: the first answer corrects the estimate.
    let Now::Given(wrong) = after(0) else { return };
    let ask = one("k", &limit, Spend(1));
    let outcome = redis.store.charge(&ask, Now::Local(wrong)).await.unwrap();
    let off = outcome.at.since(Clock::system().now().timestamp());
    assert!(outcome.admitted && off < Duration::from_secs(60));
    let mut raw = server.raw().await;
    let before = calls(&mut raw, "fcall");
    redis.store.charge(&ask, Now::Local(wrong)).await.unwrap();
    assert_eq!(calls(&mut raw, "fcall") - before, 1, "the clock is known by now");
}

#[tokio::test]
async fn logins_and_databases_are_used() {
    let may = "on >hush ~tg1* +evalsha +script|load +get +set +del +time +ping +select";
    let mut words = vec!["--requirepass", "secret"];
    // The second one may beat, but not write what that writes: both are alone, as far as they know.
    for (name, more) in [("gate", "-eval"), ("beat", "+eval")] {
        words.extend(["--user", name].into_iter().chain(may.split(' ')).chain([more]));
    }
    let Some(server) = Server::start(&words) else { return };
    let limit = total(1);
    let mut settings = RedisSettings::new(&server.url());
    settings.deadline = PATIENCE;
    settings.password = Some(Password::Text("secret".to_owned()));
    let default = Connected::begin(&settings);
    default.ready().await;
    assert!(spend(&default, "k", &limit).await);
    settings.database = Some(3);
    let third = Connected::begin(&settings);
    third.ready().await;
    assert!(spend(&third, "k", &limit).await, "another database holds other counters");
    settings.password = Some(Password::Text("hush".to_owned()));
    for name in ["gate", "beat"] {
        settings.username = Some(name.to_owned());
        let user = Connected::begin(&settings);
        user.ready().await;
        assert!(!spend(&user, "k", &limit).await, "{name}");
    }

    settings.password = Some(Password::Text("wrong-hush".to_owned()));
    let stranger = Connected::begin(&settings);
    let reason = reason_of(&stranger).await;
    assert!(reason.contains("authentication failed"), "{reason}");
    assert!(!reason.contains("wrong-hush"), "{reason}");
}

#[tokio::test]
async fn a_server_without_memory_is_left_alone_until_it_has_some() {
    let Some(server) = Server::start(&[]) else { return };
    let mut raw = server.raw().await;
    let store = support::store::Store::Redis(server);
    let policy = "{domain: full, descriptors: [{key: user, limits: [9/day]}]}";
    let tollgate = Tollgate::serve(policy, &store).await;
    let mut client = tollgate.client().await;
    query::<()>(&mut raw, "CONFIG SET maxmemory 1");
    let out = "Redis unavailable";
    eventually(out, async || {
        let asked = client::request("full", &[&[("user", "carol")]]);
        // Until the breaker opens, its own refusals report that; `on_outage` is `error`.
        let status = client.should_rate_limit(asked).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
        tollgate.output().contains(out).then_some(())
    })
    .await;
    query::<()>(&mut raw, "CONFIG SET maxmemory 0");
    let back = "Redis answers again";
    eventually(back, async || tollgate.output().contains(back).then_some(())).await;
    let output = tollgate.output();
    assert!(output.contains("OOM") && !output.contains("carol"), "{output}");
    assert_eq!((output.matches(out).count(), output.matches(back).count()), (1, 1), "{output}");
}

/// The reason that a store can't connect.
async fn reason_of(stranger: &Connected) -> String {
    let ask = one("k", &total(1), Spend(1));
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let reported = async {
        loop {
            ticks.tick().await;
            let error = stranger.store.charge(&ask, Clock::system().now()).await.unwrap_err();
            if !error.to_string().contains("not connected yet") {
                return error.to_string();
            }
        }
    };
    tokio::time::timeout(PATIENCE, reported).await.expect("an attempt ends")
}

/// A server with that certificate, and the settings by which it is trusted and has decided a request.
async fn trusting(tls: &Tls) -> Option<(Server, RedisSettings)> {
    let port = free_port();
    let flags = tls.flags(port);
    let server = Server::start(&flags.each_ref().map(String::as_str))?;
    let _ = server.raw().await;
    let mut settings = RedisSettings::new(&format!("rediss://127.0.0.1:{port}"));
    settings.deadline = PATIENCE;
    settings.tls = tls.settings();
    let trusted = Connected::begin(&settings);
    trusted.ready().await;
    assert!(spend(&trusted, "k", &total(1)).await);
    Some((server, settings))
}

#[tokio::test]
async fn tls_checks_the_servers_certificate() {
    let tls = Tls::new();
    let Some((_server, mut settings)) = trusting(&tls).await else { return };

    settings.tls.server_name = Some("other.test".to_owned());
    let misnamed = Connected::begin(&settings);
    let reason = reason_of(&misnamed).await;
    assert!(reason.contains("certificate"), "{reason}");
}

#[tokio::test]
async fn a_certificate_that_signs_itself_is_trusted_if_it_is_the_one_in_the_ca_file() {
    let (tls, other) = (Tls::self_signed(), Tls::self_signed());
    let Some((_server, mut settings)) = trusting(&tls).await else { return };

    settings.tls.server_name = Some("other.test".to_owned());
    let misnamed = reason_of(&Connected::begin(&settings)).await;
    assert!(misnamed.contains("not valid for name"), "{misnamed}");
    settings.tls = other.settings();
    let stranger = reason_of(&Connected::begin(&settings)).await;
    assert!(stranger.contains("CaUsedAsEndEntity"), "{stranger}");
}

/// Half of what a heartbeat would take to notice it.
const SOON: Duration = Duration::from_millis(500);

/// As servers do by their `timeout`, and operators by hand.
#[tokio::test]
async fn a_connection_that_is_closed_while_idle_is_replaced_at_once() {
    let tls = Tls::new();
    let (plain, encrypted) = (free_port().to_string(), free_port());
    let flags = tls.flags(encrypted);
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(["--port", &plain]).collect();
    let Some(server) = Server::start(&flags) else { return };
    let mut raw = server.raw().await;
    let tcp = RedisSettings::new(&format!("redis://127.0.0.1:{plain}"));
    let mut with_tls = RedisSettings::new(&format!("rediss://127.0.0.1:{encrypted}"));
    with_tls.tls = tls.settings();
    for settings in [RedisSettings::new(&server.url()), tcp, with_tls] {
        let redis = Connected::begin(&RedisSettings { deadline: PATIENCE, ..settings });
        redis.ready().await;
        let mut fastest = Duration::MAX;
        for _ in 0..5 {
            // A connection that is closed within a tenth of a second counts as one of a server that closes all.
            let mut quiet = tokio::time::interval(Duration::from_millis(200));
            quiet.tick().await;
            quiet.tick().await;
            let before = redis.store.reconnects();
            query::<u64>(&mut raw, "CLIENT KILL TYPE normal");
            let closed = Instant::now();
            until("there is a connection again", || before < redis.store.reconnects()).await;
            fastest = fastest.min(closed.elapsed());
            assert!(spend(&redis, "k", &total(1_000)).await);
        }
        assert!(fastest < SOON, "{fastest:?}");
        assert_eq!(redis.store.breaks(), 0);
    }
}

#[tokio::test]
async fn the_request_after_a_closed_connection_is_decided_by_redis() {
    let Some(server) = Server::start(&[]) else { return };
    let mut raw = server.raw().await;
    let store = support::store::Store::Redis(server);
    let policy = "{domain: d, caller: {key: user}, descriptors: [{key: user, limits: [99/day]}]}";
    let tollgate = Tollgate::serve(policy, &store).await;
    let mut client = tollgate.client().await;
    let mut quiet = tokio::time::interval(Duration::from_millis(400));
    quiet.tick().await;
    for left in (94..99).rev() {
        quiet.tick().await;
        query::<u64>(&mut raw, "CLIENT KILL TYPE normal");
        quiet.tick().await;
        let asked = client::request("d", &[&[("user", "alice")]]);
        let answer = client.should_rate_limit(asked).await.unwrap().into_inner();
        assert_eq!((answer.overall_code, answer.statuses[0].limit_remaining), (1, left));
    }
    let output = tollgate.output();
    assert!(!output.contains("Redis unavailable"), "{output}");
}
