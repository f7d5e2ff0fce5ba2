//! The entries of requests that alerts about abuse read.

/// The keys of these entries; None: the policy names none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AbuseEntries {
    /// The address of the client.
    pub address: Option<Box<str>>,
    /// The id of the API key.
    pub api_key: Option<Box<str>>,
    /// The identifier of what is asked for.
    pub identifier: Option<Box<str>>,
}

/// One of these entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbuseEntry {
    Address,
    ApiKey,
    Identifier,
}

/// Some of these entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AbuseEntrySet(u8);

impl AbuseEntries {
    /// The key of an entry.
    pub fn key(&self, entry: AbuseEntry) -> Option<&str> {
        match entry {
            AbuseEntry::Address => self.address.as_deref(),
            AbuseEntry::ApiKey => self.api_key.as_deref(),
            AbuseEntry::Identifier => self.identifier.as_deref(),
        }
    }
}

impl AbuseEntry {
    /// Its name in a policy.
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::ApiKey => "api_key",
            Self::Identifier => "identifier",
        }
    }
}

impl AbuseEntrySet {
    /// These entries.
    pub fn of(entries: impl IntoIterator<Item = AbuseEntry>) -> Self {
        Self(entries.into_iter().fold(0, |bits, entry| bits | Self::bit(entry)))
    }

    /// Whether an entry is among them.
    pub fn has(self, entry: AbuseEntry) -> bool {
        self.0 & Self::bit(entry) != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set as a number.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The set of a number.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    fn bit(entry: AbuseEntry) -> u8 {
        match entry {
            AbuseEntry::Address => 1,
            AbuseEntry::ApiKey => 2,
            AbuseEntry::Identifier => 4,
        }
    }
}
