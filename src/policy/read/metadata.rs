//! Reads the `metadata` of a rule: free data that goes into answers.

use crate::policy::fields::Reader;
use crate::policy::tree::Node;
use crate::policy::tree::Value;

/// Free data, as JSON has it.
pub(super) fn metadata(
    reader: &mut Reader<'_>,
    node: &Node,
) -> Option<serde_json::Map<String, serde_json::Value>> {
    match json(node) {
        serde_json::Value::Object(map) => Some(map),
        _ => {
            reader.error(
                node.span.clone(),
                format!("`metadata` is a map, but this is {}", node.kind()),
            );
            None
        }
    }
}

fn json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value, _) => (*value).into(),
        Value::Number(value, _) => value.clone().into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => {
            let name = |key: &Node| key.scalar().unwrap_or_default().to_owned();
            entries.iter().map(|(key, value)| (name(key), json(value))).collect()
        }
    }
}
