//! A record of an API key as the stores keep it: JSON.

use serde::{Deserialize, Serialize};

use super::form::ApiKeyForm;
use super::peppers::ApiKeyHash;
use super::record::{ApiKeyRecord, ApiKeySecret};
use crate::clock::Timestamp;

/// A record without its revision, which the store adds.
#[derive(Serialize, Deserialize)]
struct StoredKey {
    id: String,
    key: ApiKeyForm,
    secrets: Vec<StoredSecret>,
    created_at: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredSecret {
    hash: String,
    hint: String,
    pepper: String,
    created_at: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    until: Option<u64>,
}

/// The record with its revision, as `api_key.lua` writes it.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(rename = "version")]
    _version: u32,
    revision: u64,
    api_key: StoredKey,
}

/// A record as JSON, without its revision.
pub fn to_json(record: &ApiKeyRecord) -> String {
    let secret = |secret: &ApiKeySecret| StoredSecret {
        hash: secret.hash.to_string(),
        hint: secret.hint.clone(),
        pepper: secret.pepper.clone(),
        created_at: secret.created_at.as_ms(),
        until: secret.until.map(Timestamp::as_ms),
    };
    let stored = StoredKey {
        id: record.id.to_string(),
        key: ApiKeyForm::from(&record.key),
        secrets: record.secrets.iter().map(secret).collect(),
        created_at: record.created_at.as_ms(),
    };
    serde_json::to_string(&stored).expect("a record is JSON")
}

/// A record with its revision: `{"version":1,"revision":7,"api_key":RECORD}`. None: it is invalid.
pub fn from_json(bytes: &[u8]) -> Option<ApiKeyRecord> {
    let Stored { revision, api_key, .. } = serde_json::from_slice(bytes).ok()?;
    let secret = |secret: StoredSecret| {
        Some(ApiKeySecret {
            hash: ApiKeyHash::parse(&secret.hash)?,
            hint: secret.hint,
            pepper: secret.pepper,
            created_at: Timestamp::from_ms(secret.created_at),
            until: secret.until.map(Timestamp::from_ms),
        })
    };
    Some(ApiKeyRecord {
        id: api_key.id.into(),
        key: api_key.key.check().ok()?,
        secrets: api_key.secrets.into_iter().map(secret).collect::<Option<_>>()?,
        created_at: Timestamp::from_ms(api_key.created_at),
        revision,
    })
}
