//! The state of an API key, as people see it.

use crate::api_keys::{ApiKeyRecord, Peppers};
use crate::clock::Timestamp;

/// Whether an API key can be used at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    Valid,
    Disabled,
    Expired,
    /// Its pepper is not in the file.
    Lost,
}

impl KeyState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Valid, Self::Disabled, Self::Expired, Self::Lost];

    /// The state of a record.
    pub fn of(record: &ApiKeyRecord, peppers: &Peppers, now: Timestamp) -> Self {
        if record.key.disabled {
            Self::Disabled
        } else if record.key.expires_at.is_some_and(|end| end <= now) {
            Self::Expired
        } else if record.secrets.iter().any(|secret| peppers.place(&secret.pepper).is_some()) {
            Self::Valid
        } else {
            Self::Lost
        }
    }

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::Lost => "pepper lost",
        }
    }
}
