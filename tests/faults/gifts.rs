//! Gifts without Redis, while the process is killed: hits are never given twice, and never lost.

use std::path::Path;
use std::time::Duration;

use axum::http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::support::client::Http;
use crate::support::eventually;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

/// Credits alone, on a limit whose counts outlive the process, and on one whose counts don't.
const POLICY: &str = "
domain: d
caller: { key: user }
descriptors:
- key: user
  limits: [{ name: tokens, rate: 0/total }, { name: burst, rate: 0/second }]";

const GRANTED: u64 = 1_000;

async fn serve(data_dir: &Path) -> Tollgate {
    let data_dir = data_dir.display().to_string();
    Tollgate::serve_with(POLICY, &Store::Embedded, &["--data-dir", &data_dir]).await
}

/// Starts with credits of one caller.
async fn with_credits(data_dir: &Path) -> Tollgate {
    let tollgate = serve(data_dir).await;
    let grant = |limit| json!({ "id": limit, "limit": limit, "amount": GRANTED });
    let giver = json!({ "bonuses": [grant("tokens"), grant("burst")] });
    for (name, body) in [("ann", giver), ("bob", json!({}))] {
        let request = Request::put(url(&tollgate, name)).body(Full::from(body.to_string()));
        assert_eq!(Http::new().send(request.unwrap()).await.status, 201);
    }
    tollgate
}

fn url(tollgate: &Tollgate, path: &str) -> String {
    format!("http://{}/v1/callers/{path}", tollgate.http_address)
}

fn gift(id: &str, limit: &str, hits: u64) -> Value {
    json!({ "id": id, "to": "bob", "limit": limit, "hits": hits })
}

/// What both have left of their credits on a limit.
async fn remaining(tollgate: &Tollgate, limit: &str) -> (u64, u64) {
    let of = async |name| {
        let answer = Http::new().get(&url(tollgate, &format!("{name}/quota")), &[]).await.json();
        let items = answer["items"].as_array().unwrap().iter();
        let of_limit = items.filter(|item| item["limit"] == limit);
        let grants = of_limit.flat_map(|item| item["grants"].as_array().into_iter().flatten());
        grants.map(|grant| grant["remaining"].as_u64().unwrap()).sum()
    };
    (of("ann").await, of("bob").await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_right_after_the_answer_leaves_the_hits_with_the_receiver_alone() {
    let folder = TempDir::new().unwrap();
    let mut tollgate = with_credits(folder.path()).await;
    for (number, limit) in [(1, "tokens"), (1, "burst"), (2, "tokens"), (2, "burst")] {
        let gift = gift(&format!("{limit}-{number}"), limit, 30);
        let answer = Http::new().post(&url(&tollgate, "ann/gifts"), &[], &gift.to_string()).await;
        assert_eq!(answer.status, 201, "{:?}", answer.json());
        drop(tollgate);
        tollgate = serve(folder.path()).await;
        let expected = (GRANTED - number * 30, number * 30);
        assert_eq!(remaining(&tollgate, limit).await, expected, "{limit}");
        // Its hits are known to be taken.
        let again = Http::new().post(&url(&tollgate, "ann/gifts"), &[], &gift.to_string()).await;
        assert_eq!(again.status, 201, "{:?}", again.json());
        assert_eq!(remaining(&tollgate, limit).await, expected, "{limit}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_moment_of_a_gift_gives_it_once() {
    let folder = TempDir::new().unwrap();
    let mut tollgate = with_credits(folder.path()).await;
    let mut cut = 0;
    for round in 1..=24_u64 {
        let limit = if round % 2 == 0 { "tokens" } else { "burst" };
        let gift = gift(&format!("g{round}"), limit, 5).to_string();
        let path = url(&tollgate, "ann/gifts");
        // Real time: the moment of the kill is what is tested. A gift takes some 10 ms.
        let http = Http::new();
        let given = timeout(Duration::from_millis(round), http.try_post(&path, &gift)).await;
        cut += u32::from(given.is_err());
        drop(tollgate);
        tollgate = serve(folder.path()).await;
        let (ann, bob) = remaining(&tollgate, limit).await;
        let all = round.div_ceil(2) * 5;
        assert!(ann + bob <= GRANTED && GRANTED - all <= ann && bob <= all, "{round}: {ann} {bob}");
        let mut status = 0;
        while status != 201 {
            let answer = Http::new().post(&url(&tollgate, "ann/gifts"), &[], &gift).await;
            status = answer.status;
            assert!(matches!(status, 201 | 202), "{:?}", answer.json());
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(remaining(&tollgate, limit).await, (GRANTED - all, all), "{round}");
    }
    println!("{cut} of 24 gifts were cut off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_file_of_counters_can_not_be_written_a_gift_is_pending() {
    let folder = TempDir::new().unwrap();
    let in_the_way = folder.path().join("counters.redb");
    std::fs::create_dir(&in_the_way).unwrap();
    let tollgate = with_credits(folder.path()).await;
    let gift = gift("g1", "tokens", 30).to_string();
    let give = async || Http::new().post(&url(&tollgate, "ann/gifts"), &[], &gift).await;
    let answer = give().await;
    assert_eq!((answer.status, &answer.json()["state"]), (202, &json!("pending")));
    assert_eq!(remaining(&tollgate, "tokens").await, (GRANTED - 30, 0), "they are nobody's");
    std::fs::remove_dir(&in_the_way).unwrap();
    eventually("the gift", async || (give().await.status == 201).then_some(())).await;
    assert_eq!(remaining(&tollgate, "tokens").await, (GRANTED - 30, 30));
}
