//! What an edit changes: each rule and each domain that differs between two policy sets, for people.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::json::{describe_domain, describe_rule_alone};
use crate::policy::model::{Domain, PolicySet, Rule};

/// Maximum number of changed parts of an edit that are told.
const PARTS_MAX: usize = 100;

/// Maximum number of fields of a part that are told.
const FIELDS_MAX: usize = 20;

/// Maximum number of characters of a value that is told.
const VALUE_LEN_MAX: usize = 80;

/// What an edit changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyEdits {
    /// By domain and path.
    pub parts: Vec<EditedPart>,
    /// Parts that are not told, because there are too many.
    pub more: usize,
}

/// A domain or a rule that an edit changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditedPart {
    pub domain: String,
    /// The path of the rule; None: what the domain says besides its rules.
    pub rule: Option<String>,
    pub edit: Edit,
}

/// How it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    Added,
    Removed,
    /// A line for each field.
    Changed(Vec<String>),
}

impl PolicyEdits {
    /// What changes if `new` replaces `old`.
    pub fn between(old: &PolicySet, new: &PolicySet) -> Self {
        let mut edits = Self::default();
        let names: BTreeSet<&str> = [old, new]
            .into_iter()
            .flat_map(PolicySet::domains)
            .map(|one| one.name.as_str())
            .collect();
        for name in names {
            match (old.domain(name), new.domain(name)) {
                (Some(before), Some(now)) => edits.compare(before, now),
                (before, _) => {
                    let edit = if before.is_some() { Edit::Removed } else { Edit::Added };
                    edits.tell(name, None, edit);
                }
            }
        }
        edits
    }

    fn compare(&mut self, before: &Domain, now: &Domain) {
        let own = fields(&describe_domain(before), &describe_domain(now));
        if !own.is_empty() {
            self.tell(&now.name, None, Edit::Changed(own));
        }
        let (old, new) = (rules(before), rules(now));
        for key in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let edit = match (old.get(key), new.get(key)) {
                (Some(was), Some(is)) => {
                    let was = describe_rule_alone(&before.classes, was);
                    let fields = fields(&was, &describe_rule_alone(&now.classes, is));
                    if fields.is_empty() {
                        continue;
                    }
                    Edit::Changed(fields)
                }
                (Some(_), None) => Edit::Removed,
                (None, _) => Edit::Added,
            };
            self.tell(&now.name, Some(key.0), edit);
        }
    }

    fn tell(&mut self, domain: &str, rule: Option<&str>, edit: Edit) {
        if self.parts.len() == PARTS_MAX {
            self.more += 1;
            return;
        }
        let (domain, rule) = (domain.to_owned(), rule.map(str::to_owned));
        self.parts.push(EditedPart { domain, rule, edit });
    }
}

/// The rules of a domain, by path and, of those with the same one, a number.
fn rules(domain: &Domain) -> BTreeMap<(&str, usize), &Rule> {
    let mut rules = BTreeMap::new();
    let mut left: Vec<&Rule> = domain.rules().iter().collect();
    while let Some(rule) = left.pop() {
        let path = rule.path.as_str();
        let same = rules.range((path, 0)..=(path, usize::MAX)).count();
        rules.insert((path, same), rule);
        left.extend(rule.rules());
    }
    rules
}

/// A line for each field that differs.
fn fields(before: &Value, now: &Value) -> Vec<String> {
    if before == now {
        return Vec::new();
    }
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    flatten(String::new(), before, &mut old);
    flatten(String::new(), now, &mut new);
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let line = |name: &String| match (old.get(name), new.get(name)) {
        (Some(was), Some(is)) => {
            (was != is).then(|| format!("{name}: {} becomes {}", shown(was), shown(is)))
        }
        (Some(was), None) => Some(format!("{name}: {} is removed", shown(was))),
        (None, is) => Some(format!("{name}: {} is added", is.map_or("", |is| shown(is)))),
    };
    let mut lines: Vec<String> = names.into_iter().filter_map(line).collect();
    if FIELDS_MAX < lines.len() {
        let more = lines.split_off(FIELDS_MAX).len();
        lines.push(format!("and {more} more fields"));
    }
    lines
}

