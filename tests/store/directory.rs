//! Callers in a real Redis, read by sidecars through a cache that receives every change.

use std::sync::Arc;
use std::time::Duration;

use redis::cmd;
use tokio::task::JoinHandle;
use tollgate::policy::Caller;
use tollgate::store::redis::{Redis, RedisDirectory, RedisSettings};
use tollgate::store::{Change, Health, StoreWait};

use crate::support::cluster::Cluster;
use crate::support::redis::{Server, query, until};
use crate::support::{PATIENCE, eventually};

/// More than the few callers of a test, fewer than its flood.
const CACHED_MAX: usize = 100;

/// The directory of one sidecar.
struct Sidecar {
    directory: RedisDirectory,
    tasks: [JoinHandle<()>; 2],
}

impl Sidecar {
    async fn start(server: &Server, deadline: Duration) -> Self {
        Self::on(RedisSettings { deadline, ..RedisSettings::new(&server.url()) }).await
    }

    async fn on(settings: RedisSettings) -> Self {
        let (redis, connector) = Redis::try_new(&settings).unwrap();
        let (directory, subscriber) = redis.directory(CACHED_MAX);
        let tasks = [
            tokio::spawn(connector.run(std::future::pending())),
            tokio::spawn(subscriber.run(std::future::pending())),
        ];
        until("the store is connected", || redis.health() == Health::Healthy).await;
        let sidecar = Self { directory, tasks };
        sidecar.subscribed().await;
        sidecar
    }

    async fn subscribed(&self) {
        until("changes are heard of", || self.directory.is_subscribed()).await;
    }

    /// Sets the tier and the parent of a caller.
    async fn put(&self, name: &str, tier: &str, parent: Option<&str>) {
        let seen = self.directory.read(name).await.unwrap().map_or(0, |record| record.revision);
        let caller = Caller {
            tier: Some(tier.to_owned()),
            parent: parent.map(str::to_owned),
            ..Caller::default()
        };
        let change = Change { name, seen, depends_on: &[], caller: Some(&caller) };
        assert!(self.directory.write(change).await.unwrap().is_some());
    }

    /// The tiers of a caller and its parents.
    async fn tiers(&self, name: &str) -> Vec<String> {
        let members = self.directory.lineage(name, StoreWait::default()).await.members;
        members.iter().map(|member| member.caller.tier.clone().unwrap()).collect()
    }

    async fn wait_for(&self, name: &str, tiers: &[&str]) {
        eventually(&format!("{name} is {tiers:?}"), async || {
            (self.tiers(name).await == tiers).then_some(())
        })
        .await;
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[tokio::test]
async fn what_was_asked_for_is_at_hand_until_it_is_changed_elsewhere() {
    let Some(server) = Server::start(&[]) else { return };
    let one = Sidecar::start(&server, PATIENCE).await;
    one.put("acme", "enterprise", None).await;
    one.put("alice", "free", Some("acme")).await;
    // Only now, so that it receives no change during the fetch.
    let other = Sidecar::start(&server, PATIENCE).await;
    assert!(other.directory.cached("alice").is_none());
    assert_eq!(other.tiers("alice").await, ["free", "enterprise"]);
    let fetches = other.directory.fetches();
    assert_eq!(other.directory.cached("alice").unwrap().members.len(), 2);
    assert_eq!(other.tiers("alice").await, ["free", "enterprise"]);
    assert_eq!(other.directory.fetches(), fetches, "both were at hand");

    one.put("alice", "premium", Some("acme")).await;
    assert_eq!(one.tiers("alice").await[0], "premium", "who wrote it sees it at once");
    other.wait_for("alice", &["premium", "enterprise"]).await;
    assert_eq!(other.directory.fetches(), fetches + 1, "only what was changed is asked for");
}

#[tokio::test]
async fn an_unknown_name_is_at_hand_too_until_it_is_known() {
    let Some(server) = Server::start(&[]) else { return };
    let sidecar = Sidecar::start(&server, PATIENCE).await;
    assert!(sidecar.tiers("alice").await.is_empty());
    assert!(sidecar.directory.cached("alice").unwrap().members.is_empty());
    assert!(sidecar.directory.cached(&"x".repeat(257)).unwrap().members.is_empty());
    let other = Sidecar::start(&server, PATIENCE).await;
    other.put("alice", "free", None).await;
    sidecar.wait_for("alice", &["free"]).await;
    let seen = other.directory.read("alice").await.unwrap().unwrap().revision;
    let gone = Change { name: "alice", seen, depends_on: &[], caller: None };
    assert!(other.directory.write(gone).await.unwrap().is_some());
    sidecar.wait_for("alice", &[]).await;
}

#[tokio::test]
async fn a_change_while_the_subscription_is_broken_is_seen_all_the_same() {
    let Some(server) = Server::start(&[]) else { return };
    let (one, other) =
        (Sidecar::start(&server, PATIENCE).await, Sidecar::start(&server, PATIENCE).await);
    let mut raw = server.raw().await;
    for tier in ["free", "premium", "enterprise"] {
        one.put("alice", tier, None).await;
        other.wait_for("alice", &[tier]).await;
        let killed: u64 = cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]).query(&mut raw).unwrap();
        assert_eq!(killed, 2);
        let next = format!("{tier}+");
        one.put("alice", &next, None).await;
        other.wait_for("alice", &[&next]).await;
        one.subscribed().await;
        other.subscribed().await;
    }
}

