//! Metrics under the names of envoyproxy/ratelimit, for its boards and alerts; and by statsd.

use std::collections::BTreeMap;
use std::fs;

use envoy_types::pb::google::protobuf::UInt64Value;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, UdpSocket};

use crate::support::client::{Grpc, Http, request};
use crate::support::eventually;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

/// Rules as Envoy Gateway makes them, and others.
const POLICY: &str = "
domain: default/eg/http
descriptors:
  - key: httproute/default/r/rule/0/match/0/example
    value: httproute/default/r/rule/0/match/0/example
    descriptors:
      - { key: rule-0-match-0, value: rule-0-match-0, rate_limit: { unit: hour, requests_per_unit: 10 } }
      - { key: rule-1-match-0, value: rule-1-match-0, shadow_mode: true, rate_limit: { unit: hour, requests_per_unit: 2 } }
      - { key: rule-2-match-0, rate_limit: { unit: hour, requests_per_unit: 5 } }
  - { key: ip, value: 10.0.0.1, rate_limit: { unit: hour, requests_per_unit: 1 } }
  - { key: user, detailed_metric: true, rate_limit: { unit: hour, requests_per_unit: 3 } }
  - key: route
    value_to_metric: true
    descriptors: [{ key: method, rate_limit: { unit: hour, requests_per_unit: 9 } }]
";

const DOMAIN: &str = "default/eg/http";
const ROUTE: &str = "httproute/default/r/rule/0/match/0/example";

/// The expressions of the board of Envoy Gateway's addons that are about the limiter, except those about the memory of Go.
const BOARD: [&str; 5] = [
    r#"(process_resident_memory_bytes{app_kubernetes_io_component="ratelimit"})/1000000"#,
    r#"(process_virtual_memory_bytes{app_kubernetes_io_component="ratelimit"})/1000000"#,
    r#"ratelimit_service_rate_limit_total_hits{domain="D", key1="R_R", key2="rule-0-match-0_rule-0-match-0"}"#,
    r#"ratelimit_service_rate_limit_near_limit{domain="D", key1="R_R", key2="rule-0-match-0_rule-0-match-0"}"#,
    r#"ratelimit_service_rate_limit_over_limit{domain="D", key1="R_R", key2="rule-0-match-0_rule-0-match-0"}"#,
];

async fn serve(flags: &[&str]) -> Tollgate {
    Tollgate::serve_with(POLICY, &Store::Embedded, flags).await
}

/// Requests hits; 0 is a peek.
async fn ask(client: &mut Grpc, entries: &[(&str, &str)], hits: u32) {
    let mut ask = request(DOMAIN, &[entries]);
    match hits {
        0 => ask.descriptors[0].hits_addend = Some(UInt64Value { value: 0 }),
        hits => ask.hits_addend = hits,
    }
    client.should_rate_limit(ask).await.unwrap();
}

async fn ask_rule(client: &mut Grpc, rule: &str, hits: u32) {
    ask(client, &[(ROUTE, ROUTE), (rule, rule)], hits).await;
}

/// What `/metrics` answers.
async fn text(tollgate: &Tollgate) -> String {
    let url = format!("http://{}/metrics", tollgate.http_address);
    let text = Http::new().get(&url, &[]).await.text();
    assert!(text.ends_with("# EOF\n"));
    text
}

/// The values of all series, by name and labels.
async fn series(tollgate: &Tollgate) -> BTreeMap<String, u64> {
    let text = text(tollgate).await;
    let series = text.lines().filter_map(|line| line.rsplit_once(' '));
    let series = series.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
    series.collect()
}

/// The counts of a rule: total_hits, over_limit, near_limit, within_limit, shadow_mode.
fn counts(series: &BTreeMap<String, u64>, key1: &str, key2: Option<&str>) -> [u64; 5] {
    let key2 = key2.map_or_else(String::new, |key2| format!(",key2=\"{key2}\""));
    let names = ["total_hits", "over_limit", "near_limit", "within_limit", "shadow_mode"];
    names.map(|name| {
        let labels = format!("{{domain=\"{DOMAIN}\",key1=\"{key1}\"{key2}}}");
        let name = format!("ratelimit_service_rate_limit_{name}{labels}");
        *series.get(&name).unwrap_or_else(|| panic!("no {name} in {series:#?}"))
    })
}

