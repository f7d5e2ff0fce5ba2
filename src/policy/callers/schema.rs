//! What a file of callers may hold, for its JSON Schema; `read.rs` reads it.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::form::CallerForm;

/// What is known of callers.
#[derive(Debug, JsonSchema)]
#[schemars(title = "Tollgate callers", deny_unknown_fields)]
struct CallersFile {
    /// Callers by name, as the policy's requests name them.
    #[expect(dead_code, reason = "the schema is made of it, and the reader reads into callers")]
    callers: BTreeMap<String, CallerForm>,
}

/// The JSON Schema of a file of callers, for editors.
pub fn callers_schema() -> serde_json::Value {
    schemars::schema_for!(CallersFile).to_value()
}
