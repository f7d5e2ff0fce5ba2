//! The types of `thresholds` in a policy file.

use std::borrow::Cow;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::policy::yaml::{Node, Reader, Spanned, Value};

/// Thresholds of a limit: a list such as `[80%, 100%]`, `true` for the usual ones, or `false`.
#[derive(Clone, Debug)]
pub enum ThresholdsFile {
    Usual,
    None,
    List(Vec<Spanned<String>>, Range<usize>),
}

impl JsonSchema for ThresholdsFile {
    fn schema_name() -> Cow<'static, str> {
        "Thresholds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "description": "Percentages, such as [80%, 100%]; true for [80%, 90%, 95%, 100%], false for none.",
            "anyOf": [
                { "type": "boolean" },
                { "type": "array", "items": { "type": "string", "pattern": "^ *[0-9]+ *% *$" } },
            ],
        })
    }
}

/// Reads thresholds.
pub fn thresholds(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<ThresholdsFile> {
    if matches!(node.value, Value::List(_)) {
        let items = reader.list(node, what);
        let read = items.iter().filter_map(|item| reader.text(item, "a threshold"));
        let texts: Vec<_> = read.collect();
        let is_read = !texts.is_empty() || items.is_empty();
        return is_read.then(|| ThresholdsFile::List(texts, node.span.clone()));
    }
    match node.scalar() {
        Some("true") => Some(ThresholdsFile::Usual),
        Some("false") => Some(ThresholdsFile::None),
        _ => {
            let expected = format!(
                "{what} must be a list of percentages such as [80%, 100%], or true or false"
            );
            reader.wrong_kind(node, &expected);
            None
        }
    }
}