#[tokio::test]
async fn a_flood_of_names_stays_within_the_cache() {
    let Some(server) = Server::start(&[]) else { return };
    let sidecar = Sidecar::start(&server, PATIENCE).await;
    for index in 0..10 * CACHED_MAX {
        assert!(sidecar.tiers(&format!("name {index}")).await.is_empty());
    }
    assert!(sidecar.directory.cached_len() <= CACHED_MAX);
}

#[tokio::test]
async fn while_redis_is_out_what_was_known_last_is_taken() {
    let Some(mut server) = Server::start(&[]) else { return };
    let sidecar = Sidecar::start(&server, Duration::from_millis(200)).await;
    sidecar.put("alice", "premium", None).await;
    sidecar.wait_for("alice", &["premium"]).await;
    server.kill();
    until("the loss is noticed", || !sidecar.directory.is_subscribed()).await;
    assert_eq!(sidecar.tiers("alice").await, ["premium"]);
    assert!(sidecar.tiers("bob").await.is_empty());
    assert!(sidecar.directory.read("alice").await.is_err());
    server.launch();
    sidecar.subscribed().await;
    sidecar.wait_for("alice", &[]).await;
}

#[tokio::test]
async fn a_server_that_stalls_costs_no_more_than_the_deadline() {
    let Some(server) = Server::start(&[]) else { return };
    let sidecar = Sidecar::start(&server, Duration::from_millis(50)).await;
    sidecar.put("alice", "premium", None).await;
    sidecar.wait_for("alice", &["premium"]).await;
    server.signal("STOP");
    until("the loss is noticed", || !sidecar.directory.is_subscribed()).await;
    let asked = tokio::time::timeout(PATIENCE / 10, sidecar.tiers("alice")).await;
    assert_eq!(asked.unwrap(), ["premium"]);
    server.signal("CONT");
    sidecar.subscribed().await;
    sidecar.wait_for("alice", &["premium"]).await;
}

