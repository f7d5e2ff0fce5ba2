//! Templates of notifications, in the language of Jinja.
//!
//! A template is compiled and tried on samples when the file is checked, so that unknown fields are found. Its work and memory
//! are bounded by fuel.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use minijinja::value::{Serde, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde::Serialize;

use super::labels::LABELS;
use crate::policy::schema::ChannelFile;
use crate::policy::yaml::{Reader, Spanned};

/// Maximum length of a template.
const TEMPLATE_LEN_MAX: usize = 4_096;

/// The fuel of a rendering: some 100,000 steps, or 6 MB of text, a few milliseconds.
const FUEL: u64 = 100_000;

/// The name of the template in its environment.
const NAME: &str = "template";

/// What markup a template's values are escaped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateMarkup {
    None,
    /// `&`, `<` and `>`, which also mention people.
    Slack,
}

/// A template of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertTemplate {
    source: Arc<str>,
    markup: TemplateMarkup,
}

/// The templates of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertTemplates {
    /// One line: the subject of a mail, the first line of a chat message.
    pub title: Option<AlertTemplate>,
    pub text: Option<AlertTemplate>,
}

/// What a template can show.
#[derive(Clone, Debug, Serialize)]
pub struct TemplateFields {
    /// The standard title and text.
    pub title: String,
    pub text: String,
    pub channel: String,
    pub status: &'static str,
    pub firing: usize,
    pub resolved: usize,
    /// How many alerts are not in `alerts`.
    pub more: usize,
    /// How many alerts each rule has.
    pub rules: BTreeMap<String, usize>,
    /// What the alerts of a group have in common.
    pub group: BTreeMap<String, String>,
    /// The only alert, or the first one.
    pub alert: TemplateAlert,
    pub alerts: Vec<TemplateAlert>,
}

/// An alert in a template. The texts have no line breaks.
#[derive(Clone, Debug, Serialize)]
pub struct TemplateAlert {
    pub id: String,
    pub rule: String,
    pub signal: String,
    pub severity: String,
    pub status: &'static str,
    pub kind: &'static str,
    pub title: String,
    pub summary: String,
    pub value: String,
    pub labels: BTreeMap<String, String>,
    pub opened_at: String,
}

/// A template failed.
#[derive(Debug)]
pub struct TemplateFailed {
    /// What failed, without the values.
    kind: ErrorKind,
    line: Option<usize>,
}

impl fmt::Display for TemplateFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, line } = self;
        match line {
            Some(line) => write!(f, "{kind} in line {line}"),
            None => write!(f, "{kind}"),
        }
    }
}

impl std::error::Error for TemplateFailed {}

impl AlertTemplate {
    /// The text for an alert or a group. A field that is absent, such as a label that not all alerts have, is empty.
    ///
    /// # Errors
    /// If a filter or an operator can't take its values, or if it takes too much work.
    pub fn render(&self, fields: &TemplateFields) -> Result<String, TemplateFailed> {
        let environment = environment(self.markup, UndefinedBehavior::Chainable);
        render(&environment, &self.source, fields)
            .map_err(|error| TemplateFailed { kind: error.kind(), line: error.line() })
    }
}

/// The templates of a channel.
pub fn compile_templates(
    reader: &mut Reader<'_>,
    file: &ChannelFile,
    markup: TemplateMarkup,
) -> AlertTemplates {
    let mut compile = |text: &Option<Spanned<String>>| {
        let text = text.as_ref()?;
        match check(&text.value, markup) {
            Ok(()) => Some(AlertTemplate { source: text.value.as_str().into(), markup }),
            Err((range, message)) => {
                let written = reader.written(&text.span);
                let span = range.and_then(|range| place(&text.value, range, written));
                let start = text.span.start;
                let span = span.map(|span| start + span.start..start + span.end);
                reader.error(span.unwrap_or(text.span.clone()), message);
                None
            }
        }
    };
    AlertTemplates { title: compile(&file.title), text: compile(&file.text) }
}

