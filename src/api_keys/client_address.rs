//! The address of the client, behind a trusted number of proxies.

use std::net::IpAddr;

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
    let parse = |text: &str| text.trim().parse::<IpAddr>().ok().map(|one| one.to_canonical());
    let mut addresses: Vec<&str> = forwarded.unwrap_or_default().split(',').collect();
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
        check("::ffff:10.0.0.1", "", 0, Some("10.0.0.1"));
        check("10.0.0.1", "2001:db8::1", 1, Some("2001:db8::1"));
        check("unix", "", 0, None);
    }
}
