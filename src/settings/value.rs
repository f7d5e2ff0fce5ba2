//! Parsers for the text of one setting. None: the text is invalid.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use crate::api_token::ApiToken;
use crate::observe::logs;
use crate::observe::traces::OtlpProtocol;

/// The word that turns a setting off.
const OFF: &str = "off";

/// A source of policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicySourceName {
    Files,
    Xds,
}

/// A protocol to a receiver of statsd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsdProtocol {
    Udp,
    Tcp,
}

/// A text that is never printed or logged, such as a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text. It must not be printed.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Parses with `read`; an empty text is None.
pub fn optional<T>(read: impl Fn(&str) -> Option<T>) -> impl Fn(&str) -> Option<Option<T>> {
    move |text| if text.is_empty() { Some(None) } else { read(text).map(Some) }
}

/// Parses with `read`; an empty text is the default.
pub fn or_default<T: Default>(read: impl Fn(&str) -> Option<T>) -> impl Fn(&str) -> Option<T> {
    move |text| if text.is_empty() { Some(T::default()) } else { read(text) }
}

pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// A number in `range`.
pub fn number<T: FromStr + PartialOrd>(text: &str, range: RangeInclusive<T>) -> Option<T> {
    text.parse().ok().filter(|number| range.contains(number))
}

/// A duration: a whole number and `ms`, `s` or `m`, at most an hour; 0 needs no unit.
pub fn duration(text: &str) -> Option<Duration> {
    const MAX: Duration = Duration::from_secs(3600);
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let amount: u64 = digits.parse().ok()?;
    let unit_ms = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "" if amount == 0 => 1,
        _ => return None,
    };
    let duration = Duration::from_millis(amount.checked_mul(unit_ms)?);
    (duration <= MAX).then_some(duration)
}

/// A duration that is not zero.
pub fn some_time(text: &str) -> Option<Duration> {
    duration(text).filter(|duration| !duration.is_zero())
}

/// A [`some_time`], or `off`.
pub fn some_time_or_off(text: &str) -> Option<Option<Duration>> {
    if text == OFF { Some(None) } else { some_time(text).map(Some) }
}

/// Parses with `read`, or `off`.
pub fn or_off<T>(read: impl Fn(&str) -> Option<T>) -> impl Fn(&str) -> Option<Option<T>> {
    move |text| if text == OFF { Some(None) } else { read(text).map(Some) }
}

pub fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

pub fn address_or_off(text: &str) -> Option<Option<SocketAddr>> {
    if text == OFF { Some(None) } else { address(text).map(Some) }
}

pub fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

pub fn secret(text: &str) -> Option<Secret> {
    self::text(text).map(Secret)
}

pub fn path(text: &str) -> Option<PathBuf> {
    self::text(text).map(PathBuf::from)
}

pub fn paths(text: &str) -> Option<Vec<PathBuf>> {
    text.split(',').map(|part| path(part.trim())).collect()
}

/// API tokens with different names.
pub fn tokens(text: &str) -> Option<Vec<ApiToken>> {
    let tokens: Vec<ApiToken> =
        text.split(',').map(|part| ApiToken::parse(part.trim())).collect::<Option<_>>()?;
    let names: BTreeSet<&str> = tokens.iter().map(ApiToken::name).collect();
    (names.len() == tokens.len()).then_some(tokens)
}

/// Origins of HTTP: a scheme and a host, with a port or without.
pub fn origins(text: &str) -> Option<Vec<String>> {
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]*".contains(&byte);
    let one = |part: &str| {
        let origin = url(part.trim(), &["http", "https"])?;
        let (_, host) = origin.split_once("://")?;
        host.bytes().all(is_host).then_some(origin)
    };
    text.split(',').map(one).collect()
}

/// A URL with one of the `schemes` and a host or path.
pub fn url(text: &str, schemes: &[&str]) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    (schemes.contains(&scheme) && !rest.is_empty()).then(|| text.to_owned())
}

pub fn redis_url(text: &str) -> Option<Secret> {
    url(text, &["redis", "rediss", "redis+unix", "unix"]).map(Secret)
}

/// URLs of servers with host and port.
pub fn redis_urls(text: &str) -> Option<Vec<Secret>> {
    let one = |part: &str| url(part.trim(), &["redis", "rediss"]).map(Secret);
    text.split(',').map(one).collect()
}

/// Hosts and ports.
pub fn nodes(text: &str) -> Option<Vec<(String, u16)>> {
    text.split(',').map(|part| node(part.trim())).collect()
}

/// A host and a port.
pub fn node(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.strip_suffix(']')?,
        None => host,
    };
    // A URL is neither.
    let is_host = !host.is_empty() && !host.contains('/');
    is_host.then_some((host.to_owned(), port.parse().ok()?))
}

