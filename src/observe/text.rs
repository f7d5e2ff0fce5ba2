//! Formats log lines as text for people.
//!
//! An event is one line, with its message and its fields, so that a search finds the whole event and no text of a request
//! can look like another one. Only the field `excerpt`, a part of a policy file, comes below it, in lines that are indented.

use std::fmt;
use std::fmt::Write;

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

use crate::printable;

/// The field with lines of a file.
const EXCERPT: &str = "excerpt";

/// Comes before each line of an excerpt: the lines of events begin with a time.
const INDENT: &str = "  ";

/// Writes the message, then the fields, then the excerpt.
#[derive(Clone, Copy, Debug, Default)]
pub struct TextFields;

#[derive(Default)]
struct Texts {
    message: String,
    fields: String,
    excerpt: String,
    has_colours: bool,
}

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let has_colours = writer.has_ansi_escapes();
        let mut texts = Texts { has_colours, ..Texts::default() };
        fields.record(&mut texts);
        let message = printable::line(&texts.message);
        let fields = texts.fields.trim_start();
        let space = if message.is_empty() || fields.is_empty() { "" } else { " " };
        write!(writer, "{message}{space}{fields}")?;
        let excerpt = printable::lines(&texts.excerpt);
        excerpt.lines().try_for_each(|line| write!(writer, "\n{INDENT}{line}"))
    }
}

impl Visit for Texts {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            EXCERPT => self.excerpt.push_str(value),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String can't fail.
        if field.name() == "message" {
            write!(self.message, "{value:?}").ok();
            return;
        }
        let text = format!("{value:?}");
        // A field is one word or quoted, so that it can't look like another line.
        let text = if text.contains(printable::is_escaped) { format!("{text:?}") } else { text };
        let name = field.name();
        match self.has_colours {
            true => write!(self.fields, " \x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{text}").ok(),
            false => write!(self.fields, " {name}={text}").ok(),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(has_colours: bool, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_ansi(has_colours)
            .without_time()
            .with_target(false)
            .fmt_fields(TextFields);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_excerpt_comes_after_the_line_with_the_fields() {
        let excerpt = " --> a.yaml:2:1\n  |\x1b";
        let line = logged(false, || tracing::error!(file = "a.yaml", excerpt, "no such key"));
        let expected = "ERROR no such key file=\"a.yaml\"\n   --> a.yaml:2:1\n    |\\u{1b}\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn a_line_without_an_excerpt_is_as_ever() {
        let line = logged(false, || tracing::warn!(http = %"[::1]:80", store = "Redis", "ready"));
        assert_eq!(line, " WARN ready http=[::1]:80 store=\"Redis\"\n");
        assert_eq!(logged(false, || tracing::info!("ended")), " INFO ended\n");
        assert_eq!(logged(false, || tracing::info!(a = 1)), " INFO a=1\n");
        let line = logged(true, || tracing::info!(a = 1, "x"));
        assert!(line.ends_with("x \x1b[3ma\x1b[0m\x1b[2m=\x1b[0m1\n"), "{line:?}");
    }

    #[test]
    fn a_message_can_not_begin_a_line_of_its_own() {
        for end in ["\n", "\r\n", "\r", "\u{2028}", "\u{85}"] {
            let caller = format!("x{end}2026-11-28T00:00:00Z ERROR forged");
            let line = logged(false, || tracing::warn!("alert: {caller}"));
            assert_eq!(line, format!(" WARN alert: {}\n", caller.escape_default()));
            let line = logged(false, || tracing::warn!(message = caller));
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }

    #[test]
    fn a_field_can_not_begin_a_line_of_its_own() {
        let line = logged(false, || tracing::warn!(error = %"a\n ERROR b", "failed"));
        assert_eq!(line, " WARN failed error=\"a\\n ERROR b\"\n");
    }

    #[test]
    fn what_acts_on_a_terminal_is_escaped() {
        let line = logged(false, || tracing::warn!(key = %"\u{9b}31m", "no \x1b[31m rate"));
        assert_eq!(line, " WARN no \\u{1b}[31m rate key=\"\\u{9b}31m\"\n");
    }
}
