//! Sets of values that a rule matches: listed ones, ranges of addresses, a regular expression, and all but these.

use std::collections::HashSet;

use foldhash::fast::RandomState;
use ipnet::IpNet;
use regex::Regex;
use sha2::{Digest, Sha256};

use super::address_ranges::AddressRanges;
use super::pattern::Pattern;

/// Bytes of the hash that identifies a set.
const HASH_LEN: usize = 16;

/// Parts of a set that its text shows.
const SHOWN_MAX: usize = 3;

/// A set of values, with a short text.
#[derive(Debug)]
pub struct Matcher {
    values: ValueSet,
    text: String,
    id: String,
}

/// The values of a set.
#[derive(Debug)]
pub enum ValueSet {
    OneOf(HashSet<Box<str>, RandomState>),
    Cidr(Vec<IpNet>, AddressRanges),
    Regex(Regex),
    Pattern(Pattern),
    /// All others.
    Not(Box<Matcher>),
}

impl Matcher {
    /// Listed values.
    pub fn one_of(values: &[&str]) -> Self {
        let set = values.iter().map(|value| Box::from(*value)).collect();
        Self::new(ValueSet::OneOf(set), "one_of", values)
    }

    /// The addresses of networks.
    pub fn cidr(networks: Vec<IpNet>) -> Self {
        let texts: Vec<String> = networks.iter().map(IpNet::to_string).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let ranges = AddressRanges::new(networks.iter().map(|net| (net, 0)));
        Self::new(ValueSet::Cidr(networks, ranges), "cidr", &texts)
    }

    /// Values that a regular expression matches from their first character to their last.
    pub fn regex(regex: Regex, text: &str) -> Self {
        Self::new(ValueSet::Regex(regex), "regex", &[text])
    }

    /// Values that match a wildcard.
    pub fn pattern(pattern: Pattern) -> Self {
        let text = pattern.as_str().to_owned();
        Self::new(ValueSet::Pattern(pattern), "value", &[text.as_str()])
    }

    /// All values but those.
    pub fn not(other: Self) -> Self {
        let (text, id) = (format!("not {}", other.text), format!("not {}", other.id));
        Self { values: ValueSet::Not(Box::new(other)), text, id }
    }

    fn new(values: ValueSet, kind: &str, parts: &[&str]) -> Self {
        let mut text = format!("{kind} {}", parts[..parts.len().min(SHOWN_MAX)].join(" "));
        if let Some(more) = parts.len().checked_sub(SHOWN_MAX).filter(|more| *more != 0) {
            text.push_str(&format!(" and {more} more"));
        }
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        let hash = hash.finalize();
        let hash: String = hash[..HASH_LEN].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { values, text, id: format!("{kind} {hash}") }
    }

    /// A short text, for people.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same for the same values in the same order, and short, for keys of counters.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The values.
    pub fn values(&self) -> &ValueSet {
        &self.values
    }

    /// Whether a value is in the set. It takes time in proportion to the length of the value, whatever the set.
    pub fn matches(&self, value: &str) -> bool {
        match &self.values {
            ValueSet::OneOf(values) => values.contains(value),
            ValueSet::Cidr(_, ranges) => ranges.find(value).is_some(),
            ValueSet::Regex(regex) => regex.is_match(value),
            ValueSet::Pattern(pattern) => pattern.matches(value),
            ValueSet::Not(other) => !other.matches(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_set_is_short_and_its_id_has_all_values() {
        let one = Matcher::one_of(&["a", "b", "c", "d", "e"]);
        let other = Matcher::one_of(&["a", "b", "c", "d", "f"]);
        assert_eq!(one.as_str(), "one_of a b c and 2 more");
        assert_eq!(one.as_str(), other.as_str());
        assert!(one.id() != other.id() && one.id().len() < 64);
        assert!(Matcher::one_of(&["ab", "c"]).id() != Matcher::one_of(&["a", "bc"]).id());
        let not = Matcher::not(one);
        assert_eq!(not.as_str(), "not one_of a b c and 2 more");
        assert!(not.matches("z") && !not.matches("a"));
    }
}
