//! The tasks of the process, and the stages that tell them when to end.

use anyhow::anyhow;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

/// Tasks that go on until they are told to end. Dropping this drops them too.
#[derive(Debug, Default)]
pub struct Tasks(JoinSet<()>);

impl Tasks {
    /// Runs a task.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }

    /// Runs a task on a thread of its own, so that no other task waits while it computes.
    pub fn spawn_on_thread(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        let runtime = Handle::current();
        self.0.spawn_blocking(move || runtime.block_on(task));
    }

    /// Waits until one ends that shouldn't yet, and says why; for ever if there is none.
    pub async fn failure(&mut self) -> anyhow::Error {
        match self.0.join_next().await {
            Some(Ok(())) => anyhow!("a task ended unexpectedly"),
            Some(Err(error)) => error.into(),
            None => std::future::pending().await,
        }
    }

    /// Waits for the end of all.
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

    /// Drops all.
    pub async fn shutdown(&mut self) {
        self.0.shutdown().await;
    }
}

/// How far the process has come. It only ever goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Serving,
    /// Servers take nothing new and end what they have.
    Closing,
    /// The servers are gone.
    Served,
    /// So are the consumers of what the servers did.
    Closed,
}

/// The stage that the process is in.
#[derive(Clone, Debug)]
pub struct Stages(watch::Sender<Stage>);

impl Stages {
    /// The first one.
    pub fn new() -> Self {
        Self(watch::channel(Stage::Serving).0)
    }

    /// Comes to `stage`.
    pub fn enter(&self, stage: Stage) {
        self.0.send_replace(stage);
    }

    /// Ends when the process has come to `stage`.
    pub fn reached(&self, stage: Stage) -> impl Future<Output = ()> + Send + use<> {
        let mut now = self.0.subscribe();
        async move {
            // An error says that the process is gone, which is as far as it goes.
            now.wait_for(|now| stage <= *now).await.ok();
        }
    }
}
