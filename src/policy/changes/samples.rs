//! Sample entries that represent all entries which two policies distinguish at one level: a value for each rule of
//! both, and one for each two rules whose values overlap.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::model::{Matcher, Pattern, Rule, RuleLevel, RuleValue, ValueSet};

/// Represents any text: no policy has a value with a control character.
const FILLER: &str = "\u{1}";

/// Maximum number of patterns of one key that are compared in pairs.
const PAIRED_MAX: usize = 2_000;

/// The values of the rules for one key.
#[derive(Default)]
struct Values<'a> {
    exact: BTreeSet<&'a str>,
    /// Of sets.
    listed: BTreeSet<String>,
    /// By their text, of key and value together.
    patterns: BTreeMap<String, Pattern>,
}

/// Sample entries, as keys and values.
#[derive(Debug, Default)]
pub struct Samples {
    pub entries: Vec<(String, String)>,
    /// Whether there are more, or may be.
    pub is_cut: bool,
    max: usize,
}

impl Samples {
    /// The samples of a level in two policies, at most `max`.
    pub fn of(old: &RuleLevel, new: &RuleLevel, max: usize) -> Self {
        let mut keys: BTreeMap<String, Values<'_>> = BTreeMap::new();
        let mut wide: BTreeMap<String, Pattern> = BTreeMap::new();
        let mut is_cut = false;
        for rule in old.rules().iter().chain(new.rules()) {
            for key in keys_of(rule) {
                let values = keys.entry(key).or_default();
                if let RuleValue::Exact(value) = &rule.value {
                    values.exact.insert(value);
                }
                if let RuleValue::Among { matcher, .. } = &rule.value {
                    let (found, is_whole) = values_of(matcher);
                    values.listed.extend(found);
                    is_cut |= !is_whole;
                }
                let Some(text) = rule.joined() else { continue };
                let Some(pattern) = Pattern::parse(&text) else { continue };
                match rule.value {
                    RuleValue::Joined { .. } => wide.insert(text, pattern),
                    _ => values.patterns.insert(text, pattern),
                };
            }
        }
        let mut samples = Self { max, is_cut, ..Self::default() };
        for (key, values) in &keys {
            samples.push(key, values, &wide);
        }
        samples
    }

    fn push(&mut self, key: &str, values: &Values<'_>, wide: &BTreeMap<String, Pattern>) {
        let prefix = format!("{key}_");
        let Some(own) = Pattern::parse(&format!("{prefix}*")) else { return };
        let patterns = values.patterns.values().chain(wide.values());
        let patterns: Vec<Pattern> = patterns.filter_map(|pattern| pattern.and(&own)).collect();
        let paired = &patterns[..patterns.len().min(PAIRED_MAX)];
        let pairs = (1..)
            .zip(paired)
            .flat_map(|(next, one)| paired[next..].iter().filter_map(|other| one.and(other)));
        let texts = patterns.iter().map(|one| one.sample(FILLER));
        let texts = texts.chain(pairs.map(|both| both.sample(FILLER)));
        let wild = texts.filter_map(|text| text.strip_prefix(&prefix).map(str::to_owned));
        let exact = values.exact.iter().map(|value| (*value).to_owned());
        let values = exact.chain(values.listed.iter().cloned()).chain(wild);
        let room = self.max - self.entries.len();
        self.entries.extend(values.take(room).map(|value| (key.to_owned(), value)));
        self.is_cut |= self.entries.len() == self.max || paired.len() < patterns.len();
    }
}

/// Whether an entry is the sample of a rule: of the entries that match its wildcards, the one that no narrower pattern
/// matches.
pub fn stands_for(rule: &Rule, key: &str, value: &str) -> bool {
    let Some(text) = rule.joined() else { return true };
    let key_filled = rule.key.replace('*', FILLER);
    let own = Pattern::parse(&text).zip(Pattern::parse(&format!("{key}_*")));
    let both = own.and_then(|(pattern, own)| pattern.and(&own));
    key == key_filled && both.is_some_and(|both| both.sample(FILLER) == format!("{key}_{value}"))
}

/// Values of a set, and whether they represent all of them: of a network, its first address represents the others.
fn values_of(matcher: &Matcher) -> (Vec<String>, bool) {
    match matcher.values() {
        ValueSet::OneOf(values) => (values.iter().map(|value| value.to_string()).collect(), true),
        ValueSet::Cidr(networks, _) => {
            (networks.iter().map(|network| network.network().to_string()).collect(), true)
        }
        // What matches is unknown, or almost everything does.
        ValueSet::Regex(_) | ValueSet::Pattern(_) | ValueSet::Not(_) => (Vec::new(), false),
    }
}

/// The rule's key; for one with a `*`, keys that match it.
fn keys_of(rule: &Rule) -> Vec<String> {
    match Pattern::parse(&rule.key) {
        Some(pattern) => vec![pattern.sample(""), pattern.sample(FILLER)],
        None => vec![rule.key.clone()],
    }
}
