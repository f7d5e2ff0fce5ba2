//! Ranges of IP addresses, each with a number: which one has an address, by one binary search.
//!
//! Of ranges that overlap, the one with the lowest number has their addresses. An IPv4 address that is written as IPv6 is
//! one of IPv4.

use core::net::IpAddr;
use std::collections::BTreeMap;

use ipnet::IpNet;

/// Ranges with numbers.
#[derive(Clone, Debug, Default)]
pub struct AddressRanges {
    v4: Vec<Segment>,
    v6: Vec<Segment>,
}

/// Addresses from here to the next segment, and the number of their range; None if they are in none.
#[derive(Clone, Copy, Debug)]
struct Segment {
    from: u128,
    number: Option<usize>,
}

/// The addresses of a family, from the first to the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    is_v4: bool,
    from: u128,
    to: u128,
}

impl Span {
    fn of(net: &IpNet) -> Self {
        let (is_v4, from) = number(net.network());
        let (_, to) = number(net.broadcast());
        Self { is_v4, from, to }
    }

    /// The addresses of a text: an address, or a range such as `10.0.0.0/24`. None if it is neither.
    fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            let (is_v4, from) = number(address.to_canonical());
            return Some(Self { is_v4, from, to: from });
        }
        text.parse().ok().map(|net: IpNet| Self::of(&net))
    }
}

fn number(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(address) => (true, u32::from(address).into()),
        IpAddr::V6(address) => (false, address.into()),
    }
}

impl AddressRanges {
    /// The ranges of all networks.
    pub fn new<'n>(networks: impl Iterator<Item = (&'n IpNet, usize)>) -> Self {
        let (v4, v6): (Vec<_>, Vec<_>) =
            networks.map(|(net, number)| (Span::of(net), number)).partition(|(span, _)| span.is_v4);
        Self { v4: segments(&v4), v6: segments(&v6) }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// The number of the range that has an address, or all addresses of a range.
    pub fn find(&self, text: &str) -> Option<usize> {
        self.of_span(Span::parse(text)?)
    }

    /// Whether some addresses are in the range with this number.
    pub fn has(&self, number: usize) -> bool {
        self.v4.iter().chain(&self.v6).any(|segment| segment.number == Some(number))
    }

    fn of_span(&self, Span { is_v4, from, to }: Span) -> Option<usize> {
        let segments = if is_v4 { &self.v4 } else { &self.v6 };
        let next = segments.partition_point(|segment| segment.from <= from);
        let number = segments.get(next.checked_sub(1)?)?.number?;
        let mut rest = segments[next..].iter().take_while(|segment| segment.from <= to);
        rest.all(|segment| segment.number == Some(number)).then_some(number)
    }
}

/// The segments of ranges that may overlap, in order.
fn segments(spans: &[(Span, usize)]) -> Vec<Segment> {
    // At each address, the ranges that begin there and those that have ended before it.
    let mut changes: BTreeMap<u128, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for (span, number) in spans {
        changes.entry(span.from).or_default().0.push(*number);
        if let Some(after) = span.to.checked_add(1) {
            changes.entry(after).or_default().1.push(*number);
        }
    }
    let mut open: BTreeMap<usize, usize> = BTreeMap::new();
    let mut segments: Vec<Segment> = Vec::new();
    for (from, (begun, ended)) in changes {
        begun.into_iter().for_each(|number| *open.entry(number).or_default() += 1);
        for number in ended {
            if let Some(count) = open.get_mut(&number) {
                *count -= 1;
                if *count == 0 {
                    open.remove(&number);
                }
            }
        }
        let number = open.keys().next().copied();
        if segments.last().map(|last| last.number) != Some(number) {
            segments.push(Segment { from, number });
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(networks: &[&str]) -> AddressRanges {
        let networks: Vec<IpNet> = networks.iter().map(|text| text.parse().unwrap()).collect();
        AddressRanges::new(networks.iter().zip(0..))
    }

    #[test]
    fn an_address_is_in_the_first_range_that_has_it() {
        let ranges = ranges(&[
            "10.1.0.0/16",
            "10.0.0.0/8",
            "10.1.2.0/24",
            "2001:db8::/32",
            "255.255.255.0/24",
            "192.168.1.1/32",
        ]);
        for (text, expected) in [
            ("10.1.2.3", Some(0)),
            ("10.2.0.0", Some(1)),
            ("10.0.255.255", Some(1)),
            ("11.0.0.0", None),
            ("9.255.255.255", None),
            ("255.255.255.255", Some(4)),
            ("192.168.1.1", Some(5)),
            ("192.168.1.2", None),
            ("2001:db8:ffff::1", Some(3)),
            ("2001:db9::", None),
            ("::ffff:10.2.0.0", Some(1)),
            // Envoy's `masked_remote_address`.
            ("10.1.2.0/24", Some(0)),
            ("10.0.0.0/9", None),
            ("10.2.0.0/16", Some(1)),
            ("alice", None),
            ("", None),
        ] {
            assert_eq!(ranges.find(text), expected, "{text}");
        }
        assert!(ranges.has(0) && !ranges.has(2), "it is within an earlier one");
        assert!(AddressRanges::default().find("::1").is_none());
    }

    #[test]
    fn a_range_of_all_addresses_has_all_of_its_family() {
        let all = ranges(&["::/0"]);
        assert_eq!((all.find("::"), all.find("10.0.0.1")), (Some(0), None));
        let last = all.find("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        assert_eq!(last, Some(0));
    }
}