/// Names with values, separated by `separator`.
pub fn pairs(text: &str, separator: char) -> Option<Vec<(String, String)>> {
    let one = |part: &str| {
        let (name, value) = part.split_once(separator)?;
        let (name, value) = (name.trim(), value.trim());
        (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    };
    text.split(',').map(one).collect()
}

/// The name of an HTTP header, in lower case.
pub fn header(text: &str) -> Option<Arc<str>> {
    http::HeaderName::try_from(text).ok().map(|name| name.as_str().into())
}

/// Headers of gRPC with text values.
pub fn headers(text: &str) -> Option<Vec<(String, Secret)>> {
    let one = |(name, value): (String, String)| {
        let name = http::HeaderName::try_from(name).ok()?;
        http::HeaderValue::try_from(&value).ok()?;
        (!name.as_str().ends_with("-bin")).then(|| (name.as_str().to_owned(), Secret(value)))
    };
    pairs(text, ':')?.into_iter().map(one).collect()
}

pub fn policy_source(text: &str) -> Option<PolicySourceName> {
    match text {
        "files" => Some(PolicySourceName::Files),
        "xds" => Some(PolicySourceName::Xds),
        _ => None,
    }
}

pub fn statsd_protocol(text: &str) -> Option<StatsdProtocol> {
    match text {
        "udp" => Some(StatsdProtocol::Udp),
        "tcp" => Some(StatsdProtocol::Tcp),
        _ => None,
    }
}

pub fn level(text: &str) -> Option<LevelFilter> {
    match text {
        OFF => Some(LevelFilter::OFF),
        "error" => Some(LevelFilter::ERROR),
        "warn" => Some(LevelFilter::WARN),
        "info" => Some(LevelFilter::INFO),
        "debug" => Some(LevelFilter::DEBUG),
        "trace" => Some(LevelFilter::TRACE),
        _ => None,
    }
}

/// The protocol of a collector.
pub fn otlp_protocol(text: &str) -> Option<OtlpProtocol> {
    match text {
        "grpc" => Some(OtlpProtocol::Grpc),
        "http/protobuf" | "http" => Some(OtlpProtocol::Http),
        _ => None,
    }
}

pub fn log_format(text: &str) -> Option<logs::Format> {
    match text {
        "text" => Some(logs::Format::Text),
        "json" => Some(logs::Format::Json),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_duration(text: &str, ms: Option<u64>) {
        assert_eq!(duration(text), ms.map(Duration::from_millis), "{text:?}");
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        let all = ["https://a.example".to_owned(), "http://[::1]:8080".to_owned()];
        assert_eq!(origins("https://a.example, http://[::1]:8080").as_deref(), Some(&all[..]));
        for text in
            ["", "a.example", "ftp://a", "https://a/b", "https://a; script-src *", "https://"]
        {
            assert_eq!(origins(text), None, "{text}");
        }
    }

    #[test]
    fn a_node_is_a_host_and_a_port() {
        let pair = |host: &str, port| (host.to_owned(), port);
        let all = [pair("a", 1), pair("::1", 7000)];
        assert_eq!(nodes("a:1, [::1]:7000").as_deref(), Some(&all[..]));
        for text in ["", "a", "a:", ":1", "a:70000", "[a:1", "a:1,", "http://a:1", "//a:1"] {
            assert_eq!(nodes(text), None, "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit_and_a_bound() {
        check_duration("10ms", Some(10));
        check_duration("2s", Some(2_000));
        check_duration("60m", Some(3_600_000));
        check_duration("0", Some(0));
        check_duration("0s", Some(0));
        for wrong in
            ["", "10", "ms", "1h", "1.5s", "-1s", "61m", "1 s", "99999999999999999999s", "1\u{e9}s"]
        {
            check_duration(wrong, None);
        }
        assert_eq!(some_time("0ms"), None);
        assert_eq!(some_time_or_off("30m"), Some(Some(Duration::from_secs(1_800))));
        assert_eq!(some_time_or_off("off"), Some(None));
        assert_eq!(some_time_or_off("0s"), None);
    }

    #[test]
    fn an_address_is_a_number_and_a_port_or_off() {
        assert!(address("127.0.0.1:80").is_some() && address("[::1]:80").is_some());
        assert!(address("localhost:80").is_none() && address(":80").is_none());
        assert_eq!(address_or_off("off"), Some(None));
        assert!(address("off").is_none());
    }

    #[test]
    fn paths_are_separated_by_commas() {
        assert_eq!(paths("a, b/c"), Some(vec!["a".into(), "b/c".into()]));
        assert_eq!(paths(""), None);
        assert_eq!(paths("a,,b"), None);
    }

    #[test]
    fn a_url_has_a_known_scheme_and_names_something() {
        assert!(redis_url("redis://host").is_some() && redis_url("unix:///run/redis").is_some());
        assert!(redis_url("host:6379").is_none() && redis_url("redis://").is_none());
        assert!(url("https://x", &["http"]).is_none());
    }

    #[test]
    fn a_ratio_is_a_number_from_0_to_1() {
        assert_eq!(number("0.5", 0.0..=1.0), Some(0.5));
        for wrong in ["NaN", "1.1", "-1", "inf", ""] {
            assert_eq!(number(wrong, 0.0..=1.0), None, "{wrong}");
        }
    }
}
