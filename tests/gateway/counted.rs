//! Requests in `/metrics` and the logs: hits, nearly exhausted limits, unknown domains.

use std::collections::BTreeMap;

use envoy_types::pb::google::protobuf::UInt64Value;

use crate::support::client::{Http, request};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const POLICY: &str = "
domain: shop
descriptors:
  - { key: user, limits: [{ name: daily, rate: 10/day }] }
  - { key: quiet, limits: [{ name: quiet, rate: 5/day, mode: shadow }] }
";

/// The series whose names start with this, with their values.
async fn series(tollgate: &Tollgate, start: &str) -> BTreeMap<String, u64> {
    let url = format!("http://{}/metrics", tollgate.http_address);
    let text = String::from_utf8(Http::new().get(&url, &[]).await.body.to_vec()).unwrap();
    let series = text.lines().filter(|line| line.starts_with(start));
    let series = series.filter_map(|line| line.rsplit_once(' '));
    series.map(|(name, count)| (name.to_owned(), count.parse().unwrap())).collect()
}

/// Requests this many hits of an entry; returns whether they passed.
async fn ask(tollgate: &Tollgate, entry: (&str, &str), hits: u64) -> bool {
    let mut ask = request("shop", &[&[entry]]);
    ask.descriptors[0].hits_addend = Some(UInt64Value { value: hits });
    let reported = tollgate.client().await.should_rate_limit(ask).await.unwrap();
    reported.into_inner().overall_code == 1
}

#[tokio::test]
async fn hits_are_counted_by_limit_and_refusals_are_not_near_it() {
    for store in Store::every() {
        for (ratio, near) in [("0.8", 2), ("0.5", 3), ("1", 0)] {
            store.clear().await;
            let flag = format!("--near-limit-ratio={ratio}");
            let tollgate = Tollgate::serve_with(POLICY, &store, &[&flag]).await;
            // 5, 8, 9 and 10 of ten are in use then.
            for hits in [5, 3, 1, 1] {
                assert!(ask(&tollgate, ("user", "alice"), hits).await);
            }
            // Peeks spend nothing.
            assert!(ask(&tollgate, ("user", "alice"), 0).await);
            for hits in [1, 7] {
                assert!(!ask(&tollgate, ("user", "alice"), hits).await);
            }
            for hits in [2, 4] {
                assert!(ask(&tollgate, ("quiet", "x"), hits).await);
            }
            let hits = series(&tollgate, "tollgate_hits_total").await;
            let hits = |limit: &str, outcome: &str| {
                let labels = format!(r#"{{domain="shop",limit="{limit}",outcome="{outcome}"}}"#);
                hits[&format!("tollgate_hits_total{labels}")]
            };
            assert_eq!((hits("daily", "admitted"), hits("daily", "refused")), (10, 8));
            assert_eq!((hits("quiet", "admitted"), hits("quiet", "shadow_refused")), (2, 4));
            let counted = series(&tollgate, "tollgate_near_limit_total").await;
            let name = r#"tollgate_near_limit_total{domain="shop",limit="daily"}"#;
            assert_eq!(counted[name], near, "{ratio}");
        }
    }
}

#[tokio::test]
async fn a_domain_without_a_policy_is_told_of_once_for_many_requests() {
    let tollgate = Tollgate::serve(POLICY, &Store::Embedded).await;
    let mut client = tollgate.client().await;
    let long = format!("\u{1b}[31m{}", "x".repeat(100));
    for domain in [long.as_str(), "shpo", "shpo"] {
        let reported = client.should_rate_limit(request(domain, &[&[("user", "alice")]])).await;
        assert_eq!(reported.unwrap().into_inner().overall_code, 1);
    }
    let counted = series(&tollgate, "tollgate_unknown_domains_total").await;
    assert_eq!(counted.values().copied().collect::<Vec<_>>(), [3]);
    let output = tollgate.output();
    let lines: Vec<&str> = output.lines().filter(|line| line.contains("unknown domain")).collect();
    assert_eq!(lines.len(), 1, "{output}");
    let shown = format!(r"\u{{1b}}[31m{}…", "x".repeat(59));
    assert!(lines[0].contains(&shown) && lines[0].contains("known=\"shop\""), "{}", lines[0]);
}
