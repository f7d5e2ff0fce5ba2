//! Usage of several sidecars on one Redis: requests that a kill loses, and none that lost answers lose.

use crate::support::client::request;
use crate::support::eventually;
use crate::support::proxy::{Proxy, Way};
use crate::support::redis::{Server, until};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;
use crate::support::usage::{counted, requests};

const POLICY: &str = "
domain: shop
caller: { key: user }
descriptors: [{ key: user, limits: [{ name: daily, rate: 1000/day, on_outage: allow }] }]
";

async fn ask(tollgate: &Tollgate, times: usize) {
    let mut client = tollgate.client().await;
    for _ in 0..times {
        client.should_rate_limit(request("shop", &[&[("user", "ann")]])).await.unwrap();
    }
}

/// The requests in the sums by day in Redis, if there are any.
async fn stored(server: &Server) -> u64 {
    let mut raw = server.raw().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("tgu1{d*}t").query(&mut raw).unwrap();
    let sums = keys.iter().flat_map(|key| {
        let sums: Vec<String> = redis::cmd("HVALS").arg(key).query(&mut raw).unwrap();
        sums
    });
    // Sums of requests; those of limits have hits.
    let requests = sums.filter(|sums| !sums.contains('e')).map(|sums| {
        let digits = sums.strip_prefix("=a").unwrap();
        digits.split(char::is_alphabetic).next().unwrap().parse::<u64>().unwrap()
    });
    requests.sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_sidecar_loses_a_second_and_a_terminated_one_nothing() {
    let Some(server) = Server::start(&[]) else { return };
    let store = Store::Redis(server);
    let serve = async || Tollgate::serve_with(POLICY, &store, &["--usage=true"]).await;
    let (killed, mut terminated) = (serve().await, serve().await);
    ask(&killed, 50).await;
    ask(&terminated, 30).await;
    counted(&killed, 80).await;
    ask(&terminated, 7).await;
    terminated.terminate();
    ask(&killed, 20).await;
    drop(killed);
    assert!(terminated.exit().await.success());
    assert!(terminated.output().contains("usage was counted and stored requests=37"));

    let restarted = serve().await;
    let survived = requests(&restarted).await;
    assert!((87..=107).contains(&survived), "{survived}");
    ask(&restarted, 5).await;
    counted(&restarted, survived + 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_answer_was_lost_counts_once() {
    let Some(server) = Server::start(&[]) else { return };
    let proxy = Proxy::start(&server.socket()).await;
    let url = proxy.url();
    let flags = ["--redis-url", &url, "--store-deadline", "50ms", "--usage=true"];
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
    // So Redis has the code, and one call is enough for a batch.
    ask(&tollgate, 5).await;
    counted(&tollgate, 5).await;
    let mut expected = 5;
    for round in 0..4 {
        ask(&tollgate, 10).await;
        proxy.set(Way::Unanswered);
        expected += 10;
        eventually("the batch is in Redis", async || {
            (stored(&server).await == expected).then_some(())
        })
        .await;
        // So it sends the batch again. If the answer was not lost, the log shows it.
        let failures = || tollgate.output().matches("storing usage failed").count();
        until("the sidecar has no answer", || round < failures()).await;
        proxy.set(Way::Cut);
        proxy.set(Way::Through);
        let confirmed = || tollgate.output().matches("usage is stored again").count();
        until("the batch is confirmed", || round < confirmed()).await;
        counted(&tollgate, expected).await;
    }
    assert_eq!(stored(&server).await, 45);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_an_outage_no_sidecar_tells_its_own_usage_and_it_is_stored_after() {
    let Some(mut server) = Server::start(&["--appendonly", "yes"]) else { return };
    let flags = ["--redis-url", &server.url(), "--store-deadline", "50ms", "--usage=true"];
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
    ask(&tollgate, 10).await;
    counted(&tollgate, 10).await;
    server.kill();
    ask(&tollgate, 5).await;
    let paths =
        ["usage", "usage?after=1", "denials", "top", "report", "costs", "forecast?caller=ann"];
    for path in paths {
        let url = format!("http://{}/v1/{path}", tollgate.http_address);
        eventually("the answer without Redis", async || {
            let answer = crate::support::client::Http::new().get(&url, &[]).await;
            let is_problem = answer.status == 503 && answer.json()["status"] == 503;
            is_problem.then_some(())
        })
        .await;
    }
    server.launch();
    counted(&tollgate, 15).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_a_file_keeps_usage_over_kills_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().display().to_string();
    let flags = ["--usage=true", "--data-dir", &data_dir];
    let serve = async || Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
    let reported = async |tollgate: &Tollgate, expected: u64| {
        eventually("the requests in the usage", async || {
            (requests(tollgate).await == expected).then_some(())
        })
        .await;
    };
    let mut terminated = serve().await;
    ask(&terminated, 40).await;
    terminated.terminate();
    assert!(terminated.exit().await.success());
    let killed = serve().await;
    reported(&killed, 40).await;
    ask(&killed, 10).await;
    reported(&killed, 50).await;
    ask(&killed, 20).await;
    drop(killed);
    let restarted = serve().await;
    let survived = requests(&restarted).await;
    assert!((50..=70).contains(&survived), "{survived}");
    ask(&restarted, 5).await;
    reported(&restarted, survived + 5).await;
}
