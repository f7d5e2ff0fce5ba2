//! The tasks of the process, and the stages of its shutdown.

use anyhow::anyhow;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

/// Tasks that run until the shutdown. Dropping this drops them.
#[derive(Debug, Default)]
pub struct Tasks(JoinSet<()>);

impl Tasks {
    /// Runs a task.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }

    /// Runs a task on its own thread, so that no other task waits while it computes.
    pub fn spawn_on_thread(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        let runtime = Handle::current();
        self.0.spawn_blocking(move || runtime.block_on(task));
    }

    /// Waits until a task ends unexpectedly, and returns the reason. Never returns if all tasks run.
    pub async fn failure(&mut self) -> anyhow::Error {
        match self.0.join_next().await {
            Some(Ok(())) => anyhow!("a task ended unexpectedly"),
            Some(Err(error)) => error.into(),
            None => std::future::pending().await,
        }
    }

    /// Waits for the end of all tasks.
    ///
    /// # Errors
    /// The first panic of a task.
    pub async fn finish(&mut self) -> Result<(), JoinError> {
        let mut result = Ok(());
        while let Some(ended) = self.0.join_next().await {
            result = result.and(ended);
        }
        result
    }

    /// Drops all tasks.
    pub async fn shutdown(&mut self) {
        self.0.shutdown().await;
    }
}

/// The stage of the process. Stages only advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Serving,
    /// Servers accept nothing new, and finish what is in flight.
    Closing,
    /// The servers have ended.
    Served,
    /// The consumers of the servers' records have ended.
    Closed,
}

/// The current stage of the process.
#[derive(Clone, Debug)]
pub struct Stages(watch::Sender<Stage>);

impl Stages {
    /// The first stage.
    pub fn new() -> Self {
        Self(watch::channel(Stage::Serving).0)
    }

    /// Advances to `stage`.
    pub fn enter(&self, stage: Stage) {
        self.0.send_replace(stage);
    }

    /// Returns when the process has reached `stage`.
    pub fn reached(&self, stage: Stage) -> impl Future<Output = ()> + Send + use<> {
        let mut now = self.0.subscribe();
        async move {
            // An error means that the process has ended, which is after every stage.
            now.wait_for(|now| stage <= *now).await.ok();
        }
    }
}
