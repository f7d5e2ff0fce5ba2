//! The fields of custom resources, whose CRDs are not here.

use std::fs;

use serde_json::Value;

/// Checks that a resource has only valid fields and values.
pub fn check_fields(resource: &Value) {
    let kind = resource["kind"].as_str().unwrap();
    let known = fs::read_to_string("tests/support/kubernetes_fields.txt").unwrap();
    let known: Vec<(&str, &str)> = known
        .lines()
        .filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
        .collect();
    assert!(!known.is_empty(), "no fields of {kind} are known");
    let mut fields = Vec::new();
    leaves(resource, String::new(), &mut fields);
    for (path, value) in fields {
        let is_label = path.starts_with("metadata.labels.");
        if is_label || ["kind", "metadata.name", "metadata.namespace"].contains(&path.as_str()) {
            continue;
        }
        let is_path = |name: &str| match name.strip_suffix('*') {
            Some(parent) => path.starts_with(parent),
            None => path == name,
        };
        let (_, values) = known
            .iter()
            .find(|(name, _)| is_path(name))
            .unwrap_or_else(|| panic!("{kind} has no {path}"));
        let is_fine = values.is_empty() || values.split('|').any(|one| value == one);
        assert!(is_fine, "{kind} {path}: {value} is none of {values}");
    }
}

/// The leaf fields of a value, by their paths. Configuration for Envoy counts as one field.
fn leaves(value: &Value, path: String, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) if !path.ends_with(".value") => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(value, path, found);
            }
        }
        Value::Array(items) => {
            items.iter().for_each(|item| leaves(item, format!("{path}[]"), found));
        }
        _ => found.push((path, value.clone())),
    }
}
