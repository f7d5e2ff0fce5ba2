//! A resource of the xDS server as the text of a policy file, so that it means the same as a file and its problems have
//! places in it.

use std::fmt::Write;

use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use envoy_types::pb::ratelimit::config::ratelimit::v3::{
    RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit,
};

use crate::policy::Source;
use crate::printable;

/// The policy of a resource. Its path is `xds:` and the name of the resource.
pub fn source(config: &RateLimitConfig) -> Source {
    let name = if config.name.is_empty() { &config.domain } else { &config.name };
    let mut text = Text::default();
    text.line(0, &format!("domain: {}", quoted(&config.domain)));
    text.descriptors(0, &config.descriptors);
    Source { path: format!("xds:{}", printable::line(name)), text: text.0 }
}

#[derive(Default)]
struct Text(String);

impl Text {
    /// A line with the indentation of a level.
    fn line(&mut self, level: usize, line: &str) {
        // Writing to a String can't fail.
        writeln!(self.0, "{:width$}{line}", "", width = level * 2).ok();
    }

    fn descriptors(&mut self, level: usize, descriptors: &[RateLimitDescriptor]) {
        if descriptors.is_empty() {
            return;
        }
        self.line(level, "descriptors:");
        for descriptor in descriptors {
            self.line(level, &format!("- key: {}", quoted(&descriptor.key)));
            self.descriptor(level + 1, descriptor);
        }
    }

    /// All of a descriptor but its key.
    fn descriptor(&mut self, level: usize, descriptor: &RateLimitDescriptor) {
        let RateLimitDescriptor { value, rate_limit, shadow_mode, quota_mode, metadata, .. } =
            descriptor;
        // An empty value means the same as none.
        if !value.is_empty() {
            self.line(level, &format!("value: {}", quoted(value)));
        }
        let flags = [
            ("shadow_mode", *shadow_mode),
            ("quota_mode", *quota_mode),
            ("detailed_metric", descriptor.detailed_metric),
        ];
        // Envoy Gateway sets `shadow_mode` on all nodes. Without a limit it has no effect, and would only be a warning.
        let has_limit = rate_limit.is_some();
        for (name, _) in flags.iter().filter(|(_, is_set)| *is_set && has_limit) {
            self.line(level, &format!("{name}: true"));
        }
        if let Some(limit) = rate_limit {
            self.rate_limit(level, limit);
        }
        if let Some(metadata) = metadata {
            self.line(level, &format!("metadata: {}", map(metadata)));
        }
        self.descriptors(level, &descriptor.descriptors);
    }

    fn rate_limit(&mut self, level: usize, limit: &RateLimitPolicy) {
        self.line(level, "rate_limit:");
        let level = level + 1;
        let unit = RateLimitUnit::try_from(limit.unit);
        if limit.unlimited {
            self.line(level, "unlimited: true");
        }
        // Without a unit, `unlimited` is complete.
        if !limit.unlimited || unit != Ok(RateLimitUnit::Unknown) {
            let unit = unit.map_or_else(
                |_| limit.unit.to_string(),
                |unit| unit.as_str_name().to_ascii_lowercase(),
            );
            self.line(level, &format!("unit: {}", quoted(&unit)));
        }
        if !limit.unlimited || limit.requests_per_unit != 0 {
            self.line(level, &format!("requests_per_unit: {}", limit.requests_per_unit));
        }
        if !limit.name.is_empty() {
            self.line(level, &format!("name: {}", quoted(&limit.name)));
        }
        if !limit.replaces.is_empty() {
            let names = limit.replaces.iter();
            let names = names.map(|one| format!("{{ name: {} }}", quoted(&one.name)));
            let names: Vec<String> = names.collect();
            self.line(level, &format!("replaces: [{}]", names.join(", ")));
        }
    }
}

/// A text in double quotes, with escapes for all that YAML would not keep.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            character if character.is_alphanumeric() => quoted.push(character),
            character => {
                // Writing to a String can't fail.
                write!(quoted, "\\U{:08x}", u32::from(character)).ok();
            }
        }
    }
    quoted.push('"');
    quoted
}

