//! What is kept of an API key.

use std::sync::Arc;

use ipnet::IpNet;

use super::limit::ApiKeyLimit;
use super::peppers::ApiKeyHash;
use super::times::Times;
use crate::clock::Timestamp;

/// Maximum number of secrets of an API key that are valid at once: after rotations, with their overlaps.
pub const SECRETS_MAX: usize = 4;

/// What an API key may do, and for whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiKey {
    /// The caller in whose name requests are made.
    pub caller: Arc<str>,
    /// A name for people.
    pub name: String,
    pub scopes: Vec<Box<str>>,
    /// The tier of its requests, instead of the caller's.
    pub tier: Option<Box<str>>,
    /// The instant from which it is invalid.
    pub expires_at: Option<Timestamp>,
    /// The networks from which it may be used; empty: all.
    pub addresses: Vec<IpNet>,
    /// The origins of pages that may use it, in lower case; empty: all.
    pub origins: Vec<Box<str>>,
    /// The times at which it may be used; None: always.
    pub when: Option<Arc<Times>>,
    /// Of all its requests, in whatever domain.
    pub limits: Box<[ApiKeyLimit]>,
    pub disabled: bool,
}

/// An API key with its id and the hashes of its texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyRecord {
    /// No secret.
    pub id: Arc<str>,
    pub key: ApiKey,
    /// The newest first.
    pub secrets: Vec<ApiKeySecret>,
    pub created_at: Timestamp,
    /// Unique for each change in the store; 0 before it is stored.
    pub revision: u64,
}

/// A text of an API key, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeySecret {
    pub hash: ApiKeyHash,
    /// The beginning of the text.
    pub hint: String,
    /// The mark of the pepper under which it is hashed.
    pub pepper: String,
    pub created_at: Timestamp,
    /// The end of the overlap after a rotation. None: it is the current one.
    pub until: Option<Timestamp>,
}

impl ApiKeyRecord {
    /// The secret with this hash, if it is valid.
    pub fn secret(&self, hash: ApiKeyHash, now: Timestamp) -> Option<&ApiKeySecret> {
        let secret = self.secrets.iter().find(|secret| secret.hash == hash)?;
        secret.until.is_none_or(|until| now < until).then_some(secret)
    }

    /// Replaces its secret. The earlier ones stay valid until the end of the overlap at the latest.
    ///
    /// # Errors
    /// If [`SECRETS_MAX`] are still valid: the end of the first overlap of those.
    pub fn rotate(
        &mut self,
        secret: ApiKeySecret,
        overlap_end: Timestamp,
        now: Timestamp,
    ) -> Result<(), Timestamp> {
        let until = |earlier: &ApiKeySecret| {
            earlier.until.map_or(overlap_end, |until| until.min(overlap_end))
        };
        let valid = self.secrets.iter().map(until).filter(|until| now < *until);
        if let Some(first) = valid.clone().min().filter(|_| SECRETS_MAX <= valid.count()) {
            return Err(first);
        }
        for earlier in &mut self.secrets {
            earlier.until = Some(until(earlier));
        }
        self.secrets.retain(|earlier| earlier.until.is_some_and(|until| now < until));
        self.secrets.insert(0, secret);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Peppers;
    use super::*;

    #[test]
    fn a_rotation_keeps_the_earlier_secret_for_its_overlap() {
        let peppers = Peppers::parse(&"p".repeat(32)).unwrap();
        let at = Timestamp::from_ms;
        let secret = |text: &str| ApiKeySecret {
            hash: peppers.hashes(text)[0],
            hint: String::new(),
            pepper: String::new(),
            created_at: at(0),
            until: None,
        };
        let hash = |text: &str| peppers.hashes(text)[0];
        let mut record = ApiKeyRecord {
            id: "key_1".into(),
            key: ApiKey::default(),
            secrets: vec![secret("a")],
            created_at: at(0),
            revision: 0,
        };
        record.rotate(secret("b"), at(150), at(100)).unwrap();
        for (text, now, is_valid) in
            [("a", 149, true), ("a", 150, false), ("b", 150, true), ("c", 150, false)]
        {
            assert_eq!(record.secret(hash(text), at(now)).is_some(), is_valid, "{text} at {now}");
        }
        // Without an overlap nothing earlier is left, and a longer overlap does not lengthen an earlier one.
        let mut twice = record.clone();
        twice.rotate(secret("c"), at(400), at(120)).unwrap();
        assert!(twice.secret(hash("a"), at(149)).is_some());
        assert!(twice.secret(hash("a"), at(150)).is_none());
        assert!(twice.secret(hash("b"), at(399)).is_some());
        record.rotate(secret("c"), at(120), at(120)).unwrap();
        assert_eq!(record.secrets.len(), 1);
        for (text, end) in [("1", 900), ("2", 1_000), ("3", 1_000)] {
            record.rotate(secret(text), at(end), at(200)).unwrap();
        }
        // A further one would end a text in its overlap.
        let full = record.clone();
        assert_eq!(record.rotate(secret("4"), at(1_000), at(899)), Err(at(900)));
        assert_eq!(record, full);
        record.rotate(secret("4"), at(1_000), at(900)).unwrap();
        record.clone().rotate(secret("5"), at(950), at(950)).unwrap();
        assert_eq!(record.secrets.len(), SECRETS_MAX);
    }
}
