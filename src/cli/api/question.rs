//! What a command asks of the API.

use serde_json::Value;

use super::table::Column;

/// What a command asks of the API, and how its answer is shown.
#[derive(Clone, Debug, Default)]
pub struct Question {
    pub method: &'static str,
    pub path: String,
    pub query: Vec<(&'static str, String)>,
    pub body: Option<Value>,
    pub columns: Vec<Column>,
    /// The rows of tables and CSV, if they are not the items of the answer.
    pub rows: Option<fn(&Value) -> Vec<Value>>,
    /// Whether its first page is enough.
    pub is_one_page: bool,
    /// What is said if the answer has no body.
    pub done: Option<&'static str>,
    /// What to do if no caller has the name.
    pub hint: Option<&'static str>,
}

impl Question {
    /// Whether an answer says that only a part of the hits was granted.
    pub fn is_in_part(&self, answer: &Value) -> bool {
        let hits = self.body.as_ref().and_then(|body| body["hits"].as_u64());
        matches!((hits, answer["granted"].as_u64()), (Some(hits), Some(granted)) if granted < hits)
    }
}

/// The parts of all items of an answer: each is the item, with one of its parts in the place of all.
pub fn parts(answer: &Value, items: &str, (many, one): (&str, &str)) -> Vec<Value> {
    let mut rows = Vec::new();
    for item in answer[items].as_array().into_iter().flatten() {
        let mut whole = item.clone();
        let parts = whole.as_object_mut().and_then(|whole| whole.remove(many));
        for part in parts.as_ref().and_then(Value::as_array).into_iter().flatten() {
            let mut row = whole.clone();
            row[one] = part.clone();
            rows.push(row);
        }
    }
    rows
}
