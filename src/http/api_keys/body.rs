//! Queries and bodies of `/v1/api-keys`.

use std::time::Duration;

use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::api_keys::{ApiKeyForm, ApiKeyRecord, ApiKeySecret, ApiKeyText, LastUse, Peppers};
use crate::http::problem::Problem;
use crate::http::quota::QuotaItem;
use crate::observe::audit::instant;

/// Maximum number of API keys on a page.
const PAGE_LEN_MAX: usize = 1_000;
const PAGE_LEN_DEFAULT: usize = 100;

/// The longest overlap of a rotation.
const OVERLAP_MAX: Duration = Duration::from_secs(366 * 86_400);

/// The query of a page.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Only the API keys of this caller.
    pub caller: Option<String>,
    /// Start after this id: the `next` of the previous page.
    #[serde(default)]
    pub after: String,
    /// API keys on the page.
    #[serde(default = "page_len_default")]
    #[schemars(range(min = 1, max = PAGE_LEN_MAX))]
    limit: usize,
}

fn page_len_default() -> usize {
    PAGE_LEN_DEFAULT
}

impl ListQuery {
    /// The number of API keys on the page.
    pub fn checked_limit(&self) -> Result<usize, Problem> {
        if !(1..=PAGE_LEN_MAX).contains(&self.limit) {
            let detail = format!("`limit` must be a number from 1 to {PAGE_LEN_MAX}");
            return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
        }
        Ok(self.limit)
    }
}

/// A page of API keys, ordered by id.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ApiKeyPage")]
pub struct PageBody {
    pub items: Vec<ApiKeyBody>,
    /// The `after` of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An API key with its id, without its text.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ApiKeyItem")]
pub struct ApiKeyBody {
    /// Its id, which is no secret.
    pub id: String,
    #[serde(flatten)]
    key: ApiKeyForm,
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    /// The last request that it was allowed to make; absent if there is none. A sidecar writes it every five seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<LastUsedBody>,
    /// The texts that are valid, the newest first: several after a rotation with an overlap.
    secrets: Vec<SecretBody>,
    /// How its own limits stand; only of one that is asked for by its id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    quota: Vec<QuotaItem>,
}

/// The last use of an API key.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ApiKeyLastUse")]
struct LastUsedBody {
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// The address of the client; absent if it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

/// A text of an API key, of which only the beginning is shown.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ApiKeySecret")]
struct SecretBody {
    /// The beginning of the text.
    hint: String,
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    /// The end of its overlap; absent for the current one.
    #[schemars(extend("format" = "date-time"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// Whether it is hashed under the current pepper: `current`, an `earlier` one, or an `unknown` one, with which it can't be
    /// used.
    pepper: PepperName,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum PepperName {
    Current,
    Earlier,
    Unknown,
}

/// A new text of an API key.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CreatedApiKey")]
pub struct CreatedBody {
    /// The API key. It is not shown again.
    #[serde(serialize_with = "exposed")]
    #[schemars(with = "String")]
    pub api_key: ApiKeyText,
    #[serde(flatten)]
    pub body: ApiKeyBody,
}

fn exposed<S: Serializer>(text: &ApiKeyText, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text.expose())
}

/// A rotation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ApiKeyRotation")]
pub struct RotateForm {
    /// How long the earlier text stays valid, in seconds; not at all if absent.
    #[serde(default)]
    pub overlap_s: u64,
}

impl RotateForm {
    /// The overlap.
    pub fn checked_overlap(&self) -> Result<Duration, Problem> {
        let overlap = Duration::from_secs(self.overlap_s);
        if OVERLAP_MAX < overlap {
            let detail = format!("`overlap_s` must be at most {}", OVERLAP_MAX.as_secs());
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
        Ok(overlap)
    }
}

impl ApiKeyBody {
    /// What is shown of a record.
    pub fn of(record: &ApiKeyRecord, last_use: Option<LastUse>, peppers: &Peppers) -> Self {
        let pepper = |mark: &str| match peppers.place(mark) {
            Some(0) => PepperName::Current,
            Some(_) => PepperName::Earlier,
            None => PepperName::Unknown,
        };
        let secret = |secret: &ApiKeySecret| SecretBody {
            hint: secret.hint.clone(),
            created_at: instant(secret.created_at),
            until: secret.until.map(instant),
            pepper: pepper(&secret.pepper),
        };
        Self {
            id: record.id.to_string(),
            key: ApiKeyForm::from(&record.key),
            created_at: instant(record.created_at),
            last_used: last_use.map(|last| LastUsedBody {
                at: instant(last.at),
                address: last.address.map(|address| address.to_string()),
            }),
            secrets: record.secrets.iter().map(secret).collect(),
            quota: Vec::new(),
        }
    }

    /// The same with its limits as they stand.
    pub fn with_quota(self, quota: Vec<QuotaItem>) -> Self {
        Self { quota, ..self }
    }
}
