//! Sidecars and Redis are killed at random moments of traffic: the usage of each caller is what was answered, less at most what
//! was not stored yet when its sidecar was killed.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::Value;

use crate::support::ask::DomainClient;
use crate::support::eventually;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;
use crate::support::usage::items;
use crate::support::{process, random_seed};

const POLICY: &str = "
domain: shop
caller: { key: user }
descriptors: [{ key: user, limits: [{ name: daily, rate: 100000/day, on_outage: allow }] }]
";

const ROUNDS: usize = 8;

/// What befalls the fleet in a round; a sidecar is told by its number.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// SIGKILL.
    Killed(usize),
    /// SIGTERM.
    Terminated(usize),
    /// Redis is killed, and comes back after some more requests. Nothing befalls a file.
    Outage,
    /// The same, and a sidecar is killed before Redis comes back.
    KilledInOutage(usize),
}

/// Requests of each sidecar; whether the fault waits until they are stored; and requests that it does not wait for.
#[derive(Clone, Debug)]
struct Round {
    first: [usize; 2],
    is_stored: bool,
    fresh: [usize; 2],
    fault: Fault,
}

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let fault = prop_oneof![
        (0..2_usize).prop_map(Fault::Killed),
        (0..2_usize).prop_map(Fault::Terminated),
        Just(Fault::Outage),
        (0..2_usize).prop_map(Fault::KilledInOutage),
    ];
    let requests = || [1..80_usize, 1..80_usize];
    let round = (requests(), any::<bool>(), requests(), fault);
    let round =
        round.prop_map(|(first, is_stored, fresh, fault)| Round { first, is_stored, fresh, fault });
    vec(round, ROUNDS)
}

/// The requests of a caller, all of which one process of a sidecar answered.
#[derive(Debug, Default)]
struct Asked {
    answered: u64,
    /// Whether the process was killed before they were known to be stored.
    may_be_lost: bool,
}

/// Sidecars that store usage in one Redis, or one that stores it in a file.
struct Fleet<'f> {
    server: Option<Server>,
    folder: &'f Path,
    sidecars: Vec<Tollgate>,
    /// By the name of the caller.
    asked: BTreeMap<String, Asked>,
    /// How often each sidecar has ended.
    ends: [usize; 2],
}

impl<'f> Fleet<'f> {
    async fn start(server: Option<Server>, folder: &'f Path) -> Self {
        let (asked, ends) = Default::default();
        let count = if server.is_some() { 2 } else { 1 };
        let mut fleet = Self { server, folder, sidecars: Vec::new(), asked, ends };
        for _ in 0..count {
            fleet.sidecars.push(fleet.sidecar().await);
        }
        fleet
    }

    async fn sidecar(&self) -> Tollgate {
        let place = match &self.server {
            Some(server) => ["--redis-url".to_owned(), server.url()],
            None => ["--data-dir".to_owned(), self.folder.display().to_string()],
        };
        let flags = [&place[0], &place[1], "--usage=true", "--store-deadline", "50ms"];
        Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await
    }

    /// Sends requests to each sidecar, as a caller of its own.
    async fn ask(&mut self, counts: [usize; 2]) {
        for (index, sidecar) in self.sidecars.iter().enumerate() {
            let name = format!("{index}-{}-{}", self.ends[index], self.asked.len());
            let mut client = DomainClient::new(sidecar, "shop").await;
            for _ in 0..counts[index] {
                assert!(client.ask(&[&format!("user={name}")], 1).await.passed);
            }
            let answered = u64::try_from(counts[index]).unwrap();
            self.asked.insert(name, Asked { answered, may_be_lost: false });
        }
    }

    /// The requests of each caller, by the sums that a sidecar reads.
    async fn counted(&self, sidecar: &Tollgate) -> BTreeMap<String, u64> {
        let path = "/v1/usage?granularity=day&group_by=caller";
        let (items, _) = items(sidecar, path).await;
        let count = |item: &Value| {
            (item["caller"].as_str().unwrap().to_owned(), item["requests"].as_u64().unwrap())
        };
        items.iter().map(count).collect()
    }

