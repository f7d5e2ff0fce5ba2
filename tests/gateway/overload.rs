//! Overload of time, memory and names. Well-behaved clients are served.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::client::{Grpc, Http, request};
use crate::support::eventually;
use crate::support::http2::{Connection, framed};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const MIB: u64 = 1024 * 1024;

const POLICY: &str = "{domain: calm, descriptors: [{key: user, limits: [1000000/day]}]}";

/// The value of a metric.
async fn metric(tollgate: &Tollgate, name: &str) -> u64 {
    let text = metrics(tollgate).await;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

async fn metrics(tollgate: &Tollgate) -> String {
    let url = format!("http://{}/metrics", tollgate.http_address);
    String::from_utf8(Http::new().get(&url, &[]).await.body.to_vec()).unwrap()
}

/// Requests one hit of alice's, and returns her remaining hits.
async fn left_to_alice(client: &mut Grpc) -> u32 {
    let ask = request("calm", &[&[("user", "alice")]]);
    client.should_rate_limit(ask).await.unwrap().into_inner().statuses[0].limit_remaining
}

/// Sends most of the largest message repeatedly, and counts the refusals.
async fn send_halves(address: SocketAddr, sent_away: Arc<AtomicUsize>) {
    const STREAMS: usize = 64;
    let mut half = vec![0; 250_000];
    // It announces 256 KiB.
    half[2] = 4;
    let half = Bytes::from(half);
    let connection = Connection::open(address).await;
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS {
        let (mut connection, half, sent_away) =
            (connection.clone(), half.clone(), sent_away.clone());
        streams.spawn(async move {
            loop {
                let reported = connection.send(half.clone(), false, &[]).await.reported().await;
                assert_eq!(reported.code, Code::ResourceExhausted, "{reported:?}");
                sent_away.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    streams.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn incomplete_large_messages_starve_no_client_and_fill_no_memory() {
    let tollgate = Tollgate::serve(POLICY, &Store::Embedded).await;
    let mut calm = tollgate.client().await;
    let sent_away = Arc::<AtomicUsize>::default();
    let mut floods = JoinSet::new();
    // Half a gigabyte in total.
    for _ in 0..32 {
        floods.spawn(send_halves(tollgate.grpc_address, sent_away.clone()));
    }
    // As on a machine that has no CPU for the second frame of a message: thousands arrive between its halves.
    let ask = framed(&request("calm", &[&[("user", "bob")]]));
    let mut slow = Connection::open(tollgate.grpc_address).await;
    for _ in 0..3 {
        let mut asking = slow.send(ask.slice(..9), false, &[]).await;
        let before = sent_away.load(Ordering::SeqCst);
        eventually("500 that had to go between the halves of a message", async || {
            (before + 500 <= sent_away.load(Ordering::SeqCst)).then_some(())
        })
        .await;
        asking.rest(ask.slice(9..));
        let reported = asking.reported().await;
        assert_eq!(reported.code, Code::Ok, "{reported:?}");
    }
    let mut asked = 0;
    eventually("8,000 that had to go, beside a client that is answered", async || {
        asked += 1;
        assert_eq!(left_to_alice(&mut calm).await, 1_000_000 - asked);
        (8_000 <= sent_away.load(Ordering::SeqCst)).then_some(())
    })
    .await;
    let held = metric(&tollgate, "tollgate_held_requests_bytes").await;
    assert!(held <= 96 * MIB, "{held}");
    let shed = metric(&tollgate, r#"tollgate_shed_requests_total{reason="slow"}"#).await;
    assert!(8_000 <= shed, "{shed}");
    let peak = tollgate.memory_peak();
    println!("{asked} answered beside {shed} that were sent away, with {} MiB", peak / MIB);
    assert!(peak <= 256 * MIB, "{peak}");
    floods.shutdown().await;
    eventually("all that they held to be free", async || {
        (metric(&tollgate, "tollgate_held_requests_bytes").await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_can_not_be_answered_in_time_is_not_decided() {
    const AT_ONCE: usize = 1_000;
    let tollgate = Tollgate::serve(POLICY, &Store::Embedded).await;
    let mut connection = Connection::open(tollgate.grpc_address).await;
    let ask = framed(&request("calm", &[&[("user", "alice")]]));
    let (mut answered, mut late) = (0, 0);
    eventually("requests that came too late", async || {
        let mut sent = Vec::new();
        for _ in 0..AT_ONCE {
            sent.push(connection.send(ask.clone(), true, &[("grpc-timeout", b"5m")]).await);
        }
        for sent in sent {
            match sent.reported().await.code {
                Code::Ok => answered += 1,
                Code::DeadlineExceeded => late += 1,
                other => panic!("{other:?}"),
            }
        }
        (0 < late).then_some(())
    })
    .await;
    let half = connection.send(ask.slice(..9), false, &[("grpc-timeout", b"5m")]).await;
    assert_eq!(half.reported().await.code, Code::DeadlineExceeded, "it never comes whole");
    late += 1;
    println!("{answered} answered, {late} too late");
    let left = left_to_alice(&mut tollgate.client().await).await;
    assert_eq!(left, 1_000_000 - answered - 1, "only what was answered is spent");
    let shed = metric(&tollgate, r#"tollgate_shed_requests_total{reason="late"}"#).await;
    assert_eq!(shed, late);
}

/// Requests one hit for each of many new names.
async fn ask_as_strangers(connection: &mut Connection, numbers: Range<usize>) {
    let mut sent = Vec::new();
    for number in numbers {
        let name = format!("stranger {number}");
        let ask = framed(&request("calm", &[&[("user", name.as_str())]]));
        sent.push(connection.send(ask, true, &[]).await);
    }
    for sent in sent {
        let verdict = sent.reported().await.verdict.unwrap();
        assert_eq!(verdict.statuses[0].limit_remaining, 4);
    }
}

#[tokio::test]
async fn a_flood_of_names_fills_no_memory_and_evicts_no_counter_in_use() {
    const NAMES: usize = 15_000;
    const KEYS_MAX: u64 = 3_000;
    const CONNECTIONS: usize = 4;
    const AT_ONCE: usize = 250;
    // Known callers count for a day, and new names for a minute.
    let policy = "
domain: calm
descriptors:
- {key: user, value: alice, limits: [{rate: 1000000/day, name: alice}]}
- {key: user, detailed_metric: true, value_to_metric: true, limits: [{rate: 5/minute, name: stranger}]}";
    let flags = [format!("--memory-keys-max={KEYS_MAX}")];
    let flags = flags.each_ref().map(String::as_str);
    let tollgate = Tollgate::serve_with(policy, &Store::Embedded, &flags).await;
    let mut calm = tollgate.client().await;
    assert_eq!(left_to_alice(&mut calm).await, 999_999);
    let series_before = metrics(&tollgate).await.lines().count();
    let before = tollgate.memory_peak();

    let next = Arc::<AtomicUsize>::default();
    let mut floods = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (address, next) = (tollgate.grpc_address, next.clone());
        floods.spawn(async move {
            let mut connection = Connection::open(address).await;
            loop {
                let first = next.fetch_add(AT_ONCE, Ordering::SeqCst);
                if NAMES <= first {
                    return;
                }
                ask_as_strangers(&mut connection, first..first + AT_ONCE).await;
            }
        });
    }
    let mut asked = 1;
    eventually("the end of the flood, beside a client that is answered", async || {
        asked += 1;
        assert_eq!(left_to_alice(&mut calm).await, 1_000_000 - asked);
        while floods.try_join_next().map(Result::unwrap).is_some() {}
        floods.is_empty().then_some(())
    })
    .await;
    let evictions = eventually("what was given up to be counted", async || {
        let evictions = metric(&tollgate, "tollgate_memory_evictions_total").await;
        (0 < evictions).then_some(evictions)
    })
    .await;
    assert!(metric(&tollgate, "tollgate_memory_keys").await <= KEYS_MAX + 256);
    let series = metrics(&tollgate).await.lines().count();
    assert_eq!(series, series_before, "names are no series");
    let peak = tollgate.memory_peak();
    println!(
        "{asked} answers, {evictions} given up, {} MiB and then {} MiB",
        before / MIB,
        peak / MIB
    );
    assert!(peak - before <= 64 * MIB, "{before} and then {peak}");
}
