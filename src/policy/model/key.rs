//! The key of one counter: short, versioned, and unique for each domain and path.
//!
//! `tg1|domain|key=value|key~pattern`: `=` precedes a value of the request, `~` a wildcard whose values share one
//! counter, `~~` a wildcard of key and value together, and `~=` a set of values. The path of a limit that a request brings along starts with
//! `!`, and the domain of an API key's own limits is empty. Bytes that would be ambiguous or hard to read are escaped as `%XX`. A long value is replaced by `#` and its
//! hash, and a path that is still too long by `tg1#` and a hash of all of it.
//!
//! `tg1i{KEY}|caller=id` is the key of a retried request's marks beside the counter KEY, which is in braces so that
//! both have the same slot: `=` precedes the value of an idempotency key, `~` a fingerprint, `==` the id of a
//! reservation, `=~` the id of a reservation that is settled, and `!` the id of a gift.

use std::fmt;
use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The prefix of every key, with the version of its value's format.
const PREFIX: &str = "tg1";

/// Maximum length of a text; longer ones are hashed. Callers choose values, and keys must stay short.
const TEXT_LEN_MAX: usize = 64;

/// Maximum length of a key; longer ones are hashed as a whole. With it, a maximum number of keys limits memory.
const KEY_LEN_MAX: usize = 512;

/// Bytes of SHA-256 that are kept of a long text: 128 bits, so that no two texts with the same hash can be found.
const HASH_LEN: usize = 16;

/// The key of one counter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

/// An entry by which keys are found: those of all counters with this entry in their path, and their marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEntry {
    text: String,
    ends: &'static [u8],
}

