//! The limits of an API key of its own: how they stand, and their end.

use super::Engine;
use super::preview::Preview;
use super::request::{BroughtLimits, Descriptor, HitsSource, Request};
use super::snapshot::Snapshot;
use crate::api_keys::ApiKeyRecord;
use crate::limit::Hits;
use crate::policy::{Domain, Key};
use crate::store::StoreError;

impl Engine {
    /// How the limits of an API key stand in a domain: nothing is charged.
    pub async fn api_key_limits<'v>(
        &self,
        snapshot: &'v Snapshot,
        (domain, record): (&'v Domain, &'v ApiKeyRecord),
    ) -> Option<Preview<'v>> {
        let classes = &domain.classes;
        let caller = classes.caller_key.as_deref().map(|key| (key, &*record.key.caller));
        let descriptor = Descriptor {
            entries: caller.into_iter().collect(),
            hits: Hits::Spend(0),
            hits_source: HitsSource::Request,
            limit: Some(BroughtLimits::OfApiKey(&record.id, &record.key.limits)),
        };
        let request = Request::try_new(&domain.name, vec![descriptor]).ok()?;
        Some(self.preview(snapshot, &request).await)
    }

    /// Removes the counters of an API key's own limits, also of those that it had before: one that never resets would stay for
    /// ever.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn remove_api_key_limits(&self, record: &ApiKeyRecord) -> Result<(), StoreError> {
        self.store().remove(&Key::of_api_key(&record.id)).await
    }
}
