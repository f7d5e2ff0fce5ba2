//! Reads values of a YAML tree and collects all problems.

use std::cmp::Ordering;
use std::ops::{Range, RangeInclusive};

use super::Spanned;
use super::tree::{Node, Value};
use crate::policy::problem::{Problem, Severity, Source};
use crate::printable::is_control;

/// Maximum number of edits between an unknown name and a suggestion.
const EDITS_MAX: usize = 3;

/// Maximum number of problems of one severity: each costs a search of the whole text for its place, and a large file
/// with one mistake in every rule would take hours.
const PROBLEMS_MAX: usize = 100;

/// Collects the problems of one source.
#[derive(Debug)]
pub struct Reader<'a> {
    source: &'a Source,
    /// The maps in which a misplaced key may be valid.
    elsewhere: &'static [&'static Shape],
    problems: Vec<Problem>,
    error_count: usize,
    /// Mistakes that have been reported and need not be reported again.
    reported: Vec<&'static str>,
}

/// The valid keys of a map.
#[derive(Debug)]
pub struct Shape {
    /// The name of the map, with its article.
    pub what: &'static str,
    pub keys: &'static [&'static str],
}

/// The entries of a map with checked keys.
#[derive(Debug)]
pub struct Fields<'a> {
    entries: Vec<(&'a str, &'a Node)>,
}

impl<'a> Fields<'a> {
    /// The value of a key, unless it is absent or empty.
    pub fn get(&self, key: &str) -> Option<&'a Node> {
        let entry = self.entries.iter().find(|(name, _)| *name == key);
        entry.map(|(_, node)| *node).filter(|node| !matches!(node.value, Value::Null))
    }
}

impl<'a> Reader<'a> {
    /// A reader of `source` without problems.
    pub fn new(source: &'a Source) -> Self {
        Self::of_language(source, &[])
    }

    /// A reader of a language with these maps: a misplaced key may be valid in one of them.
    pub fn of_language(source: &'a Source, elsewhere: &'static [&'static Shape]) -> Self {
        Self { source, elsewhere, problems: Vec::new(), error_count: 0, reported: Vec::new() }
    }

    /// The problems, in order of appearance.
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// The number of errors so far, of those that are not shown, too.
    pub fn error_count(&self) -> usize {
        self.error_count
    }

    /// Reports an error.
    pub fn error(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.note(Severity::Error, span, message);
    }

    /// Reports an error once that one mistake would cause in many places.
    pub fn error_once(&mut self, span: Range<usize>, mistake: &'static str, message: String) {
        if self.reported.contains(&mistake) {
            self.error_count += 1;
            return;
        }
        self.reported.push(mistake);
        self.error(span, message);
    }

    /// Reports a problem, up to the maximum.
    pub fn note(&mut self, severity: Severity, span: Range<usize>, message: impl Into<String>) {
        self.error_count += usize::from(severity == Severity::Error);
        let noted = self.problems.iter().filter(|known| known.severity == severity).count();
        let message = match noted.cmp(&PROBLEMS_MAX) {
            Ordering::Less => message.into(),
            Ordering::Equal => "too many problems; the others are not shown".to_owned(),
            Ordering::Greater => return,
        };
        self.problems.push(Problem::at(self.source, severity, span, message));
    }

    /// The entries of a map, after a check of its keys.
    pub fn fields<'n>(&mut self, node: &'n Node, shape: &Shape) -> Fields<'n> {
        let mut entries: Vec<(&str, &Node)> = Vec::new();
        let Value::Map(pairs) = &node.value else {
            self.wrong_kind(node, &format!("{} must be a map", shape.what));
            return Fields { entries };
        };
        for (key, value) in pairs {
            let Value::Text(name) = &key.value else {
                let shown = key.scalar().unwrap_or(key.kind());
                self.error(key.span.clone(), format!("a key must be a text, not {shown}"));
                continue;
            };
            if entries.iter().any(|(known, _)| known == name) {
                self.error(key.span.clone(), format!("duplicate key `{name}` in {}", shape.what));
            } else if shape.keys.contains(&name.as_str()) {
                entries.push((name, value));
            } else {
                self.error(key.span.clone(), stray_key(name, shape, self.elsewhere));
            }
        }
        Fields { entries }
    }

    /// The items of a list.
    pub fn list<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            _ => {
                self.wrong_kind(node, &format!("{what} must be a list"));
                &[]
            }
        }
    }

    /// The text of a scalar as written. It may be used in a header, a log or a metric, so control characters are
    /// invalid; a request's value with some would not match either.
    pub fn text(&mut self, node: &Node, what: &str) -> Option<Spanned<String>> {
        let text = self.free_text(node, what)?;
        if let Some(character) = text.value.chars().find(|character| is_control(*character)) {
            // A folded (`>`) or literal (`|`) text ends with a line break.
            let hint = match text.value.trim_end_matches('\n').chars().any(is_control) {
                true => "",
                false => {
                    "; write it in quotes, or with `>-` in place of `>` and `|-` in place of `|`"
                }
            };
            let code = u32::from(character);
            let message = format!("{what} contains a control character (U+{code:04X}){hint}");
            self.error(text.span.clone(), message);
        }
        Some(text)
    }

    /// The text of a scalar as written, with any characters.
    pub fn free_text(&mut self, node: &Node, what: &str) -> Option<Spanned<String>> {
        match node.scalar() {
            Some(text) => Some(Spanned { value: text.to_owned(), span: node.span.clone() }),
            None => {
                self.wrong_kind(node, &format!("{what} must be a text"));
                None
            }
        }
    }

    /// The text of the file at a place.
    pub fn written(&self, span: &Range<usize>) -> &'a str {
        self.source.text.get(span.clone()).unwrap_or_default()
    }

    /// A boolean.
    pub fn flag(&mut self, node: &Node, what: &str) -> Option<Spanned<bool>> {
        match node.value {
            Value::Bool(value, _) => Some(Spanned { value, span: node.span.clone() }),
            _ => {
                self.wrong_kind(node, &format!("{what} must be true or false"));
                None
            }
        }
    }

    /// A whole number from 0 to `max`.
    pub fn number(&mut self, node: &Node, what: &str, max: u64) -> Option<Spanned<u64>> {
        if let Value::Integer(number, _) = node.value
            && let Some(value) = u64::try_from(number).ok().filter(|value| *value <= max)
        {
            return Some(Spanned { value, span: node.span.clone() });
        }
        self.wrong_kind(node, &format!("{what} must be a whole number from 0 to {max}"));
        None
    }

    /// A whole number within a range; `what` starts the message, as in "`x` must be a priority".
    pub fn integer(
        &mut self,
        node: &Node,
        what: &str,
        range: RangeInclusive<i64>,
    ) -> Option<Spanned<i64>> {
        if let Value::Integer(number, _) = node.value
            && let Some(value) = i64::try_from(number).ok().filter(|value| range.contains(value))
        {
            return Some(Spanned { value, span: node.span.clone() });
        }
        let (least, most) = range.into_inner();
        self.wrong_kind(node, &format!("{what} from {least} to {most}"));
        None
    }

    /// The entries of a map with free names.
    pub fn map<'n>(&mut self, node: &'n Node, what: &str) -> &'n [(Node, Node)] {
        match &node.value {
            Value::Map(entries) => entries,
            _ => {
                self.wrong_kind(node, &format!("{what} must be a map"));
                &[]
            }
        }
    }

    /// A word of an enumeration.
    pub fn word<T: Copy>(
        &mut self,
        node: &Node,
        what: &str,
        words: &[(&str, T)],
    ) -> Option<Spanned<T>> {
        let text = node.scalar().unwrap_or_default();
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(Spanned { value: *value, span: node.span.clone() });
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.wrong_kind(node, &format!("{what} must be {}", any_of(&names)));
        None
    }

    /// Notes that a node holds something other than what is expected.
    pub fn wrong_kind(&mut self, node: &Node, expected: &str) {
        let found = match node.scalar() {
            Some(text) => format!("`{text}`"),
            None => node.kind().to_owned(),
        };
        self.error(node.span.clone(), format!("{expected}, not {found}"));
    }
}

