//! Loads what a source has, or reports why it is rejected. This is the only place that compiles it, compares it with
//! the last texts, reports problems and replaces the policies or callers in force.
//!
//! If anything is invalid, all problems are reported and nothing changes.

mod load_error;
mod subject;

use std::future::pending;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio::{pin, select};

use super::sources::{Loaded, PolicySource, Texts};
use crate::clock::Clock;
use crate::metrics::Reload;
use crate::observe::audit::{Audit, Changed, Entry};
use crate::policy::Origin;

use load_error::report;

pub use load_error::LoadError;
pub use subject::{FileAlerts, FileCallers, Policies, Subject};

/// How long a start waits for its line in the audit log, and how often that is tried again later: for an hour.
const START_LINE_TIMEOUT: Duration = Duration::from_secs(1);
const START_LINE_INTERVAL: Duration = Duration::from_secs(5);
const START_LINE_ATTEMPTS: u32 = 720;

/// Bytes of a hash of texts that are shown.
const SHORT_LEN: usize = 8;

/// Reloads a subject from its source.
#[derive(Debug)]
pub struct Reloader<P, S> {
    source: P,
    subject: S,
    /// It has a line for the start, and for each reload that replaces something.
    audit: Audit,
    /// The texts of the last read, accepted or rejected.
    last_read: Option<Fingerprint>,
    /// The hash of what is in force.
    version: String,
    /// The line of the start, if it could not be written yet.
    unwritten: Option<Entry>,
}

/// The texts of a read with their origin, or why it failed.
#[derive(Debug, PartialEq, Eq)]
enum Fingerprint {
    Texts([u8; 32], Origin),
    Error(String),
}

impl<P: PolicySource, S: Subject> Reloader<P, S> {
    /// Loads `subject` from `source`.
    ///
    /// # Errors
    /// If it is unreadable or invalid.
    pub async fn start(source: P, subject: S, audit: Audit) -> Result<Self, LoadError> {
        let (mut reloader, loaded) = Self::new(source, subject, audit).load().await;
        loaded?;
        reloader.record_start().await;
        Ok(reloader)
    }

    /// Loads `subject` from a `source` that may have nothing valid yet. If it `waits`, this returns as soon as there is
    /// something valid, else at once.
    pub async fn start_early(source: P, subject: S, audit: Audit, waits: bool) -> Self {
        let mut reloader = Self::new(source, subject, audit);
        let mut is_loaded = false;
        if reloader.source.has_texts() {
            (reloader, is_loaded) = reloader.try_load().await;
        }
        if !is_loaded && waits {
            tracing::info!("waiting for the first valid {}", S::NAME);
        }
        while !is_loaded && waits {
            reloader.source.changed().await;
            (reloader, is_loaded) = reloader.try_load().await;
        }
        if is_loaded {
            reloader.record_start().await;
        }
        reloader
    }

    fn new(source: P, subject: S, audit: Audit) -> Self {
        let version = String::new();
        Self { source, subject, audit, last_read: None, version, unwritten: None }
    }

    /// Loads, reports problems, and returns whether something is in force.
    async fn try_load(self) -> (Self, bool) {
        let (reloader, loaded) = self.load().await;
        let is_loaded = loaded.as_ref().is_ok_and(|loaded| *loaded == Reload::Ok);
        match loaded {
            Ok(_) => {}
            Err(error) => {
                reloader.subject.count(Reload::Error);
                error.report();
            }
        }
        (reloader, is_loaded)
    }

    /// Writes the line of the start.
    async fn record_start(&mut self) {
        if self.audit.is_in_log() {
            // The process log tells of it anyway.
            return;
        }
        let entry = self.entry(S::LOAD, None);
        // Redis may be unavailable: no start waits for it.
        let written = timeout(START_LINE_TIMEOUT, self.audit.write(&entry)).await;
        self.unwritten = Some(entry).filter(|_| !matches!(written, Ok(Ok(()))));
    }

