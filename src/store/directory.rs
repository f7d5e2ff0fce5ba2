//! Where callers are known from: files, or nowhere.
//!
//! The engine asks for lineages. What is at hand is answered at once, without waiting and by shared
//! pointers; what isn't, is fetched within the store's deadline. A directory that does not answer knows
//! nobody: limits then hold as for callers without a record.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::policy::Callers;
use crate::policy::Lineage;

/// What knows callers.
#[derive(Debug, Default)]
pub enum Directory {
    /// Nobody is known.
    #[default]
    None,
    /// Files, as they were last read.
    Files(ArcSwap<Callers>),
}

impl Directory {
    /// A directory of files that have not been read.
    pub fn files() -> Self {
        Self::Files(ArcSwap::default())
    }

    /// Puts other callers in force where files are the directory.
    pub fn replace(&self, callers: Callers) {
        if let Self::Files(files) = self {
            files.store(Arc::new(callers));
        }
    }

    /// A caller and those it belongs to, if that is at hand: then it is the whole answer.
    pub fn cached(&self, caller: &str) -> Option<Lineage> {
        match self {
            Self::None => Some(Lineage::default()),
            Self::Files(files) => Some(files.load().lineage(caller)),
        }
    }

    /// A caller and those it belongs to, the nearest first; nobody if the directory doesn't know the caller,
    /// or doesn't answer in time.
    #[expect(clippy::unused_async, reason = "what is not at hand will be fetched")]
    pub async fn lineage(&self, caller: &str) -> Lineage {
        self.cached(caller).unwrap_or_default()
    }
}
