//! YAML as a tree of values with their places. Only this file uses the YAML library.
//!
//! Policies are read from this tree and not into structs, because serde stops at the first problem, and because a text
//! such as `value: 007` must be kept as written.

use std::fmt;
use std::ops::Range;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Location, Spanned};

/// Maximum number of values in one file: some 60,000 rules. More is treated as an attack.
const NODES_MAX: usize = 1_000_000;

/// Maximum number of values from aliases in one file, however often each is used: some 40,000 uses of a `rate_limit`.
/// This limits the memory that a few lines can take.
const ALIASED_NODES_MAX: usize = 250_000;

/// Maximum depth of values in one file.
const DEPTH_MAX: usize = 128;

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Node {
    pub value: Value,
    /// The bytes in the source's text.
    pub span: Range<usize>,
}

/// A YAML value. Scalars are kept as written.
#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Bool(bool, String),
    /// A whole number, from the minimum of `i64` to the maximum of `u64`.
    Integer(i128, String),
    /// It is finite.
    Float(f64, String),
    Text(String),
    List(Vec<Node>),
    /// Keys and values in the file's order; a key may occur twice.
    Map(Vec<(Node, Node)>),
}

/// A YAML syntax error and its place.
#[derive(Debug)]
pub struct SyntaxError {
    pub message: String,
    pub span: Range<usize>,
}

impl Node {
    /// The key of a map with this name.
    pub fn key(&self, name: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().map(|(key, _)| key).find(|key| key.scalar() == Some(name))
    }

