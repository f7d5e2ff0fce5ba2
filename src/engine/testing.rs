//! Engines for the tests of this layer and of the edges.

use std::sync::Arc;

use super::{
    AnyStore, Code, Descriptor, Engine, EngineSettings, HitsSource, ModeSettings, NearLimit,
    Request,
};
use crate::clock::{Clock, Timestamp};
use crate::limit::Hits;
use crate::metrics::Metrics;
use crate::policy::{CompileOptions, Source, compile, compile_callers};
use crate::store::Directory;
use crate::store::embedded::Memory;

/// The start of the tests' clocks.
pub const START: Timestamp = Timestamp::from_ms(1_700_000_000_000);

/// An engine with a policy of the domain `d`, and its clock.
pub struct Bench {
    pub engine: Engine,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
}

/// One request per hour for each `user` of the domain `edges`.
pub fn one_an_hour() -> Engine {
    let bench = Bench::timed(Clock::system());
    bench.put_in_force("{domain: edges, descriptors: [{key: user, limits: [1/hour]}]}");
    bench.engine
}

/// An engine in memory with a manual clock.
pub fn bench(policy: &str, modes: ModeSettings) -> Bench {
    bench_on(AnyStore::Memory(Memory::new(1_000)), policy, modes)
}

/// An engine on a store with a manual clock.
pub fn bench_on(store: AnyStore, policy: &str, modes: ModeSettings) -> Bench {
    let bench = Bench::new(store, Clock::manual(START), modes, Directory::None);
    bench.put_in_force(policy);
    bench
}

/// A descriptor from `k=v,k=v` with one hit.
pub fn descriptor(text: &str) -> Descriptor<'_> {
    let entries = text.split(',').map(|entry| entry.split_once('=').unwrap()).collect();
    Descriptor { entries, hits: Hits::Spend(1), hits_source: HitsSource::Request, limit: None }
}

impl Bench {
    fn new(store: AnyStore, clock: Clock, modes: ModeSettings, directory: Directory) -> Self {
        let metrics = Arc::new(Metrics::new());
        let near_limit = NearLimit::default();
        let settings = EngineSettings {
            store,
            directory,
            clock: clock.clone(),
            modes,
            near_limit,
            metrics: metrics.clone(),
        };
        Self { engine: Engine::new(settings), clock, metrics }
    }

    /// An engine in memory with this clock, without a policy.
    pub fn timed(clock: Clock) -> Self {
        let store = AnyStore::Memory(Memory::new(1_000));
        Self::new(store, clock, ModeSettings::default(), Directory::None)
    }

    /// An engine in memory with these callers.
    pub fn with_callers(policy: &str, callers: &str) -> Self {
        let store = AnyStore::Memory(Memory::new(1_000));
        let clock = Clock::manual(START);
        let bench = Self::new(store, clock, ModeSettings::default(), Directory::files());
        bench.put_in_force(policy);
        bench.set_callers(callers);
        bench
    }

    /// Puts a policy in force.
    pub fn put_in_force(&self, policy: &str) {
        let source = Source { path: "policy.yaml".to_owned(), text: policy.to_owned() };
        self.engine.replace(compile(&[source], CompileOptions::default()).unwrap());
    }

    /// Replaces the callers of the directory.
    pub fn set_callers(&self, callers: &str) {
        let source = Source { path: "callers.yaml".to_owned(), text: callers.to_owned() };
        self.engine.directory().replace(compile_callers(&[source]).unwrap());
    }

    /// The code, and whether `on_outage` decided.
    pub async fn outcome(&self, descriptors: Vec<Descriptor<'_>>) -> (Code, bool) {
        let snapshot = self.engine.snapshot();
        let request = Request::try_new("d", descriptors).unwrap();
        let verdict = self.engine.check(&snapshot, &request).await;
        (verdict.code(), verdict.fallback)
    }
}
