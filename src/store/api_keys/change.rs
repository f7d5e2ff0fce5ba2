//! API keys as a store finds them, their pages, and their changes.

use std::sync::Arc;

use crate::api_keys::{ApiKeyHash, ApiKeyRecord};

/// An API key, and the hash by which it was found.
#[derive(Clone, Debug)]
pub struct FoundApiKey {
    pub hash: ApiKeyHash,
    pub record: Arc<ApiKeyRecord>,
}

/// A page of API keys, ordered by id.
#[derive(Clone, Debug, Default)]
pub struct ApiKeyPage {
    pub records: Vec<Arc<ApiKeyRecord>>,
    /// The id after which the next page starts; None at the end.
    pub next: Option<String>,
}

/// A change of one API key. Its id and its caller stay.
#[derive(Clone, Copy, Debug)]
pub struct ApiKeyChange<'a> {
    /// The record that the writer has read; None if there was none.
    pub before: Option<&'a ApiKeyRecord>,
    /// None deletes it.
    pub after: Option<&'a ApiKeyRecord>,
}

impl ApiKeyChange<'_> {
    /// The id of the API key.
    pub fn id(&self) -> &str {
        self.after.or(self.before).map_or("", |record| &record.id)
    }

    /// The caller of the API key.
    pub fn caller(&self) -> &str {
        self.after.or(self.before).map_or("", |record| &record.key.caller)
    }
}
