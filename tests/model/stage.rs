//! Plays histories on engines and on the model, and finds where they differ.

use std::sync::Arc;
use std::time::Duration;

use tollgate::clock::{Clock, Now, Timestamp};
use tollgate::engine::{Descriptor, HitsSource, Request};
use tollgate::limit::Hits;
use tollgate::store::{Gift, GiftState};

use super::bonuses::Giving;
use super::holdings::ID_KEY;
use super::judge::Model;
use super::people::People;
use super::reported::Reported;
use super::who::Parts;
use super::world::{Ask, AskPart, World};
use super::yaml;
use crate::support::cluster::Cluster;
use crate::support::engine;
use crate::support::engine::Bench;
use crate::support::redis::Server;

/// How long at most a sidecar holds a refusal, in milliseconds.
const HELD_MS: u64 = 250;

/// Something that happens.
#[derive(Clone)]
pub enum Event {
    /// This policy is in force from now on.
    Policy(Box<World>),
    /// The directory knows these callers from now on.
    People(People),
    /// A request at a time, by way of one of the sidecars.
    Ask { at_ms: u64, sidecar: usize, ask: Ask },
    /// Somebody gives hits of a bonus away at a time, by way of one of the sidecars, and of another one again.
    Gift { at_ms: u64, sidecar: usize, giving: Giving },
}

/// What several sidecars share.
#[derive(Clone, Copy)]
pub enum Shared<'s> {
    Nothing,
    Redis(&'s Server),
    Cluster(&'s Cluster),
}

/// What a world begins with.
#[derive(Clone)]
pub struct Opening {
    pub world: World,
    pub people: People,
    pub now_ms: u64,
    pub parts: Arc<Parts>,
}

/// Engines and the model, at a time.
pub struct Stage {
    world: World,
    people: People,
    pub now_ms: u64,
    pub model: Model,
    /// On a store in memory.
    embedded: Bench,
    /// On a store that they share.
    sidecars: Vec<Sidecar>,
    shared: &'static str,
    is_cluster: bool,
    /// When the policy or the directory was edited last.
    edited_ms: Option<u64>,
    /// Whether the last gift was made.
    pub is_given: bool,
    clock: Clock,
}

struct Sidecar {
    bench: Bench,
    asked_ms: Option<u64>,
}

/// What the model says differs from what somebody says.
pub struct Difference(pub String);

impl Shared<'_> {
    /// Forgets all counters.
    pub async fn clear(&self) {
        match self {
            Self::Nothing => {}
            Self::Redis(server) => redis::cmd("FLUSHALL").exec(&mut server.raw().await).unwrap(),
            Self::Cluster(cluster) => cluster.clear().await,
        }
    }

    async fn sidecar(&self, clock: &Clock) -> Option<Sidecar> {
        let bench = match self {
            Self::Nothing => return None,
            Self::Redis(server) => Bench::on_redis(server, clock).await,
            Self::Cluster(cluster) => Bench::on_cluster(cluster, clock).await,
        };
        Some(Sidecar { bench, asked_ms: None })
    }
}

impl Stage {
    /// Engines that have seen nothing, of which so many share a store.
    pub async fn new(opening: &Opening, shared: Shared<'_>, sidecars: usize) -> Self {
        let clock = Clock::manual(Timestamp::from_ms(opening.now_ms));
        let mut all = Vec::new();
        for _ in 0..sidecars {
            all.extend(shared.sidecar(&clock).await);
        }
        let name = match shared {
            Shared::Nothing => "nothing",
            Shared::Redis(_) => "Redis",
            Shared::Cluster(_) => "Redis Cluster",
        };
        let stage = Self {
            world: opening.world.clone(),
            people: opening.people.clone(),
            now_ms: opening.now_ms,
            model: Model::new(&opening.world.zone, opening.parts.clone()),
            embedded: Bench::in_memory(&clock),
            sidecars: all,
            shared: name,
            is_cluster: matches!(shared, Shared::Cluster(_)),
            edited_ms: None,
            is_given: false,
            clock,
        };
        stage.put_policy_in_force();
        stage.put_people_in_force();
        stage
    }

    /// Lets something happen.
    ///
    /// # Errors
    /// Where an engine says something else than the model.
    pub async fn play(&mut self, event: &Event) -> Result<(), Difference> {
        match event {
            Event::Policy(world) => {
                self.world = (**world).clone();
                self.put_policy_in_force();
                self.edited_ms = Some(self.now_ms);
            }
            Event::People(people) => {
                self.people = people.clone();
                self.put_people_in_force();
                self.edited_ms = Some(self.now_ms);
            }
            Event::Ask { at_ms, sidecar, ask } => {
                self.advance(at_ms.saturating_sub(self.now_ms));
                self.ask(*sidecar, ask).await?;
            }
            Event::Gift { at_ms, sidecar, giving } => {
                self.advance(at_ms.saturating_sub(self.now_ms));
                self.give(*sidecar, giving).await;
            }
        }
        Ok(())
    }

    fn benches(&self) -> impl Iterator<Item = &Bench> {
        self.sidecars.iter().map(|sidecar| &sidecar.bench).chain([&self.embedded])
    }

    fn put_policy_in_force(&self) {
        let text = yaml::policy(&self.world);
        for bench in self.benches() {
            let problems = bench.put_in_force(&text).err();
            assert!(problems.is_none(), "{problems:#?}\n{text}");
        }
    }

    fn put_people_in_force(&self) {
        let text = yaml::directory(&self.people);
        for bench in self.benches() {
            let problems = bench.know(&text).err();
            assert!(problems.is_none(), "{problems:#?}\n{text}");
        }
    }