/// Checks the syntax of a template and the names in it, and tries it.
fn check(source: &str, markup: TemplateMarkup) -> Result<(), (Option<Range<usize>>, String)> {
    if TEMPLATE_LEN_MAX < source.len() {
        return Err((None, format!("the template is longer than {TEMPLATE_LEN_MAX} bytes")));
    }
    let environment = environment(markup, UndefinedBehavior::Strict);
    let problem = |error: Error| {
        let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
        (error.range(), format!("invalid template: {}{detail}", error.kind()))
    };
    let template = environment.template_from_named_str(NAME, source).map_err(problem)?;
    let mut names: Vec<String> = template.undeclared_variables(true).into_iter().collect();
    names.sort();
    let sample = Value::from(Serde(TemplateFields::sample(1)));
    for name in names {
        let is_global = environment.globals().any(|(global, _)| global == name);
        if is_global || is_known(&sample, &name) {
            continue;
        }
        let found = source.find(&name).map(|start| start..start + name.len());
        return Err((found, format!("unknown field `{name}`{}", known(&sample, &name))));
    }
    for alerts in [1, 3] {
        let fields = TemplateFields::sample(alerts);
        render(&environment, source, &fields).map_err(|error| match error.kind() {
            ErrorKind::UndefinedError => {
                let field = error.range().and_then(|range| source.get(range));
                let named = field.map(|field| format!(" `{field}`")).unwrap_or_default();
                (error.range(), format!("unknown field{named}"))
            }
            _ => problem(error),
        })?;
    }
    Ok(())
}

fn render(
    environment: &Environment<'_>,
    source: &str,
    fields: &TemplateFields,
) -> Result<String, Error> {
    let template = environment.template_from_named_str(NAME, source)?;
    template.render(Value::from(Serde(fields)))
}

/// The language of templates: that of Jinja, without what would switch off escaping.
fn environment<'s>(markup: TemplateMarkup, undefined: UndefinedBehavior) -> Environment<'s> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_debug(true);
    environment.set_undefined_behavior(undefined);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    for filter in ["safe", "escape", "e"] {
        environment.remove_filter(filter);
    }
    environment.remove_global("debug");
    environment.set_formatter(move |out, _, value| {
        if value.is_undefined() || value.is_none() {
            return Ok(());
        }
        let text = value.to_string();
        out.write_str(&match markup {
            TemplateMarkup::None => text,
            TemplateMarkup::Slack => escape_slack(&text),
        })?;
        Ok(())
    });
    environment
}

/// A text without what Slack reads as markup, also to mention people.
pub fn escape_slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Whether the sample has a field, such as `alert.labels.caller`.
fn is_known(sample: &Value, name: &str) -> bool {
    let mut value = sample.clone();
    for part in name.split('.') {
        // Methods, and what comes after items of lists, are found when it is tried.
        if !matches!(value.kind(), ValueKind::Map) {
            return true;
        }
        match value.get_attr(part) {
            Ok(inner) if !inner.is_undefined() => value = inner,
            // A method of a map.
            _ => return matches!(part, "items" | "keys" | "values" | "get"),
        }
    }
    true
}

/// What there is in place of an unknown field.
fn known(sample: &Value, name: &str) -> String {
    let mut value = sample.clone();
    for part in name.split('.') {
        match value.get_attr(part) {
            Ok(inner) if !inner.is_undefined() => value = inner,
            _ => break,
        }
    }
    let names: Vec<String> =
        value.try_iter().into_iter().flatten().map(|one| one.to_string()).collect();
    format!("; there are {}", names.join(", "))
}

/// The place of a part of a template in what was written in the file: in quotes, or a block with an indent.
fn place(template: &str, range: Range<usize>, written: &str) -> Option<Range<usize>> {
    if let Some(start) = written.find(template) {
        return Some(start + range.start..start + range.end);
    }
    let before = template.get(..range.start)?;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = template[line_start..].lines().next()?;
    let number = before.matches('\n').count();
    // The first line of a block has its indicator.
    let skipped: usize = written.split_inclusive('\n').take(number).map(str::len).sum();
    let found = skipped + written.get(skipped..)?.find(line.trim_end())?;
    let start = found + range.start - line_start;
    let end = (start + range.len()).min(found + line.len()).max(start + 1);
    Some(start..end.min(written.len()))
}

