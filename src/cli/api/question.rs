//! What a command asks of the API.

use serde_json::Value;

use super::table::Column;

/// What a command asks of the API, and how its answer is shown.
#[derive(Clone, Debug)]
pub struct Question {
    pub method: &'static str,
    pub path: String,
    pub query: Vec<(&'static str, String)>,
    pub body: Option<Value>,
    pub columns: Vec<Column>,
}
