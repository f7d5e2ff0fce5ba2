//! Addresses that a receiver may have, unless its channel allows those of the local network.
//!
//! The address that is connected to is checked, not the name: a name may resolve to a public address for a check and to a
//! private one for the connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is on the public internet.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let is_special = match (first, second, third) {
        // This network, and multicast, reserved, broadcast.
        (0 | 224.., _, _) => true,
        // Shared by providers (RFC 6598).
        (100, 64..=127, _) => true,
        // Assignments of protocols, 6to4 relays, benchmarks.
        (192, 0, 0) | (192, 88, 99) | (198, 18 | 19, _) => true,
        _ => false,
    };
    !(is_special
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let [first, second, third, .., seventh, eighth] = address.segments();
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (first, second) {
        // NAT64 and 6to4 lead to an IPv4 address.
        (0x64, 0xff9b) => third == 0 && inner(seventh, eighth),
        (0x2002, high) => inner(high, third),
        // Teredo, ORCHID, documentation.
        (0x2001, 0 | 0x10..=0x2f | 0xdb8) | (0x3fff, _) => false,
        // Only this eighth is assigned to the public internet.
        _ => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        let check = |expected: bool, addresses: &[&str]| {
            for address in addresses {
                assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
            }
        };
        check(true, &["8.8.8.8", "100.63.0.1", "172.32.0.1", "198.20.0.1", "2606:4700::1111"]);
        check(true, &["::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]);
        check(false, &["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254"]);
        check(false, &["0.0.0.0", "100.64.0.1", "192.0.0.1", "198.18.0.1", "203.0.113.1"]);
        check(
            false,
            &["224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "ff02::1"],
        );
        check(false, &["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1"]);
        check(false, &["64:ff9b:1::1", "2002:7f00:1::1", "2001::1", "2001:db8::1", "fec0::1"]);
    }
}
