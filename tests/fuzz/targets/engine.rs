//! The engine of several targets: the embedded store under a policy with all features.

use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};
use tollgate::clock::Clock;
use tollgate::engine::{AnyStore, Engine, EngineSettings, ModeSettings, NearLimit};
use tollgate::metrics::Metrics;
use tollgate::policy::{CompileOptions, Source, compile};
use tollgate::store::embedded::Memory;

/// All algorithms, modes and kinds of matching.
const POLICY: &str = include_str!("../policy.yaml");

/// Maximum number of counters, so that hours of fuzzing don't fill the memory.
const KEYS_MAX: usize = 1_000;

pub static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread().build().expect("a runtime without IO needs nothing")
});

pub static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let source = Source { path: "policy.yaml".to_owned(), text: POLICY.to_owned() };
    let policies = compile(&[source], CompileOptions::default()).expect("the policy is right");
    let engine = Engine::new(EngineSettings {
        store: AnyStore::Memory(Memory::new(KEYS_MAX)),
        directory: tollgate::store::Directory::None,
        clock: Clock::system(),
        modes: ModeSettings::default(),
        near_limit: NearLimit::default(),
        metrics: Metrics::default().into(),
    });
    engine.replace(policies);
    engine
});
