//! Values as envoyproxy/ratelimit writes them, which are those of Go.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The longest duration of a setting.
const DURATION_MAX_MS: u128 = 3_600_000;

/// A boolean.
pub fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A duration such as `1h30m`, `150us` or `0`, as that of a setting: at least a millisecond, at most an hour.
pub fn duration(text: &str) -> Option<String> {
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() && rest != "0" {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let units =
            [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0)];
        let units = units.into_iter().chain([("h", 3_600.0)]);
        let (unit, seconds) = units.into_iter().find(|(unit, _)| {
            let after = rest[end..].strip_prefix(unit);
            after.is_some_and(|after| !after.starts_with(char::is_alphabetic))
        })?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = &rest[end + unit.len()..];
    }
    (!text.is_empty()).then(|| format!("{}ms", total.as_millis().clamp(1, DURATION_MAX_MS)))
}

/// Whether the value of a variable may be a secret: a password, or a URL with credentials.
pub fn is_secret(name: &str, text: &str) -> bool {
    let is_named = ["AUTH", "HEADERS"].iter().any(|word| name.contains(word));
    is_named || text.contains('@') || text.to_ascii_lowercase().contains("password")
}

/// Tags as `NAME:VALUE,...`, as those of a setting. None: there is one without a name or a value.
pub fn tags(text: &str) -> Option<String> {
    let tag = |part: &str| {
        let (name, value) = part.trim().split_once(':')?;
        (!name.is_empty()).then(|| format!("{name}={value}"))
    };
    let tags: Option<Vec<String>> = text.split(',').map(tag).collect();
    tags.map(|tags| tags.join(","))
}

/// The address of a host and a port. The host is an IP address, localhost, or empty for all interfaces.
pub fn address(host: &str, port: &str) -> Option<String> {
    let ip = match host.trim_start_matches('[').trim_end_matches(']') {
        "" => Ipv4Addr::UNSPECIFIED.into(),
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        host => host.parse::<IpAddr>().ok()?,
    };
    Some(SocketAddr::new(ip, port.parse().ok()?).to_string())
}

/// A level of logrus.
pub fn level(text: &str) -> Option<&'static str> {
    Some(match text.to_ascii_lowercase().as_str() {
        "panic" | "fatal" | "error" => "error",
        "warn" | "warning" => "warn",
        "info" => "info",
        "debug" => "debug",
        "trace" => "trace",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_go_are_read() {
        for (text, expected) in [
            ("10s", Some("10000ms")),
            ("1m30s", Some("90000ms")),
            ("1.5s", Some("1500ms")),
            ("150us", Some("1ms")),
            ("24h", Some("3600000ms")),
            ("0", Some("1ms")),
            ("", None),
            ("10", None),
            ("s", None),
            ("1y", None),
        ] {
            assert_eq!(duration(text).as_deref(), expected, "{text}");
        }
        assert_eq!((flag("T"), flag("0"), flag("yes")), (Some(true), Some(false), None));
        assert_eq!((level("WARN"), level("loud")), (Some("warn"), None));
    }

    #[test]
    fn hosts_are_addresses() {
        let check = |host, expected: Option<&str>| {
            assert_eq!(address(host, "80").as_deref(), expected, "{host}");
        };
        check("", Some("0.0.0.0:80"));
        check("::", Some("[::]:80"));
        check("[::1]", Some("[::1]:80"));
        check("localhost", Some("127.0.0.1:80"));
        check("example.com", None);
    }
}
