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
    /// Whether its first page is enough.
    pub is_one_page: bool,
    /// What to do if there is nothing of that name.
    pub hint: Option<&'static str>,
}

impl Question {
    /// Whether an answer says that only a part of the hits was granted.
    pub fn is_in_part(&self, answer: &Value) -> bool {
        let hits = self.body.as_ref().and_then(|body| body["hits"].as_u64());
        matches!((hits, answer["granted"].as_u64()), (Some(hits), Some(granted)) if granted < hits)
    }
}
