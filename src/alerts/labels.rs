//! What an alert is about, and its identity.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes of an identity.
const ID_LEN: usize = 8;

/// The labels of an alert, such as the caller and the limit, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Labels(BTreeMap<String, String>);

/// The identity of an alert: the same for the same rule and labels, on every sidecar.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AlertId(String);

impl Labels {
    /// No labels.
    pub fn new() -> Self {
        Self::default()
    }

    /// These and one more; no value adds none.
    pub fn with(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.to_owned());
        }
        self
    }

    /// The value of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All labels, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl AlertId {
    /// The identity of an alert.
    pub fn new(rule: &str, labels: &Labels) -> Self {
        let mut hash = Sha256::new();
        let parts = labels.iter().flat_map(|(name, value)| [name, value]);
        for part in [rule].into_iter().chain(parts) {
            // With lengths, so that no label can look like the end of another.
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize()[..ID_LEN].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The identity as a text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for AlertId {
    fn from(id: String) -> Self {
        Self(id)
    }
}

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
