//! Whether a request has an API key that may make it.
//!
//! What an API key needs is known without the store as far as possible: its checksum, the number of unknown API keys of its
//! address, and cached records. Only then the store is asked, within its deadline.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::api_key_uses::ApiKeyUses;
use super::unknown_keys::UnknownKeys;
use crate::api_keys::{
    ApiKey, ApiKeyRecord, Asked, KeyRefusal, LastUse, Peppers, is_well_formed, judge,
};
use crate::clock::Timestamp;
use crate::policy::{ApiKeyOutage, ApiKeyPolicy, Domain, Lineage};
use crate::store::{ApiKeyError, ApiKeyStore, FoundApiKey, StoreWait};

/// API keys: where they are kept, and what is needed to find them.
#[derive(Debug)]
pub struct ApiKeys {
    pub store: ApiKeyStore,
    pub peppers: Peppers,
    unknown: UnknownKeys,
    uses: ApiKeyUses,
}

/// A request whose API key is checked.
#[derive(Clone, Copy, Debug)]
pub struct ApiKeyRequest<'a> {
    /// The API key; None if the request has none.
    pub text: Option<&'a str>,
    pub method: &'a str,
    /// With the query.
    pub path: &'a str,
    /// The address of the client, if it is known.
    pub address: Option<IpAddr>,
    /// The origin of the page that makes the request.
    pub origin: Option<&'a str>,
}

/// The answer for a request whose API key may make it.
#[derive(Clone, Debug)]
pub struct ApiKeyGrant<'d> {
    pub record: Arc<ApiKeyRecord>,
    /// The name of the caller's tier; None if the policy has no tiers.
    pub tier: Option<&'d str>,
}

/// The reason that a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiKeyRefusal {
    /// It has no API key.
    Missing,
    /// Its form or its checksum is wrong.
    Malformed,
    /// No such API key exists.
    Unknown,
    /// Its address has sent too many unknown API keys; there is a time until it may send others.
    TooMany(Duration),
    /// The caller, or a parent of it, is disabled.
    CallerDisabled,
    Key(KeyRefusal),
    /// The store is unavailable.
    Unavailable,
}

impl ApiKeyRefusal {
    /// A word for each, for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::TooMany(_) => "too_many",
            Self::CallerDisabled => "caller_disabled",
            Self::Key(refusal) => refusal.name(),
            Self::Unavailable => "unavailable",
        }
    }
}

impl ApiKeys {
    /// API keys of a store.
    pub fn new(store: ApiKeyStore, peppers: Peppers) -> Self {
        Self { store, peppers, unknown: UnknownKeys::new(), uses: ApiKeyUses::default() }
    }

    /// The last use of each of these API keys; None: it was not used.
    ///
    /// # Errors
    /// If the store does not answer as expected.
    pub async fn last_uses(&self, ids: &[&str]) -> Result<Vec<Option<LastUse>>, ApiKeyError> {
        let stored = self.store.last_uses(ids).await?;
        let latest = |(id, stored): (&&str, Option<LastUse>)| match self.uses.get(id) {
            Some(noted) => Some(noted.later(stored)),
            None => stored,
        };
        Ok(ids.iter().zip(stored).map(latest).collect())
    }

    /// Writes the noted last uses to the store.
    ///
    /// # Errors
    /// If the store does not answer as expected; they are kept for the next call.
    pub async fn store_uses(&self) -> Result<(), ApiKeyError> {
        let uses = self.uses.take();
        if uses.is_empty() {
            return Ok(());
        }
        let written = self.store.note_uses(&uses).await;
        if written.is_err() {
            uses.iter().for_each(|(id, last)| self.uses.note(id, *last));
        }
        written
    }

    /// Notes that an API key was used, from this address.
    pub fn note_use(&self, record: &ApiKeyRecord, at: Timestamp, address: Option<IpAddr>) {
        self.uses.note(&record.id, LastUse { at, address });
    }

