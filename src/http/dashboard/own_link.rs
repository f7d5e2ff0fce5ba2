//! A signed link to the page of a caller for itself, which expires.

use std::time::Duration;

use serde::Deserialize;

use super::link::encoded;
use super::signing::SigningKey;
use crate::clock::Timestamp;

/// What a link signs.
const PURPOSE: &str = "own page";

/// How long a link is valid.
const VALIDITY: Duration = Duration::from_secs(7 * 24 * 3_600);

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnLink {
    /// Its path and query.
    pub path: String,
    pub expires: Timestamp,
}

/// The query of a link; empty with a session.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct OwnQuery {
    pub caller: String,
    expires: u64,
    pub signature: String,
}

impl OwnLink {
    /// A link to the page of a caller.
    pub fn new(key: &SigningKey, caller: &str, now: Timestamp) -> Self {
        let expires = now.after(VALIDITY);
        let seconds = (expires.as_ms() / 1_000).to_string();
        let signature = key.sign(PURPOSE, &[caller, &seconds]);
        let path =
            format!("/me?caller={}&expires={seconds}&signature={signature}", encoded(caller));
        Self { path, expires }
    }
}

impl OwnQuery {
    /// The caller, if the link is signed and valid.
    ///
    /// # Errors
    /// Why it is not.
    pub fn verified(&self, key: &SigningKey, now: Timestamp) -> Result<&str, &'static str> {
        let seconds = self.expires.to_string();
        if !key.verifies(&self.signature, PURPOSE, &[&self.caller, &seconds]) {
            return Err("the link is invalid; ask for a new one");
        }
        if self.expires <= now.as_ms() / 1_000 {
            return Err("the link has expired; ask for a new one");
        }
        Ok(&self.caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_valid_for_its_caller_and_a_week() {
        let key = SigningKey::random().unwrap();
        let at = |second: u64| Timestamp::from_ms(second * 1_000);
        let OwnLink { path, expires } = OwnLink::new(&key, "a&b", at(100));
        let end = 100 + VALIDITY.as_secs();
        assert_eq!(expires, at(end));
        assert!(path.starts_with(&format!("/me?caller=a%26b&expires={end}&")), "{path}");
        let (_, signature) = path.rsplit_once('=').unwrap();
        let verified = |caller: &str, expires: u64, now: u64| {
            let (caller, signature) = (caller.to_owned(), signature.to_owned());
            OwnQuery { caller, expires, signature }.verified(&key, at(now)).is_ok()
        };
        assert!(verified("a&b", end, 100) && verified("a&b", end, end - 1));
        assert!(!verified("a&b", end, end));
        assert!(!verified("b", end, 100) && !verified("a&b", end + 1, 100));
    }
}
