//! The peppers: secrets of the process under which API keys are hashed. Several at once let them be rotated.

use std::fmt;

use ring::hmac;
use smallvec::SmallVec;

/// Minimum bytes of a pepper.
const LEN_MIN: usize = 32;

/// Maximum number of peppers: each of them costs a hash for each API key that is not cached.
const PEPPERS_MAX: usize = 4;

/// Hexadecimal digits of a pepper's mark.
const MARK_LEN: usize = 8;

/// The text that is hashed for a pepper's mark.
const MARK_TEXT: &[u8] = b"tollgate pepper";

/// The HMAC-SHA-256 of an API key under a pepper.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApiKeyHash([u8; 32]);

/// The hashes of one API key under all peppers.
pub type Hashes = SmallVec<[ApiKeyHash; 2]>;

/// The peppers, the current one first.
#[derive(Clone)]
pub struct Peppers(Vec<Pepper>);

#[derive(Clone)]
struct Pepper {
    key: hmac::Key,
    mark: String,
}

/// The reason that a file has no valid peppers. It shows none of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PepperError {
    #[error(
        "it has no pepper: write a random text of at least {LEN_MIN} bytes on a line of its own"
    )]
    None,
    #[error("too many peppers: {0}; at most {PEPPERS_MAX} are allowed")]
    TooMany(usize),
    #[error("the pepper on line {0} is shorter than {LEN_MIN} bytes")]
    Short(usize),
    #[error("the pepper on line {0} is there twice")]
    Duplicate(usize),
}

impl Peppers {
    /// Reads peppers, one on each line. The first one is for new API keys; the others are for API keys that were made when
    /// they were first.
    ///
    /// # Errors
    /// If there is none, too many, or an invalid one.
    pub fn parse(text: &str) -> Result<Self, PepperError> {
        let mut peppers: Vec<Pepper> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let secret = line.trim();
            if secret.is_empty() {
                continue;
            }
            if secret.len() < LEN_MIN {
                return Err(PepperError::Short(index + 1));
            }
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
            let mut mark = hash(&key, MARK_TEXT).to_string();
            mark.truncate(MARK_LEN);
            if peppers.iter().any(|known| known.mark == mark) {
                return Err(PepperError::Duplicate(index + 1));
            }
            peppers.push(Pepper { key, mark });
        }
        match peppers.len() {
            0 => Err(PepperError::None),
            count if PEPPERS_MAX < count => Err(PepperError::TooMany(count)),
            _ => Ok(Self(peppers)),
        }
    }

    /// The hashes of an API key, that under the current pepper first.
    pub fn hashes(&self, text: &str) -> Hashes {
        self.0.iter().map(|pepper| hash(&pepper.key, text.as_bytes())).collect()
    }

    /// The mark of the current pepper, which tells peppers apart and is no secret.
    pub fn mark(&self) -> &str {
        self.0.first().map_or("", |pepper| &pepper.mark)
    }

    /// The place of the pepper with a mark: 0 is the current one. None: it is unknown.
    pub fn place(&self, mark: &str) -> Option<usize> {
        self.0.iter().position(|pepper| pepper.mark == mark)
    }
}

impl fmt::Debug for Peppers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|pepper| &pepper.mark)).finish()
    }
}

impl ApiKeyHash {
    /// Reads hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() {
            return None;
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for ApiKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ApiKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

fn hash(key: &hmac::Key, text: &[u8]) -> ApiKeyHash {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hmac::sign(key, text).as_ref());
    ApiKeyHash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn the_hash_is_hmac_sha_256() {
        // RFC 4231, test case 4 has a key of bytes; this is case 2's message under a key of text.
        let peppers = Peppers::parse(ONE).unwrap();
        let hash = peppers.hashes("what do ya want for nothing?")[0];
        assert_eq!(ApiKeyHash::parse(&hash.to_string()), Some(hash));
        let key = hmac::Key::new(hmac::HMAC_SHA256, ONE.as_bytes());
        let text = b"what do ya want for nothing?";
        let tag = hmac::sign(&key, text);
        assert_eq!(hash.0, tag.as_ref());
        assert!(hmac::verify(&key, text, &hash.0).is_ok());
    }

    #[test]
    fn several_peppers_hash_side_by_side() {
        let other = "x".repeat(40);
        let both = Peppers::parse(&format!("{other}\n\n  {ONE}\n")).unwrap();
        let alone = Peppers::parse(ONE).unwrap();
        assert_eq!(both.hashes("k")[1], alone.hashes("k")[0]);
        assert_ne!(both.hashes("k")[0], both.hashes("k")[1]);
        assert_ne!(both.mark(), alone.mark());
        assert!(!format!("{both:?} {:?}", both.hashes("k")).contains(ONE));
    }

    #[test]
    fn wrong_peppers_are_refused_without_being_shown() {
        let check = |text: &str, error| assert_eq!(Peppers::parse(text).unwrap_err(), error);
        check("", PepperError::None);
        check("\n \n", PepperError::None);
        check("short", PepperError::Short(1));
        check(&format!("{ONE}\n{ONE}"), PepperError::Duplicate(2));
        let five: String = (0..5).map(|index| format!("{ONE}{index}\n")).collect();
        check(&five, PepperError::TooMany(5));
    }
}
