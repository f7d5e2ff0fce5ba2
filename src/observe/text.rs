//! Formats log lines as text for people.
//!
//! A message may have an excerpt of a file below its first line. The fields are on the first line, so that a search
//! finds the whole event.

use std::fmt;
use std::fmt::Write;

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

use crate::printable;

/// Writes the message's first line, then the fields, then the rest of the message.
#[derive(Clone, Copy, Debug, Default)]
pub struct TextFields;

#[derive(Default)]
struct Texts {
    message: String,
    fields: String,
    has_colours: bool,
}

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let has_colours = writer.has_ansi_escapes();
        let mut texts = Texts { has_colours, ..Texts::default() };
        fields.record(&mut texts);
        let message = printable::lines(&texts.message);
        let (first, rest) = message.split_once('\n').unwrap_or((&message, ""));
        let fields = texts.fields.trim_start();
        let space = if first.is_empty() || fields.is_empty() { "" } else { " " };
        write!(writer, "{first}{space}{fields}")?;
        if rest.is_empty() { Ok(()) } else { write!(writer, "\n{rest}") }
    }
}

impl Visit for Texts {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
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
        let excerpt = "no such key\n --> a.yaml:2:1\n  |";
        let line = logged(false, || tracing::error!(file = "a.yaml", line = 2, "{excerpt}"));
        let expected = "ERROR no such key file=\"a.yaml\" line=2\n --> a.yaml:2:1\n  |\n";
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
