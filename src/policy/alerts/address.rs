//! The addresses of receivers in files.

use http::Uri;
use url::Url;

/// Maximum length of a host's name, and of each of its labels.
const HOST_LEN_MAX: usize = 253;
const LABEL_LEN_MAX: usize = 63;

const EXAMPLE: &str = "use one such as https://example.com/alerts";

/// Checks the address of a receiver, and returns its host: an IPv4 address in its usual form, an IPv6 address without
/// brackets, or a name.
///
/// # Errors
/// A clause with the reason.
pub fn check_url(url: &str) -> Result<String, String> {
    let rest = ["https://", "http://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let place = rest.map(|rest| rest.split(['/', '?', '#', '\\']).next().unwrap_or_default());
    let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic());
    if !place.is_some_and(|place| !place.is_empty() && !place.contains('@')) || !is_plain {
        return Err(format!("invalid address; {EXAMPLE}"));
    }
    let parsed = Url::parse(url).map_err(|error| format!("invalid address: {error}; {EXAMPLE}"))?;
    if parsed.port() == Some(0) {
        return Err(format!("invalid address: invalid port number; {EXAMPLE}"));
    }
    let host = parsed.host_str().unwrap_or_default();
    if !is_possible(host) || url.parse::<Uri>().is_err() {
        return Err(format!("invalid address: invalid host; {EXAMPLE}"));
    }
    Ok(host.trim_start_matches('[').trim_end_matches(']').to_owned())
}

/// Checks the host of a mail server, and returns it as [`check_url`] does.
///
/// # Errors
/// A clause with the reason.
pub fn check_host(host: &str) -> Result<String, String> {
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    let url = match host.contains(':') {
        true => format!("https://[{host}]/"),
        false => format!("https://{host}/"),
    };
    let found = check_url(&url).ok().filter(|_| host.bytes().all(is_host));
    found.ok_or_else(|| format!("invalid host `{host}`; use a name or an address, without a port"))
}

/// Whether a name may exist.
fn is_possible(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| (1..=LABEL_LEN_MAX).contains(&label.len());
    name.len() <= HOST_LEN_MAX && (host.starts_with('[') || name.split('.').all(is_label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_addresses_are_invalid() {
        let check = |url: &str, expected: Result<&str, &str>| match (check_url(url), expected) {
            (Ok(host), Ok(expected)) => assert_eq!(host, expected, "{url}"),
            (Err(message), Err(expected)) => assert!(message.contains(expected), "{message}"),
            (found, _) => panic!("{url}: {found:?}"),
        };
        check("https://example.com/a?b=c", Ok("example.com"));
        check("http://alert_receiver:8080", Ok("alert_receiver"));
        check("http://[2606:4700::1]:443/", Ok("2606:4700::1"));
        check("http://0x7f.1/", Ok("127.0.0.1"));
        check("http://2130706433/", Ok("127.0.0.1"));
        check("ftp://example.com", Err("invalid address"));
        check("https://", Err("invalid address"));
        check("https:///a", Err("invalid address"));
        check("https://user@example.com", Err("invalid address"));
        check("https://exam ple.com", Err("invalid address"));
        check("https://example.com:99999/", Err("invalid port number"));
        check("https://example.com:port/", Err("invalid port number"));
        check("https://example.com:0/", Err("invalid port number"));
        check("https://:443/", Err("empty host"));
        check("https://300.1.1.1/", Err("invalid IPv4 address"));
        check("https://[::12345]/", Err("invalid IPv6 address"));
        check("https://a..b/", Err("invalid host"));
        check(&format!("https://{}/", "a".repeat(64)), Err("invalid host"));
    }

    #[test]
    fn a_mail_host_has_no_port_and_no_scheme() {
        for host in ["mx.example.com", "mx", "10.0.0.1", "::1"] {
            assert_eq!(check_host(host).as_deref(), Ok(host));
        }
        for host in ["", "mx:25", "http://mx", "mx/a", "mx example", "a@mx", "[::1]", "300.1.1.1"] {
            assert!(check_host(host).is_err(), "{host}");
        }
    }
}
