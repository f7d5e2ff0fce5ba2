//! The identity of a limit within its rule, independent of its position, so that an edit keeps its count.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::limit::Limit;

/// Maximum length of a text; longer ones are hashed: every record has the marks of its limits.
const TEXT_LEN_MAX: usize = 32;

/// Bytes of SHA-256 that are kept of a long text.
const HASH_LEN: usize = 16;

/// The part that distinguishes a limit from others with the same algorithm and window in its rule.
#[derive(Clone, Copy, Debug)]
pub enum Identity<'a> {
    /// Nothing: it is the only limit of its rule, as with `rate_limit`, or the one without name and cost.
    Window,
    /// Its cost table, because it counts other units than the requests' own hits.
    Cost(&'a str),
    /// Its name. A named limit keeps its count when its cost changes.
    Name(&'a str),
}

impl Identity<'_> {
    /// The limit with its own counter. Money is another unit than hits, and each currency is its own unit, so no unit
    /// continues the count of another.
    pub fn of(self, limit: Limit, currency: Option<&str>) -> Limit {
        let unit = currency.map_or_else(String::new, |currency| format!("@{currency}"));
        let mark = match self {
            Self::Window => String::new(),
            Self::Cost(table) => mark('$', table),
            Self::Name(name) => mark('=', name),
        };
        match format!("{unit}{mark}") {
            mark if mark.is_empty() => limit,
            mark => limit.marked(&mark),
        }
    }
}

/// A sign and a text. No short text is as long as a hash with its own sign, so two texts never have the same mark.
fn mark(sign: char, text: &str) -> String {
    if text.len() <= TEXT_LEN_MAX {
        return format!("{sign}{text}");
    }
    let mut mark = format!("{sign}#");
    for byte in &Sha256::digest(text.as_bytes())[..HASH_LEN] {
        write!(mark, "{byte:02x}").expect("writing to a String does not fail");
    }
    mark
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Algorithm;

    fn tag(identity: Identity<'_>, currency: Option<&str>) -> String {
        identity.of(Limit::new(1, Algorithm::Total), currency).tag().to_string()
    }

    fn check(identity: Identity<'_>, expected: &str) {
        assert_eq!(tag(identity, None), expected);
    }

    #[test]
    fn marks_are_short_and_different() {
        check(Identity::Window, "t");
        check(Identity::Name("daily"), "t=daily");
        check(Identity::Cost("daily"), "t$daily");
        check(Identity::Name(&"x".repeat(32)), &format!("t={}", "x".repeat(32)));
        let hash = "t=#1ce1b6d0bd5d5d3a2fef2cb8dd15be3d";
        let long = tag(Identity::Name(&"x".repeat(33)), None);
        assert_eq!(long.len(), hash.len());
        assert_ne!(tag(Identity::Name(&"y".repeat(33)), None), long);
        assert_ne!(tag(Identity::Name(&long[2..]), None), long);
    }

    #[test]
    fn money_has_marks_of_its_own_in_each_currency() {
        let eur = Some("EUR");
        assert_eq!(tag(Identity::Window, eur), "t@EUR");
        assert_eq!(tag(Identity::Name("daily"), eur), "t@EUR=daily");
        assert_eq!(tag(Identity::Cost("daily"), Some("USD")), "t@USD$daily");
        assert_ne!(tag(Identity::Name("@EUR"), None), tag(Identity::Window, eur));
    }
}