#[tokio::test]
async fn a_record_that_makes_no_sense_is_none_and_can_be_written_over() {
    let Some(server) = Server::start(&[]) else { return };
    let sidecar = Sidecar::start(&server, PATIENCE).await;
    let mut raw = server.raw().await;
    for nonsense in
        ["", "{", r#"{"version":2,"x":1}"#, r#"{"version":1,"revision":7,"caller":{"x":1}}"#]
    {
        cmd("SET").arg(&["tgc1|alice", nonsense]).exec(&mut raw).unwrap();
        assert!(sidecar.directory.read("alice").await.unwrap().is_none(), "{nonsense}");
        sidecar.put("alice", "free", None).await;
        assert_eq!(sidecar.tiers("alice").await, ["free"]);
    }
}

#[tokio::test]
async fn a_change_that_can_not_be_told_is_not_made() {
    let Some(server) = Server::start(&[]) else { return };
    let mut raw = server.raw().await;
    let sidecar = Sidecar::start(&server, PATIENCE).await;
    let refuse = ["SETUSER", "default", "on", "nopass", "~*", "+@all", "resetchannels"];
    cmd("ACL").arg(&refuse).exec(&mut raw).unwrap();
    let caller = Caller::default();
    let change = Change { name: "alice", seen: 0, depends_on: &[], caller: Some(&caller) };
    let error = sidecar.directory.write(change).await.unwrap_err();
    assert_eq!(error.kind(), "refused");
    assert!(sidecar.directory.read("alice").await.unwrap().is_none());
}

#[tokio::test]
async fn what_goes_when_redis_is_emptied_is_forgotten() {
    let Some(server) = Server::start(&[]) else { return };
    Sidecar::start(&server, PATIENCE).await.put("alice", "premium", None).await;
    let sidecar = Sidecar::start(&server, PATIENCE).await;
    assert_eq!(sidecar.tiers("alice").await, ["premium"]);
    let mut raw = server.raw().await;
    cmd("FLUSHALL").exec(&mut raw).unwrap();
    sidecar.wait_for("alice", &[]).await;
}

#[tokio::test]
async fn of_two_writers_that_saw_the_same_only_the_first_writes() {
    let Some(server) = Server::start(&[]) else { return };
    let sidecar = Sidecar::start(&server, PATIENCE).await;
    let caller = Arc::new(Caller::default());
    let change = |seen| Change { name: "alice", seen, depends_on: &[], caller: Some(&caller) };
    let first = sidecar.directory.write(change(0)).await.unwrap().unwrap();
    assert_eq!(sidecar.directory.write(change(0)).await.unwrap(), None);
    let gone = Change { name: "alice", seen: first, depends_on: &[], caller: None };
    assert!(sidecar.directory.write(gone).await.unwrap().is_some());
    let again = sidecar.directory.write(change(0)).await.unwrap().unwrap();
    assert!(first < again, "no revision comes twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_made_only_while_what_it_depends_on_is_as_it_was() {
    let caller = Caller { parent: Some("b".to_owned()), ..Caller::default() };
    let check = async |one: &Sidecar, other: &Sidecar| {
        for name in ["b", "c"] {
            one.put(name, "free", None).await;
        }
        let revision = async |name| one.directory.read(name).await.unwrap().unwrap().revision;
        let depends_on = [("b".into(), revision("b").await), ("c".into(), revision("c").await)];
        let child = Change { name: "a", seen: 0, depends_on: &depends_on, caller: Some(&caller) };
        let written = async || one.directory.write(child).await.unwrap().is_some();
        other.put("c", "premium", None).await;
        assert!(!written().await, "one above has changed");
        let depends_on = [depends_on[0].clone(), ("c".into(), revision("c").await)];
        let child = Change { depends_on: &depends_on, ..child };
        let seen = depends_on[0].1;
        let gone = Change { name: "b", seen, depends_on: &[], caller: None };
        assert!(other.directory.write(gone).await.unwrap().is_some());
        assert!(one.directory.write(child).await.unwrap().is_none(), "the parent is gone");
        assert!(one.directory.read("a").await.unwrap().is_none());
        one.put("b", "free", None).await;
        assert!(one.directory.write(child).await.unwrap().is_none(), "it is another one");
        let depends_on = [("b".into(), revision("b").await), depends_on[1].clone()];
        let child = Change { depends_on: &depends_on, ..child };
        assert!(one.directory.write(child).await.unwrap().is_some());
    };
    let Some(server) = Server::start(&[]) else { return };
    check(&Sidecar::start(&server, PATIENCE).await, &Sidecar::start(&server, PATIENCE).await).await;
    let Some(cluster) = Cluster::start(3, false).await else { return };
    let settings = RedisSettings { deadline: PATIENCE, ..cluster.settings() };
    check(&Sidecar::on(settings.clone()).await, &Sidecar::on(settings).await).await;
}

#[tokio::test]
async fn a_fetch_beside_a_change_leaves_nothing_stale_behind() {
    let Some(server) = Server::start(&[]) else { return };
    let (one, other) =
        (Sidecar::start(&server, PATIENCE).await, Sidecar::start(&server, PATIENCE).await);
    for round in 0..200 {
        let tier = round.to_string();
        let reads = async {
            for _ in 0..4 {
                other.tiers("alice").await;
            }
        };
        tokio::join!(reads, one.put("alice", &tier, None), other.tiers("alice"));
        // There is no other change, so an outdated record would stay forever.
        other.wait_for("alice", &[&tier]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_a_cluster_are_at_hand_wherever_their_slot_goes() {
    let Some(cluster) = Cluster::start(3, false).await else { return };
    let settings = RedisSettings { deadline: PATIENCE, ..cluster.settings() };
    let (one, other) = (Sidecar::on(settings.clone()).await, Sidecar::on(settings).await);
    one.put("acme", "enterprise", None).await;
    one.put("alice", "free", Some("acme")).await;
    assert_eq!(other.tiers("alice").await, ["free", "enterprise"]);
    one.put("alice", "premium", Some("acme")).await;
    other.wait_for("alice", &["premium", "enterprise"]).await;

    let slot = query(&mut cluster.raw(0).await, "CLUSTER KEYSLOT tgc1");
    let from = (0..3).find(|master| cluster.slots(*master).contains(&slot)).unwrap();
    cluster.move_slot(slot, (from, (from + 1) % 3), async || {}).await;
    eventually("the callers are found again", async || {
        let read = [one.directory.read("alice").await, other.directory.read("alice").await];
        read.iter().all(Result::is_ok).then_some(())
    })
    .await;
    one.put("alice", "free", None).await;
    other.wait_for("alice", &["free"]).await;
    other.subscribed().await;
}