    /// The API key with this text.
    async fn find(
        &self,
        engine: &Engine,
        policy: &ApiKeyPolicy,
        (text, address): (&str, Option<IpAddr>),
    ) -> Result<FoundApiKey, ApiKeyRefusal> {
        let now = engine.now();
        if !is_well_formed(&policy.prefix, text) {
            return Err(self.bad(policy, (address, now), ApiKeyRefusal::Malformed));
        }
        let hashes = self.peppers.hashes(text);
        let found = match self.store.cached(&hashes) {
            Some(found) => found,
            None => {
                if let Some(wait) = self.unknown.wait(policy, address, now) {
                    return Err(ApiKeyRefusal::TooMany(wait));
                }
                let _permit = engine.admission().permit();
                // Boxed, because it is large and rare.
                match Box::pin(self.store.find(&hashes)).await {
                    Ok(found) => found,
                    Err(_) if policy.on_outage == ApiKeyOutage::Cached => {
                        let known = self.store.last_known(&hashes);
                        return known.ok_or(ApiKeyRefusal::Unavailable);
                    }
                    Err(_) => return Err(ApiKeyRefusal::Unavailable),
                }
            }
        };
        found.ok_or_else(|| self.bad(policy, (address, now), ApiKeyRefusal::Unknown))
    }

    /// Counts a bad API key of an address. Returns the refusal: this one, or that there were too many.
    fn bad(
        &self,
        policy: &ApiKeyPolicy,
        (address, now): (Option<IpAddr>, Timestamp),
        refusal: ApiKeyRefusal,
    ) -> ApiKeyRefusal {
        self.unknown.count(policy, address, now).map_or(refusal, ApiKeyRefusal::TooMany)
    }
}

impl Engine {
    /// Checks the API key of a request by the `api_keys` of a domain. Its limits are not charged.
    ///
    /// # Errors
    /// If it may not make the request: the reason.
    pub async fn check_api_key<'d>(
        &self,
        keys: &ApiKeys,
        (domain, policy): (&'d Domain, &ApiKeyPolicy),
        request: &ApiKeyRequest<'_>,
    ) -> Result<ApiKeyGrant<'d>, ApiKeyRefusal> {
        let text = request.text.ok_or(ApiKeyRefusal::Missing)?;
        let FoundApiKey { hash, record } = keys.find(self, policy, (text, request.address)).await?;
        let lineage = match self.directory().cached(&record.key.caller) {
            Some(lineage) => lineage,
            None => {
                let _permit = self.admission().permit();
                Box::pin(self.directory().lineage(&record.key.caller, StoreWait::default())).await
            }
        };
        if lineage.is_incomplete && policy.on_outage == ApiKeyOutage::Deny {
            return Err(ApiKeyRefusal::Unavailable);
        }
        let tier = api_key_tier(domain, &record.key, &lineage);
        let ApiKeyRequest { method, path, address, origin, .. } = *request;
        let asked = Asked { method, path, address, origin, tier, now: self.now() };
        judge(&record, hash, policy, &asked).map_err(|refusal| {
            let refused = ApiKeyRefusal::Key(refusal);
            match refusal.is_of_request() {
                true => refused,
                false => keys.bad(policy, (address, asked.now), refused),
            }
        })?;
        if lineage.members.iter().any(|member| member.caller.disabled) {
            return Err(ApiKeyRefusal::CallerDisabled);
        }
        let tier = domain.classes.tiers.get(tier).map(|tier| &**tier);
        Ok(ApiKeyGrant { record, tier })
    }
}

/// The index of the tier of an API key's requests: its own, or else its caller's.
pub fn api_key_tier(domain: &Domain, key: &ApiKey, lineage: &Lineage) -> usize {
    let classes = &domain.classes;
    let of_callers = lineage.members.iter().filter_map(|member| member.caller.tier.as_deref());
    let mut tiers = key.tier.as_deref().into_iter().chain(of_callers);
    tiers.find_map(|tier| classes.tier(tier)).unwrap_or(classes.default_tier)
}