/// Reports a key that is invalid in a map.
fn stray_key(name: &str, shape: &Shape, elsewhere: &[&Shape]) -> String {
    let what = shape.what;
    let owners: Vec<&str> = elsewhere
        .iter()
        .filter(|shape| shape.keys.contains(&name))
        .map(|shape| shape.what)
        .collect();
    if !owners.is_empty() {
        return format!("invalid key `{name}` in {what}; it belongs in {}", any_of(&owners));
    }
    match nearest(name, shape.keys) {
        Some(meant) => format!("unknown key `{name}` in {what}; did you mean `{meant}`?"),
        None => format!("unknown key `{name}` in {what}; valid keys: {}", any_of(shape.keys)),
    }
}

fn any_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [word] => (*word).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// The most similar valid name, if one is similar enough.
pub fn nearest<'a>(written: &str, names: &[&'a str]) -> Option<&'a str> {
    // Most names are excluded by their length, so the distance is computed for few: an unknown name may be long.
    let near = names.iter().filter(|name| name.len().abs_diff(written.len()) <= EDITS_MAX);
    let near = near.map(|name| (edits(written, name), *name)).min()?;
    (near.0 <= EDITS_MAX && near.0 < written.len()).then_some(near.1)
}

/// The Levenshtein distance: the number of inserted, deleted and replaced bytes.
fn edits(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plenty_of_problems_are_cut_short_and_hide_no_graver_one() {
        let source = Source { path: "p.yaml".to_owned(), text: "domain: d".to_owned() };
        let mut reader = Reader::new(&source);
        for _ in 0..2 * PROBLEMS_MAX {
            reader.note(Severity::Warning, 0..6, "odd");
        }
        reader.error(8..9, "wrong");
        let problems = reader.into_problems();
        assert_eq!(problems.len(), PROBLEMS_MAX + 2);
        assert_eq!(problems[PROBLEMS_MAX].message, "too many problems; the others are not shown");
        assert_eq!(problems[PROBLEMS_MAX + 1].message, "wrong");
    }
}
