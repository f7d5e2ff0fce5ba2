//! Escapes control characters and invisible characters in texts for terminals and logs, so that a text can't break a
//! line or look like another text.

use std::borrow::Cow;
use std::path::Path;

/// Whether a character breaks a line, or controls a terminal.
pub fn is_control(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// Whether a character is escaped: a control character, or an invisible one that changes how the text around it is
/// read. The joiners U+200C and U+200D are kept: some scripts and emojis need them.
pub fn is_escaped(character: char) -> bool {
    is_control(character)
        || is_invisible(character) && !matches!(character, '\u{200c}' | '\u{200d}')
}

/// Whether a text has only white space, control characters and invisible characters.
pub fn is_blank(text: &str) -> bool {
    text.chars().all(|one| one.is_whitespace() || is_control(one) || is_invisible(one))
}

/// A text on one line, with the characters of [`is_escaped`] as escapes such as `\n` and `\u{1b}`.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_escaped)
}

/// The same for a text that may have several lines and tabs.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| is_escaped(character) && !matches!(character, '\n' | '\t'))
}

/// The name of a file on one line.
pub fn path(path: &Path) -> String {
    line(&path.display().to_string()).into_owned()
}

/// JSON for printing. JSON itself escapes some control characters; this function escapes the other characters of
/// [`is_escaped`] in the same way.
pub fn json(text: &str) -> Cow<'_, str> {
    let acts = |character: char| is_escaped(character) && character != '\n';
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

/// A text as a cell of CSV (RFC 4180). One that a spreadsheet would take for a formula gets an apostrophe in front.
pub fn csv_text(text: &str) -> String {
    let acts =
        ['=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];
    let mark = if text.starts_with(acts) { "'" } else { "" };
    match text.contains([',', '"', '\r', '\n']) {
        true => format!("\"{mark}{}\"", text.replace('"', "\"\"")),
        false => format!("{mark}{text}"),
    }
}

/// Characters without any width: hyphens and joiners, marks of direction, byte order marks.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
    )
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

    #[test]
    fn what_turns_a_text_around_or_hides_is_escaped() {
        for code in (0x202a..=0x202e).chain(0x2066..=0x2069).chain([0x200b, 0x200e, 0x200f, 0xfeff])
        {
            let text = format!("a{}b", char::from_u32(code).unwrap());
            assert_eq!(line(&text), format!("a\\u{{{code:x}}}b"));
            assert_eq!(lines(&text), line(&text));
            assert_eq!(json(&text), format!("a\\u{code:04x}b"));
        }
        assert!(matches!(line("\u{646}\u{200c}\u{647}"), Cow::Borrowed(_)));
    }

    #[test]
    fn no_cell_of_csv_is_a_formula() {
        for (text, cell) in [
            ("a=1", "a=1"),
            ("a,\"b\"", "\"a,\"\"b\"\"\""),
            ("=HYPERLINK(\"x\",1)", "\"'=HYPERLINK(\"\"x\"\",1)\""),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@a", "'@a"),
            ("\t=a", "'\t=a"),
            ("\r=a", "\"'\r=a\""),
            ("\u{ff1d}a", "'\u{ff1d}a"),
            ("", ""),
        ] {
            assert_eq!(csv_text(text), cell);
        }
    }

    #[test]
    fn a_text_that_shows_nothing_is_blank() {
        for text in ["", " ", "\u{200b}", "\u{202e}", "\u{feff} ", "\u{a0}\u{200d}"] {
            assert!(is_blank(text), "{text:?}");
        }
        assert!(!is_blank("\u{200b}a") && !is_blank("\u{5d0}"));
    }
}