    /// Reloads at every change until `shutdown`.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let starting = write_later(self.audit.clone(), self.unwritten.take());
        let reloading = async {
            pin!(shutdown);
            loop {
                select! {
                    () = &mut shutdown => return,
                    () = self.source.changed() => {}
                }
                self = self.reload().await;
            }
        };
        select! {
            () = reloading => {}
            () = async { starting.await; pending().await } => {}
        }
    }

    async fn reload(self) -> Self {
        let before = self.version.clone();
        let (mut reloader, loaded) = self.load().await;
        match loaded {
            Ok(reload) => {
                reloader.subject.count(reload);
                if reload == Reload::Ok {
                    reloader.record(before).await;
                }
            }
            Err(error) => {
                reloader.subject.count(Reload::Error);
                error.report();
                tracing::error!("reload failed; the previous {} stay in force", S::NAME);
            }
        }
        reloader
    }

    /// Writes a line after a reload: the files are what is to be in force, even if the audit log can't be written.
    async fn record(&mut self, before: String) {
        let entry = self.entry(S::RELOAD, Some(before));
        if let Err(error) = self.audit.write(&entry).await {
            tracing::error!(%error, "writing the reload of {} to the audit log failed", S::NAME);
        }
    }

    fn entry(&self, what: &'static str, from: Option<String>) -> Entry {
        Entry {
            at: Clock::system().now().timestamp(),
            who: self.source.origin().source.to_owned(),
            peer: None,
            what,
            change: Changed::InForce { from, to: self.version.clone() },
            failed: None,
        }
    }

    /// Loads new texts, on a thread that may block.
    ///
    /// With thousands of rules, compiling and dropping take many milliseconds. Requests on the same thread would have
    /// to wait for them.
    async fn load(mut self) -> (Self, Result<Reload, LoadError>) {
        let loading = spawn_blocking(move || {
            let loaded = self.load_now();
            (self, loaded)
        });
        loading.await.expect("reading and compiling don't panic, and nobody aborts them")
    }

    /// Reads the texts, and compiles and loads them if they have changed.
    fn load_now(&mut self) -> Result<Reload, LoadError> {
        let result = self.load_read();
        self.source.loaded(match &result {
            Ok(Reload::Unchanged) => Loaded::Unchanged,
            Ok(_) => Loaded::InForce,
            Err(LoadError::Unreadable(error)) => Loaded::Unreadable(error),
            Err(LoadError::Invalid { problems, .. }) => Loaded::Invalid(problems),
        });
        result
    }

    fn load_read(&mut self) -> Result<Reload, LoadError> {
        let read = self.source.read();
        let origin = self.source.origin();
        let fingerprint = Fingerprint::of(&read, origin.clone());
        if self.last_read.as_ref() == Some(&fingerprint) {
            return Ok(Reload::Unchanged);
        }
        let texts = fingerprint.short();
        self.last_read = Some(fingerprint);
        let texts_read = read.map_err(LoadError::Unreadable)?;
        match self.subject.compile(&texts_read) {
            Ok(compiled) => {
                let problems = S::overlay_problems(&compiled);
                if !problems.is_empty() {
                    // One that both texts make together may be at a place of either.
                    report(&problems, &[texts_read.sources, texts_read.overlays].concat());
                }
                self.subject.put_in_force(compiled, origin);
                self.version = self.subject.version(&texts);
                Ok(Reload::Ok)
            }
            Err(problems) => Err(LoadError::Invalid { problems, sources: texts_read.sources }),
        }
    }
}

/// Writes an entry to the audit log as soon as that is possible.
async fn write_later(audit: Audit, entry: Option<Entry>) {
    let Some(entry) = entry else { return };
    for _ in 0..START_LINE_ATTEMPTS {
        sleep(START_LINE_INTERVAL).await;
        if audit.write(&entry).await.is_ok() {
            return;
        }
    }
    tracing::error!("the audit log has no line of the start: it could not be written");
}

