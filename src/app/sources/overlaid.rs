//! The policies of an xDS server, with files that add to them (overlays).
//!
//! Either side is read again when the other changes, so both are always put in force together. Files are never a reason
//! to reject what the server sent: files that can't be read are as they were before.

use std::sync::Arc;

use tokio::select;

use super::source_files::SourceFilesError;
use super::{Files, Loaded, PolicySource, Texts, Xds};
use crate::metrics::Metrics;
use crate::policy::{Origin, Source};

/// An xDS server and files.
#[derive(Debug)]
pub struct Overlaid {
    xds: Xds,
    files: Files,
    metrics: Arc<Metrics>,
    /// The texts of the last readable files.
    overlays: Vec<Source>,
    /// Why the files are unreadable, if they are.
    error: Option<String>,
    /// Whether the files changed since they were last put in force.
    is_edited: bool,
    /// Whether the policies in force are older than what the server sent last.
    is_returned: bool,
}

impl Overlaid {
    /// The policies of a server with these files.
    pub fn new(xds: Xds, files: Files, metrics: Arc<Metrics>) -> Self {
        Self {
            xds,
            files,
            metrics,
            overlays: Vec::new(),
            error: None,
            is_edited: false,
            is_returned: false,
        }
    }

    fn read_files(&mut self) {
        let error = match self.files.read_files() {
            Ok(overlays) => {
                self.keep(overlays);
                None
            }
            // A directory without files is an overlay that adds nothing.
            Err(SourceFilesError::None { .. }) => {
                self.keep(Vec::new());
                None
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = &error
            && self.error.as_ref() != Some(error)
        {
            tracing::error!("the overlays stay as they were: {error}");
        }
        self.metrics.xds.overlays_unreadable(error.is_some());
        self.error = error;
    }

    fn keep(&mut self, overlays: Vec<Source>) {
        if overlays != self.overlays {
            (self.overlays, self.is_edited) = (overlays, true);
        }
    }

    /// Whether an edit of the files was read together with a set that was rejected, so that it is still to be put in force.
    fn has_missed(&self) -> bool {
        self.is_edited && !self.xds.is_new() && self.xds.is_rejected()
    }
}

impl PolicySource for Overlaid {
    fn origin(&self) -> Origin {
        self.xds.origin()
    }

    fn has_texts(&self) -> bool {
        self.xds.has_texts()
    }

    fn read(&mut self) -> anyhow::Result<Texts> {
        self.read_files();
        if self.xds.is_new() {
            self.is_returned = false;
        } else if self.is_edited {
            // The server has been told what is wrong with its last set.
            self.is_returned |= self.xds.return_to_accepted();
        }
        let texts = self.xds.read()?;
        Ok(Texts { overlays: self.overlays.clone(), ..texts })
    }

    fn loaded(&mut self, loaded: Loaded<'_>) {
        if matches!(loaded, Loaded::InForce | Loaded::Unchanged) {
            self.is_edited = false;
        }
        if matches!(loaded, Loaded::InForce) && self.is_returned {
            self.metrics.policy_rejected.set(1);
        }
        self.xds.loaded(loaded);
    }

    async fn changed(&mut self) {
        if self.has_missed() {
            return;
        }
        loop {
            select! {
                () = self.xds.changed() => return,
                () = self.files.changed() => {}
            }
            // Without resources, files have no effect.
            if self.xds.has_texts() {
                return;
            }
        }
    }
}