    /// Waits until all requests that can't be lost any more are stored.
    async fn stored(&mut self) {
        for sidecar in &self.sidecars {
            eventually("the requests in the usage", async || {
                let counted = self.counted(sidecar).await;
                let of = |name: &String| counted.get(name).copied().unwrap_or_default();
                let mut asked = self.asked.iter().filter(|(_, asked)| !asked.may_be_lost);
                asked.all(|(name, asked)| of(name) == asked.answered).then_some(())
            })
            .await;
        }
    }

    /// A sidecar is killed: what it has answered as the callers after the first ones may be lost.
    async fn kill(&mut self, index: usize, stored: usize) {
        process::signal(self.sidecars[index].id(), "KILL");
        let begin = format!("{index}-{}-", self.ends[index]);
        for (name, asked) in &mut self.asked {
            let number = name.strip_prefix(&begin).and_then(|rest| rest.parse::<usize>().ok());
            asked.may_be_lost |= number.is_some_and(|number| stored <= number);
        }
        self.replace(index).await;
    }

    async fn replace(&mut self, index: usize) {
        self.ends[index] += 1;
        self.sidecars[index] = self.sidecar().await;
    }

    /// Plays a round. Returns how many callers are stored.
    async fn play(&mut self, round: &Round, mut stored: usize) -> usize {
        self.ask(round.first).await;
        if round.is_stored {
            self.stored().await;
            stored = self.asked.len();
        }
        self.ask(round.fresh).await;
        let of = |number: usize| number.min(self.sidecars.len() - 1);
        match round.fault {
            Fault::Killed(number) => self.kill(of(number), stored).await,
            Fault::Terminated(number) => {
                let index = of(number);
                self.sidecars[index].terminate();
                assert!(self.sidecars[index].exit().await.success());
                self.replace(index).await;
            }
            Fault::Outage => {
                self.begin_outage(round.fresh).await;
                self.end_outage();
            }
            Fault::KilledInOutage(number) => {
                let index = of(number);
                self.begin_outage(round.fresh).await;
                process::signal(self.sidecars[index].id(), "KILL");
                self.end_outage();
                self.kill(index, stored).await;
            }
        }
        stored
    }

    /// Kills Redis, if there is one, and sends requests without it.
    async fn begin_outage(&mut self, requests: [usize; 2]) {
        if let Some(server) = &mut self.server {
            server.kill();
            self.ask(requests).await;
        }
    }

    fn end_outage(&mut self) {
        if let Some(server) = &mut self.server {
            server.launch();
        }
    }

    /// Compares the sums of each caller with its answers.
    async fn check(&mut self) {
        self.stored().await;
        let counted = self.counted(&self.sidecars[0]).await;
        let mut lost = 0;
        for (name, asked) in &self.asked {
            let count = counted.get(name).copied().unwrap_or_default();
            assert!(count <= asked.answered, "{name}: {count} of {asked:?}");
            lost += asked.answered - count;
        }
        let callers: Vec<&String> =
            counted.keys().filter(|name| !self.asked.contains_key(*name)).collect();
        assert!(callers.is_empty(), "nobody asked as {callers:?}");
        let answered: u64 = self.asked.values().map(|asked| asked.answered).sum();
        let kills = self.asked.values().filter(|asked| asked.may_be_lost).count();
        println!("{answered} requests, {lost} lost, of {kills} callers that may lose some");
    }
}

/// Plays drawn rounds.
async fn play(server: Option<Server>) {
    let seed = random_seed();
    println!("TOLLGATE_TEST_SEED={seed}");
    let mut runner =
        TestRunner::new(Config { rng_seed: RngSeed::Fixed(seed), ..Config::default() });
    let rounds = rounds().new_tree(&mut runner).unwrap().current();
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(server, folder.path()).await;
    let mut stored = 0;
    for round in &rounds {
        println!("{round:?}");
        stored = fleet.play(round, stored).await;
    }
    fleet.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_a_killed_sidecar_had_not_stored_is_lost_in_redis() {
    // What Redis has answered is in its log.
    let Some(server) = Server::start(&["--appendonly", "yes"]) else { return };
    play(Some(server)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_a_killed_sidecar_had_not_stored_is_lost_in_a_file() {
    play(None).await;
}
