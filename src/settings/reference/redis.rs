//! Translates the variables of envoyproxy/ratelimit about Redis.

use super::translator::Translator;
use crate::settings::error::SettingsError;

/// The timeout of Redis if nothing says it. The reference waits 10s, and its client's timeout says what is too long, as here:
/// Envoy sends it with each call (`grpc/timeout.rs`). Clients without one wait no longer than probes of Kubernetes.
const TIMEOUT: &str = "1s";

/// The settings of the store.
pub fn translate(translator: &mut Translator<'_>) {
    match translator.get("BACKEND_TYPE").unwrap_or("redis") {
        "redis" => {}
        "memcache" => translator.translation.errors.push(SettingsError::Refused {
            name: "BACKEND_TYPE",
            advice: "memcache is not supported; use redis, or leave REDIS_URL out to count in memory",
        }),
        _ => translator.wrong("BACKEND_TYPE", "redis"),
    }
    translator.copy_duration("REDIS_TIMEOUT", "store_deadline");
    let Some(url) = translator.get("REDIS_URL") else { return };
    if translator.get("REDIS_TIMEOUT").is_none() {
        translator.default("store_deadline", TIMEOUT);
    }
    let has_tls = translator.is_on("REDIS_TLS");
    let scheme = match translator.get("REDIS_SOCKET_TYPE").unwrap_or("unix") {
        "unix" if !url.starts_with('/') && !url.contains("://") => {
            return translator.wrong("REDIS_URL", "a path, or REDIS_SOCKET_TYPE=tcp");
        }
        "unix" => "unix",
        "tcp" if has_tls => "rediss",
        "tcp" => "redis",
        _ => return translator.wrong("REDIS_SOCKET_TYPE", "tcp or unix"),
    };
    let mut parts = url.split(',').map(str::trim);
    let first = full(parts.next().unwrap_or_default(), scheme, has_tls);
    translator.set("redis_url", first, "REDIS_URL");
    let others: Vec<&str> = parts.collect();
    translator.copy("CACHE_KEY_PREFIX", "redis_key_prefix");
    others_of(translator, (url, scheme, has_tls), &others);
    login(translator);
    if has_tls {
        tls(translator);
    }
}

/// The URL of an address.
fn full(address: &str, scheme: &str, has_tls: bool) -> String {
    match address.split_once("://") {
        Some(("redis", rest)) if has_tls => format!("rediss://{rest}"),
        Some(_) => address.to_owned(),
        None => format!("{scheme}://{address}"),
    }
}

/// The addresses after the first one: of Sentinels, or of nodes of a cluster.
fn others_of(
    translator: &mut Translator<'_>,
    (url, scheme, has_tls): (&str, &str, bool),
    others: &[&str],
) {
    match translator.get("REDIS_TYPE").unwrap_or("SINGLE").to_ascii_uppercase().as_str() {
        "SINGLE" if others.is_empty() => {}
        "SENTINEL" if !others.is_empty() => {
            let auth = translator.get("REDIS_SENTINEL_AUTH").map(escaped);
            let with_auth = |url: String| match (&auth, url.split_once("://")) {
                (Some(auth), Some((scheme, host))) => format!("{scheme}://:{auth}@{host}"),
                _ => url,
            };
            let urls: Vec<String> =
                others.iter().map(|url| with_auth(full(url, scheme, has_tls))).collect();
            translator.set("redis_sentinels", urls.join(","), "REDIS_URL");
        }
        "CLUSTER" => {
            let nodes = others.iter().map(|node| node.split_once("://").map_or(*node, |url| url.1));
            // A single address is enough to discover a cluster; without a list it would not be looked for.
            let first =
                url.split(',').next().map(|node| node.split_once("://").map_or(node, |url| url.1));
            let nodes: Vec<&str> = match others.is_empty() {
                true => first.into_iter().collect(),
                false => nodes.collect(),
            };
            translator.set("redis_cluster_nodes", nodes.join(","), "REDIS_URL");
        }
        "SINGLE" | "SENTINEL" => translator.wrong(
            "REDIS_URL",
            "one address for REDIS_TYPE=SINGLE, and NAME,ADDRESS,... for SENTINEL",
        ),
        _ => translator.wrong("REDIS_TYPE", "SINGLE, SENTINEL or CLUSTER"),
    }
}

/// User and password.
fn login(translator: &mut Translator<'_>) {
    if let Some(auth) = translator.get("REDIS_AUTH") {
        let (user, password) = auth.split_once(':').map_or((None, auth), |(user, password)| {
            (Some(user).filter(|user| !user.is_empty()), password)
        });
        translator.set("redis_password", password, "REDIS_AUTH");
        if let Some(user) = user {
            translator.set("redis_username", user, "REDIS_AUTH");
        }
    }
}

/// The files of TLS.
fn tls(translator: &mut Translator<'_>) {
    translator.copy("REDIS_TLS_CLIENT_CERT", "redis_tls_cert_file");
    translator.copy("REDIS_TLS_CLIENT_KEY", "redis_tls_key_file");
    translator.copy("REDIS_TLS_CACERT", "redis_tls_ca_file");
    if translator.is_on("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION") {
        let name = "REDIS_TLS_SKIP_HOSTNAME_VERIFICATION";
        translator.set("redis_tls_any_name", "true", name);
    }
}

/// A password in a URL.
fn escaped(text: &str) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let escape = |byte: u8| match is_plain(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
