//! The text of an API key: `PREFIX_`, 192 random bits and a checksum, both in base 62.
//!
//! The prefix and the checksum let scanners find leaked API keys, and let a wrong one be refused without a look at the store.

use std::fmt;

use crc::{CRC_32_ISO_HDLC, Crc};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Random bytes of an API key.
const SECRET_BYTES: usize = 24;

/// Digits of them, and of the checksum.
const SECRET_LEN: usize = 33;
const CHECKSUM_LEN: usize = 6;

/// Random bytes of an id, and its digits.
const ID_BYTES: usize = 9;
const ID_LEN: usize = 13;

/// The beginning of each id.
const ID_PREFIX: &str = "key_";

/// Maximum bytes of an id.
pub const ID_LEN_MAX: usize = ID_PREFIX.len() + ID_LEN;

/// Digits that a hint shows after the prefix.
const HINT_LEN: usize = 4;

const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// The text of an API key, which is never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKeyText(String);

impl ApiKeyText {
    /// A new API key.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn random(prefix: &str) -> Result<Self, getrandom::Error> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes)?;
        let mut text = format!("{prefix}_{}", base62(&mut bytes, SECRET_LEN));
        let checksum = checksum(&text);
        text.push_str(&checksum);
        Ok(Self(text))
    }

    /// The text. It is shown to whoever made the API key, and to nobody else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Whether a text can be an API key with this prefix: its form and its checksum are right.
pub fn is_well_formed(prefix: &str, text: &str) -> bool {
    let digits = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_'));
    let Some(digits) = digits.filter(|digits| digits.len() == SECRET_LEN + CHECKSUM_LEN) else {
        return false;
    };
    if !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return false;
    }
    let (body, stated) = text.split_at(text.len() - CHECKSUM_LEN);
    checksum(body) == stated
}

/// The beginning of an API key, by which its owner tells it from others.
pub fn hint_of(prefix: &str, text: &ApiKeyText) -> String {
    text.0.chars().take(prefix.len() + 1 + HINT_LEN).collect()
}

/// A new id, which is no secret.
///
/// # Errors
/// If the system has no randomness.
pub fn new_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0; ID_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{ID_PREFIX}{}", base62(&mut bytes, ID_LEN)))
}

/// Whether a text can be an id.
pub fn is_id(text: &str) -> bool {
    let digits = text.strip_prefix(ID_PREFIX);
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric();
    digits.is_some_and(|digits| digits.len() == ID_LEN && digits.bytes().all(is_digit))
}

fn checksum(text: &str) -> String {
    base62(&mut CHECKSUM.checksum(text.as_bytes()).to_be_bytes(), CHECKSUM_LEN)
}

/// A number of big-endian bytes in base 62, of `len` digits.
fn base62(bytes: &mut [u8], len: usize) -> String {
    const BASE: u32 = 62;
    let mut digits = vec![0; len];
    for digit in digits.iter_mut().rev() {
        let mut rest = 0;
        for byte in bytes.iter_mut() {
            let value = rest << 8 | u32::from(*byte);
            *byte = u8::try_from(value / BASE).expect("the rest is below the base");
            rest = value % BASE;
        }
        *digit = ALPHABET[rest as usize];
    }
    digits.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_its_digits_in_base_62() {
        assert_eq!(base62(&mut [0, 0], 3), "000");
        assert_eq!(base62(&mut [0, 61], 3), "00z");
        assert_eq!(base62(&mut [0, 62], 3), "010");
        assert_eq!(base62(&mut [255, 255], 3), "H31");
        // All bits fit.
        assert_ne!(base62(&mut [255; SECRET_BYTES], SECRET_LEN).as_bytes()[0], b'0');
        assert_ne!(base62(&mut [255; 4], CHECKSUM_LEN).as_bytes()[0], b'0');
        assert_ne!(base62(&mut [255; ID_BYTES], ID_LEN).as_bytes()[0], b'0');
    }

    #[test]
    fn an_api_key_is_well_formed_and_no_change_of_it_is() {
        let key = ApiKeyText::random("acme_live").unwrap();
        let text = key.expose();
        assert!(is_well_formed("acme_live", text) && !is_well_formed("acme", text), "{text}");
        assert_eq!(text.len(), "acme_live_".len() + 39);
        assert_eq!(hint_of("acme_live", &key), text[.."acme_live_".len() + 4]);
        for index in 0..text.len() {
            let mut other = text.as_bytes().to_vec();
            other[index] = if other[index] == b'x' { b'y' } else { b'x' };
            assert!(!is_well_formed("acme_live", &String::from_utf8(other).unwrap()), "{index}");
        }
        for wrong in ["", "acme_live_", &text[1..], &text[..text.len() - 1], &format!("{text}0")] {
            assert!(!is_well_formed("acme_live", wrong), "{wrong}");
        }
        let unicode = format!("acme_live_{}é", "0".repeat(37));
        assert!(!is_well_formed("acme_live", &unicode));
    }

    #[test]
    fn no_two_are_alike_and_none_is_printed() {
        let (one, other) = (ApiKeyText::random("tg").unwrap(), ApiKeyText::random("tg").unwrap());
        assert_ne!(one, other);
        assert_eq!(format!("{one:?}"), "***");
        assert_ne!(new_id().unwrap(), new_id().unwrap());
    }
}
