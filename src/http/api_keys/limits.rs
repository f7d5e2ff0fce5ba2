//! The limits of an API key of its own: how they stand, and their end.

use crate::api_keys::ApiKeyRecord;
use crate::http::edge::Edge;
use crate::http::quota::QuotaItem;
use crate::policy::ApiKeyPolicy;

/// The limits of an API key as they stand; none if no policy in force checks it.
pub async fn standing(edge: &Edge, record: &ApiKeyRecord) -> Vec<QuotaItem> {
    let (snapshot, prefix) = (edge.engine.snapshot(), prefix_of(record));
    let checks = |policy: &ApiKeyPolicy| *policy.prefix == *prefix;
    let mut domains = snapshot.policies().domains().into_iter();
    let domain = domains.find(|domain| domain.api_keys.as_ref().is_some_and(checks));
    let Some(domain) = domain.filter(|_| !record.key.limits.is_empty()) else { return Vec::new() };
    let preview = edge.engine.api_key_limits(&snapshot, (domain, record)).await;
    let previews: Vec<_> = preview.into_iter().collect();
    QuotaItem::all(&record.key.caller, &previews).collect()
}

/// The prefix of an API key, from its hint: without the underscore and the digits after it.
pub fn prefix_of(record: &ApiKeyRecord) -> String {
    let hint = record.secrets.first().map_or("", |secret| &secret.hint);
    hint.rsplit_once('_').map_or(hint, |(prefix, _)| prefix).to_owned()
}

/// Removes the counters of an API key that was deleted.
pub async fn remove(edge: &Edge, record: &ApiKeyRecord) {
    if let Err(error) = edge.engine.remove_api_key_limits(record).await {
        let id = &*record.id;
        tracing::warn!(%error, api_key.id = id, "removing the counters of a deleted API key failed");
    }
}