/// The beginning of a value.
fn shown(value: &str) -> &str {
    value.char_indices().nth(VALUE_LEN_MAX).map_or(value, |(end, _)| &value[..end])
}

/// The fields of a value by their paths, such as `limits[0].rate`.
fn flatten(path: String, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(path, value, into);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                flatten(format!("{path}[{index}]"), value, into);
            }
        }
        Value::String(text) => {
            into.insert(path, text.clone());
        }
        other => {
            into.insert(path, other.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{CompileOptions, Source, compile};

    fn set(texts: &[&str]) -> PolicySet {
        let source = |(index, text): (usize, &&str)| Source {
            path: format!("{index}.yaml"),
            text: (*text).to_owned(),
        };
        let sources: Vec<Source> = texts.iter().enumerate().map(source).collect();
        compile(&sources, CompileOptions::default()).unwrap()
    }

    /// The parts that differ, as lines.
    fn check(old: &[&str], new: &[&str], expected: &[&str]) {
        let edits = PolicyEdits::between(&set(old), &set(new));
        let shown = edits.parts.into_iter().map(|part| {
            let rule = part.rule.unwrap_or_default();
            match part.edit {
                Edit::Changed(lines) => format!("{} {rule}: {}", part.domain, lines.join("; ")),
                other => format!("{} {rule}: {other:?}", part.domain),
            }
        });
        assert_eq!(shown.collect::<Vec<_>>(), expected, "{old:?} {new:?}");
    }

    #[test]
    fn rules_and_domains_that_differ_are_told_with_their_fields() {
        let base =
            "domain: d\ndescriptors:\n- { key: user, limits: [{ name: daily, rate: 5/day }] }";
        check(&[base], &[base], &[]);
        let places = format!("# moved\n\n{base}");
        check(&[base], &[&places], &[]);
        check(
            &[base],
            &[&base.replace("5/day", "9/day")],
            &["d user: limits[0].rate: 5/day becomes 9/day"],
        );
        let more = format!("{base}\n- {{ key: op, value: search, limits: [1/day] }}");
        check(&[base], &[&more], &["d op=search: Added"]);
        check(&[&more], &[base], &["d op=search: Removed"]);
        let below = base.replace(" }] }", " }], descriptors: [{ key: op, limits: [1/day] }] }");
        check(&[base], &[&below], &["d user/op: Added"]);
        let twins = "domain: d\ndescriptors:\n- { key: k=v, limits: [1/day] }\n- { key: k, value: v, limits: [2/day] }";
        let path = "d k=v: limits[0].rate: 2/day becomes 3/day";
        check(&[twins], &[&twins.replace("2/day", "3/day")], &[path]);
        let zone = format!("timezone: Europe/Madrid\n{base}");
        let other = base.replace("domain: d", "domain: e");
        check(&[base], &[&zone], &["d : timezone: UTC becomes Europe/Madrid"]);
        check(&[base], &[&other], &["d : Removed", "e : Added"]);
        let ends = ["a", "b"].map(|end| Value::String("x".repeat(VALUE_LEN_MAX) + end));
        assert_eq!(fields(&ends[0], &ends[1]).len(), 1, "values that differ after what is shown");
    }

    #[test]
    fn few_parts_are_told() {
        let rules: String =
            (0..150).map(|one| format!("- {{ key: k{one}, limits: [1/day] }}\n")).collect();
        let (base, more) = ("domain: d\ndescriptors:\n- { key: a, limits: [1/day] }\n", PARTS_MAX);
        let edits = PolicyEdits::between(&set(&[base]), &set(&[&format!("{base}{rules}")]));
        assert_eq!((edits.parts.len(), edits.more), (more, 150 - more));
    }
}
