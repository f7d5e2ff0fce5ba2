//! The address of the client, behind a trusted number of proxies.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The address of the client. Envoy says `source`; if there are proxies in front of it, each of which appends the address of
/// its own client to `x-forwarded-for`, the address that the outermost of them saw. With fewer addresses than that, the client
/// has bypassed a proxy, and `source` counts.
pub fn client_address(
    source: Option<IpAddr>,
    forwarded: Option<&str>,
    proxies: usize,
) -> Option<IpAddr> {
    let source = source.map(|source| source.to_canonical());
    if proxies == 0 {
        return source;
    }
    let forwarded = forwarded.map(str::trim).filter(|text| !text.is_empty());
    let mut addresses: Vec<&str> = forwarded.map_or(Vec::new(), |text| text.split(',').collect());
    // Envoy may have appended the address of its own client, the last proxy.
    if addresses.last().and_then(|last| parse(last)).is_some_and(|last| Some(last) == source) {
        addresses.pop();
    }
    let outermost = addresses.len().checked_sub(proxies).and_then(|index| addresses.get(index));
    match outermost {
        // An address that makes no sense is no reason to trust another one.
        Some(text) => parse(text),
        None => source,
    }
}

/// An address as proxies write it: some with its port.
fn parse(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let address = text.parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse().ok().map(|socket: SocketAddr| socket.ip()));
    address.or_else(|| bare().map(IpAddr::V6)).map(|one| one.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, forwarded: &str, proxies: usize, expected: Option<&str>) {
        let found = client_address(source.parse().ok(), Some(forwarded), proxies);
        assert_eq!(found, expected.map(|text| text.parse().unwrap()), "{source} {forwarded}");
    }

    #[test]
    fn only_what_trusted_proxies_have_appended_counts() {
        check("10.0.0.1", "192.0.2.1", 0, Some("10.0.0.1"));
        check("10.0.0.1", "192.0.2.1", 1, Some("192.0.2.1"));
        check("10.0.0.1", "192.0.2.1, 10.0.0.1", 1, Some("192.0.2.1"));
        check("10.0.0.1", "198.51.100.9, 192.0.2.1, 10.0.0.1", 1, Some("192.0.2.1"));
        check("10.0.0.1", "198.51.100.9, 192.0.2.1,10.0.0.2, 10.0.0.1", 2, Some("192.0.2.1"));
        check("10.0.0.1", "198.51.100.9, x, 10.0.0.1", 1, None);
        check("10.0.0.1", "10.0.0.1", 1, Some("10.0.0.1"));
        check("10.0.0.1", "", 3, Some("10.0.0.1"));
        check("10.0.0.1", "", 1, Some("10.0.0.1"));
        check("10.0.0.1", " ", 1, Some("10.0.0.1"));
        check("10.0.0.1", "192.0.2.1:443, 10.0.0.1:50000", 1, Some("192.0.2.1"));
        check("10.0.0.1", "[2001:db8::1]:443", 1, Some("2001:db8::1"));
        check("10.0.0.1", "[2001:db8::1]", 1, Some("2001:db8::1"));
        check("10.0.0.1", "[192.0.2.1]", 1, None);
        check("10.0.0.1", ",", 1, None);
        check("::ffff:10.0.0.1", "", 0, Some("10.0.0.1"));
        check("10.0.0.1", "2001:db8::1", 1, Some("2001:db8::1"));
        check("unix", "", 0, None);
    }
}