    /// The value of a key of a map, unless it is absent or empty.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        let is_name = |key: &Self| matches!(&key.value, Value::Text(text) if text == name);
        let found = entries.iter().find(|(key, _)| is_name(key)).map(|(_, value)| value);
        found.filter(|value| !matches!(value.value, Value::Null))
    }

    /// Parses a text as one YAML document. Empty documents before and after it are ignored.
    ///
    /// # Errors
    /// If it is not YAML, or larger or deeper than any policy.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        let options = serde_saphyr::options! {
            duplicate_keys: DuplicateKeyPolicy::PassThrough,
            budget: serde_saphyr::budget! {
                max_nodes: NODES_MAX,
                max_events: NODES_MAX * 4,
                max_depth: DEPTH_MAX,
                max_aliases: NODES_MAX,
                max_anchors: NODES_MAX,
                max_merge_keys: NODES_MAX,
                enforce_alias_anchor_ratio: false,
            },
            alias_limits: serde_saphyr::alias_limits! {
                max_total_replayed_events: ALIASED_NODES_MAX,
            },
        };
        let read = serde_saphyr::from_multiple_with_options::<Spanned<Raw>>(text, options);
        let mut documents = read.map_err(|error| syntax_error(&error, text))?.into_iter();
        match (documents.next(), documents.next()) {
            (None, _) => Ok(Self { value: Value::Null, span: 0..0 }),
            (Some(raw), None) => Ok(node(raw, text)),
            (Some(_), Some(second)) => {
                let message =
                    "only one YAML document per file is allowed; a second one begins here";
                let start = node(second, text).start();
                Err(SyntaxError { message: message.to_owned(), span: start..start })
            }
        }
    }

    /// The start of the value for a reader. YAML locates a map by the token before it.
    fn start(&self) -> usize {
        match &self.value {
            Value::Map(entries) => {
                entries.first().map_or(self.span.start, |(key, _)| key.span.start)
            }
            _ => self.span.start,
        }
    }

    /// Moves its place and those of all values in it by some bytes.
    pub fn shift(&mut self, by: usize) {
        self.span = self.span.start + by..self.span.end + by;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.shift(by)),
            Value::Map(entries) => entries.iter_mut().for_each(|(key, value)| {
                key.shift(by);
                value.shift(by);
            }),
            _ => {}
        }
    }

    /// The kind of the value, for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(..) => "a boolean",
            Value::Integer(..) | Value::Float(..) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// The text of the scalar as written.
    pub fn scalar(&self) -> Option<&str> {
        match &self.value {
            Value::Bool(_, text)
            | Value::Integer(_, text)
            | Value::Float(_, text)
            | Value::Text(text) => Some(text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }
}

/// A value from the YAML library, before its text is looked up.
enum Raw {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(if value.is_finite() { Raw::Float(value) } else { Raw::Null })
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

fn node(raw: Spanned<Raw>, text: &str) -> Node {
    let span = bytes(raw.referenced, text);
    // The text of an alias is at its anchor.
    let spelling = || text.get(bytes(raw.defined, text)).unwrap_or_default().trim().to_owned();
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Bool(value) => Value::Bool(value, spelling()),
        Raw::Integer(value) => Value::Integer(value, spelling()),
        Raw::Float(value) => Value::Float(value, spelling()),
        Raw::Text(value) => Value::Text(value),
        Raw::List(items) => Value::List(items.into_iter().map(|item| node(item, text)).collect()),
        Raw::Map(entries) => Value::Map(
            entries.into_iter().map(|(key, value)| (node(key, text), node(value, text))).collect(),
        ),
    };
    Node { value, span }
}

/// The bytes of a location. Some locations are a point, without bytes.
fn bytes(location: Location, text: &str) -> Range<usize> {
    let index = |value: Option<u64>| usize::try_from(value.unwrap_or(0)).unwrap_or(text.len());
    let start = index(location.span().byte_offset()).min(text.len());
    let end = start.saturating_add(index(location.span().byte_len())).min(text.len());
    start..end
}

fn syntax_error(error: &serde_saphyr::Error, text: &str) -> SyntaxError {
    let rendered = error.without_snippet().render();
    // The rest is the place, which the span has, and advice for the library's users.
    let message = rendered.lines().next().unwrap_or_default();
    let message = message.split(" at line ").next().unwrap_or_default();
    let message = message.split("; use from_str").next().unwrap_or_default().to_owned();
    let Some(location) = error.location() else {
        return SyntaxError { message, span: 0..0 };
    };
    let start = offset(text, location.line(), location.column());
    SyntaxError { message, span: start..start }
}

/// The byte offset of a line and column, both from 1; columns count characters.
fn offset(text: &str, line: u64, column: u64) -> usize {
    let index = |number: u64| usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
    let before: usize = text.split_inclusive('\n').take(index(line)).map(str::len).sum();
    let rest = &text[before..];
    let within = rest.char_indices().nth(index(column)).map_or(rest.len(), |(at, _)| at);
    before + within
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that a text is rejected at the byte where `excerpt` starts.
    fn check_refused(text: &str, excerpt: &str, message: &str) {
        let error = Node::parse(text).unwrap_err();
        assert!(error.message.contains(message), "{text:?}: {}", error.message);
        assert!(text[error.span.start..].starts_with(excerpt), "{text:?}: {:?}", error.span);
    }

    #[test]
    fn scalars_keep_their_spelling_and_place() {
        let text = "é: [007, 1.10, yes, ~, 'x y']\nb: &a 0x10\nc: *a\n";
        let Value::Map(entries) = Node::parse(text).unwrap().value else { panic!("no map") };
        let Value::List(items) = &entries[0].1.value else { panic!("no list") };
        let spelt: Vec<_> = items.iter().map(Node::scalar).collect();
        assert_eq!(spelt, [Some("007"), Some("1.10"), Some("yes"), None, Some("x y")]);
        assert_eq!(&text[items[4].span.clone()], "'x y'");
        assert_eq!(entries[2].1.scalar(), Some("0x10"));
        assert_eq!(&text[entries[2].1.span.clone()], "*a");
    }

    #[test]
    fn a_syntax_error_says_where() {
        check_refused("a: [", "[", "unclosed bracket");
        check_refused("é: 1\nb: c: d", ": d", "mapping values are not allowed");
        check_refused("a: 1\n---\nb: 2", "b: 2", "only one YAML document");
        check_refused("'", "'", "unclosed quote");
    }

    #[test]
    fn empty_documents_are_none() {
        let text = "a: 1\n";
        for whole in [
            format!("{text}---\n"),
            format!("{text}...\n"),
            format!("---\n{text}---\n# nothing\n"),
            format!("{text}---\n---\n"),
            format!("{text}...\n---\n...\n"),
            format!("---\n---\n{text}"),
            format!("{text}--- null\n"),
        ] {
            let Value::Map(entries) = Node::parse(&whole).unwrap().value else { panic!("{whole}") };
            assert_eq!(entries[0].1.scalar(), Some("1"), "{whole}");
        }
        assert!(matches!(Node::parse("").unwrap().value, Value::Null));
        assert!(matches!(Node::parse("---\n---\n").unwrap().value, Value::Null));
    }

    #[test]
    fn an_alias_may_be_used_as_often_as_a_policy_needs() {
        let limit = "- key: k0\n  rate_limit: &rl { unit: day, requests_per_unit: 1 }\n";
        for (uses, what) in [(20_000, "*rl\n"), (20_000, "{ <<: *rl, name: n }\n")] {
            let rules: String =
                (1..=uses).map(|rule| format!("- key: k{rule}\n  rate_limit: {what}")).collect();
            let Value::List(rules) = Node::parse(&format!("{limit}{rules}")).unwrap().value else {
                panic!("no list")
            };
            assert_eq!(rules.len(), uses + 1);
        }
    }

    #[test]
    fn depth_and_aliases_are_bounded() {
        assert!(Node::parse(&"[".repeat(100_000)).is_err());
        let bomb: String =
            (1..20).map(|i| format!("a{i}: &a{i} [*a{0}, *a{0}]\n", i - 1)).collect();
        assert!(Node::parse(&format!("a0: &a0 [x, x]\n{bomb}")).is_err());
    }
}