/// Identifies a request that may be retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryId<'a> {
    /// The value of the entry with the idempotency key.
    Entry(&'a str),
    /// A hash of all parts of the request.
    Fingerprint(&'a [u8]),
    /// The id of a reservation that it makes.
    Reserve(&'a str),
    /// The id of a reservation that it settles.
    Settle(&'a str),
    /// The id of a gift whose hits are taken: no request has it.
    Gift(&'a str),
}

impl Key {
    /// The key of a domain's rules, to which steps are added.
    pub fn of_domain(domain: &str) -> Self {
        let mut key = Self(String::with_capacity(PREFIX.len() + domain.len() + TEXT_LEN_MAX));
        key.0.push_str(PREFIX);
        key.0.push('|');
        key.push_text(domain);
        key
    }

    /// The key of a domain's limits that requests bring along.
    pub fn of_override(domain: &str) -> Self {
        let mut key = Self::of_domain(domain);
        key.0.push_str("|!");
        key
    }

    /// The key of an API key's own limits, in whatever domain it is used: no domain has an empty name.
    pub fn of_api_key(id: &str) -> Self {
        let mut key = Self::of_domain("");
        key.push_value("key_id", id);
        key
    }

    /// Adds an entry with the request's value.
    pub fn push_value(&mut self, key: &str, value: &str) {
        self.push_step(key, '=', value);
    }

    /// Adds an entry whose values share the counter of `pattern`.
    pub fn push_shared(&mut self, key: &str, pattern: &str) {
        self.push_step(key, '~', pattern);
    }

    /// The same for a pattern of key and value together.
    pub fn push_joined(&mut self, key: &str, pattern: &str) {
        self.0.push('|');
        self.push_text(key);
        self.0.push_str("~~");
        self.push_text(pattern);
    }

    /// Adds an entry whose values share the counter of a set of values with this id.
    pub fn push_among(&mut self, key: &str, id: &str) {
        self.0.push('|');
        self.push_text(key);
        self.0.push_str("~=");
        self.push_text(id);
    }

    /// The key of the idempotency marks of a request's charges under this key.
    pub fn mark(&self, caller: Option<&str>, id: RetryId<'_>) -> Self {
        let len = PREFIX.len() + self.0.len() + 2 * TEXT_LEN_MAX;
        let mut key = Self(String::with_capacity(len));
        let _ = write!(key.0, "{PREFIX}i{{{}}}|", self.0);
        if let Some(caller) = caller {
            key.push_text(caller);
        }
        match id {
            RetryId::Entry(value) => {
                key.0.push('=');
                key.push_text(value);
            }
            RetryId::Gift(id) => {
                key.0.push('!');
                key.push_text(id);
            }
            RetryId::Fingerprint(hash) => {
                key.0.push('~');
                hash.iter().for_each(|byte| key.push_hex(*byte));
            }
            RetryId::Reserve(id) => {
                key.0.push_str("==");
                key.push_text(id);
            }
            RetryId::Settle(id) => {
                key.0.push_str("=~");
                key.push_text(id);
            }
        }
        key
    }

    /// A key that was stored as text.
    pub fn of_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The key of the path so far.
    pub fn finish(mut self) -> Self {
        if KEY_LEN_MAX < self.0.len() {
            let whole = std::mem::take(&mut self.0);
            self.0.push_str(PREFIX);
            self.push_hash(&whole);
        }
        self
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn push_step(&mut self, key: &str, sign: char, value: &str) {
        self.0.push('|');
        self.push_text(key);
        self.0.push(sign);
        self.push_text(value);
    }

    fn push_text(&mut self, text: &str) {
        if TEXT_LEN_MAX < text.len() {
            return self.push_hash(text);
        }
        if text.bytes().all(is_plain) {
            return self.0.push_str(text);
        }
        for byte in text.bytes() {
            if is_plain(byte) {
                self.0.push(char::from(byte));
            } else {
                self.0.push('%');
                self.push_hex(byte);
            }
        }
    }

    fn push_hash(&mut self, text: &str) {
        self.0.push('#');
        let hash = Sha256::digest(text.as_bytes());
        hash[..HASH_LEN].iter().for_each(|byte| self.push_hex(*byte));
    }

    fn push_hex(&mut self, byte: u8) {
        write!(self.0, "{byte:02x}").expect("writing to a String does not fail");
    }
}

impl KeyEntry {
    /// The entry with this key and the request's value.
    pub fn new(key: &str, value: &str) -> Self {
        let mut step = Key(String::new());
        step.push_value(key, value);
        Self { text: step.0, ends: b"|}" }
    }

    /// The caller in the key of a mark.
    pub fn of_mark(caller: &str) -> Self {
        let mut step = Key("}|".to_owned());
        step.push_text(caller);
        Self { text: step.0, ends: b"=~" }
    }

    /// The text that is in all of those keys.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a key has the entry. A key that is hashed as a whole has none.
    pub fn is_in(&self, key: &str) -> bool {
        key.match_indices(&self.text).any(|(at, text)| {
            let next = key.as_bytes().get(at + text.len());
            next.map_or(self.ends == b"|}", |next| self.ends.contains(next))
        })
    }
}

/// Whether a byte needs no escape. Braces would choose the slot in a Redis Cluster; the others are separators.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(byte, b'|' | b'=' | b'~' | b'!' | b'#' | b'%' | b'{' | b'}')
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(domain: &str, steps: &[(&str, &str)]) -> Key {
        let mut key = Key::of_domain(domain);
        steps.iter().for_each(|(name, value)| key.push_value(name, value));
        key
    }

    #[test]
    fn a_key_can_be_read() {
        let key = key("shop", &[("user_id", "alice"), ("op", "read")]);
        assert_eq!(key.as_str(), "tg1|shop|user_id=alice|op=read");
    }

    #[test]
    fn different_paths_never_share_a_key() {
        let mut shared = Key::of_domain("d");
        shared.push_shared("k", "a*");
        let long = "x".repeat(65);
        let mut hash = Key::of_domain("d");
        hash.push_value("k", &long);
        let hashed_value = hash.as_str().split('=').next_back().unwrap().to_owned();
        let keys = [
            key("d", &[]),
            key("d", &[("k", "")]),
            key("d", &[("k", "a*")]),
            shared,
            key("d", &[("k", "a"), ("b", "c")]),
            key("d", &[("k", "a|b=c")]),
            key("d|k=a", &[("b", "c")]),
            key("d", &[("k=a|b", "c")]),
            key("d", &[("k", "%61")]),
            key("d", &[("k", "a")]),
            key("d", &[("k", &hashed_value)]),
            key("d", &[("k", &long)]),
            key("d", &[("k", &"x".repeat(66))]),
            Key::of_override("d"),
            key("d", &[("!", "")]),
            Key::of_api_key("1"),
            key("d", &[("key_id", "1")]),
        ];
        for (index, one) in keys.iter().enumerate() {
            for other in &keys[index + 1..] {
                assert_ne!(one, other);
            }
        }
    }

    #[test]
    fn marks_of_different_counters_callers_and_requests_never_share_a_key() {
        let (one, other) = (key("d", &[("k", "a")]), key("d", &[("k", "b")]));
        let (entry, hash) = (RetryId::Entry, RetryId::Fingerprint);
        let keys = [
            one.clone(),
            one.mark(None, entry("1")),
            one.mark(None, entry("2")),
            one.mark(None, hash(b"1")),
            one.mark(None, entry("31")),
            one.mark(Some("a"), entry("1")),
            one.mark(Some("a=1"), entry("")),
            one.mark(Some("a"), entry("=1")),
            one.mark(Some("a"), RetryId::Reserve("1")),
            one.mark(Some("a"), RetryId::Settle("1")),
            other.mark(None, entry("1")),
        ];
        assert_eq!(keys[5].as_str(), "tg1i{tg1|d|k=a}|a=1");
        for (index, one) in keys.iter().enumerate() {
            for other in &keys[index + 1..] {
                assert_ne!(one, other);
            }
        }
    }

    #[test]
    fn an_entry_is_found_in_keys_and_marks() {
        let check = |entry: &KeyEntry, key: &Key, expected: bool| {
            assert_eq!(entry.is_in(key.as_str()), expected, "{entry:?} {key}");
        };
        let alice = KeyEntry::new("user", "alice");
        check(&alice, &key("d", &[("user", "alice")]), true);
        check(&alice, &key("d", &[("user", "alice"), ("op", "r")]), true);
        check(&alice, &key("d", &[("op", "r"), ("user", "alice")]), true);
        check(&alice, &key("d", &[("user", "alice2")]), false);
        check(&alice, &key("d", &[("xuser", "alice")]), false);
        check(&alice, &key("user=alice", &[]), false);
        check(&alice, &key("d", &[("op", "|user=alice")]), false);
        let mark =
            |caller, id| key("d", &[("user", "alice")]).mark(Some(caller), RetryId::Entry(id));
        check(&alice, &mark("bob", "1"), true);
        check(&KeyEntry::of_mark("bob"), &mark("bob", "1"), true);
        check(&KeyEntry::of_mark("bo"), &mark("bob", "1"), false);
        check(&KeyEntry::of_mark("bob"), &key("d", &[("user", "bob")]), false);
        let long = "x".repeat(100);
        check(&KeyEntry::new("user", &long), &key("d", &[("user", &long)]), true);
    }

    #[test]
    fn a_key_stays_short_and_printable() {
        let path = vec![("k", "é{}\n "); 1_000];
        let long = key("d", &path);
        assert_ne!(long.clone().finish(), key("d", &path[1..]).finish());
        assert!(long.finish().as_str().len() < 50);
        let key = key("d", &[("k", &"é{}\n ".repeat(1_000))]);
        assert!(key.as_str().len() < 50, "{key}");
        assert!(key.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
    }
}
