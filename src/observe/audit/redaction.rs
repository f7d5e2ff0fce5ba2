//! Redaction: callers as keyed hashes, with a key from a file.

use std::path::Path;
use std::sync::Arc;
use std::{fmt, fs, io};

use ring::hmac;

use super::line::hex;
use crate::api_keys::ApiKeyForm;
use crate::policy::CallerForm;

/// Minimum length of the key, in bytes.
const KEY_LEN_MIN: usize = 16;

/// Bytes of a hash that are shown: two names with the same hash can't be found.
const SHOWN_LEN: usize = 16;

/// The key of the hashes.
#[derive(Clone)]
pub struct Redaction {
    key: hmac::Key,
    /// The same key as its bytes.
    bytes: Arc<[u8]>,
}

impl Redaction {
    /// The key in a file, without the white space around it.
    ///
    /// # Errors
    /// If the file can't be read, or is too short.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = fs::read(path)?;
        let key = bytes.trim_ascii();
        if key.len() < KEY_LEN_MIN {
            return Err(io::Error::other(format!("the salt has fewer than {KEY_LEN_MIN} bytes")));
        }
        Ok(Self::new(key))
    }

    fn new(key: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), bytes: key.into() }
    }

    /// The key as text, for the sidecars that share a Redis: each can then tell how the others show a caller.
    pub fn shared(&self) -> String {
        hex(&self.bytes)
    }

    /// That of a shared text; None if it is none.
    pub fn of_shared(text: &str) -> Option<Self> {
        if !text.len().is_multiple_of(2) {
            return None;
        }
        let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
        let bytes = digits.map(|pair| u8::from_str_radix(pair?, 16).ok());
        bytes.collect::<Option<Vec<u8>>>().map(|key| Self::new(&key))
    }

    /// The hash of a caller's name: HMAC-SHA-256, truncated, after a `#`.
    pub fn name(&self, name: &str) -> String {
        let hash = hmac::sign(&self.key, name.as_bytes());
        format!("#{}", hex(&hash.as_ref()[..SHOWN_LEN]))
    }

    /// A caller's record without notes, and with the parent as a hash.
    pub fn form(&self, form: &CallerForm) -> CallerForm {
        let parent = form.parent.as_deref().map(|parent| self.name(parent));
        CallerForm { parent, notes: String::new(), ..form.clone() }
    }

    /// An API key without its name, and with the caller as a hash.
    pub fn api_key_form(&self, form: &ApiKeyForm) -> ApiKeyForm {
        ApiKeyForm { caller: self.name(&form.caller), name: String::new(), ..form.clone() }
    }
}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test cases 2 and 6 of RFC 4231.
    #[test]
    fn the_hash_is_hmac() {
        let short = Redaction::new(b"Jefe").name("what do ya want for nothing?");
        assert_eq!(short, "#5bdcc146bf60754e6a042426089575c7");
        let long = Redaction::new(&[0xaa; 131]);
        let long = long.name("Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(long, "#60e431591ee0b67f0d8a26aacbf5b77f");
        let shared = Redaction::of_shared(&Redaction::new(b"Jefe").shared()).unwrap();
        assert_eq!(shared.name("what do ya want for nothing?"), short);
        for text in ["x", "4", "é1", "zz"] {
            assert!(Redaction::of_shared(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_record_keeps_no_name_and_no_notes() {
        let redaction = Redaction::new(b"0123456789abcdef");
        let form = CallerForm {
            tier: Some("free".to_owned()),
            parent: Some("acme".to_owned()),
            notes: "call Bob".to_owned(),
            ..CallerForm::default()
        };
        let redacted = redaction.form(&form);
        assert_eq!(redacted.parent, Some(redaction.name("acme")));
        assert_eq!((redacted.tier, redacted.notes), (form.tier, String::new()));
    }
}
