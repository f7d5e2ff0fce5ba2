//! Texts for terminals and logs: control characters are shown as escapes, so that they neither act nor break a line.

use std::borrow::Cow;
use std::path::Path;

/// Whether a character would break a line, or act on a terminal.
pub fn is_control(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// A text on one line: its control characters as escapes such as `\n` and `\u{1b}`.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_control)
}

/// The same for text that may have several lines, and tabs.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| is_control(character) && !matches!(character, '\n' | '\t'))
}

/// The name of a file on one line.
pub fn path(path: &Path) -> String {
    line(&path.display().to_string()).into_owned()
}

/// JSON as it may be printed: it escapes some control characters in its texts, and this the others in the same way.
pub fn json(text: &str) -> Cow<'_, str> {
    let acts = |character: char| is_control(character) && character != '\n';
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        match acts(character) {
            true => printable.push_str(&format!("\\u{:04x}", u32::from(character))),
            false => printable.push(character),
        }
    }
    Cow::Owned(printable)
}

fn escaped(text: &str, acts: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&acts) {
        return Cow::Borrowed(text);
    }
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        match acts(character) {
            true => printable.extend(character.escape_default()),
            false => printable.push(character),
        }
    }
    Cow::Owned(printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_escaped() {
        assert!(matches!(line("caf\u{e9} 'a'\\n"), Cow::Borrowed(_)));
        assert_eq!(line("a\x1b[31m\nb\u{9b}\u{2028}"), r"a\u{1b}[31m\nb\u{9b}\u{2028}");
        assert_eq!(lines("a\x1b\n\tb\r"), "a\\u{1b}\n\tb\\r");
        assert_eq!(json("{\n\"a\": \"\u{9b}\u{7f}\"}"), "{\n\"a\": \"\\u009b\\u007f\"}");
    }
}
