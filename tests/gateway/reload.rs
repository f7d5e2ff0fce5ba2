//! Edits of policy files, as editors, package managers and Kubernetes make them, under a running Tollgate.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tokio::time::timeout;

use crate::support::client::{Grpc, Http, request};
use crate::support::eventually;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

/// Far below the poll interval, since the poll must not be the one to find an edit; far above the promised second, for
/// busy machines.
const LIVE_WITHIN: Duration = Duration::from_secs(15);

/// A Tollgate with the policy of [`rate`] 1/day, and a way to read the policy in force.
struct Served {
    tollgate: Tollgate,
    http: Http,
    policies: PathBuf,
}

/// A policy of one limit, identified by its amount.
fn rate(domain: &str, amount: u32) -> String {
    format!("domain: {domain}\ndescriptors:\n- key: user\n  limits: [{amount}/day]\n")
}

async fn served() -> Served {
    let tollgate = Tollgate::serve(&rate("first", 1), &Store::Embedded).await;
    let policies = tollgate.socket().with_file_name("policies");
    Served { tollgate, http: Http::new(), policies }
}

impl Served {
    fn file(&self) -> PathBuf {
        self.policies.join("policy.yaml")
    }

    async fn get(&self, path: &str) -> String {
        let answer =
            self.http.get(&format!("http://{}{path}", self.tollgate.http_address), &[]).await;
        String::from_utf8(answer.body.to_vec()).unwrap()
    }

    /// Waits until `path` shows `text`, or no longer shows it.
    async fn wait(&self, path: &str, text: &str, shown: bool) {
        let what = format!("{text} at {path}: {shown}");
        let waiting = eventually(&what, async || {
            (self.get(path).await.contains(text) == shown).then_some(())
        });
        if timeout(LIVE_WITHIN, waiting).await.is_err() {
            panic!("{what} not within {LIVE_WITHIN:?}; there is\n{}", self.get(path).await);
        }
    }

    async fn wait_for_rate(&self, amount: u32) {
        self.wait("/policy", &format!("\"{amount}/day\""), true).await;
    }

    async fn wait_for_rejection(&self, rejected: bool) {
        let metric = format!("tollgate_policy_rejected {}", u8::from(rejected));
        self.wait("/metrics", &metric, true).await;
    }

    /// Writes `amount` as Kubernetes' AtomicWriter does: a new directory, then a link to it, swapped.
    fn swap_config_map(&self, version: &str, amount: u32) {
        let at = |name: &str| self.policies.join(name);
        let old = fs::read_link(at("..data")).ok();
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("policy.yaml"), rate("first", amount)).unwrap();
        symlink(version, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        if let Some(old) = old {
            fs::remove_dir_all(at("").join(old)).unwrap();
        }
    }
}

#[tokio::test]
async fn an_edit_in_place_and_a_rename_over_are_live() {
    let served = served().await;
    served.wait_for_rate(1).await;
    fs::write(served.file(), rate("first", 2)).unwrap();
    served.wait_for_rate(2).await;
    served.tollgate.edit(&rate("first", 3));
    served.wait_for_rate(3).await;
    served.tollgate.edit(&rate("first", 4));
    served.wait_for_rate(4).await;
}

#[tokio::test]
async fn a_new_file_is_live_and_a_removed_one_is_not() {
    let served = served().await;
    let folder = served.policies.join("below");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("second.yaml"), rate("second", 2)).unwrap();
    served.wait_for_rate(2).await;
    fs::write(folder.join("third.yml"), rate("third", 3)).unwrap();
    served.wait_for_rate(3).await;
    fs::remove_file(folder.join("second.yaml")).unwrap();
    served.wait("/policy", "second", false).await;
    served.wait_for_rate(3).await;
}

#[tokio::test]
async fn a_file_of_another_name_is_told_of_once() {
    let served = served().await;
    fs::write(served.policies.join("basic"), rate("second", 2)).unwrap();
    let reported = "file ignored: its name ends in neither .yaml nor .yml";
    eventually("a warning", async || served.tollgate.output().contains(reported).then_some(()))
        .await;
    fs::write(served.file(), rate("first", 3)).unwrap();
    served.wait_for_rate(3).await;
    assert_eq!(served.tollgate.output().matches(reported).count(), 1);
    served.wait("/policy", "second", false).await;
}

#[tokio::test]
async fn a_config_map_is_live_after_each_swap() {
    let served = served().await;
    served.swap_config_map("..2026_1", 2);
    fs::remove_file(served.file()).unwrap();
    symlink("..data/policy.yaml", served.file()).unwrap();
    served.wait_for_rate(2).await;
    for (version, amount) in [("..2026_2", 3), ("..2026_3", 4), ("..2026_4", 5)] {
        served.swap_config_map(version, amount);
        served.wait_for_rate(amount).await;
    }
}

#[tokio::test]
async fn a_bad_edit_changes_nothing_and_tells_every_problem() {
    let served = served().await;
    served.tollgate.edit("domain: first\nlimit: 1\ndescriptors: [{key: user, limits: [2/dy]}]\n");
    served.wait_for_rejection(true).await;
    served.wait_for_rate(1).await;
    eventually("both problems in the log", async || {
        let output = served.tollgate.output();
        (output.contains("policy.yaml:2:1\n") && output.contains("policy.yaml:3:36\n"))
            .then_some(())
    })
    .await;
    assert!(served.tollgate.output().contains("^^^^"), "{}", served.tollgate.output());

    served.tollgate.edit(&rate("first", 2));
    served.wait_for_rejection(false).await;
    served.wait_for_rate(2).await;
}

