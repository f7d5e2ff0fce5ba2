//! Engines agree with a plain model of the documentation, whatever the policy, the callers and the history.
//!
//! A world is drawn in plain words (`world.rs`): a policy, a directory, requests. It is written as YAML for
//! an engine in memory and one on Redis; a model that is slow and plain (`who.rs`, `plan.rs`, `judge.rs`,
//! `told.rs`, `ledger.rs`) reads the words. All three must say the same to every request, to the last
//! number. The model knows nothing of Tollgate's arithmetic: what was spent are lines in a list, and when
//! something would fit is found by trying every instant at which anything changes.
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

mod draw;
mod histories;
mod judge;
mod ledger;
mod plan;
mod policies;
mod told;
mod who;
mod world;
mod yaml;

use std::fmt::Write;
use std::time::Duration;

use tollgate::clock::{Clock, Now, Timestamp};
use tollgate::engine::{Descriptor, HitsSource, Request};
use tollgate::limit::Hits;

use crate::support::batch::START_MS;
use crate::support::engine;
use crate::support::engine::Bench;
use crate::support::redis::Server;

use draw::Draw;
use judge::Model;
use told::Told;
use world::{Ask, AskPart, People, World};

const WORLDS: u64 = 24;

/// A world, what knows it, and what has happened.
struct Round {
    world: World,
    people: People,
    now_ms: u64,
    model: Model,
    benches: Vec<(&'static str, Bench)>,
    clock: Clock,
    history: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_say_what_a_plain_model_says() {
    let server = Server::start(&[]);
    if let Some(server) = &server {
        let _ = server.raw().await;
    }
    let seed = seed_of_run();
    println!("TOLLGATE_TEST_SEED={seed}");
    for world in 0..WORLDS {
        let seed = seed.wrapping_add(world);
        run(seed, server.as_ref()).await;
        if let Some(server) = &server {
            redis::cmd("FLUSHALL").exec(&mut server.raw().await).unwrap();
        }
    }
}

/// One world's history.
async fn run(seed: u64, server: Option<&Server>) {
    let mut draw = Draw::new(seed);
    let now_ms = START_MS + draw.between(0, 40_000_000_000);
    let clock = Clock::manual(Timestamp::from_ms(now_ms));
    let mut benches = vec![("memory", Bench::in_memory(&clock))];
    if let Some(server) = server {
        benches.push(("Redis", Bench::on_redis(server, &clock).await));
    }
    let world = policies::world(&mut draw);
    let people = histories::people(&mut draw, now_ms);
    let cast = histories::Cast::new(&mut draw, &world);
    let model = Model::new(&world.zone);
    let history = format!("TOLLGATE_TEST_SEED={seed} begins with this world.\n");
    let mut round = Round { world, people, now_ms, model, benches, clock, history };
    round.put_policy_in_force();
    round.put_people_in_force();
    for _ in 0..draw.between(100, 300) {
        if draw.chance(2) {
            policies::edit(&mut draw, &mut round.world);
            round.put_policy_in_force();
        }
        if draw.chance(6) {
            histories::edit(&mut draw, &mut round.world, &mut round.people, round.now_ms);
            round.put_people_in_force();
        }
        let step_ms = histories::step(&mut draw);
        round.now_ms += step_ms;
        round.clock.advance(Duration::from_millis(step_ms));
        round.ask(&histories::ask(&mut draw, &cast)).await;
    }
}

impl Round {
    fn put_policy_in_force(&mut self) {
        let text = yaml::policy(&self.world);
        writeln!(self.history, "\n# policy.yaml\n{text}").unwrap();
        for (_, bench) in &self.benches {
            let problems = bench.put_in_force(&text).err();
            assert!(problems.is_none(), "{problems:#?}\n{}", self.history);
        }
    }

    fn put_people_in_force(&mut self) {
        let text = yaml::directory(&self.people);
        writeln!(self.history, "\n# callers.yaml\n{text}").unwrap();
        for (_, bench) in &self.benches {
            let problems = bench.know(&text).err();
            assert!(problems.is_none(), "{problems:#?}\n{}", self.history);
        }
    }

    /// Asks everybody, and fails where they differ.
    async fn ask(&mut self, ask: &Ask) {
        let expected = self.model.answer((&self.world, &self.people), ask, self.now_ms);
        let descriptors = || ask.parts.iter().map(descriptor).collect();
        let shown: Vec<String> = ask.parts.iter().map(show).collect();
        writeln!(self.history, "{}: {}", self.now_ms, shown.join("; ")).unwrap();
        for (store, bench) in &self.benches {
            let request = Request::try_new(&self.world.domain, descriptors()).unwrap();
            let held = self.held_refusals(bench);
            let answer = engine::ask(&bench.engine, &request).await;
            let is_held = held < self.held_refusals(bench);
            let told = Told {
                code: answer.code,
                statuses: answer.statuses,
                metadata: answer.metadata.map(Into::into).unwrap_or_default(),
            };
            let agrees = if is_held { told.refuses_like(&expected) } else { told == expected };
            if !agrees {
                println!("{}", self.history);
            }
            assert!(agrees, "on {store}: {told:#?}, but by the model {expected:#?}");
        }
        writeln!(self.history, "  {:?}", expected.code).unwrap();
    }

    /// How many requests were refused without asking the store, because a refusal was known to hold.
    fn held_refusals(&self, bench: &Bench) -> u64 {
        let now = Now::Given(Timestamp::from_ms(self.now_ms));
        bench.engine.store().local_cache_counts(now).refused
    }
}

fn descriptor(part: &AskPart) -> Descriptor<'_> {
    let entries = part.entries.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let hits = match part.hits {
        hits if hits < 0 => Hits::GiveBack(hits.unsigned_abs()),
        hits => Hits::Spend(hits.unsigned_abs()),
    };
    Descriptor { entries: entries.collect(), hits, hits_source: HitsSource::Request, limit: None }
}

/// A descriptor as the history shows it.
fn show(part: &AskPart) -> String {
    let entries: Vec<String> =
        part.entries.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{} for {}", entries.join(","), part.hits)
}

/// The seed that `TOLLGATE_TEST_SEED` says, or a new one.
fn seed_of_run() -> u64 {
    use std::hash::BuildHasher;
    let given = std::env::var("TOLLGATE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| std::hash::RandomState::new().hash_one("seed"))
}
