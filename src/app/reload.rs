//! Puts edited policies in force.
//!
//! A change is awaited, then quiet, so that an editor or a `git pull` is read once and whole. What can't be
//! used is told with every problem and changes nothing. Where a change goes unnoticed, a network file
//! system say, a slow poll finds it, and SIGHUP asks at once.

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::pin;
use tokio::select;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio::time::timeout;

use super::load::LoadError;
use super::load::Loaded;
use super::load::Loader;
use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::metrics::Reload;
use crate::policy::PolicySet;
use crate::policy::Problem;
use crate::policy::Severity;
use crate::policy::Source;
use crate::policy::render;

/// Quiet after which a change is taken for done.
const QUIET: Duration = Duration::from_millis(100);

/// How long to wait for quiet: less than the second in which an edit is live.
const QUIET_WAIT_MAX: Duration = Duration::from_millis(400);

/// How often to look where every change is noticed anyway.
const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// How often to look where they are not.
const POLL_INTERVAL_UNWATCHED: Duration = Duration::from_millis(500);

/// Reloads policies.
#[derive(Debug)]
pub struct Reloader {
    loader: Loader,
    changes: mpsc::Receiver<()>,
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
}

impl Reloader {
    /// Loads policies with `loader` whenever `changes` says so.
    pub fn new(
        loader: Loader,
        changes: mpsc::Receiver<()>,
        engine: Arc<Engine>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { loader, changes, engine, metrics }
    }

    /// Puts the first policies in force.
    ///
    /// # Errors
    /// When there are none that can be used.
    pub async fn start(mut self) -> Result<Self, LoadError> {
        let (loader, loaded) = load(self.loader).await;
        self.loader = loader;
        match loaded {
            Ok(Loaded::Policies(policies)) => self.put_in_force(*policies),
            Ok(Loaded::Unchanged) => {}
            Err(error) => return Err(error),
        }
        Ok(self)
    }

    /// Reloads until `shutdown`.
    ///
    /// # Errors
    /// When signals can't be received.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let mut hangup = signal(SignalKind::hangup()).context("can't receive SIGHUP")?;
        pin!(shutdown);
        loop {
            let interval = match self.loader.notices_changes() {
                true => POLL_INTERVAL,
                false => POLL_INTERVAL_UNWATCHED,
            };
            select! {
                () = &mut shutdown => return Ok(()),
                Some(()) = self.changes.recv() => self.quiet().await,
                Some(()) = hangup.recv() => {}
                () = sleep(interval) => {}
            }
            self = self.reload().await;
        }
    }

    /// Waits until nothing has changed for a while, but not for ever.
    async fn quiet(&mut self) {
        let quiet = async { while let Ok(Some(())) = timeout(QUIET, self.changes.recv()).await {} };
        // Whatever is there then is read; what comes later is a change of its own.
        timeout(QUIET_WAIT_MAX, quiet).await.ok();
    }

    async fn reload(mut self) -> Self {
        let (loader, loaded) = load(self.loader).await;
        self.loader = loader;
        match loaded {
            Ok(Loaded::Unchanged) => self.metrics.reload(Reload::Unchanged),
            Ok(Loaded::Policies(policies)) => {
                self.metrics.reload(Reload::Ok);
                self.put_in_force(*policies);
            }
            Err(error) => {
                self.metrics.reload(Reload::Error);
                self.metrics.policy_rejected.set(1);
                report(&error);
                tracing::error!("the policies were not reloaded; those before stay in force");
            }
        }
        self
    }

    fn put_in_force(&self, policies: PolicySet) {
        for warning in policies.warnings() {
            tracing::warn!(
                file = warning.path,
                line = warning.line,
                column = warning.column,
                "{}",
                warning.message
            );
        }
        let at_s = self.engine.now().as_ms() / 1_000;
        self.metrics.policy_loaded(policies.hash(), at_s);
        tracing::info!(
            policy.hash = policies.hash(),
            policy.domains = policies.domains().len(),
            "policies are in force"
        );
        self.engine.replace(policies);
    }
}

/// Loads on a thread that may block.
async fn load(mut loader: Loader) -> (Loader, Result<Loaded, LoadError>) {
    let loading = spawn_blocking(move || {
        let loaded = loader.load();
        (loader, loaded)
    });
    loading.await.expect("reading and compiling don't panic, and nobody aborts them")
}

/// Logs everything that is wrong, each problem with an excerpt and carets.
pub fn report(error: &LoadError) {
    match error {
        LoadError::Files(error) => tracing::error!("{error}"),
        LoadError::Policies { problems, sources } => {
            problems.iter().for_each(|problem| report_problem(problem, sources));
        }
    }
}

fn report_problem(problem: &Problem, sources: &[Source]) {
    let excerpt = render(slice::from_ref(problem), sources);
    // The level says it already.
    let excerpt = excerpt.trim_start_matches("error: ").trim_start_matches("warning: ");
    let Problem { path, line, column, .. } = problem;
    match problem.severity {
        Severity::Error => tracing::error!(file = path, line, column, "{excerpt}\n"),
        Severity::Warning => tracing::warn!(file = path, line, column, "{excerpt}\n"),
    }
}