impl Fingerprint {
    fn of(read: &anyhow::Result<Texts>, origin: Origin) -> Self {
        let Texts { sources, overlays } = match read {
            Ok(texts) => texts,
            Err(error) => return Self::Error(error.to_string()),
        };
        let mut hash = Sha256::new();
        hash.update(sources.len().to_le_bytes());
        let all = sources.iter().chain(overlays);
        for part in all.flat_map(|source| [&source.path, &source.text]) {
            // With lengths, so that no text can look like the end of a path.
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        Self::Texts(hash.finalize().into(), origin)
    }

    /// The first digits of the hash.
    fn short(&self) -> String {
        match self {
            Self::Texts(hash, _) => {
                hash[..SHORT_LEN].iter().map(|byte| format!("{byte:02x}")).collect()
            }
            Self::Error(_) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use anyhow::anyhow;
    use tokio::sync::mpsc;

    use super::*;
    use crate::lock::lock;
    use crate::policy::{Problem, Source};

    /// Returns each text once, then repeats the last one; an empty text is unreadable.
    struct Coming {
        coming: mpsc::Receiver<&'static str>,
        text: &'static str,
    }

    impl PolicySource for Coming {
        fn origin(&self) -> Origin {
            Origin { source: "test", version: None }
        }

        fn read(&mut self) -> anyhow::Result<Texts> {
            let source = |text: &str| Source { path: "here".to_owned(), text: text.to_owned() };
            match self.text {
                "" => Err(anyhow!("gone")),
                text => Ok(vec![source(text)].into()),
            }
        }

        async fn changed(&mut self) {
            match self.coming.recv().await {
                Some(text) => self.text = text,
                None => pending().await,
            }
        }
    }

    /// Accepts every text but `invalid`.
    #[derive(Clone, Default)]
    struct Journal(Arc<Mutex<Vec<String>>>);

    impl Subject for Journal {
        type Compiled = String;

        const NAME: &'static str = "texts";

        const LOAD: &'static str = "load texts";

        const RELOAD: &'static str = "reload texts";

        fn compile(&self, texts: &Texts) -> Result<String, Vec<Problem>> {
            let text = texts.sources[0].text.clone();
            if text == "invalid" { Err(Vec::new()) } else { Ok(text) }
        }

        fn version(&self, texts: &str) -> String {
            texts.to_owned()
        }

        fn put_in_force(&self, compiled: String, _: Origin) {
            lock(&self.0).push(compiled);
        }

        fn count(&self, reload: Reload) {
            lock(&self.0).push(format!("{reload:?}"));
        }
    }

    #[tokio::test]
    async fn what_any_source_gives_is_put_in_force_once_and_what_is_invalid_never() {
        let (sender, coming) = mpsc::channel(8);
        for text in ["a", "a", "b", "invalid", "invalid", "", "", "b"] {
            sender.send(text).await.unwrap();
        }
        let journal = Journal::default();
        let texts = Coming { coming, text: "a" };
        let reloader = Reloader::start(texts, journal.clone(), Audit::default()).await.unwrap();
        let (end, ending) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(reloader.run(async { ending.await.unwrap() }));
        // When the channel is empty, the last text has been taken, and it is counted before the end of the channel is
        // checked.
        sender.reserve_many(8).await.unwrap();
        end.send(()).unwrap();
        running.await.unwrap();
        let log = lock(&journal.0).join(" ");
        let expected = "a Unchanged Unchanged b Ok Error Unchanged Error Unchanged b Ok";
        assert_eq!(log, expected);
    }

    #[tokio::test]
    async fn a_start_needs_texts_that_can_be_used() {
        for text in ["", "invalid"] {
            let (_sender, coming) = mpsc::channel(1);
            let journal = Journal::default();
            let started =
                Reloader::start(Coming { coming, text }, journal.clone(), Audit::default()).await;
            assert!(started.is_err());
            assert!(lock(&journal.0).is_empty());
        }
    }
}
