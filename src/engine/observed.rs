//! What alerts about abuse read of a request: the network of its client, its API key, and the identifier that it asks for.
//!
//! Only what a policy names and a rule needs is read. It is small: an identifier is a number whose neighbors are the
//! identifiers before and after it.

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::LazyLock;

use compact_str::CompactString;
use foldhash::quality::RandomState;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::caller::entry;
use super::record_name::stored_name;
use super::request::Request;
use crate::policy::{AbuseEntries, AbuseEntry, AbuseEntrySet};

/// A client of IPv6 has a network of this length at least, so all of its addresses are one.
const IPV6_CLIENT_LEN: u8 = 64;

/// Letters and digits at the end of an identifier that are read as a number.
const TAIL_LEN_MAX: usize = 18;

/// Distinguishes the texts before these numbers.
static HEADS: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// What alerts about abuse read of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The network of the client: a single address of IPv4, a network of 64 bits of IPv6, or a larger one if the policy's entry has
    /// no more.
    pub network: Option<IpNet>,
    /// The id of the API key.
    pub api_key: Option<CompactString>,
    /// The identifier that it asks for. Identifiers that follow each other, such as `INV-7` and `INV-8`, differ by 1.
    pub identifier: Option<u64>,
}

impl Observed {
    /// What a request has of the wanted entries.
    pub fn of(entries: &AbuseEntries, request: &Request<'_>, wanted: AbuseEntrySet) -> Self {
        if wanted.is_empty() {
            return Self::default();
        }
        let value = |one| {
            let key = entries.key(one).filter(|_| wanted.has(one))?;
            entry(request, key).filter(|value| !value.is_empty())
        };
        let said = |_: &IpAddr| wanted.has(AbuseEntry::Address);
        let network = match value(AbuseEntry::Address) {
            Some(text) => network(text),
            None => request.address().filter(said).map(network_of),
        };
        Self {
            network,
            api_key: value(AbuseEntry::ApiKey).map(|text| stored_name(text).into()),
            identifier: value(AbuseEntry::Identifier).map(|text| number(stored_name(text))),
        }
    }
}

/// The network of a client by its address, or by a network such as that of Envoy's `masked_remote_address`. None if it is neither.
fn network(text: &str) -> Option<IpNet> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(network_of(address));
    }
    match text.parse::<IpNet>().ok()?.trunc() {
        // A network of IPv4 addresses that are written as IPv6.
        IpNet::V6(v6) if v6.network().to_ipv4_mapped().is_some() && 96 <= v6.prefix_len() => {
            let v4 = v6.network().to_ipv4_mapped()?;
            Some(IpNet::V4(Ipv4Net::new(v4, v6.prefix_len() - 96).ok()?))
        }
        IpNet::V6(v6) => Some(IpNet::V6(of_client(v6.network(), v6.prefix_len()))),
        v4 => Some(v4),
    }
}

fn network_of(address: IpAddr) -> IpNet {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpNet::V4(Ipv4Net::from(v4)),
        IpAddr::V6(v6) => IpNet::V6(of_client(v6, IPV6_CLIENT_LEN)),
    }
}

fn of_client(address: Ipv6Addr, len: u8) -> Ipv6Net {
    Ipv6Net::new_assert(address, len.min(IPV6_CLIENT_LEN)).trunc()
}

/// The identifier as a number. If it ends in digits these count, after the text before them; if it ends in a letter, its last
/// letters and digits count in base 36, in which `AB3Z` comes before `AB40`.
fn number(text: &str) -> u64 {
    let digits = tail(text, |byte| byte.is_ascii_digit());
    let (base, len) = match digits {
        0 => (36, tail(text, |byte| byte.is_ascii_alphanumeric())),
        len => (10, len),
    };
    let (head, tail) = text.split_at(text.len() - len);
    let digit = |one: char| u64::from(one.to_digit(36).unwrap_or_default());
    // Beyond 64 bits, numbers that follow each other still differ by 1.
    let number =
        tail.chars().fold(0_u64, |number, one| number.wrapping_mul(base).wrapping_add(digit(one)));
    HEADS.hash_one((base, head)).wrapping_add(number)
}

/// How many bytes at the end of a text are such bytes.
fn tail(text: &str, is_part: impl Fn(u8) -> bool) -> usize {
    text.bytes().rev().take(TAIL_LEN_MAX).take_while(|byte| is_part(*byte)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ipv6_is_its_network_and_others_are_as_they_are() {
        let check = |text: &str, expected: Option<&str>| {
            let shown = network(text).map(|network| network.to_string());
            assert_eq!(shown.as_deref(), expected, "{text}");
        };
        check("192.0.2.1", Some("192.0.2.1/32"));
        check("192.0.2.1/32", Some("192.0.2.1/32"));
        check("192.0.2.7/24", Some("192.0.2.0/24"));
        check("::ffff:192.0.2.1", Some("192.0.2.1/32"));
        check("::ffff:192.0.2.0/120", Some("192.0.2.0/24"));
        check("2001:db8:0:1:a:b:c:d", Some("2001:db8:0:1::/64"));
        check("2001:db8:0:1:a:b:c:d/128", Some("2001:db8:0:1::/64"));
        check("2001:db8:7::/48", Some("2001:db8:7::/48"));
        for text in ["", "localhost", "192.0.2.1, 10.0.0.1", "192.0.2.1/33", "::/200", "1.2.3"] {
            check(text, None);
        }
    }

    #[test]
    fn identifiers_that_follow_each_other_are_neighbors() {
        let step = |one: &str, next: &str| number(next).wrapping_sub(number(one));
        for (one, next) in [
            ("7", "8"),
            ("99", "100"),
            ("INV-2026-00099", "INV-2026-00100"),
            ("AB3A", "AB3B"),
            ("ab3y", "AB3Z"),
            ("99999999999999999999998", "99999999999999999999999"),
        ] {
            assert_eq!(step(one, next), 1, "{one} {next}");
        }
        assert_eq!(step("AB3Z", "AB4A"), 11, "the ten between end in digits");
        for (one, other) in [("A-1", "B-2"), ("1", "2x"), ("3f2a-77", "9c1b-78"), ("é1", "e2")] {
            assert!(16 < step(one, other) && step(one, other) < u64::MAX - 16, "{one} {other}");
        }
        number("");
    }
}
