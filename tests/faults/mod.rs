//! What happens to requests when the things around Tollgate break.
//!
//! `cargo test --test tests -- faults --nocapture --test-threads 1` prints a line for each: the fault, requests, those
//! that failed, those that `on_outage` answered, hits over the limit of any window, the longest answer, and the time
//! from the end of the fault to the first decision of Redis.

mod disk;
mod failover;
mod local;
mod scene;

use std::time::Duration;

use scene::LIMIT;
use scene::Promise;
use scene::Scene;

use crate::support::proxy::Way;
use crate::support::redis::query;

const OUTAGE: Promise = Promise { fault: "", is_outage: true, over_max: 0 };

/// Nobody is denied, and nobody waits.
const NO_OUTAGE: Promise = Promise { fault: "", is_outage: false, over_max: 0 };

async fn tell(scene: &Scene, commands: &[&str]) {
    let mut raw = scene.server.raw().await;
    for command in commands {
        query::<()>(&mut raw, command);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed_and_comes_back_empty() {
    let Some(scene) = Scene::start().await else { return };
    let promise =
        Promise { fault: "Redis is killed, and restarted empty", over_max: LIMIT, ..OUTAGE };
    let kill = async |scene: &mut Scene| scene.server.kill();
    scene.check(promise, kill, async |scene| scene.server.launch()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stalls() {
    let Some(scene) = Scene::start().await else { return };
    let promise = Promise { fault: "Redis is stopped (SIGSTOP), and goes on", ..OUTAGE };
    let stop = async |scene: &mut Scene| scene.server.signal("STOP");
    scene.check(promise, stop, async |scene| scene.server.signal("CONT")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_emptied() {
    let Some(scene) = Scene::start().await else { return };
    let promise = Promise { fault: "FLUSHALL", over_max: LIMIT, ..NO_OUTAGE };
    let flush = async |scene: &mut Scene| tell(scene, &["FLUSHALL"]).await;
    scene.check(promise, flush, async |_| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_forgets_the_code() {
    let Some(scene) = Scene::start().await else { return };
    let promise = Promise { fault: "FUNCTION FLUSH and SCRIPT FLUSH", ..NO_OUTAGE };
    let flush = async |scene: &mut Scene| tell(scene, &["FUNCTION FLUSH", "SCRIPT FLUSH"]).await;
    scene.check(promise, flush, async |_| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_becomes_a_replica() {
    let Some(scene) = Scene::start().await else { return };
    let promise =
        Promise { fault: "Redis becomes a replica (READONLY), and a master again", ..OUTAGE };
    let demote = async |scene: &mut Scene| tell(scene, &["REPLICAOF 127.0.0.1 1"]).await;
    scene.check(promise, demote, async |scene| tell(scene, &["REPLICAOF NO ONE"]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_out_of_memory() {
    let Some(scene) = Scene::start().await else { return };
    let promise = Promise { fault: "Redis is out of memory (noeviction)", ..OUTAGE };
    let fill = async |scene: &mut Scene| tell(scene, &["CONFIG SET maxmemory 1"]).await;
    let empty = async |scene: &mut Scene| tell(scene, &["CONFIG SET maxmemory 0"]).await;
    scene.check(promise, fill, empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_drops_everything() {
    let Some(scene) = Scene::start().await else { return };
    let promise = Promise { fault: "the network drops every packet", ..OUTAGE };
    let drop = async |scene: &mut Scene| scene.proxy.set(Way::Nowhere);
    scene.check(promise, drop, async |scene| scene.proxy.set(Way::Through)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_is_slower_than_the_deadline() {
    let Some(scene) = Scene::start().await else { return };
    let promise = Promise { fault: "the network delays by 300 ms", ..OUTAGE };
    let delay = Way::Late(Duration::from_millis(300));
    let slow = async |scene: &mut Scene| scene.proxy.set(delay);
    scene.check(promise, slow, async |scene| scene.proxy.set(Way::Through)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_cut() {
    let Some(scene) = Scene::start().await else { return };
    let promise = Promise { fault: "connections are cut, and refused", ..OUTAGE };
    let cut = async |scene: &mut Scene| scene.proxy.set(Way::Cut);
    scene.check(promise, cut, async |scene| scene.proxy.set(Way::Through)).await;
}
