//! Readers of fields. Each takes the field's name in quotes, for its messages.

use super::Named;
use super::map::{Read, start_of};
use super::words::Word;
use crate::policy::yaml::{Node, Reader, Spanned};

pub fn free_text(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Spanned<String>> {
    reader.free_text(node, what)
}

pub fn text(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Spanned<String>> {
    reader.text(node, what)
}

pub fn flag(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Spanned<bool>> {
    reader.flag(node, what)
}

/// A whole number from 0 to `MAX`.
pub fn number<const MAX: u64>(
    reader: &mut Reader<'_>,
    node: &Node,
    what: &str,
) -> Option<Spanned<u64>> {
    reader.number(node, what, MAX)
}

/// A word of an enumeration.
pub fn word<T: Word>(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Spanned<T>> {
    reader.word(node, what, T::WORDS)
}

/// A priority.
pub fn level(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Spanned<u64>> {
    let number = reader.integer(node, &format!("{what} must be a priority"), 1..=4)?;
    Some(Spanned { value: number.value.unsigned_abs(), span: number.span })
}

/// A nested map.
pub fn one<T: Read>(reader: &mut Reader<'_>, node: &Node, _: &str) -> Option<T> {
    Some(T::read(reader, node))
}

/// A nested map with its place.
pub fn spanned<T: Read>(reader: &mut Reader<'_>, node: &Node, _: &str) -> Option<Spanned<T>> {
    Some(Spanned { value: T::read(reader, node), span: start_of(node) })
}

pub fn list<T: Read>(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Vec<T>> {
    let items = reader.list(node, what);
    Some(items.iter().map(|item| T::read(reader, item)).collect())
}

/// A list with its place.
pub fn spanned_list<T: Read>(
    reader: &mut Reader<'_>,
    node: &Node,
    what: &str,
) -> Option<Spanned<Vec<T>>> {
    let value = list(reader, node, what)?;
    Some(Spanned { value, span: node.span.clone() })
}

/// A list of names, such as tiers or qualifiers.
pub fn name_list(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Vec<Spanned<String>>> {
    let items = reader.list(node, what);
    Some(items.iter().filter_map(|item| reader.text(item, "a name")).collect())
}

/// A list of names, with its place.
pub fn names(
    reader: &mut Reader<'_>,
    node: &Node,
    what: &str,
) -> Option<Spanned<Vec<Spanned<String>>>> {
    let value = name_list(reader, node, what)?;
    Some(Spanned { value, span: node.span.clone() })
}

/// A map with free names.
pub fn named<T>(
    reader: &mut Reader<'_>,
    node: &Node,
    what: &str,
    read: impl Fn(&mut Reader<'_>, &Node) -> Option<T>,
) -> Named<T> {
    let mut named: Named<T> = Vec::new();
    for (key, node) in reader.map(node, what) {
        let Some(name) = reader.text(key, "a name") else { continue };
        if named.iter().any(|(known, _)| known.value == name.value) {
            reader.error(name.span, format!("duplicate key `{}` in {what}", name.value));
        } else if let Some(value) = read(reader, node) {
            named.push((name, value));
        }
    }
    named
}

/// A map of texts with free names.
pub fn texts(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Named<Spanned<String>>> {
    Some(named(reader, node, what, |reader, node| reader.text(node, "a value")))
}
