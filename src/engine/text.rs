//! Texts of requests with any bytes.
//!
//! Envoy forwards the bytes of paths and headers unchanged, and they need not be UTF-8. Each invalid byte becomes
//! [`MARK`] and two hexadecimal digits, so that two different byte strings are two different texts, and the valid parts
//! still match a policy. The mark itself is escaped in the same way: it is a character that no text needs.

use std::borrow::Cow;
use std::fmt;

/// Marks an escaped byte: a code point that Unicode never assigns to a character.
pub const MARK: char = '\u{10ffff}';

/// The same in UTF-8.
const MARK_BYTES: [u8; 4] = [0xf4, 0x8f, 0xbf, 0xbf];

/// Maximum number of displayed characters of a name.
const SHOWN_LEN_MAX: usize = 64;

/// Whether bytes contain the mark, which [`escaped`] would escape.
pub fn holds_mark(bytes: &[u8]) -> bool {
    // The first byte is so rare that most texts end here.
    bytes.contains(&MARK_BYTES[0])
        && bytes.windows(MARK_BYTES.len()).any(|window| window == MARK_BYTES)
}

/// Bytes as a text; different bytes give different texts. UTF-8 is unchanged.
pub fn escaped(bytes: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(bytes) {
        Ok(text) if !holds_mark(bytes) => Cow::Borrowed(text),
        _ => Cow::Owned(escape(bytes)),
    }
}

fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                MARK => MARK_BYTES.iter().for_each(|byte| push_escaped(&mut text, *byte)),
                character => text.push(character),
            }
        }
        chunk.invalid().iter().for_each(|byte| push_escaped(&mut text, *byte));
    }
    text
}

fn push_escaped(text: &mut String, byte: u8) {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or_default();
    text.extend([MARK, digit(byte >> 4), digit(byte & 0xf)]);
}

/// A text of a request for people: on one line, truncated, with escaped bytes as `\xff`.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'t> {
    text: &'t str,
    len_max: usize,
}

impl<'t> Shown<'t> {
    /// The text, truncated to the maximum for a name.
    pub fn new(text: &'t str) -> Self {
        Self { text, len_max: SHOWN_LEN_MAX }
    }

    /// The text, truncated to this many characters.
    pub fn up_to(self, len_max: usize) -> Self {
        Self { len_max, ..self }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, character) in self.text.chars().enumerate() {
            match character {
                _ if index == self.len_max => return f.write_str("…"),
                MARK => f.write_str("\\x")?,
                character => character.escape_debug().fmt(f)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::any;
    use proptest::proptest;

    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], shown: &str) {
        assert_eq!(Shown::new(&escaped(bytes)).to_string(), shown);
    }

    #[test]
    fn what_is_no_text_is_shown_by_its_bytes() {
        check(b"alice", "alice");
        check("caf\u{e9}".as_bytes(), "caf\u{e9}");
        check(b"k\xff", r"k\xff");
        check(b"\xc3(\xe2\x82", r"\xc3(\xe2\x82");
        check(MARK.to_string().as_bytes(), r"\xf4\x8f\xbf\xbf");
        check(b"a\nb\x1b[0m", r"a\nb\u{1b}[0m");
        check(r"k\xff".as_bytes(), r"k\\xff");
        check("x".repeat(100).as_bytes(), &format!("{}…", "x".repeat(SHOWN_LEN_MAX)));
    }

    #[test]
    fn texts_without_a_mark_stay_as_they_are() {
        for text in ["", "alice", "\u{10fffe}", "\u{10ff}ff"] {
            assert!(matches!(escaped(text.as_bytes()), Cow::Borrowed(same) if same == text));
        }
    }

    /// The original bytes of a text.
    fn unescaped(text: &str) -> Vec<u8> {
        let mut parts = text.split(MARK);
        let mut bytes = parts.next().unwrap().as_bytes().to_vec();
        for part in parts {
            let (digits, rest) = part.split_at(2);
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            bytes.extend(rest.as_bytes());
        }
        bytes
    }

    proptest! {
        #[test]
        fn different_bytes_are_different_texts(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            assert_eq!(unescaped(&escaped(&bytes)), bytes);
        }

        #[test]
        fn marks_among_texts_are_told_apart(text in "(\u{10ffff}|f|a|\u{10fffe}){0,16}") {
            assert_eq!(unescaped(&escaped(text.as_bytes())), text.as_bytes());
        }
    }
}
