//! An engine for the tests of those who ask one.

use std::sync::Arc;

use super::AnyStore;
use super::Engine;
use super::EngineSettings;
use super::ModeSettings;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::policy::CompileOptions;
use crate::policy::Source;
use crate::policy::compile;
use crate::store::Directory;
use crate::store::memory::Memory;

/// Lets one request an hour pass for each `user` of the domain `edges`.
pub fn one_an_hour() -> Engine {
    let engine = Engine::new(EngineSettings {
        store: AnyStore::Memory(Memory::new(1_000)),
        directory: Directory::None,
        clock: Clock::system(),
        modes: ModeSettings::default(),
        metrics: Arc::new(Metrics::new()),
    });
    let text = "{domain: edges, descriptors: [{key: user, limits: [1/hour]}]}".to_owned();
    let source = Source { path: "edges.yaml".to_owned(), text };
    engine.replace(compile(&[source], CompileOptions::default()).expect("the policy is right"));
    engine
}
