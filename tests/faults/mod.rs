//! Requests while Redis, the network or clocks fail.
//!
//! `cargo test --test tests -- faults --nocapture --test-threads 1` prints a line for each fault: its requests, failed
//! requests, requests that `on_outage` answered, hits over the limit of any window, the longest answer, and the time
//! from the end of the fault to the first decision of Redis.

mod api_keys;
mod clock;
mod counters;
mod disk;
mod failover;
mod gifts;
mod killed;
mod local;
mod persistent;
mod reservations;
mod retries;
mod scene;
mod sentinel;
mod stall;
mod usage;
mod usage_killed;

use std::time::Duration;

use scene::{Alone, LIMIT, Promise, Scene};

use crate::support::cluster::Cluster;
use crate::support::proxy::Way;
use crate::support::redis::query;

const OUTAGE: Promise = Promise { fault: "", is_outage: true, over_max: 0, mends_itself: false };

/// A limit that refuses nothing and makes no request wait.
const NO_OUTAGE: Promise = Promise { is_outage: false, ..OUTAGE };

async fn tell(scene: &Scene<Alone>, commands: &[&str]) {
    let mut raw = scene.stage.server.raw().await;
    for command in commands {
        query::<()>(&mut raw, command);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed_and_comes_back_empty() {
    let promise =
        Promise { fault: "Redis is killed, and restarted empty", over_max: LIMIT, ..OUTAGE };
    let Some(scene) = Scene::start(&promise).await else { return };
    let kill = async |scene: &mut Scene<Alone>| scene.stage.server.kill();
    scene.check(promise, kill, async |scene| scene.stage.server.launch()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stalls() {
    let promise = Promise { fault: "Redis is stopped (SIGSTOP), and goes on", ..OUTAGE };
    let Some(scene) = Scene::start(&promise).await else { return };
    let stop = async |scene: &mut Scene<Alone>| scene.stage.server.signal("STOP");
    scene.check(promise, stop, async |scene| scene.stage.server.signal("CONT")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_emptied() {
    let promise = Promise { fault: "FLUSHALL", over_max: LIMIT, ..NO_OUTAGE };
    let Some(scene) = Scene::start(&promise).await else { return };
    let flush = async |scene: &mut Scene<Alone>| tell(scene, &["FLUSHALL"]).await;
    scene.check(promise, flush, async |_| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_forgets_the_code() {
    let promise = Promise { fault: "FUNCTION FLUSH and SCRIPT FLUSH", ..NO_OUTAGE };
    let Some(scene) = Scene::start(&promise).await else { return };
    let flush =
        async |scene: &mut Scene<Alone>| tell(scene, &["FUNCTION FLUSH", "SCRIPT FLUSH"]).await;
    scene.check(promise, flush, async |_| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_becomes_a_replica() {
    let promise =
        Promise { fault: "Redis becomes a replica (READONLY), and a master again", ..OUTAGE };
    let Some(scene) = Scene::start(&promise).await else { return };
    let demote = async |scene: &mut Scene<Alone>| tell(scene, &["REPLICAOF 127.0.0.1 1"]).await;
    scene.check(promise, demote, async |scene| tell(scene, &["REPLICAOF NO ONE"]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_out_of_memory() {
    let promise = Promise { fault: "Redis is out of memory (noeviction)", ..OUTAGE };
    let Some(scene) = Scene::start(&promise).await else { return };
    let fill = async |scene: &mut Scene<Alone>| tell(scene, &["CONFIG SET maxmemory 1"]).await;
    let empty = async |scene: &mut Scene<Alone>| tell(scene, &["CONFIG SET maxmemory 0"]).await;
    scene.check(promise, fill, empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_drops_everything() {
    let promise = Promise { fault: "the network drops every packet", ..OUTAGE };
    let Some(scene) = Scene::start(&promise).await else { return };
    let drop = async |scene: &mut Scene<Alone>| scene.stage.proxy.set(Way::Nowhere);
    scene.check(promise, drop, async |scene| scene.stage.proxy.set(Way::Through)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_is_slower_than_the_deadline() {
    let promise = Promise { fault: "the network delays by 300 ms", ..OUTAGE };
    let Some(scene) = Scene::start(&promise).await else { return };
    let delay = Way::Late(Duration::from_millis(300));
    let slow = async |scene: &mut Scene<Alone>| scene.stage.proxy.set(delay);
    scene.check(promise, slow, async |scene| scene.stage.proxy.set(Way::Through)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_cut() {
    let promise = Promise { fault: "connections are cut, and refused", ..OUTAGE };
    let Some(scene) = Scene::start(&promise).await else { return };
    let cut = async |scene: &mut Scene<Alone>| scene.stage.proxy.set(Way::Cut);
    scene.check(promise, cut, async |scene| scene.stage.proxy.set(Way::Through)).await;
}

/// The master with the counters of the scene's narrow limit, and their slot.
async fn narrow(cluster: &Cluster) -> (usize, u16) {
    for master in 0..3 {
        let mut raw = cluster.raw(master).await;
        let keys: Vec<String> = query(&mut raw, "KEYS tg1|*alice*");
        if let Some(key) = keys.first() {
            let slot = redis::cmd("CLUSTER").arg("KEYSLOT").arg(key).query(&mut raw).unwrap();
            return (master, slot);
        }
    }
    panic!("the limit is counted nowhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_moves_to_another_master() {
    let promise = Promise { fault: "a slot moves to another master of a cluster", ..NO_OUTAGE };
    let Some(scene) = Scene::on_cluster(&promise).await else { return };
    let resharded = async |scene: &mut Scene<Cluster>| {
        let (master, slot) = narrow(&scene.stage).await;
        scene.stage.move_slot(slot, (master, (master + 1) % 3), async || {}).await;
    };
    scene.check(promise, resharded, async |_| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_of_a_cluster_is_lost() {
    let promise = Promise {
        fault: "a master of a cluster is killed, and its replica takes over",
        // Hits that were not replicated.
        over_max: LIMIT,
        mends_itself: true,
        ..OUTAGE
    };
    let Some(scene) = Scene::on_cluster(&promise).await else { return };
    let lost = async |scene: &mut Scene<Cluster>| {
        let (master, _) = narrow(&scene.stage).await;
        scene.stage.nodes[master].kill();
    };
    scene.check(promise, lost, async |_| {}).await;
}
