//! Engines agree with a plain model of the documentation, whatever the policy, the callers and the history.
//!
//! A world is drawn in plain words (`world.rs`): a policy, a directory, requests. It is written as YAML for an engine in memory and
//! several ones on one Redis, or on one Redis Cluster; a model that is slow and plain (`who.rs`, `plan.rs`, `schedule.rs`, `judge.rs`,
//! `spending.rs`, `retries.rs`, `holdings.rs`, `bonuses.rs`, `notices.rs`, `reported.rs`, `ledger.rs`) reads the words. All must say the same to every request, to the last number. The
//! model knows nothing of Tollgate's arithmetic: what was spent are lines in a list, when something would fit is found by
//! trying every instant at which anything changes, and what holds at a time by looking at clocks every quarter of an hour.
//! Many requests come just before, at or after an instant at which something changes. A history that ends with a difference is
//! shortened (`shrink.rs`) and shown with its seed.
//!
//! What the documentation leaves open, as the model reads it:
//! - A request is decided by the level of pressure that it finds, and what remains is told by that level too,
//!   even if the request itself brings about the next one.
//! - The level follows the limits as they are for whoever asks; a tier without one of them does not read it.
//! - A refusal under pressure or under a reserve is called so even if the whole limit is used up.
//! - What was spent of a bonus is remembered until the latest end that a request has seen of it.
//! - A limit that never resets counts as the one that resets first where limits are equally tight.
//! - A bucket's rate stays within a history: when a debt that another rate has paid is forgotten, depends on
//!   when a store looks. No request names two callers.
//! - Limits with `when` have no pressure in a history: its waits are as exact as the present amount.
//! - What a request holds tells of no grace, as it spends nothing.
//! - A bonus that recurs stays as it is, and no two bonuses of one caller that end at the same time have the same priority.
//! - On a cluster there is no pressure, and no request that gives hits back under an idempotency key on several masters, and none
//!   of a reservation that one master refuses.
//!   Nor are hits taken in part with idempotency keys: a retry that meets other limits than the first try gets what those had.

mod bonuses;
mod draw;
mod histories;
mod holdings;
mod judge;
mod ledger;
mod modes;
mod notices;
mod people;
mod plan;
mod policies;
mod retries;
mod schedule;
mod shares;
mod shrink;
mod spending;
mod stage;
mod timed;
mod reported;
mod who;
mod world;
mod yaml;
mod yaml_times;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::support::batch::START_MS;
use crate::support::cluster::Cluster;
use crate::support::random_seed;
use crate::support::redis::Server;

use bonuses::Giving;
use draw::Draw;
use shrink::Failed;
use stage::{Event, Opening, Shared, Stage};
use who::Parts;

const WORLDS: u64 = 24;
const CLUSTER_WORLDS: u64 = 6;

/// Engines that share a store.
const SIDECARS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_say_what_a_plain_model_says() {
    let server = Server::start(&[]);
    if let Some(server) = &server {
        let _ = server.raw().await;
    }
    let shared = server.as_ref().map_or(Shared::Nothing, Shared::Redis);
    run_all(shared, WORLDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_on_a_cluster_say_what_a_plain_model_says() {
    let Some(cluster) = Cluster::start(3, false).await else { return };
    run_all(Shared::Cluster(&cluster), CLUSTER_WORLDS).await;
}

/// So many worlds, by seeds that follow each other.
async fn run_all(shared: Shared<'_>, worlds: u64) {
    let seed = random_seed();
    println!("TOLLGATE_TEST_SEED={seed}");
    let parts = Arc::new(modes::parts().await);
    for world in 0..worlds {
        run(seed.wrapping_add(world), shared, &parts).await;
        shared.clear().await;
    }
}

/// One world's history.
async fn run(seed: u64, shared: Shared<'_>, parts: &Arc<Parts>) {
    let mut draw = Draw::new(seed);
    let now_ms = timed::beginning(&mut draw, START_MS);
    let mut world = policies::world(&mut draw);
    modes::add(&mut draw, &mut world);
    timed::add(&mut draw, &mut world, now_ms);
    shares::add(&mut draw, &mut world);
    if let Shared::Cluster(_) = shared {
        timed::calm(&mut world);
    }
    let mut people = histories::people(&mut draw, now_ms);
    let mut cast = histories::Cast::new(&mut draw, &world);
    let parts = parts.clone();
    let opening = Opening { world: world.clone(), people: people.clone(), now_ms, parts };
    let mut stage = Stage::new(&opening, shared, SIDECARS).await;
    let (mut events, mut gifts) = (Vec::new(), Vec::new());
    for _ in 0..draw.between(100, 300) {
        let mut happening = Vec::new();
        if draw.chance(2) {
            policies::edit(&mut draw, &mut world);
            modes::edit(&mut draw, &mut world);
            happening.push(Event::Policy(Box::new(world.clone())));
        }
        if draw.chance(6) {
            histories::edit(&mut draw, &mut world, &mut people, stage.now_ms);
            happening.push(Event::People(people.clone()));
        }
        if let Some(giving) = shares::maybe_giving(&mut draw, (&people, &gifts), stage.now_ms) {
            let (at_ms, sidecar) = (stage.now_ms, draw.index(SIDECARS));
            happening.push(Event::Gift { at_ms, sidecar, giving });
        }
        let at_ms = histories::next(&mut draw, stage.now_ms, &stage.model.moments(stage.now_ms));
        let sidecar = if draw.chance(50) { 0 } else { draw.index(SIDECARS) };
        happening.push(Event::Ask { at_ms, sidecar, ask: histories::ask(&mut draw, &mut cast) });
        let mut happening = VecDeque::from(happening);
        while let Some(event) = happening.pop_front() {
            let played = stage.play(&event).await;
            events.push(event);
            if let Err(difference) = played {
                let mut failed = Failed::new((opening, events), (shared, SIDECARS), difference);
                failed.shrink().await;
                panic!("TOLLGATE_TEST_SEED={seed} comes to this\n{}", failed.text());
            }
            if let Some(Event::Gift { giving, .. }) = events.last()
                && stage.is_given
                && gifts.iter().all(|known: &Giving| known.id != giving.id)
            {
                gifts.push(giving.clone());
                shares::receive(&mut draw, &mut people, giving);
                happening.push_front(Event::People(people.clone()));
            }
        }
    }
}