#[tokio::test]
async fn hits_are_counted_as_the_reference_counts_them() {
    let tollgate = serve(&["--reference-metrics=true"]).await;
    let client = &mut tollgate.client().await;
    // 7, then 9 of 10: one above the near limit ratio of 0.8. Then three hits of which one fits; and one that fits.
    for hits in [7, 2, 3, 1, 0, 4] {
        ask_rule(client, "rule-0-match-0", hits).await;
    }
    for hits in [1, 4] {
        ask_rule(client, "rule-1-match-0", hits).await;
    }
    ask(client, &[("ip", "10.0.0.1")], 1).await;
    ask(client, &[("route", "api"), ("method", "GET")], 1).await;
    let series = series(&tollgate).await;
    let route = format!("{ROUTE}_{ROUTE}");
    let rule = |rule: &str| counts(&series, &route, Some(rule));
    assert_eq!(rule("rule-0-match-0_rule-0-match-0"), [17, 6, 3, 10, 0]);
    assert_eq!(rule("rule-1-match-0_rule-1-match-0"), [5, 3, 1, 1, 3]);
    assert_eq!(rule("rule-2-match-0"), [0; 5]);
    assert_eq!(counts(&series, "ip_10_0_0_1", None), [1, 0, 1, 1, 0]);
    assert_eq!(counts(&series, "route_api", Some("method")), [1, 0, 0, 1, 0]);
    assert_eq!(counts(&series, "route_other", Some("method")), [0; 5]);
    let service = |name: &str| series[&format!("ratelimit_service_{name}")];
    assert_eq!(service(r#"total_requests{grpc_method="ShouldRateLimit"}"#), 10);
    let times = r#"response_time_seconds_count{grpc_method="ShouldRateLimit"}"#;
    assert_eq!(service(times), 10);
    assert_eq!(service(r#"should_rate_limit_error{err_type="redis_error"}"#), 0);
    assert_eq!((service("config_load_success"), service("config_load_error")), (1, 0));
}

/// What envoyproxy/ratelimit counts (f2fb157), without the process and Go: the names after its default mapping, and without the
/// ones of domains and keys.
const COUNTED_THERE: [&str; 26] = [
    "ratelimit_service_rate_limit_total_hits",
    "ratelimit_service_rate_limit_over_limit",
    "ratelimit_service_rate_limit_near_limit",
    "ratelimit_service_rate_limit_within_limit",
    "ratelimit_service_rate_limit_shadow_mode",
    "ratelimit_service_rate_limit_*_over_limit_with_local_cache",
    "ratelimit_service_rate_limit_*_domain_not_found",
    "ratelimit_service_should_rate_limit_error",
    "ratelimit_service_total_requests",
    "ratelimit_service_response_time_seconds",
    "ratelimit_service_config_load_success",
    "ratelimit_service_config_load_error",
    "ratelimit_service_global_shadow_mode",
    "ratelimit_redis_pool_cx_active",
    "ratelimit_redis_pool_cx_total",
    "ratelimit_redis_pool_cx_local_close",
    "ratelimit_redis_per_second_pool_cx_active",
    "ratelimit_redis_per_second_pool_cx_total",
    "ratelimit_redis_per_second_pool_cx_local_close",
    "ratelimit_localcache_hitCount",
    "ratelimit_localcache_missCount",
    "ratelimit_localcache_lookupCount",
    "ratelimit_localcache_entryCount",
    "ratelimit_localcache_evacuateCount",
    "ratelimit_localcache_expiredCount",
    "ratelimit_localcache_overwriteCount",
];

/// config/migration.md has a row for each series of the reference, and what it names is exported.
#[tokio::test]
async fn every_series_of_the_reference_has_a_row_that_is_true() {
    let page = fs::read_to_string("config/migration.md").unwrap();
    let table = page.split_once("## Metrics").unwrap().1.split_once("## Variables").unwrap().0;
    let rows: Vec<(&str, &str)> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | ")).collect();
    let names = |text: &str| -> Vec<String> {
        let quoted = text.split('`').map(str::to_owned);
        quoted.filter(|name| name.contains('_') && !name.contains(['=', ' '])).collect()
    };
    let there: Vec<String> = rows.iter().flat_map(|(there, _)| names(there)).collect();
    for name in COUNTED_THERE {
        assert!(there.iter().any(|known| known == name), "{name} has no row");
    }
    let tollgate = serve(&["--reference-metrics=true"]).await;
    let client = &mut tollgate.client().await;
    ask_rule(client, "rule-0-match-0", 1).await;
    let exported = text(&tollgate).await;
    let is_exported = |name: &str| {
        let ends = |rest: &str| rest.starts_with([' ', '{', '_']);
        exported.lines().any(|line| line.strip_prefix(name).is_some_and(ends))
    };
    for (there, here) in rows {
        let same = if here.starts_with("the same name") { names(there) } else { Vec::new() };
        let here = names(here.trim_end_matches('|'));
        for name in same.iter().chain(&here).filter(|name| !METRIC_LABELS.contains(&&***name)) {
            assert!(is_exported(name), "{name} is not exported");
        }
    }
}

/// Names in the table that are no series.
const METRIC_LABELS: [&str; 3] = ["err_type", "grpc_method", "shadow_refused"];

#[tokio::test]
async fn the_board_of_envoy_gateway_finds_its_series() {
    let tollgate = serve(&["--reference-metrics=true"]).await;
    let series = series(&tollgate).await;
    for expression in BOARD {
        let expression = expression.replace("\"D\"", &format!("\"{DOMAIN}\""));
        let expression = expression.replace("R_R", &format!("{ROUTE}_{ROUTE}"));
        let start = expression.find(|c: char| c.is_ascii_lowercase()).unwrap();
        let (name, rest) = expression[start..].split_once('{').unwrap();
        let (matchers, _) = rest.split_once('}').unwrap();
        // Prometheus adds this label when it scrapes.
        let matchers = matchers.split(", ").filter(|one| !one.starts_with("app_kubernetes_io"));
        let matchers: Vec<&str> = matchers.collect();
        let is_found = series.keys().any(|series| {
            let (found, labels) = series.split_once('{').unwrap_or((series, ""));
            found == name && matchers.iter().all(|matcher| labels.contains(matcher))
        });
        assert!(is_found, "{expression}");
    }
}

#[tokio::test]
async fn a_flood_of_values_creates_few_series_and_the_busy_ones_stay() {
    let flags = ["--reference-metrics=true", "--metric-values-max=10"];
    let tollgate = serve(&flags).await;
    let client = &mut tollgate.client().await;
    ask(client, &[("user", "ann")], 2).await;
    // Two requests at once, as Envoy sends them: a request for many descriptors.
    let names: Vec<String> = (0..100_000).map(|number| format!("u{number}")).collect();
    for names in names.chunks(100) {
        let entries: Vec<[(&str, &str); 1]> =
            names.iter().map(|name| [("user", &**name)]).collect();
        let descriptors: Vec<&[(&str, &str)]> = entries.iter().map(|one| &one[..]).collect();
        client.should_rate_limit(request(DOMAIN, &descriptors)).await.unwrap();
    }
    ask(client, &[("user", "ann")], 1).await;
    let series = series(&tollgate).await;
    let users: BTreeMap<_, _> = series
        .iter()
        .filter(|(name, _)| name.starts_with("ratelimit_service_rate_limit_total_hits{"))
        .filter(|(name, _)| name.contains("key1=\"user_"))
        .collect();
    assert_eq!(users.len(), 11, "{users:#?}");
    assert_eq!(users.values().copied().sum::<u64>(), 100_003, "every hit is counted");
    assert_eq!(counts(&series, "user_ann", None), [3, 0, 1, 3, 0]);
}

#[tokio::test]
async fn a_bare_tollgate_has_none_of_them() {
    let tollgate = serve(&[]).await;
    ask(&mut tollgate.client().await, &[("user", "ann")], 1).await;
    let series = series(&tollgate).await;
    assert!(!series.keys().any(|name| name.starts_with("ratelimit_")), "{series:#?}");
}

#[tokio::test]
async fn statsd_has_the_sums_of_each_interval_and_no_request_waits_for_it() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let flags = [
        "--statsd-address",
        &address,
        "--statsd-interval=100ms",
        "--statsd-dog=true",
        "--statsd-rule-tags=true",
        "--statsd-tags=env=prod",
    ];
    let tollgate = serve(&flags).await;
    let client = &mut tollgate.client().await;
    for _ in 0..4 {
        ask(client, &[("user", "ann")], 1).await;
    }
    let mut sums = BTreeMap::<String, u64>::new();
    let mut buffer = [0; 2_000];
    let is_whole = |sums: &BTreeMap<String, u64>| {
        let tags = "|#env:prod,domain:default/eg/http,key1:user_ann";
        let rule = |field: &str, tags: &str| {
            sums.get(&format!("ratelimit.service.rate_limit.{field}{tags}")).copied()
        };
        let requests = sums.get("ratelimit_server.ShouldRateLimit.total_requests|#env:prod");
        rule("total_hits", tags) == Some(4)
            && rule("over_limit", tags) == Some(1)
            && requests == Some(&4)
    };
    while !is_whole(&sums) {
        let received = eventually("a packet", async || socket.try_recv(&mut buffer).ok()).await;
        for line in str::from_utf8(&buffer[..received]).unwrap().lines() {
            let Some((name, rest)) = line.split_once(':') else { panic!("{line}") };
            let Some((count, tags)) = rest.split_once("|c") else { continue };
            *sums.entry(format!("{name}{tags}")).or_default() += count.parse::<u64>().unwrap();
        }
    }
    // The receiver is gone.
    drop(socket);
    ask(client, &[("user", "ann")], 1).await;
}

#[tokio::test]
async fn statsd_over_tcp_has_what_was_counted_while_it_was_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let flags = [
        "--statsd-address",
        &address.to_string(),
        "--statsd-interval=100ms",
        "--statsd-protocol=tcp",
    ];
    let tollgate = serve(&flags).await;
    ask(&mut tollgate.client().await, &[("user", "ann")], 2).await;
    eventually("the warning", async || {
        tollgate.output().contains("statsd is unavailable").then_some(())
    })
    .await;
    let listener = TcpListener::bind(address).await.unwrap();
    let mut all = String::new();
    while !all.contains("ratelimit.service.rate_limit.default/eg/http.user_ann.total_hits:2|c\n") {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_to_string(&mut all).await.unwrap();
    }
}
