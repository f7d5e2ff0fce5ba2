//! The key that signs the dashboard's sessions, forms and links.

use std::path::Path;
use std::{fmt, fs, io};

use ring::hmac;

/// Minimum length of a key, in bytes.
const KEY_LEN_MIN: usize = 32;

/// A key for HMAC-SHA-256.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

impl SigningKey {
    /// The key in a file, without the white space around it.
    ///
    /// # Errors
    /// If the file can't be read, or is too short.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = fs::read(path)?;
        let key = bytes.trim_ascii();
        if key.len() < KEY_LEN_MIN {
            return Err(io::Error::other(format!("the key has fewer than {KEY_LEN_MIN} bytes")));
        }
        Ok(Self::of(key))
    }

    /// A key of this process alone.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; KEY_LEN_MIN];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self::of(&bytes))
    }

    fn of(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The signature of texts for a purpose, in hexadecimal.
    pub fn sign(&self, purpose: &str, texts: &[&str]) -> String {
        let signature = hmac::sign(&self.0, &signed(purpose, texts));
        signature.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether a signature is that of the texts; compared in constant time.
    pub fn verifies(&self, signature: &str, purpose: &str, texts: &[&str]) -> bool {
        let digits = (0..signature.len()).step_by(2);
        let byte = |at: usize| u8::from_str_radix(signature.get(at..at + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = digits.map(byte).collect();
        let signed = signed(purpose, texts);
        bytes.is_some_and(|bytes| hmac::verify(&self.0, &signed, &bytes).is_ok())
    }
}

/// The bytes that are signed: with the length of each text, so that no two lists are signed alike.
fn signed(purpose: &str, texts: &[&str]) -> Vec<u8> {
    let mut signed = Vec::new();
    for text in [purpose].iter().chain(texts) {
        signed.extend((text.len() as u64).to_le_bytes());
        signed.extend(text.as_bytes());
    }
    signed
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_key_purpose_and_texts_alone() {
        let key = SigningKey::of(b"one");
        let signature = key.sign("session", &["ab", "c"]);
        assert!(key.verifies(&signature, "session", &["ab", "c"]));
        for (purpose, texts) in
            [("form", ["ab", "c"]), ("session", ["a", "bc"]), ("session", ["ab", "d"])]
        {
            assert!(!key.verifies(&signature, purpose, &texts), "{purpose} {texts:?}");
        }
        assert!(!SigningKey::of(b"two").verifies(&signature, "session", &["ab", "c"]));
        for wrong in ["", "0", "zz", &signature[2..], &format!("{signature}00"), "é"] {
            assert!(!key.verifies(wrong, "session", &["ab", "c"]), "{wrong}");
        }
    }
}