#[tokio::test]
async fn a_deleted_directory_keeps_the_policy_and_is_found_when_it_returns() {
    let served = served().await;
    fs::remove_dir_all(&served.policies).unwrap();
    served.wait_for_rejection(true).await;
    served.wait_for_rate(1).await;
    fs::create_dir(&served.policies).unwrap();
    fs::write(served.file(), rate("first", 2)).unwrap();
    served.wait_for_rate(2).await;
    // The directory is another one now, and is watched as the first was.
    fs::write(served.file(), rate("first", 3)).unwrap();
    served.wait_for_rate(3).await;
}

#[tokio::test]
async fn a_directory_of_garbage_keeps_the_policy() {
    let served = served().await;
    fs::remove_dir_all(&served.policies).unwrap();
    fs::write(&served.policies, [0xff, 0x00, 0xfe, b'{']).unwrap();
    served.wait_for_rejection(true).await;
    served.wait_for_rate(1).await;
    fs::remove_file(&served.policies).unwrap();
    fs::create_dir_all(served.policies.join("policy.yaml")).unwrap();
    fs::write(served.policies.join("other.yaml"), vec![b'['; 1_000_000]).unwrap();
    served.wait_for_rate(1).await;
    fs::remove_file(served.policies.join("other.yaml")).unwrap();
    fs::remove_dir(served.policies.join("policy.yaml")).unwrap();
    fs::write(served.file(), rate("first", 2)).unwrap();
    served.wait_for_rate(2).await;
    served.wait_for_rejection(false).await;
}

/// Links to themselves, because permissions do not affect root, the user in CI.
#[tokio::test]
async fn what_can_not_be_read_keeps_the_policy() {
    let served = served().await;
    let file = served.file();
    for path in [&file, &served.policies] {
        fs::remove_dir_all(path).or_else(|_| fs::remove_file(path)).unwrap();
        symlink(path, path).unwrap();
        served.wait_for_rejection(true).await;
        served.wait_for_rate(1).await;
        eventually("what can't be read is named", async || {
            let output = served.tollgate.output();
            output.contains(&format!("{}: ", path.display())).then_some(())
        })
        .await;
    }
    fs::remove_file(&served.policies).unwrap();
    fs::create_dir(&served.policies).unwrap();
    fs::write(file, rate("first", 2)).unwrap();
    served.wait_for_rate(2).await;
    served.wait_for_rejection(false).await;
}

#[tokio::test]
async fn counters_survive_an_edit() {
    let served = served().await;
    let mut client = served.tollgate.client().await;
    let ask = || request("first", &[&[("user", "alice")]]);
    client.should_rate_limit(ask()).await.unwrap();
    served.tollgate.edit(&rate("first", 3));
    served.wait_for_rate(3).await;
    let answer = client.should_rate_limit(ask()).await.unwrap().into_inner();
    assert_eq!(answer.statuses[0].limit_remaining, 1);
}

/// Sends requests of a user until one is refused, and returns the number that passed.
async fn passing(client: &mut Grpc) -> usize {
    for passed in 0..100 {
        let asked = client.should_rate_limit(request("first", &[&[("user", "alice")]])).await;
        if asked.unwrap().into_inner().overall_code() == Code::OverLimit {
            return passed;
        }
    }
    panic!("nothing is refused");
}

#[tokio::test]
async fn an_edit_keeps_the_counts_of_limits_that_stay_and_tells_of_those_that_start_anew() {
    let policy = |limits: &str| {
        format!("domain: first\ndescriptors: [{{ key: user, limits: [{limits}] }}]\n")
    };
    for store in Store::every() {
        let tollgate = Tollgate::serve(&policy("10/minute"), &store).await;
        let mut client = tollgate.client().await;
        assert_eq!(passing(&mut client).await, 10);
        let edits = ["{ name: trial, rate: 5/minute, mode: shadow }, 11/minute", "13/minute"];
        for (edit, passes) in edits.into_iter().zip([1, 2]) {
            tollgate.edit(&policy(edit));
            in_force(&tollgate, edit).await;
            assert_eq!(passing(&mut client).await, passes, "{edit}");
        }
        assert!(!tollgate.output().contains("starts a new count"), "{}", tollgate.output());
        let gone = "a limit is gone: no limit uses its counts";
        let is_reported = async || tollgate.output().contains(gone).then_some(());
        eventually("the log tells that a limit is gone", is_reported).await;
        tollgate.edit(&policy("7/hour"));
        in_force(&tollgate, "7/hour").await;
        assert_eq!(passing(&mut client).await, 7);
        let reported = "a limit starts a new count: its window was `minute`";
        assert!(tollgate.output().contains(reported), "{}", tollgate.output());
    }
}

/// Waits until the last limit of an edit is in force.
async fn in_force(tollgate: &Tollgate, edit: &str) {
    let rate = edit.rsplit(' ').next().unwrap();
    let http = Http::new();
    eventually(&format!("{rate} is in force"), async || {
        let answer = http.get(&format!("http://{}/policy", tollgate.http_address), &[]).await;
        String::from_utf8(answer.body.to_vec()).unwrap().contains(rate).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_touched_file_is_not_compiled_again() {
    let served = served().await;
    let before = served.get("/policy").await;
    copy_onto_itself(&served.file());
    served.wait("/metrics", "tollgate_reloads_total{result=\"unchanged\"} 0", false).await;
    served.wait("/metrics", "tollgate_reloads_total{result=\"ok\"} 0", true).await;
    assert_eq!(served.get("/policy").await, before);
}

fn copy_onto_itself(path: &Path) {
    let copy = path.with_extension("copy");
    fs::copy(path, &copy).unwrap();
    fs::rename(copy, path).unwrap();
}
