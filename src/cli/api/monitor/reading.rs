//! What the monitor shows, read from the API.

use std::cmp::Ordering;

use serde_json::Value;

use crate::cli::api::args::segment;
use crate::cli::api::client::{Client, ClientError};
use crate::cli::api::providers::provider_columns;
use crate::cli::api::question::Question;
use crate::cli::api::table::Column;

/// Callers whose limits are read each time.
const CALLERS_MAX: usize = 20;

/// Rows of each list.
const ROWS: usize = 20;

/// The callers to read; the busiest ones if there are none.
#[derive(Clone, Debug)]
pub struct Subjects {
    pub callers: Vec<String>,
    /// More entries after the caller's, as the API takes them.
    pub entries: Option<String>,
}

/// One reading of the API; None if it did not answer.
#[derive(Debug)]
pub struct Reading(pub Result<[Panel; 3], String>);

/// A list with its title.
#[derive(Debug)]
pub struct Panel {
    pub title: &'static str,
    pub columns: Vec<Column>,
    /// Or why there is none.
    pub items: Result<Vec<Value>, String>,
}

impl Subjects {
    /// Reads everything once.
    pub fn read(&self, client: &Client) -> Reading {
        Reading(self.panels(client).map_err(|error| without_prefix(&error)))
    }

    fn panels(&self, client: &Client) -> Result<[Panel; 3], ClientError> {
        let limits = answered(self.limits(client))?;
        let denials = answered(items(client, "/v1/denials", &[]))?;
        let providers = answered(items(client, "/v1/providers", &[]))?;
        let texts = |names: &[&str]| -> Vec<Column> {
            names.iter().map(|name| Column::text(name, &format!("/{name}"))).collect()
        };
        let numbers = |mut columns: Vec<Column>, names: &[&str]| {
            columns.extend(names.iter().map(|name| Column::number(name, &format!("/{name}"))));
            columns
        };
        let mut of_limits = numbers(texts(&["caller", "limit", "domain"]), &["used", "quota"]);
        of_limits.push(Column::percent("percent", "/percent"));
        of_limits.push(Column::text("reset_at", "/reset_at"));
        let mut of_denials = numbers(texts(&["caller", "limit", "reason"]), &["count"]);
        of_denials.push(Column::text("last_at", "/last_at"));
        Ok([
            Panel { title: "Nearest to their limits", columns: of_limits, items: limits },
            Panel { title: "Refusals of two days", columns: of_denials, items: denials },
            Panel { title: "Providers", columns: provider_columns(), items: providers },
        ])
    }

    /// The limits of all callers, the most used first, each with its caller.
    fn limits(&self, client: &Client) -> Result<Vec<Value>, ClientError> {
        let mut names = self.callers.clone();
        if names.is_empty() {
            let busiest = items(client, "/v1/top", &[("of", "callers")])?;
            let named = busiest.iter().filter_map(|item| item["caller"].as_str());
            named.for_each(|name| {
                if !names.iter().any(|known| known == name) {
                    names.push(name.to_owned());
                }
            });
        }
        let entries = self.entries.as_deref().map(|entries| ("entries", entries));
        let entries = entries.as_slice();
        let mut limits = Vec::new();
        for name in names.iter().take(CALLERS_MAX) {
            match items(client, &format!("/v1/callers/{}/quota", segment(name)), entries) {
                Ok(items) => limits.extend(items.into_iter().map(|mut item| {
                    if let Some(fields) = item.as_object_mut() {
                        fields.insert("caller".to_owned(), name.as_str().into());
                    }
                    item
                })),
                // A name without limits.
                Err(ClientError::Refused(problem)) if problem.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let percent = |item: &Value| item["percent"].as_f64().unwrap_or_default();
        limits.sort_by(|one, other| {
            percent(other).partial_cmp(&percent(one)).unwrap_or(Ordering::Equal)
        });
        Ok(limits)
    }
}

/// The items of a list; those of usage are of the last two days, by hour.
fn items(
    client: &Client,
    path: &str,
    query: &[(&'static str, &str)],
) -> Result<Vec<Value>, ClientError> {
    let mut query: Vec<_> = query.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
    if matches!(path, "/v1/top" | "/v1/denials") {
        query.push(("granularity", "hour".to_owned()));
        query.push(("page_size", ROWS.to_string()));
    }
    let path = path.to_owned();
    let question =
        Question { method: "GET", path, query, is_one_page: true, ..Question::default() };
    let mut answer = client.ask_all(&question)?;
    Ok(match answer["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    })
}

/// Items, or what the API says instead. Only where it does not answer, there is no reading.
fn answered(
    items: Result<Vec<Value>, ClientError>,
) -> Result<Result<Vec<Value>, String>, ClientError> {
    match items {
        Ok(items) => Ok(Ok(items)),
        Err(error @ ClientError::Refused(_)) => Ok(Err(without_prefix(&error))),
        Err(error) => Err(error),
    }
}

/// The reason without the address, which stands above: a narrow terminal has no room for both.
fn without_prefix(error: &ClientError) -> String {
    if let ClientError::Unreachable { source, .. } = error {
        return source.to_string();
    }
    let text = error.to_string();
    text.strip_prefix("error: ").unwrap_or(&text).to_owned()
}