/// A map on one line, in the order of its keys, since the map itself has none.
fn map(fields: &Struct) -> String {
    let mut entries: Vec<(&String, &Value)> = fields.fields.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    let entries: Vec<String> =
        entries.iter().map(|(key, value)| format!("{}: {}", quoted(key), shown(value))).collect();
    format!("{{{}}}", entries.join(", "))
}

fn shown(value: &Value) -> String {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => "null".to_owned(),
        Some(Kind::BoolValue(value)) => value.to_string(),
        Some(Kind::NumberValue(number)) => {
            serde_json::Number::from_f64(*number).map_or("null".to_owned(), |one| one.to_string())
        }
        Some(Kind::StringValue(text)) => quoted(text),
        Some(Kind::ListValue(list)) => {
            format!("[{}]", list.values.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        Some(Kind::StructValue(fields)) => map(fields),
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::ratelimit::config::ratelimit::v3::RateLimitReplace;

    use super::*;
    use crate::policy::{CompileOptions, compile};

    fn rule(key: &str, value: &str) -> RateLimitDescriptor {
        RateLimitDescriptor { key: key.into(), value: value.into(), ..Default::default() }
    }

    fn config(descriptors: Vec<RateLimitDescriptor>) -> RateLimitConfig {
        RateLimitConfig { name: "eg/http".into(), domain: "d".into(), descriptors }
    }

    /// The hash of what is decided.
    fn hash(source: Source) -> String {
        let compiled = compile(&[source], CompileOptions::default());
        compiled.unwrap_or_else(|problems| panic!("{problems:?}")).hash().to_owned()
    }

    #[test]
    fn a_resource_means_what_the_same_file_means() {
        let limit = RateLimitPolicy {
            unit: RateLimitUnit::Minute.into(),
            requests_per_unit: 3,
            name: "three".into(),
            replaces: vec![RateLimitReplace { name: "base".into() }],
            ..Default::default()
        };
        let number = Value { kind: Some(Kind::NumberValue(5.0)) };
        let metadata = Struct { fields: [("n".to_owned(), number)].into() };
        let base = RateLimitPolicy { name: "base".into(), replaces: Vec::new(), ..limit };
        let unlimited = RateLimitPolicy { unlimited: true, ..Default::default() };
        let all = config(vec![RateLimitDescriptor {
            shadow_mode: true,
            descriptors: vec![
                RateLimitDescriptor {
                    rate_limit: Some(limit),
                    quota_mode: true,
                    detailed_metric: true,
                    metadata: Some(metadata),
                    ..rule("user", "")
                },
                RateLimitDescriptor { rate_limit: Some(unlimited), ..rule("user", "root") },
                RateLimitDescriptor { rate_limit: Some(base), ..rule("user", "base") },
            ],
            ..rule("generic_key", "a: \"b\"\\#ü, \u{1f511}")
        }]);
        let file = r#"
domain: d
descriptors:
- key: generic_key
  value: "a: \"b\"\\#ü, \U0001F511"
  descriptors:
  - key: user
    quota_mode: true
    detailed_metric: true
    rate_limit: {unit: minute, requests_per_unit: 3, name: three, replaces: [{name: base}]}
    metadata: {n: 5.0}
  - key: user
    value: root
    rate_limit: {unlimited: true}
  - key: user
    value: base
    rate_limit: {unit: minute, requests_per_unit: 3, name: base}
"#;
        let file = Source { path: "file".into(), text: file.into() };
        assert_eq!(hash(source(&all)), hash(file), "{}", source(&all).text);
    }

    #[test]
    fn problems_name_the_resource_and_the_line() {
        let wrong = RateLimitPolicy { unit: 99, ..Default::default() };
        let unknown = RateLimitPolicy { requests_per_unit: 1, ..Default::default() };
        let with = |limit| RateLimitDescriptor { rate_limit: Some(limit), ..rule("a", "b") };
        let source = source(&config(vec![with(wrong), rule("", ""), with(unknown)]));
        let problems = compile(&[source], CompileOptions::default()).unwrap_err();
        let places: Vec<_> = problems.iter().map(|one| (one.path.as_str(), one.line)).collect();
        assert!(places.contains(&("xds:eg/http", 6)), "{problems:?}");
        assert!(places.contains(&("xds:eg/http", 8)), "{problems:?}");
        assert!(places.contains(&("xds:eg/http", 12)), "{problems:?}");
    }
}
