//! The counters of the embedded store in `data_dir`: what a kill loses, that SIGTERM loses nothing, and edits between.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::client::{Http, request};
use crate::support::eventually;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const POLICY: &str = "
domain: shop
caller: { key: user }
descriptors:
  - key: user
    limits: [{ name: daily, rate: 100000/day }, { name: monthly, rate: 200000/month }, { name: ever, rate: 300000/total }, { name: burst, rate: 90000/minute }]
";

const EDITED: &str = "
domain: shop
caller: { key: user }
descriptors:
  - key: user
    limits: [{ name: daily, rate: 50000/day }, { name: monthly, rate: 200000/week }, { name: ever, rate: 300000/total }]
";

async fn serve(policy: &str, data_dir: &Path) -> Tollgate {
    let data_dir = data_dir.display().to_string();
    Tollgate::serve_with(
        policy,
        &Store::Embedded,
        &["--data-dir", &data_dir, "--drain-delay", "0s"],
    )
    .await
}

/// The hits in use of each limit of a caller.
async fn used(tollgate: &Tollgate, caller: &str) -> Vec<(String, u64)> {
    let url = format!("http://{}/v1/callers/{caller}/quota", tollgate.http_address);
    let answer = Http::new().get(&url, &[]).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let page = answer.json();
    let limits = page["items"].as_array().unwrap().iter();
    let used = limits.map(|limit| {
        (limit["limit"].as_str().unwrap().to_owned(), limit["used"].as_u64().unwrap())
    });
    used.collect()
}

fn of(used: &[(String, u64)], name: &str) -> u64 {
    used.iter().find(|(known, _)| known.ends_with(name)).unwrap_or_else(|| panic!("{used:?}")).1
}

/// Spends single hits until the time is over. Returns when each of them was answered.
async fn spend(tollgate: &Tollgate, caller: &str, time: Duration) -> Vec<Instant> {
    let mut client = tollgate.client().await;
    let (start, mut answered) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        let asked = request("shop", &[&[("user", caller)]]);
        let answer = client.should_rate_limit(asked).await.unwrap().into_inner();
        assert_eq!(answer.overall_code, 1);
        answered.push(Instant::now());
    }
    answered
}

async fn writes(tollgate: &Tollgate) -> u64 {
    let url = format!("http://{}/metrics", tollgate.http_address);
    let text = String::from_utf8(Http::new().get(&url, &[]).await.body.to_vec()).unwrap();
    let name = "tollgate_counter_file_writes_total ";
    text.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap()
}

/// Waits until all hits so far are in the file. Returns how many more it has spent meanwhile.
async fn stored(tollgate: &Tollgate, caller: &str) -> u64 {
    // The second write from now on begins after all of them.
    let (expected, mut more) = (writes(tollgate).await + 2, 0);
    eventually("a write to the file", async || {
        more += spend(tollgate, caller, Duration::from_millis(1)).await.len() as u64;
        (expected <= writes(tollgate).await).then_some(())
    })
    .await;
    more
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_loses_at_most_the_last_second_of_counts_and_sigterm_none() {
    let folder = TempDir::new().unwrap();
    let mut truth = 0;
    for (round, millis) in [(0, 700), (1, 1_350), (2, 90), (3, 1_900), (4, 430), (5, 2_600)] {
        let mut tollgate = serve(POLICY, folder.path()).await;
        let before = used(&tollgate, "ann").await;
        for name in ["daily", "monthly", "ever"] {
            assert_eq!(of(&before, name), truth, "round {round}: {before:?}");
        }
        assert_eq!(of(&before, "burst"), 0, "a window of a minute starts again");
        truth += spend(&tollgate, "ann", Duration::from_millis(millis)).await.len() as u64;
        if round % 2 == 0 {
            tollgate.terminate();
            assert!(tollgate.exit().await.success());
            assert!(tollgate.output().contains("counters were stored"));
            continue;
        }
        truth += stored(&tollgate, "ann").await;
        let unsure = spend(&tollgate, "ann", Duration::from_millis(millis)).await;
        let killed = Instant::now();
        drop(tollgate);
        let restarted = serve(POLICY, folder.path()).await;
        let after = used(&restarted, "ann").await;
        let counted = of(&after, "daily");
        assert!((truth..=truth + unsure.len() as u64).contains(&counted), "round {round}");
        let lost = truth + unsure.len() as u64 - counted;
        let kept = usize::try_from(counted - truth).unwrap();
        let age = unsure.get(kept).map_or(0, |oldest| (killed - *oldest).as_millis());
        println!("round {round}: {lost} of {} hits lost, the oldest {age} ms old", unsure.len());
        for name in ["monthly", "ever"] {
            assert_eq!(of(&after, name), counted, "round {round}: {after:?}");
        }
        truth = counted;
        let mut restarted = restarted;
        restarted.terminate();
        assert!(restarted.exit().await.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_is_edited_between_keeps_the_counts_of_its_limits() {
    let folder = TempDir::new().unwrap();
    let mut tollgate = serve(POLICY, folder.path()).await;
    let truth = spend(&tollgate, "ann", Duration::from_millis(50)).await.len() as u64;
    tollgate.terminate();
    assert!(tollgate.exit().await.success());
    let edited = serve(EDITED, folder.path()).await;
    let now = used(&edited, "ann").await;
    assert_eq!((of(&now, "daily"), of(&now, "monthly"), of(&now, "ever")), (truth, 0, truth));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_or_locked_counter_file_stops_no_start() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("counters.redb"), "no database").unwrap();
    let mut first = serve(POLICY, folder.path()).await;
    assert!(first.output().contains("the file of counters is damaged"), "{}", first.output());
    // As in a rolling update: the next process has its own counts until it has the file.
    let second = serve(POLICY, folder.path()).await;
    assert!(second.output().contains("another process has it open"), "{}", second.output());
    let mut truth = spend(&first, "ann", Duration::from_millis(50)).await.len() as u64;
    truth += spend(&second, "ann", Duration::from_millis(50)).await.len() as u64;
    first.terminate();
    assert!(first.exit().await.success());
    eventually("both counts", async || {
        (of(&used(&second, "ann").await, "ever") == truth).then_some(())
    })
    .await;
    let names = std::fs::read_dir(folder.path()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        names.iter().all(|name| name.to_string_lossy().starts_with("counters.redb")),
        "{names:?}"
    );
}
