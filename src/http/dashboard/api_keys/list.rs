//! What the list of API keys shows.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::state::KeyState;
use crate::api_keys::{ApiKeyRecord, LastUse};
use crate::clock::Timestamp;
use crate::http::api_keys::keys;
use crate::http::dashboard::failure::Failure;
use crate::http::edge::Edge;
use crate::http::problem::Problem;

/// API keys that a page of the list considers.
const CONSIDERED_MAX: usize = 2_000;

/// API keys that are read at once.
const READ_AT_ONCE: usize = 500;

/// API keys that are shown.
const SHOWN_MAX: usize = 100;

const DAY: Duration = Duration::from_secs(86_400);
const MONTH: Duration = Duration::from_secs(30 * 86_400);

/// The filters; empty ones select all.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct KeysQuery {
    /// The whole name of a caller.
    pub caller: String,
    /// A part of a caller, a name, an id, or a beginning.
    pub search: String,
    pub state: String,
    pub used: Used,
    pub expires: Expires,
    /// Start after this id.
    pub after: String,
    /// The change that was just made.
    pub changed: String,
}

/// By the last use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Used {
    #[default]
    Any,
    Day,
    /// Not in thirty days.
    Unused,
    Never,
}

/// By the expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expires {
    #[default]
    Any,
    /// In thirty days.
    Soon,
    Never,
}

/// Some API keys.
#[derive(Debug)]
pub struct KeyList {
    pub query: KeysQuery,
    /// By caller and name.
    pub items: Vec<KeyRow>,
    /// The `after` of the next page.
    pub next: Option<String>,
    pub now_ms: u64,
}

/// An API key of the list.
#[derive(Debug)]
pub struct KeyRow {
    pub record: Arc<ApiKeyRecord>,
    pub last_use: Option<LastUse>,
    pub state: KeyState,
}

impl KeyList {
    /// Reads the list.
    pub async fn read(edge: &Edge, query: KeysQuery) -> Result<Self, Failure> {
        let keys = keys(edge)?;
        let now = edge.engine.now();
        let caller = Some(query.caller.trim()).filter(|caller| !caller.is_empty());
        let mut items: Vec<KeyRow> = Vec::new();
        let mut next = Some(query.after.clone());
        for _ in 0..CONSIDERED_MAX / READ_AT_ONCE {
            let Some(after) = next.take() else { break };
            let page = keys.store.page(caller, (&after, READ_AT_ONCE)).await;
            let page = page.map_err(Problem::from)?;
            let ids: Vec<&str> = page.records.iter().map(|record| &*record.id).collect();
            let last_uses = keys.last_uses(&ids).await.map_err(Problem::from)?;
            next = page.next;
            for (record, last_use) in page.records.iter().zip(last_uses) {
                let state = KeyState::of(record, &keys.peppers, now);
                let row = KeyRow { record: record.clone(), last_use, state };
                if !query.selects(&row, now) {
                    continue;
                }
                let id = row.record.id.to_string();
                items.push(row);
                if SHOWN_MAX <= items.len() {
                    next = Some(id);
                    break;
                }
            }
            if SHOWN_MAX <= items.len() {
                break;
            }
        }
        items.sort_by(|one, other| order(one).cmp(&order(other)));
        Ok(Self { query, items, next, now_ms: now.as_ms() })
    }
}

fn order(row: &KeyRow) -> (&str, &str, &str) {
    (&row.record.key.caller, &row.record.key.name, &row.record.id)
}

impl KeysQuery {
    fn selects(&self, row: &KeyRow, now: Timestamp) -> bool {
        let key = &row.record.key;
        let search = self.search.trim().to_lowercase();
        let hints = row.record.secrets.iter().map(|secret| secret.hint.as_str());
        let mut texts = [&*key.caller, &key.name, &row.record.id].into_iter().chain(hints);
        let is_used_since = |span: Duration| {
            row.last_use.is_some_and(|last| now.as_ms() <= last.at.after(span).as_ms())
        };
        (self.state.is_empty() || self.state == row.state.name())
            && match self.used {
                Used::Any => true,
                Used::Day => is_used_since(DAY),
                Used::Unused => !is_used_since(MONTH),
                Used::Never => row.last_use.is_none(),
            }
            && match self.expires {
                Expires::Any => true,
                Expires::Soon => {
                    key.expires_at.is_some_and(|end| now < end && end <= now.after(MONTH))
                }
                Expires::Never => key.expires_at.is_none(),
            }
            && texts.any(|text| text.to_lowercase().contains(&search))
    }
}
