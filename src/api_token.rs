//! Tokens of the HTTP API: a name, a role and the hash of the secret.
//!
//! Only the hash is kept: a token has 32 random bytes, so it can't be guessed from the hash.

use std::fmt;
use std::hint::black_box;

use sha2::{Digest, Sha256};

/// Bytes of a token's name, which the audit log shows.
const NAME_LEN_MAX: usize = 64;

/// The principal's name in the audit log if no token is needed. No token has this name.
pub const LOOPBACK: &str = "loopback";

/// The permissions of a principal; each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads the quota and the usage of the caller with the token's name.
    Own,
    /// Reads.
    Viewer,
    /// Edits callers; adds and removes bonuses.
    Operator,
    /// Creates and deletes callers.
    Admin,
}

impl Role {
    /// All roles by name.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("self", Self::Own),
        ("viewer", Self::Viewer),
        ("operator", Self::Operator),
        ("admin", Self::Admin),
    ];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, role)| role == self).map(|(name, _)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

/// A token of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    name: String,
    role: Role,
    hash: [u8; 32],
}

impl ApiToken {
    /// The token `text`.
    pub fn new(name: &str, role: Role, text: &str) -> Self {
        Self { name: name.to_owned(), role, hash: Sha256::digest(text.as_bytes()).into() }
    }

    /// Reads `NAME:ROLE:SHA256`, the hash in hexadecimal.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (name, role, hex) = (parts.next()?, parts.next()?, parts.next()?);
        let role = Role::NAMES.iter().find(|(name, _)| *name == role)?.1;
        let mut hash = [0; 32];
        if parts.next().is_some() || !Self::is_name(name) || hex.len() != 2 * hash.len() {
            return None;
        }
        for (index, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hex.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(Self { name: name.to_owned(), role, hash })
    }

    /// Whether a token can have this name: letters, digits, `-`, `_` and `.`.
    pub fn is_name(name: &str) -> bool {
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        (1..=NAME_LEN_MAX).contains(&name.len()) && name != LOOPBACK && name.bytes().all(is_fine)
    }

    /// The name of its owner.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its owner may do.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The token with this text. All tokens are compared, each in constant time, so the time does not reveal how much
    /// of a hash matches.
    pub fn find<'a>(tokens: &'a [Self], text: &str) -> Option<&'a Self> {
        let hash = Sha256::digest(text.as_bytes()).into();
        tokens.iter().fold(None, |found, token| if token.has(&hash) { Some(token) } else { found })
    }

    fn has(&self, hash: &[u8; 32]) -> bool {
        let differences = self.hash.iter().zip(hash).map(|(one, other)| one ^ other);
        differences.fold(0, |all, difference| black_box(all | difference)) == 0
    }
}

impl fmt::Display for ApiToken {
    /// As written in the settings.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.name, self.role)?;
        self.hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_written_with_its_hash_and_read_back() {
        let token = ApiToken::new("ops", Role::Operator, "secret");
        let line = token.to_string();
        assert!(line.starts_with("ops:operator:2bb80d53"), "{line}");
        assert_eq!(ApiToken::parse(&line), Some(token));
        for wrong in [
            "",
            "ops",
            "ops:admin",
            "ops:root:00",
            &line.replace("ops", "o s"),
            &line[1..].replace("2b", "xy"),
            &format!("{line}0"),
            &format!("{line}:"),
            &line.replace("ops", LOOPBACK),
        ] {
            assert_eq!(ApiToken::parse(wrong), None, "{wrong}");
        }
    }
}