    fn advance(&mut self, ms: u64) {
        self.now_ms += ms;
        self.clock.advance(Duration::from_millis(ms));
    }

    /// Gives hits away: takes them from the giver. Whether they were there is seen by the requests that follow.
    async fn give(&mut self, sidecar: usize, giving: &Giving) {
        let gift = Gift {
            id: giving.id.clone(),
            from: giving.from.clone(),
            to: giving.to.clone(),
            limit: giving.limit.clone(),
            hits: giving.hits,
            bonus: giving.bonus.clone(),
            until: Timestamp::from_ms(giving.until_ms),
            domain: self.world.domain.clone(),
            entries: Vec::new(),
            at: Timestamp::from_ms(self.now_ms),
            state: GiftState::Pending,
        };
        // A directory of files notes no gifts, so each is carried no further than that.
        let _ = self.embedded.engine.carry_gift(gift.clone()).await;
        for sidecar in self.sidecars.iter().cycle().skip(sidecar).take(2.min(self.sidecars.len())) {
            let _ = sidecar.bench.engine.carry_gift(gift.clone()).await;
        }
        let on = (&self.world, &self.people);
        self.is_given = self.model.give(on, giving, self.now_ms);
        self.edited_ms = Some(self.now_ms);
    }

    /// Whether masters of a cluster may differ in a request, which is no difference then: where hits that come back meet
    /// a key, and where one refuses what settles or extends a reservation on another, or would refuse it if it were enforced.
    fn is_split(&self, ask: &Ask) -> bool {
        let (mut model, on) = (self.model.clone(), (&self.world, &self.people));
        let gives_back = ask.parts.iter().any(|part| part.hits < 0) && self.world.retries.is_some();
        let mut entries = ask.parts.iter().flat_map(|part| &part.entries);
        let may_settle = self.world.has_holdings() && entries.any(|(key, _)| key == ID_KEY);
        1 < model.records(on, ask, self.now_ms)
            && (gives_back || may_settle && model.answer(on, ask, self.now_ms).tells_refusal())
    }

    /// Asks everybody.
    async fn ask(&mut self, sidecar: usize, ask: &Ask) -> Result<(), Difference> {
        if self.is_cluster && self.is_split(ask) {
            return Ok(());
        }
        let shared = match self.sidecars.is_empty() {
            true => None,
            false => Some(self.ask_sidecar(sidecar % self.sidecars.len(), ask).await?),
        };
        let (embedded, _) = self.reported(&self.embedded, ask).await;
        let expected = self.model.answer((&self.world, &self.people), ask, self.now_ms);
        if embedded != expected {
            return Err(differs("in memory", &embedded, &expected));
        }
        match shared {
            Some((reported, false)) if reported != expected => {
                Err(differs(self.shared, &reported, &expected))
            }
            Some((reported, true)) if !reported.refuses_like(&expected) => {
                Err(differs("held by a sidecar", &reported, &expected))
            }
            _ => Ok(()),
        }
    }

    /// What a sidecar says, and whether it has held that since it has asked the store. What it holds may be as old as a quarter
    /// of a second if others have asked since, or something was edited: then it is asked again after that.
    async fn ask_sidecar(&mut self, one: usize, ask: &Ask) -> Result<(Reported, bool), Difference> {
        let (reported, is_held) = self.reported(&self.sidecars[one].bench, ask).await;
        let mut others = self.sidecars.iter().enumerate().filter(|(other, _)| *other != one);
        let is_recent = |at: u64| self.now_ms <= at + HELD_MS;
        let may_be_old = others.any(|(_, other)| other.asked_ms.is_some_and(is_recent))
            || self.edited_ms.is_some_and(is_recent);
        let (reported, is_held) = match is_held && may_be_old {
            false => (reported, is_held),
            true => {
                self.advance(HELD_MS + 1);
                self.reported(&self.sidecars[one].bench, ask).await
            }
        };
        self.sidecars[one].asked_ms = Some(self.now_ms);
        Ok((reported, is_held))
    }

    /// What an engine says, and whether it has asked no store.
    async fn reported(&self, bench: &Bench, ask: &Ask) -> (Reported, bool) {
        let descriptors = ask.parts.iter().map(descriptor).collect();
        let request = Request::try_new(&self.world.domain, descriptors).unwrap();
        let held = self.held_refusals(bench);
        let answer = engine::ask(&bench.engine, &request).await;
        let reported = Reported {
            code: answer.code,
            statuses: answer.statuses,
            metadata: answer.metadata.map(Into::into).unwrap_or_default(),
        };
        (reported, held < self.held_refusals(bench))
    }

    /// How many requests were refused without asking the store, because a refusal was known to hold.
    fn held_refusals(&self, bench: &Bench) -> u64 {
        let now = Now::Given(Timestamp::from_ms(self.now_ms));
        bench.engine.store().local_cache_counts(now).refused
    }
}

fn differs(who: &str, reported: &Reported, expected: &Reported) -> Difference {
    Difference(format!("{who}: {reported:#?}, but by the model {expected:#?}"))
}

fn descriptor(part: &AskPart) -> Descriptor<'_> {
    let entries = part.entries.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let hits = match part.hits {
        hits if hits < 0 => Hits::GiveBack(hits.unsigned_abs()),
        hits => Hits::Spend(hits.unsigned_abs()),
    };
    Descriptor { entries: entries.collect(), hits, hits_source: HitsSource::Request, limit: None }
}
