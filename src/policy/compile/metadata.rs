//! Compiles the `metadata` of a rule.

use crate::policy::model::{Metadata, MetadataValue};
use crate::policy::yaml::{Node, Value};

/// Free-form data; if a key occurs twice, the last value counts.
pub fn metadata(entries: &[(Node, Node)]) -> Metadata {
    let name = |key: &Node| key.scalar().unwrap_or_default().to_owned();
    entries.iter().map(|(key, node)| (name(key), value(node))).collect()
}

fn value(node: &Node) -> MetadataValue {
    match &node.value {
        Value::Null => MetadataValue::Null,
        Value::Bool(value, _) => MetadataValue::Bool(*value),
        Value::Integer(value, _) => MetadataValue::Integer(*value),
        Value::Float(value, _) => MetadataValue::Float(*value),
        Value::Text(text) => MetadataValue::Text(text.clone()),
        Value::List(items) => MetadataValue::List(items.iter().map(value).collect()),
        Value::Map(entries) => MetadataValue::Map(metadata(entries)),
    }
}
