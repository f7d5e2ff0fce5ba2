//! Engines, assembled as in the process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tollgate::clock::Clock;
use tollgate::engine::{AnyStore, Engine, EngineSettings, ModeSettings, NearLimit, Sink};
use tollgate::metrics::{Counter, Metrics};
use tollgate::policy::{CompileOptions, Source, compile};
use tollgate::store::embedded::Memory;
use tollgate::store::redis::{Redis, RedisSettings};
use tollgate::store::{Directory, Fallback, Health};

/// Deadline of a charge: long enough for a busy machine.
const DEADLINE: Duration = Duration::from_secs(5);

/// An engine in memory with at most `keys_max` counters.
pub fn in_memory(policy: &str, clock: &Clock, keys_max: usize) -> Result<Engine> {
    engine(AnyStore::Memory(Memory::new(keys_max)), policy, clock)
}

/// An engine in memory with at most `keys_max` counters, and the sink of its records.
pub fn recording(policy: &str, clock: &Clock, keys_max: usize) -> Result<(Engine, Arc<Sink>)> {
    let sink = Arc::new(Sink::new(Counter::default()));
    let engine = in_memory(policy, clock, keys_max)?.with_sink(sink.clone());
    Ok((engine, sink))
}

/// An engine with the Redis at a socket. Its connection runs in a task of this runtime.
pub async fn on_redis(policy: &str, clock: &Clock, socket: &Path) -> Result<Engine> {
    let url = format!("unix://{}", socket.display());
    let settings = RedisSettings { deadline: DEADLINE, ..RedisSettings::new(&url) };
    let (redis, connector) = Redis::try_new(&settings)?;
    tokio::task::spawn(connector.run(std::future::pending()));
    while redis.health() != Health::Healthy {
        // There is no notification; the connection is up within milliseconds.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    engine(AnyStore::redis(redis, Fallback::new(1_000, None)), policy, clock)
}

fn engine(store: AnyStore, policy: &str, clock: &Clock) -> Result<Engine> {
    let source = Source { path: "bench.yaml".to_owned(), text: policy.to_owned() };
    let policies = compile(&[source], CompileOptions::default())
        .map_err(|problems| anyhow!("{problems:?}"))?;
    let engine = Engine::new(EngineSettings {
        store,
        directory: Directory::None,
        clock: clock.clone(),
        modes: ModeSettings::default(),
        near_limit: NearLimit::default(),
        metrics: Arc::new(Metrics::new()),
    });
    engine.replace(policies);
    Ok(engine)
}
