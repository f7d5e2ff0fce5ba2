//! Usage that is stored in a file, with a clock that tests set.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use super::sources::UsageSources;
use crate::clock::{Clock, Timestamp};
use crate::engine::testing::{Bench, START};
use crate::engine::{Engine, Sink};
use crate::lock::lock;
use crate::metrics::{Counter, DataFileMetrics};
use crate::policy::{AlertRule, PolicySet, Source, compile_alerts};
use crate::store::sums::{FileSums, SumsStore};
use crate::usage::{Outbox, Retention, UsageMemory};

const RETENTION: Retention = Retention { minute_days: 2, hour_days: 90, day_days: 730 };

/// An engine whose usage is stored.
pub struct Counted {
    bench: Bench,
    sink: Arc<Sink>,
    outbox: Mutex<Outbox>,
    pub sources: UsageSources,
    _folder: TempDir,
}

impl Counted {
    /// Usage of a policy, with nothing counted yet.
    pub fn new(policy: &str) -> Self {
        let mut bench = Bench::timed(Clock::manual(START));
        bench.put_in_force(policy);
        let sink = Arc::new(Sink::new(Counter::default()));
        bench.engine = bench.engine.with_sink(sink.clone());
        let folder = TempDir::new().unwrap();
        let path: PathBuf = folder.path().join("usage.redb");
        let file = FileSums::open(path, DataFileMetrics::default(), START);
        let sources = UsageSources {
            memory: Arc::new(UsageMemory::new(START)),
            sums: Some(Arc::new(SumsStore::File(file))),
            retention: RETENTION,
        };
        let outbox = Mutex::new(Outbox::new(RETENTION, START));
        Self { bench, sink, outbox, sources, _folder: folder }
    }

    /// Sends the same request so many times, and stores what was counted.
    pub async fn ask(&self, descriptors: &[&str], times: u32) {
        self.send(descriptors, times).await;
        self.store().await;
    }

    /// Sends the same request so many times.
    pub async fn send(&self, descriptors: &[&str], times: u32) {
        for _ in 0..times {
            self.bench.ask_for(descriptors).await;
        }
    }

    /// Stores what was counted.
    pub async fn store(&self) {
        let now = self.now();
        self.sink.drain(&mut Vec::new(), &mut |records| {
            self.sources.memory.add(records, now);
        });
        lock(&self.outbox).add(self.sources.memory.collect(now), now);
        let sums = self.sources.sums.as_ref().unwrap();
        sums.reopen(now);
        loop {
            let Some(batch) = lock(&self.outbox).next(now) else { return };
            let added = sums.add(&batch).await.unwrap();
            lock(&self.outbox).confirm(added);
        }
    }

    pub fn engine(&self) -> &Engine {
        &self.bench.engine
    }

    pub fn put_in_force(&self, policy: &str) {
        self.bench.put_in_force(policy);
    }

    pub fn advance(&self, time: Duration) {
        self.bench.clock.advance(time);
    }

    pub fn now(&self) -> Timestamp {
        self.bench.engine.now()
    }

    pub fn policies(&self) -> Arc<PolicySet> {
        self.bench.engine.policies()
    }
}

/// A rule of a file.
pub fn rule(text: &str) -> AlertRule {
    let text = format!("alerts:\n  a: {text}");
    let source = Source { path: "alerts.yaml".to_owned(), text };
    compile_alerts(&[source]).unwrap().rules.remove(0)
}
