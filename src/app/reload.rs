//! Puts edited files in force, or reports why they are not used.
//!
//! A change is awaited, then quiet, so that an editor or a `git pull` is read once and whole. What can't be
//! used is told with every problem and changes nothing. Where a change goes unnoticed, a network file
//! system say, a slow poll finds it, and SIGHUP asks at once.

use std::slice;
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
use super::subject::Subject;
use crate::metrics::Reload;
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

/// Reloads the files of a subject.
#[derive(Debug)]
pub struct Reloader<S> {
    loader: Loader<S>,
    changes: mpsc::Receiver<()>,
}

impl<S: Subject> Reloader<S> {
    /// Loads with `loader` whenever `changes` says so.
    pub fn new(loader: Loader<S>, changes: mpsc::Receiver<()>) -> Self {
        Self { loader, changes }
    }

    /// Puts in force what the files say first.
    ///
    /// # Errors
    /// When they can't be used.
    pub async fn start(mut self) -> Result<Self, LoadError> {
        let (loader, loaded) = load(self.loader).await;
        self.loader = loader;
        loaded.map(|_| self)
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
            Ok(reload) => self.loader.subject().count(reload),
            Err(error) => {
                self.loader.subject().count(Reload::Error);
                report(&error);
                tracing::error!("the {} were not reloaded; those before stay in force", S::NAME);
            }
        }
        self
    }
}

/// Loads, and puts in force what is new, on a thread that may block.
///
/// With thousands of rules both take many milliseconds, as does dropping those before; the requests in line behind
/// them would wait for that.
async fn load<S: Subject>(mut loader: Loader<S>) -> (Loader<S>, Result<Reload, LoadError>) {
    let loading = spawn_blocking(move || {
        let loaded = loader.load().map(|loaded| match loaded {
            Loaded::Unchanged => Reload::Unchanged,
            Loaded::New(compiled) => {
                loader.subject().put_in_force(*compiled);
                Reload::Ok
            }
        });
        (loader, loaded)
    });
    loading.await.expect("reading and compiling don't panic, and nobody aborts them")
}

/// Logs everything that is wrong, each problem with an excerpt and carets.
pub fn report(error: &LoadError) {
    match error {
        LoadError::Files(error) => tracing::error!("{error}"),
        LoadError::Problems { problems, sources } => {
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
        Severity::Error => tracing::error!(file = path, line, column, "{excerpt}"),
        Severity::Warning => tracing::warn!(file = path, line, column, "{excerpt}"),
    }
}
