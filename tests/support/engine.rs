//! Engines, assembled as in the process.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tollgate::answer::{Answer, render};
use tollgate::clock::Clock;
use tollgate::engine::{
    AnyStore, Descriptor, Engine, EngineSettings, HitsSource, ModeSettings, NearLimit, Request,
    Sink,
};
use tollgate::limit::Hits;
use tollgate::metrics::{Counter, Metrics};
use tollgate::policy::{CompileOptions, Problem, Source, compile, compile_callers};
use tollgate::store::embedded::Memory;
use tollgate::store::redis::{Redis, RedisSettings};
use tollgate::store::{Directory, Fallback, Health};

use super::PATIENCE;
use super::cluster::Cluster;
use super::redis::{Server, until};

/// Maximum number of counters of the embedded store: more than any test needs.
const KEYS_MAX: usize = 1_000_000;

/// An engine with a directory of files, and the task of its store's connection.
pub struct Bench {
    pub engine: Arc<Engine>,
    task: Option<JoinHandle<()>>,
}

impl Bench {
    /// An engine in memory.
    pub fn in_memory(clock: &Clock) -> Self {
        Self { engine: engine(AnyStore::Memory(Memory::new(KEYS_MAX)), clock), task: None }
    }

    /// An engine in memory, with the sink of its verdicts.
    pub fn recording(clock: &Clock) -> (Self, Arc<Sink>) {
        let sink = Arc::new(Sink::new(Counter::default()));
        let store = AnyStore::Memory(Memory::new(KEYS_MAX));
        let engine = build(store, clock).with_sink(sink.clone());
        (Self { engine: Arc::new(engine), task: None }, sink)
    }

    /// An engine with its own connection to a server, with a long deadline.
    pub async fn on_redis(server: &Server, clock: &Clock) -> Self {
        Self::connected(RedisSettings::new(&server.url()), clock).await
    }

    /// The same on a cluster.
    pub async fn on_cluster(cluster: &Cluster, clock: &Clock) -> Self {
        Self::connected(cluster.settings(), clock).await
    }

    async fn connected(settings: RedisSettings, clock: &Clock) -> Self {
        let settings = RedisSettings { deadline: PATIENCE, ..settings };
        let (redis, connector) = Redis::try_new(&settings).unwrap();
        let task = tokio::spawn(connector.run(std::future::pending()));
        until("the store is connected", || redis.health() == Health::Healthy).await;
        Self {
            engine: engine(AnyStore::redis(redis, Fallback::new(1_000, None)), clock),
            task: Some(task),
        }
    }

    /// Puts a policy in force.
    ///
    /// # Errors
    /// Its problems.
    pub fn put_in_force(&self, policy: &str) -> Result<(), Vec<Problem>> {
        let source = Source { path: "policy.yaml".to_owned(), text: policy.to_owned() };
        self.engine.replace(compile(&[source], CompileOptions::default())?);
        Ok(())
    }

    /// Replaces the callers of the directory.
    ///
    /// # Errors
    /// Their problems.
    pub fn know(&self, callers: &str) -> Result<(), Vec<Problem>> {
        let source = Source { path: "callers.yaml".to_owned(), text: callers.to_owned() };
        self.engine.directory().replace(compile_callers(&[source])?);
        Ok(())
    }
}

/// The answer of an engine to a request.
pub async fn ask(engine: &Engine, request: &Request<'_>) -> Answer {
    let snapshot = engine.snapshot();
    render(&*engine.check(&snapshot, request).await)
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn engine(store: AnyStore, clock: &Clock) -> Arc<Engine> {
    Arc::new(build(store, clock))
}

fn build(store: AnyStore, clock: &Clock) -> Engine {
    Engine::new(EngineSettings {
        store,
        directory: Directory::files(),
        clock: clock.clone(),
        modes: ModeSettings::default(),
        near_limit: NearLimit::default(),
        metrics: Arc::new(Metrics::new()),
    })
}

/// A descriptor from `k=v,k=v`.
pub fn descriptor(text: &str, hits: u64) -> Descriptor<'_> {
    let entries = text.split(',').map(|entry| entry.split_once('=').unwrap()).collect();
    Descriptor { entries, hits: Hits::Spend(hits), hits_source: HitsSource::Request, limit: None }
}