impl TemplateFields {
    /// Fields of some alerts, with all that there may be.
    fn sample(alerts: usize) -> Self {
        let labels = LABELS.iter().map(|name| ((*name).to_owned(), "sample".to_owned()));
        let labels: BTreeMap<String, String> = labels.collect();
        let text = || "sample".to_owned();
        let alert = TemplateAlert {
            id: text(),
            rule: text(),
            signal: text(),
            severity: text(),
            status: "firing",
            kind: "firing",
            title: text(),
            summary: text(),
            value: text(),
            labels: labels.clone(),
            opened_at: text(),
        };
        Self {
            title: text(),
            text: text(),
            channel: text(),
            status: "firing",
            firing: alerts,
            resolved: 0,
            more: 0,
            rules: BTreeMap::from([(text(), alerts)]),
            group: labels,
            alert: alert.clone(),
            alerts: vec![alert; alerts],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the message of a template, and the part of it that it is about, if one is given; none if it is valid.
    #[track_caller]
    fn told(source: &str, expected: Option<(&str, &str)>) {
        let found = check(source, TemplateMarkup::None).err();
        match (found, expected) {
            (None, None) => {}
            (Some((range, message)), Some((part, expected))) => {
                assert!(message.contains(expected), "{source}: {message}");
                let found = range.map_or("", |range| &source[range]);
                assert!(part.is_empty() || found == part, "{source}: {found}: {message}");
            }
            (found, _) => panic!("{source}: {found:?}"),
        }
    }

    #[test]
    fn templates_are_checked() {
        told("{{ alert.severity|upper }}: {{ title }} {{ alert.labels.caller }}", None);
        told("{% for a in alerts %}{{ a.title }} since {{ a.opened_at }}\n{% endfor %}", None);
        told("{% for n, v in alert.labels|items %}{{ n }}={{ v }}{% endfor %}", None);
        told("{% for n in range(3) %}{{ n }}{% endfor %}{% set x = 1 %}{{ x }}", None);
        told(
            "{{ alrt.rule }}",
            Some(("alrt.rule", "unknown field `alrt.rule`; there are title, ")),
        );
        told("{{ alert.rul }}", Some(("alert.rul", "unknown field `alert.rul`; there are id, ")));
        told("{{ alert.labels.user }}", Some(("alert.labels.user", "there are address, ")));
        told("{% if 0 %}{{ nothing }}{% endif %}", Some(("nothing", "unknown field")));
        told("{% for a in alerts %}{{ a.name }}{% endfor %}", Some(("", "unknown field")));
        told("{{ title|shout }}", Some(("", "unknown filter")));
        told("{{ title|safe }}", Some(("", "unknown filter")));
        told("{{ title", Some(("", "invalid template: syntax error")));
        told("{% include 'x' %}", Some(("", "invalid template")));
        told(&"x".repeat(TEMPLATE_LEN_MAX + 1), Some(("", "is longer than 4096 bytes")));
    }

    #[test]
    fn work_and_memory_are_bounded() {
        let endless =
            "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
        told(endless, Some(("", "engine ran out of fuel")));
        let doubled = "{% set a = 'xxxxxxxxxxxxxxxx' %}".to_owned()
            + &"{% set a = a ~ a %}".repeat(100)
            + "{{ a|length }}";
        let (_, message) = check(&doubled, TemplateMarkup::None).unwrap_err();
        assert!(message.contains("out of fuel"), "{message}");
        told("{{ 'x' * 1000000000 }}", Some(("", "out of fuel")));
        let recursion = "{% for a in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}";
        assert!(check(recursion, TemplateMarkup::None).is_err());
    }

    #[test]
    fn values_are_escaped_and_the_template_is_not() {
        let mut fields = TemplateFields::sample(1);
        fields.alert.labels.insert("caller".to_owned(), "<!channel> & co".to_owned());
        let source = "<https://a.example|{{ alert.labels.caller|upper }}>{{ alert.labels.none }}";
        let render = |markup| AlertTemplate { source: source.into(), markup }.render(&fields);
        let slack = render(TemplateMarkup::Slack).unwrap();
        assert_eq!(slack, "<https://a.example|&lt;!CHANNEL&gt; &amp; CO>");
        assert_eq!(render(TemplateMarkup::None).unwrap(), "<https://a.example|<!CHANNEL> & CO>");
    }

    #[test]
    fn the_place_of_a_problem_is_found_in_quotes_and_in_blocks() {
        let template = "a\n{{ b }} c\n";
        let at = |written: &str, part: &str| {
            let start = template.find(part).unwrap();
            let place = place(template, start..start + part.len(), written).unwrap();
            written[place].to_owned()
        };
        assert_eq!(at("|\n      a\n      {{ b }} c\n", "b"), "b");
        assert_eq!(at("|\n      a\n      {{ b }} c\n", "{{ b }} c"), "{{ b }} c");
        assert_eq!(place("{{ b }}", 3..4, "\"{{ b }}\""), Some(4..5));
        assert_eq!(place("{{ \"b\" }}", 4..5, "\"{{ \\\"b\\\" }}\""), None);
    }
}
