//! The last use of an API key.

use std::net::IpAddr;

use crate::clock::Timestamp;

/// When an API key was last used, and from which address, if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastUse {
    pub at: Timestamp,
    pub address: Option<IpAddr>,
}

impl LastUse {
    /// The text of the address; empty if it is unknown.
    pub fn address_text(&self) -> String {
        self.address.map_or_else(String::new, |address| address.to_string())
    }

    /// As the stores keep it: milliseconds, and the address if it is known, such as `1795843000000 192.0.2.7`.
    pub fn to_text(&self) -> String {
        format!("{} {}", self.at.as_ms(), self.address_text())
    }

    /// The last use in a text. None: it is invalid.
    pub fn parse(text: &str) -> Option<Self> {
        let (at, address) = text.split_once(' ')?;
        Some(Self { at: Timestamp::from_ms(at.parse().ok()?), address: address.parse().ok() })
    }

    /// The later of two.
    pub fn later(self, other: Option<Self>) -> Self {
        other.filter(|other| self.at < other.at).unwrap_or(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_use_is_read_as_it_was_written() {
        for address in ["192.0.2.7", "2001:db8::1", "unknown"] {
            let at = Timestamp::from_ms(1_795_843_000_000);
            let last = LastUse { at, address: address.parse().ok() };
            assert_eq!(LastUse::parse(&last.to_text()), Some(last));
        }
        for wrong in ["", "7", "x 192.0.2.7"] {
            assert_eq!(LastUse::parse(wrong), None, "{wrong}");
        }
    }
}
