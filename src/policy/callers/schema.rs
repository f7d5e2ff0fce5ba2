//! What a file of callers may hold, for its JSON Schema; `read.rs` reads it.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::form::CallerForm;

/// What is known of callers.
#[derive(Debug, JsonSchema)]
#[schemars(title = "Tollgate callers", deny_unknown_fields)]
pub struct CallersFile {
    /// Callers by name, as the policy's requests name them.
    #[expect(dead_code, reason = "the schema is made of it, and the reader reads into callers")]
    pub callers: BTreeMap<String, CallerForm>,
}
