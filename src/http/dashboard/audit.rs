//! What the page of the audit log shows: its newest lines, filtered.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::failure::Failure;
use super::page::Page;
use super::view;
use super::view::layout::Section;
use super::visitor::Visitor;
use crate::http::auth::Operator;
use crate::http::edge::Edge;

/// Lines that filters consider.
const CONSIDERED_MAX: usize = 2_000;

/// Lines that are shown.
const SHOWN_MAX: usize = 100;

/// The filters.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AuditQuery {
    /// A part of the author's name.
    pub who: String,
    /// A part of the action.
    pub what: String,
    /// A part of the caller's name.
    pub caller: String,
}

/// Some lines, the newest first.
#[derive(Debug)]
pub struct AuditPage {
    pub query: AuditQuery,
    /// None: the log is not where it could be read from.
    pub lines: Option<Vec<AuditRow>>,
    pub now_ms: u64,
}

/// A line.
#[derive(Debug)]
pub struct AuditRow {
    pub number: u64,
    pub at: String,
    pub who: String,
    pub what: String,
    pub caller: String,
    /// The rest of it, as JSON.
    pub rest: String,
    /// Why the change failed.
    pub failed: Option<String>,
}

/// Shows the page.
pub async fn show(
    visitor: Visitor,
    State(edge): State<Edge>,
    Query(query): Query<AuditQuery>,
) -> Result<Page, Failure> {
    visitor.authorized::<Operator>()?;
    let lines = edge.api.audit.newest(CONSIDERED_MAX).await.map_err(|error| {
        let reason = format!("the audit log can't be read: {error}");
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, reason)
    })?;
    let rows = lines.map(|lines| {
        let rows = lines.iter().filter_map(|line| AuditRow::parse(line));
        rows.filter(|row| query.selects(row)).take(SHOWN_MAX).collect()
    });
    let page = AuditPage { query, lines: rows, now_ms: edge.engine.now().as_ms() };
    Ok(visitor.page(Section::Audit, "Audit", &view::audit::page(&page)))
}

impl AuditQuery {
    fn selects(&self, row: &AuditRow) -> bool {
        let has = |text: &str, part: &str| text.to_lowercase().contains(&part.to_lowercase());
        has(&row.who, &self.who) && has(&row.what, &self.what) && has(&row.caller, &self.caller)
    }
}

impl AuditRow {
    fn parse(line: &str) -> Option<Self> {
        let Value::Object(mut fields) = serde_json::from_str(line).ok()? else { return None };
        let number = fields.remove("seq").and_then(|number| number.as_u64()).unwrap_or_default();
        for hidden in ["hash", "digest", "previous", "nonce"] {
            fields.remove(hidden);
        }
        let mut text = |name: &str| match fields.remove(name) {
            Some(Value::String(text)) => text,
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        };
        let [at, who, what, caller, failed] =
            ["at", "who", "what", "caller", "failed"].map(&mut text);
        let failed = Some(failed).filter(|failed| !failed.is_empty());
        let rest = if fields.is_empty() { String::new() } else { Value::from(fields).to_string() };
        Some(Self { number, at, who, what, caller, rest, failed })
    }
}
