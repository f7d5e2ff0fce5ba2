//! Compiles the sets of values that rules match: `one_of`, `cidr`, `regex` and `not`.

use core::net::IpAddr;
use std::collections::HashSet;
use std::ops::Range;

use ipnet::IpNet;
use regex::{Regex, RegexBuilder};

use crate::policy::model::{Matcher, Pattern};
use crate::policy::problem::Severity;
use crate::policy::schema::{NotFile, RuleFile};
use crate::policy::yaml::{Reader, Spanned};

/// Maximum number of values or networks in one rule.
const VALUES_MAX: usize = 100_000;

/// Maximum length of a regular expression.
const REGEX_LEN_MAX: usize = 1_000;

/// Maximum memory of one compiled regular expression, in bytes.
const REGEX_SIZE_MAX: usize = 1 << 20;

/// The ways to say which values match.
struct Said<'f> {
    value: Option<&'f Spanned<String>>,
    one_of: Option<&'f Spanned<Vec<Spanned<String>>>>,
    cidr: Option<&'f Spanned<Vec<Spanned<String>>>>,
    regex: Option<&'f Spanned<String>>,
    not: Option<&'f NotFile>,
}

impl Said<'_> {
    /// Whether there is a set.
    fn is_set(&self) -> bool {
        self.one_of.is_some() || self.cidr.is_some() || self.regex.is_some() || self.not.is_some()
    }
}

/// The set of values that a rule matches; None if it has none, or if it has a mistake that has been reported.
pub fn matcher(reader: &mut Reader<'_>, file: &RuleFile) -> Option<Matcher> {
    let said = Said {
        value: file.value.as_ref(),
        one_of: file.one_of.as_ref(),
        cidr: file.cidr.as_ref(),
        regex: file.regex.as_ref(),
        not: file.not.as_ref(),
    };
    check_single(reader, &said);
    if said.is_set() && file.key.as_ref().is_some_and(|key| key.value.contains('*')) {
        let message = "`one_of`, `cidr`, `regex` and `not` require a `key` without a `*`";
        reader.error(file.span.clone(), message);
        return None;
    }
    if let Some(not) = said.not {
        return negated(reader, not);
    }
    set(reader, &said)
}

/// The set without a negation.
fn set(reader: &mut Reader<'_>, said: &Said<'_>) -> Option<Matcher> {
    match (said.one_of, said.cidr, said.regex) {
        (Some(values), _, _) => one_of(reader, values),
        (None, Some(networks), _) => cidr(reader, networks),
        (None, None, Some(text)) => regex(reader, text),
        (None, None, None) => None,
    }
}

fn negated(reader: &mut Reader<'_>, file: &NotFile) -> Option<Matcher> {
    let NotFile { value, one_of, cidr, regex, span } = file;
    let said = Said {
        value: value.as_ref(),
        one_of: one_of.as_ref(),
        cidr: cidr.as_ref(),
        regex: regex.as_ref(),
        not: None,
    };
    check_single(reader, &said);
    if let Some(value) = said.value {
        let other = match Pattern::parse(&value.value) {
            Some(pattern) if pattern.matches_all() => {
                reader
                    .error(value.span.clone(), "the rule can never match: `*` matches all values");
                return None;
            }
            Some(pattern) => Matcher::pattern(pattern),
            None => Matcher::one_of(&[&value.value]),
        };
        return Some(Matcher::not(other));
    }
    if !said.is_set() {
        let message = "`not` is empty; use `value`, `one_of`, `cidr` or `regex` in it";
        reader.error(span.clone(), message);
    }
    set(reader, &said).map(Matcher::not)
}

