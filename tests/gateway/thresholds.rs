//! Thresholds of limits through a real Envoy: a warning in the header of one answer, and a count in the metrics of one sidecar.

use std::iter;

use crate::support::client::Http;
use crate::support::gateway::{Counts, Gateway, tcp};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const POLICY: &str = "
domain: gate
defaults: { thresholds: true }
answer: { headers: [x-quota-warning] }
descriptors:
  - { key: user, limits: [{ name: daily, rate: 10/day }] }
";

/// What the metrics of all sidecars together say of each threshold, the lowest first.
async fn crossings(sidecars: &[Tollgate]) -> [u64; 4] {
    let mut all = [0; 4];
    for tollgate in sidecars {
        let url = format!("http://{}/metrics", tollgate.http_address);
        let text = String::from_utf8(Http::new().get(&url, &[]).await.body.to_vec()).unwrap();
        for (sum, percent) in all.iter_mut().zip([80, 90, 95, 100]) {
            let labels = format!(r#"{{domain="gate",limit="daily",threshold="{percent}"}} "#);
            let name = format!("tollgate_threshold_crossings_total{labels}");
            let line = text.lines().find_map(|line| line.strip_prefix(&name)).expect(&name);
            *sum += line.parse::<u64>().unwrap();
        }
    }
    all
}

#[tokio::test]
async fn each_threshold_is_told_once_whatever_the_number_of_sidecars() {
    for store in Store::every() {
        let number = if matches!(store, Store::Embedded) { 1 } else { 2 };
        let mut sidecars = Vec::new();
        for _ in 0..number {
            sidecars.push(Tollgate::serve(POLICY, &store).await);
        }
        let addresses: Vec<_> = sidecars.iter().map(|one| tcp(one.grpc_address)).collect();
        let Some(gateway) = Gateway::start(&addresses).await else {
            return;
        };
        let mut reported = Vec::new();
        for _ in 0..12 {
            reported.push(gateway.caller.ask("ann", "").await.header("x-quota-warning").to_owned());
        }
        let warnings = ["daily; used=80%", "daily; used=90%", "daily; used=100%", "", ""];
        let expected: Vec<&str> = iter::repeat_n("", 7).chain(warnings).collect();
        assert_eq!(reported, expected);
        assert_eq!(crossings(&sidecars).await, [1; 4]);
        // Many callers at once, each of whom is told of each threshold once.
        for user in ["bob", "eve", "joe"] {
            assert_eq!(gateway.caller.crowd(user, 25).await, Counts::new(10, 15));
        }
        assert_eq!(crossings(&sidecars).await, [4; 4]);
    }
}
