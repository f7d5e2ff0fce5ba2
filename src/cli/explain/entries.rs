//! Descriptors on the command line: `key=value,key=value`, with escapes for special characters.

use crate::engine::text::{MARK, escaped};
use crate::printable::is_escaped;

/// The escapes, for messages.
const ESCAPES: &str = r"`\,` `\=` `\\` or a byte in hexadecimal digits such as `\x2c`";

/// The reason that a text is not a descriptor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntriesError {
    #[error("invalid entry `{entry}`; a descriptor is a list like key=value,key=value")]
    NoEntry { entry: String },
    #[error("invalid escape `{escape}`; use {ESCAPES}")]
    NoEscape { escape: String },
}

/// Parses a descriptor. A value may be empty, and may contain equals signs.
///
/// # Errors
/// The first invalid entry.
pub fn parse_entries(text: &str) -> Result<Vec<(String, String)>, EntriesError> {
    split(text).into_iter().map(parse_entry).collect()
}

/// Splits a text at its commas, except escaped ones. Escapes stay.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut is_escaped = false;
    for (index, byte) in text.bytes().enumerate() {
        if byte == b',' && !is_escaped {
            parts.push(&text[start..index]);
            start = index + 1;
        }
        is_escaped = byte == b'\\' && !is_escaped;
    }
    parts.push(&text[start..]);
    parts
}

fn parse_entry(entry: &str) -> Result<(String, String), EntriesError> {
    let mut is_escaped = false;
    let equals = entry.bytes().position(|byte| {
        let found = byte == b'=' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        found
    });
    let no_entry = || EntriesError::NoEntry { entry: entry.to_owned() };
    let equals = equals.filter(|index| 0 < *index).ok_or_else(no_entry)?;
    let text = |part| Ok(escaped(&unescape(part)?).into_owned());
    Ok((text(&entry[..equals])?, text(&entry[equals + 1..])?))
}

/// The bytes of a part of an entry, without escapes.
fn unescape(part: &str) -> Result<Vec<u8>, EntriesError> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let hex = || u8::from_str_radix(escape.get(1..3)?, 16).ok();
        let (byte, len) = match escape.as_bytes().first() {
            Some(byte @ (b',' | b'=' | b'\\')) => (Some(*byte), 1),
            Some(b'x') => (hex(), 3),
            _ => (None, 1),
        };
        let Some(byte) = byte else {
            let shown: String = escape.chars().take(len).collect();
            return Err(EntriesError::NoEscape { escape: format!("\\{shown}") });
        };
        bytes.push(byte);
        rest = &escape[len..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// An entry in the form of the command line.
pub fn entry_text(key: &str, value: &str) -> String {
    format!("{}={}", written(key, &[',', '=', '\\']), written(value, &[',', '\\']))
}

fn written(text: &str, special: &[char]) -> String {
    let mut written = String::with_capacity(text.len());
    for character in text.chars() {
        if character == MARK {
            // The byte's digits follow.
            written.push_str("\\x");
        } else if is_escaped(character) {
            let mut bytes = [0; 4];
            let bytes = character.encode_utf8(&mut bytes).bytes();
            bytes.for_each(|byte| written.push_str(&format!("\\x{byte:02x}")));
        } else {
            if special.contains(&character) {
                written.push('\\');
            }
            written.push(character);
        }
    }
    written
}

/// A text for people, with bytes that are not UTF-8 as `\xff`.
pub fn shown(text: &str) -> String {
    text.replace(MARK, "\\x")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_read_with_their_escapes() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            let read = parse_entries(text).unwrap();
            let read: Vec<(&str, &str)> = read.iter().map(|(k, v)| (&**k, &**v)).collect();
            assert_eq!(read, expected, "{text}");
            let written: Vec<String> = read.iter().map(|(k, v)| entry_text(k, v)).collect();
            let again = parse_entries(&written.join(",")).unwrap();
            let again: Vec<(&str, &str)> = again.iter().map(|(k, v)| (&**k, &**v)).collect();
            assert_eq!(again, expected, "{text} as {written:?}");
        };
        check("a=1", &[("a", "1")]);
        check("a=1,b=", &[("a", "1"), ("b", "")]);
        check("q=x=y==", &[("q", "x=y==")]);
        check(r"name=Doe\, John,b=2", &[("name", "Doe, John"), ("b", "2")]);
        check(r"a\=b=c", &[("a=b", "c")]);
        check(r"path=c:\\dir", &[("path", r"c:\dir")]);
        check(r"a=\\,b=2", &[("a", r"\"), ("b", "2")]);
        check(r"a=\x2c\xc3\xa9", &[("a", ",é")]);
        check("a=line\nbreak", &[("a", "line\nbreak")]);
        check("a=\u{202e}b", &[("a", "\u{202e}b")]);
        assert_eq!(entry_text("a", "\u{202e}"), r"a=\xe2\x80\xae");
        check("é=ü", &[("é", "ü")]);
        check(r"a=k\xff", &[("a", "k\u{10ffff}ff")]);
    }

    #[test]
    fn what_is_no_descriptor_is_named() {
        let check = |text: &str, expected: &str| {
            let error = parse_entries(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("user", "invalid entry `user`; a descriptor is a list like key=value");
        check("", "invalid entry ``");
        check("=x", "invalid entry `=x`");
        check("a=1,", "invalid entry ``");
        check(r"a\=1", r"invalid entry `a\=1`");
        check(r"a=\d", r"invalid escape `\d`");
        check(r"a=1\", r"invalid escape `\`");
        check(r"a=\x2", r"invalid escape `\x2`");
        check(r"a=\xé", r"invalid escape `\xé`");
    }
}