/// Reports more than one way in one rule.
fn check_single(reader: &mut Reader<'_>, said: &Said<'_>) {
    let list = |list: Option<&Spanned<Vec<_>>>| list.map(|list| list.span.clone());
    let text = |text: Option<&Spanned<String>>| text.map(|text| text.span.clone());
    let ways: Vec<Range<usize>> = [
        text(said.value),
        list(said.one_of),
        list(said.cidr),
        text(said.regex),
        said.not.map(|not| not.span.clone()),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let [_, second, ..] = &ways[..] {
        let message = "use one of `value`, `one_of`, `cidr`, `regex` and `not`";
        reader.error(second.clone(), message);
    }
}

/// Reports an empty or long list; false if there is nothing in it.
fn check_len(reader: &mut Reader<'_>, list: &Spanned<Vec<Spanned<String>>>, name: &str) -> bool {
    if list.value.is_empty() {
        reader.error(list.span.clone(), format!("`{name}` is empty: the rule can never match"));
    }
    if VALUES_MAX < list.value.len() {
        let message = format!("`{name}` has more than {VALUES_MAX} values");
        reader.error(list.span.clone(), message);
    }
    !list.value.is_empty()
}

fn one_of(reader: &mut Reader<'_>, list: &Spanned<Vec<Spanned<String>>>) -> Option<Matcher> {
    if !check_len(reader, list, "one_of") {
        return None;
    }
    let mut known = HashSet::new();
    for value in &list.value {
        if !known.insert(value.value.as_str()) {
            let message = format!("duplicate value `{}`", value.value);
            reader.note(Severity::Warning, value.span.clone(), message);
        }
        if value.value.contains('*') {
            let message = "`*` is an ordinary character in `one_of`; for a wildcard use `value`";
            reader.note(Severity::Warning, value.span.clone(), message);
        }
    }
    let values: Vec<&str> = list.value.iter().map(|value| value.value.as_str()).collect();
    Some(Matcher::one_of(&values))
}

fn cidr(reader: &mut Reader<'_>, list: &Spanned<Vec<Spanned<String>>>) -> Option<Matcher> {
    if !check_len(reader, list, "cidr") {
        return None;
    }
    let mut networks: Vec<(IpNet, &Spanned<String>)> = Vec::new();
    for said in &list.value {
        match network(&said.value) {
            Ok(network) => networks.push((network, said)),
            Err(message) => reader.error(said.span.clone(), message),
        }
    }
    // The widest first: then a network that another one covers comes after it.
    let mut by_width: Vec<&(IpNet, &Spanned<String>)> = networks.iter().collect();
    by_width.sort_by_key(|(network, _)| (network.network(), network.prefix_len()));
    let mut widest: Option<IpNet> = None;
    for (network, said) in by_width {
        match widest.filter(|wide| wide.contains(network)) {
            Some(wide) => {
                let message = format!("no effect: `{wide}` has all addresses of `{network}`");
                reader.note(Severity::Warning, said.span.clone(), message);
            }
            None => widest = Some(*network),
        }
    }
    let networks: Vec<IpNet> = networks.into_iter().map(|(network, _)| network).collect();
    (!networks.is_empty()).then(|| Matcher::cidr(networks))
}

/// A network, or a single address.
fn network(text: &str) -> Result<IpNet, String> {
    let network =
        text.parse::<IpNet>().or_else(|_| text.parse().map(|address: IpAddr| address.into()));
    let network: IpNet = network.map_err(|_| {
        format!("invalid network `{text}`; use one such as 10.0.0.0/20 or 2001:db8::/32")
    })?;
    match network.trunc() == network {
        true => Ok(network),
        false => {
            Err(format!("`{text}` has an address within the network; use `{}`", network.trunc()))
        }
    }
}

fn regex(reader: &mut Reader<'_>, text: &Spanned<String>) -> Option<Matcher> {
    match compiled(&text.value) {
        Ok(regex) => Some(Matcher::regex(regex, &text.value)),
        Err(message) => {
            reader.error(text.span.clone(), message);
            None
        }
    }
}

fn compiled(text: &str) -> Result<Regex, String> {
    if REGEX_LEN_MAX < text.len() {
        return Err(format!("the regular expression is longer than {REGEX_LEN_MAX} bytes"));
    }
    // Alone first: an unbalanced parenthesis must not end the group around it.
    let parsed = regex_syntax::parse(text).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("invalid regular expression: {reason}")
    })?;
    if parsed.properties().minimum_len().is_none() {
        return Err("the regular expression can never match".to_owned());
    }
    let whole = format!(r"\A(?:{text})\z");
    let mut builder = RegexBuilder::new(&whole);
    builder.size_limit(REGEX_SIZE_MAX).dfa_size_limit(REGEX_SIZE_MAX);
    builder.build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the regular expression is too large".to_owned(),
        error => format!("invalid regular expression: {error}"),
    })
}
