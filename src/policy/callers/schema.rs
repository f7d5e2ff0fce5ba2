//! The types of a caller file, for its JSON Schema; `read.rs` reads it.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::form::CallerForm;

/// The callers.
#[derive(Debug, JsonSchema)]
#[schemars(title = "Tollgate callers", deny_unknown_fields)]
struct CallersFile {
    /// Callers by the name in requests.
    #[expect(dead_code, reason = "the schema is made of it, and the reader reads into callers")]
    callers: BTreeMap<String, CallerForm>,
}

/// The JSON Schema of a file of callers, for editors.
pub fn callers_schema() -> serde_json::Value {
    schemars::schema_for!(CallersFile).to_value()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::read::ELSEWHERE;
    use super::*;

    #[test]
    fn the_reader_and_the_schema_have_the_same_keys() {
        let schema = callers_schema();
        let maps = [
            "/properties",
            "/$defs/Caller/properties",
            "/$defs/Bonus/properties",
            "/$defs/Rollover/properties",
            "/$defs/OverrideUntil/properties",
        ];
        assert_eq!(ELSEWHERE.len(), maps.len());
        for (shape, map) in ELSEWHERE.iter().zip(maps) {
            let known = schema.pointer(map).and_then(|map| map.as_object()).expect("it has keys");
            let known: BTreeSet<&str> = known.keys().map(String::as_str).collect();
            assert_eq!(known, shape.keys.iter().copied().collect(), "{}", shape.what);
        }
    }
}
