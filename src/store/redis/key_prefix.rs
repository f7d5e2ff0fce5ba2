//! The text before all keys, by which several fleets share a Redis and know nothing of each other.

use std::borrow::Cow;
use std::sync::Arc;

/// Before the key of the marks beside a counter, whose key follows in braces.
const MARK: &str = "tg1i{";

/// The text before all keys; it may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPrefix(Arc<str>);

impl KeyPrefix {
    /// Maximum length of the text.
    const LEN_MAX: usize = 64;

    /// The prefix of a text. None if it is long, could be taken for a part of a key, or chooses slots of a cluster.
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/|".contains(&byte);
        let is_valid =
            text.len() <= Self::LEN_MAX && text.bytes().all(is_plain) && !text.contains("tg1");
        is_valid.then(|| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a key in Redis. In the key of marks, the counter's key has the prefix too, so that both have one slot.
    pub fn on<'k>(&self, key: &'k str) -> Cow<'k, str> {
        if self.0.is_empty() {
            return Cow::Borrowed(key);
        }
        let prefix = self.as_str();
        Cow::Owned(match key.strip_prefix(MARK) {
            Some(rest) => format!("{prefix}{MARK}{prefix}{rest}"),
            None => format!("{prefix}{key}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Key, RetryId};
    use crate::store::redis::slot::slot_of;

    #[test]
    fn a_counter_and_its_marks_have_one_slot() {
        let key = Key::of_domain("d");
        let mark = key.mark(Some("ann"), RetryId::Entry("1"));
        for prefix in ["", "stg:", "fleet/b|"] {
            let prefix = KeyPrefix::parse(prefix).unwrap();
            let (key, mark) = (prefix.on(key.as_str()), prefix.on(mark.as_str()));
            assert_eq!(slot_of(&key), slot_of(&mark));
            assert!(key.starts_with(prefix.as_str()) && mark.starts_with(prefix.as_str()));
        }
        assert_eq!(KeyPrefix::parse("a:").unwrap().on("tg1|d"), "a:tg1|d");
    }

    #[test]
    fn a_text_that_confuses_keys_is_no_prefix() {
        for text in ["{a}", "a*", "é", "xtg1", "a b", &"a".repeat(65)] {
            assert!(KeyPrefix::parse(text).is_none(), "{text}");
        }
    }
}
