//! The sources of settings: the file, the environment and the flags.

use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::{env, fs};

use super::api_variables;
use super::error::SettingsError;
use super::reference::Translated;
use super::setting::{Setting, VARIABLE_PREFIX};
use super::table::table;
use crate::policy::yaml::{Node, Value};
use crate::policy::{Problem, Severity, Source, nearest};
use crate::printable;

/// The variable that names the settings file.
pub const FILE_VARIABLE: &str = "TOLLGATE_CONFIG";

/// Maximum size of the settings file; the commented file with all defaults has a few thousand bytes.
const FILE_LEN_MAX: u64 = 1024 * 1024;

/// The text of a setting in one source.
#[derive(Debug)]
pub struct Assignment<'a> {
    pub setting: &'static Setting,
    pub text: String,
    pub origin: Origin<'a>,
}

/// The source of a text.
#[derive(Debug)]
pub enum Origin<'a> {
    File(&'a Source, Range<usize>),
    Variable,
    /// A variable of envoyproxy/ratelimit; None for a default of it.
    Reference(Option<&'static str>),
    Flag,
}

impl Assignment<'_> {
    /// The error for an invalid text.
    pub fn invalid(&self) -> SettingsError {
        let expected = self.setting.expected;
        let shown = match (self.setting.secret, self.text.as_str()) {
            (true, _) => "the given value".to_owned(),
            (false, "") => "an empty value".to_owned(),
            (false, text) => format!("`{}`", text.escape_debug()),
        };
        let place = match &self.origin {
            Origin::File(source, span) => {
                let message = format!("{}: {shown} is invalid; use {expected}", self.setting.name);
                return in_source(source, span.clone(), message);
            }
            Origin::Variable => self.setting.variable(),
            Origin::Reference(name) => {
                format!("{} of envoyproxy/ratelimit", name.unwrap_or("the default"))
            }
            Origin::Flag => format!("--{}", self.setting.flag()),
        };
        SettingsError::Wrong { place, shown, expected }
    }
}

/// The environment variables with our prefix, by name.
pub fn variables(errors: &mut Vec<SettingsError>) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for (name, text) in env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with(VARIABLE_PREFIX)) else {
            continue;
        };
        match text.into_string() {
            Ok(text) => variables.push((name.to_owned(), text)),
            Err(text) => errors.push(SettingsError::Wrong {
                place: name.to_owned(),
                shown: format!("{text:?}"),
                expected: "a text in UTF-8",
            }),
        }
    }
    variables.sort();
    variables
}

/// The text of the settings file.
pub fn source(path: &Path, errors: &mut Vec<SettingsError>) -> Option<Source> {
    match read(path) {
        Ok(text) => Some(Source { path: printable::path(path), text }),
        Err(source) => {
            errors.push(SettingsError::Unreadable { path: path.to_owned(), source });
            None
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let len = fs::File::open(path)?.take(FILE_LEN_MAX + 1).read_to_string(&mut text)?;
    if u64::try_from(len).is_ok_and(|len| len <= FILE_LEN_MAX) {
        Ok(text)
    } else {
        Err(io::Error::other(format!("it is larger than {FILE_LEN_MAX} bytes")))
    }
}

/// The settings of the file.
pub fn from_file<'a>(source: &'a Source, errors: &mut Vec<SettingsError>) -> Vec<Assignment<'a>> {
    let entries = match Node::parse(&source.text) {
        Ok(Node { value: Value::Map(entries), .. }) => entries,
        // If all lines of the file are comments.
        Ok(Node { value: Value::Null, .. }) => Vec::new(),
        Ok(node) => {
            let message = format!("{} instead of settings", node.kind());
            errors.push(in_source(source, node.span, message));
            Vec::new()
        }
        Err(error) => {
            errors.push(in_source(source, error.span, error.message));
            Vec::new()
        }
    };
    let mut all: Vec<Assignment<'a>> = Vec::new();
    for (key, value) in entries {
        match from_entry(source, &key, &value, &all) {
            Ok(assignment) => all.push(assignment),
            Err(error) => errors.push(error),
        }
    }
    all
}

