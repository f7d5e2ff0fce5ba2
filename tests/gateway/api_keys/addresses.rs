//! Addresses and origins of API keys through an Envoy that listens on IPv4 and on IPv6, behind none, one or two proxies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use super::scene::{Keeper, POLICY, ext_authz};
use super::{INVALID, check_problem};
use crate::support::gateway::{Gateway, tcp};
use crate::support::store::Store;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// For Envoy this is no loopback address.
const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const FORWARDED: &str = "x-forwarded-for";

/// A Tollgate behind so many proxies, and its Envoy.
async fn start(proxies: usize) -> Option<(Keeper, Gateway)> {
    let policy = POLICY.replace("api_keys:", &format!("api_keys:\n  trusted_proxies: {proxies}"));
    let keeper = Keeper::start(&policy, &Store::Embedded, &[]).await;
    let sidecars = [tcp(keeper.tollgate.grpc_address)];
    let gateway = Gateway::of_both_families(&ext_authz(), &sidecars).await?;
    Some((keeper, gateway))
}

/// Creates an API key with this field.
async fn key(keeper: &Keeper, field: &str, value: Value) -> String {
    let mut form = json!({ "caller": "acme" });
    form[field] = value;
    keeper.create(&form).await.0
}

/// Sends a request with headers from an address.
async fn check(gateway: &Gateway, from: IpAddr, headers: &[(&str, &str)], status: u16) {
    let answer = gateway.caller.at(from).get("/", headers).await;
    match status {
        401 => check_problem(&answer, 401, INVALID),
        _ => assert_eq!(answer.status, status, "{from} {headers:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_passes_from_its_addresses_whatever_the_client_says_of_them() {
    let Some((keeper, gateway)) = start(0).await else { return };
    let v4 = key(&keeper, "addresses", json!(["127.0.0.0/8"])).await;
    let v6 = key(&keeper, "addresses", json!(["::1"])).await;
    let far = key(&keeper, "addresses", json!(["203.0.113.0/24", "2001:db8::/32"])).await;
    for (key, from, status) in [
        (&v4, V4, 200),
        (&v4, NEAR, 200),
        (&v4, V6, 401),
        (&v6, V4, 401),
        (&v6, V6, 200),
        (&far, V4, 401),
        (&far, V6, 401),
    ] {
        check(&gateway, from, &[("x-api-key", key)], status).await;
        for forged in
            ["203.0.113.1", "2001:db8::7", "127.0.0.1", "::1", "203.0.113.1, 127.0.0.1", "x"]
        {
            check(&gateway, from, &[("x-api-key", key), (FORWARDED, forged)], status).await;
        }
    }
}

/// The client of Envoy is the last proxy, which appends the address of its own client. If it is at a loopback address, Envoy
/// appends that of its machine, which counts as one more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_trusted_proxies_append_is_the_address_of_the_client() {
    let one = [
        ("203.0.113.1", 200),
        ("2001:db8::7", 200),
        ("::ffff:203.0.113.1", 200),
        ("[2001:db8::7]:4711", 200),
        ("198.51.100.9, 203.0.113.1", 200),
        ("203.0.113.1, 198.51.100.9", 401),
        ("203.0.113.1, x", 401),
        ("203.0.113.1,", 401),
        ("2001:db9::7", 401),
        ("127.0.0.1", 401),
    ];
    let two = [
        ("203.0.113.1, 198.51.100.9", 200),
        ("2001:db8::7, 198.51.100.9", 200),
        ("198.51.100.1, 203.0.113.1, 198.51.100.9", 200),
        ("203.0.113.1, 198.51.100.1, 198.51.100.9", 401),
        // It has bypassed a proxy.
        ("203.0.113.1", 401),
    ];
    for (proxies, proxy, cases) in [
        (1, NEAR, &one[..]),
        (2, NEAR, &two),
        (2, V4, &one),
        (2, V6, &one),
        (1, V4, &[("203.0.113.1", 401)]),
    ] {
        let Some((keeper, gateway)) = start(proxies).await else { return };
        let far = key(&keeper, "addresses", json!(["203.0.113.0/24", "2001:db8::/32"])).await;
        for (forwarded, status) in cases {
            let headers = [("x-api-key", &*far), (FORWARDED, forwarded)];
            check(&gateway, proxy, &headers, *status).await;
        }
        check(&gateway, proxy, &[("x-api-key", &far)], 401).await;
        // Without a proxy it is the client itself.
        let near = key(&keeper, "addresses", json!(["127.0.0.0/8", "::1"])).await;
        check(&gateway, NEAR, &[("x-api-key", &near)], 200).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_of_pages_passes_from_its_origins_alone() {
    let Some((keeper, gateway)) = start(0).await else { return };
    let origins = json!(["https://app.example.com", "https://*.example.org:8443"]);
    let key = key(&keeper, "origins", origins).await;
    for (origin, referer, status) in [
        ("https://app.example.com", "", 200),
        ("https://shop.example.org:8443", "", 200),
        ("", "https://app.example.com/page?from=https://evil.example", 200),
        ("", "https://app.example.com", 200),
        ("https://app.example.com", "https://evil.example/", 200),
        // What the browser says of the origin counts first.
        ("https://evil.example", "https://app.example.com/", 401),
        ("null", "https://app.example.com/", 401),
        ("http://app.example.com", "", 401),
        ("https://app.example.com:444", "", 401),
        ("https://app.example.com.evil.example", "", 401),
        ("https://evil.example.org", "", 401),
        ("https://example.org:8443", "", 401),
        ("", "https://evil.example/https://app.example.com/", 401),
        ("", "https://app.example.com@evil.example/", 401),
        ("", "app.example.com", 401),
        ("", "", 401),
    ] {
        let headers = [("x-api-key", &*key), ("origin", origin), ("referer", referer)];
        let headers: Vec<_> = headers.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        check(&gateway, V4, &headers, status).await;
    }
}