fn from_entry<'a>(
    source: &'a Source,
    key: &Node,
    value: &Node,
    before: &[Assignment<'_>],
) -> Result<Assignment<'a>, SettingsError> {
    let name = key.scalar().unwrap_or_default();
    let error = |node: &Node, message: String| in_source(source, node.span.clone(), message);
    let Some(setting) = table().find(|setting| setting.name == name) else {
        let names: Vec<&str> = table().map(|setting| setting.name).collect();
        let suggestion = suggestion(nearest(name, &names));
        return Err(error(key, format!("unknown setting `{name}`{suggestion}")));
    };
    if before.iter().any(|earlier| earlier.setting.name == name) {
        return Err(error(key, format!("duplicate setting `{name}`")));
    }
    match text(value) {
        Some(text) => {
            Ok(Assignment { setting, text, origin: Origin::File(source, value.span.clone()) })
        }
        None => Err(error(
            value,
            format!("{name}: {} is invalid; use {}", value.kind(), setting.expected),
        )),
    }
}

/// A scalar, or a list joined by commas; an absent value is the empty text.
fn text(value: &Node) -> Option<String> {
    match &value.value {
        Value::Null => Some(String::new()),
        Value::List(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(Node::scalar).collect();
            Some(texts?.join(","))
        }
        _ => value.scalar().map(str::to_owned),
    }
}

/// The settings of the environment.
pub fn from_variables(
    variables: Vec<(String, String)>,
    errors: &mut Vec<SettingsError>,
) -> Vec<Assignment<'static>> {
    let mut all = Vec::new();
    for (name, text) in variables {
        if is_of_others(&name) || is_service_link(&name, &text) {
            continue;
        }
        match table().find(|setting| setting.variable() == name) {
            Some(setting) => all.push(Assignment { setting, text, origin: Origin::Variable }),
            None => errors.push(unknown_variable(name)),
        }
    }
    all
}

/// Whether one of the variables is a setting, or names the settings file.
pub fn has_settings(variables: &[(String, String)]) -> bool {
    variables.iter().any(|(name, text)| {
        !api_variables::ALL.contains(&name.as_str()) && !is_service_link(name, text)
    })
}

/// Whether the variable is no setting: it names the settings file, or is of the commands that use the API.
fn is_of_others(name: &str) -> bool {
    name == FILE_VARIABLE || api_variables::ALL.contains(&name)
}

/// Whether Kubernetes has set the variable. It sets some for each service of the namespace, and a service is likely
/// named `tollgate` or `tollgate-redis`: `TOLLGATE_SERVICE_HOST`, `TOLLGATE_PORT_8081_TCP_ADDR`, ...
fn is_service_link(name: &str, text: &str) -> bool {
    let is_numbered = |(_, rest): (&str, &str)| rest.starts_with(|c: char| c.is_ascii_digit());
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.rsplit_once("_PORT_").is_some_and(is_numbered)
        || (name.contains("_PORT") && text.contains("://"))
}

fn unknown_variable(name: String) -> SettingsError {
    let known: Vec<String> = table().map(Setting::variable).collect();
    let names: Vec<&str> = known.iter().map(String::as_str).chain([FILE_VARIABLE]).collect();
    let suggestion = suggestion(nearest(&name, &names));
    SettingsError::Unknown { name, suggestion }
}

pub fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// The settings of the environment of envoyproxy/ratelimit: its defaults, and those of its variables.
pub fn from_reference(
    translated: &[Translated],
) -> (Vec<Assignment<'static>>, Vec<Assignment<'static>>) {
    let assignment = |one: &Translated| {
        let setting = table().find(|setting| setting.name == one.setting)?;
        let origin = Origin::Reference(one.variable);
        Some(Assignment { setting, text: one.text.clone(), origin })
    };
    let (defaults, set): (Vec<_>, Vec<_>) =
        translated.iter().partition(|one| one.variable.is_none());
    let assignments = |all: Vec<&Translated>| all.into_iter().filter_map(assignment).collect();
    (assignments(defaults), assignments(set))
}

/// The settings of the flags.
pub fn from_flags(flags: &[(&'static Setting, String)]) -> Vec<Assignment<'static>> {
    let assignment = |(setting, text): &(&'static Setting, String)| Assignment {
        setting,
        text: text.clone(),
        origin: Origin::Flag,
    };
    flags.iter().map(assignment).collect()
}

pub fn in_source(source: &Source, span: Range<usize>, message: String) -> SettingsError {
    let Problem { path, line, column, message, .. } =
        Problem::at(source, Severity::Error, span, message);
    SettingsError::InFile { place: format!("{path}:{line}:{column}"), message }
}
