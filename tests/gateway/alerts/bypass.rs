//! What a provider counts itself, compared with what was decided.

use serde_json::{Value, json};

use super::{AlertFile, received};
use crate::support::client::Http;
use crate::support::receiver::Receiver;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const POLICY: &str = "
domain: gate
tiers: [free, paid]
descriptors:
  - key: provider
    value: near
    limits: [100/hour]
    capacity: { reserve: { paid: 10% } }
";

async fn post(tollgate: &Tollgate, provider: &str, body: &Value) -> u16 {
    let url = format!("http://{}/v1/providers/{provider}/counts", tollgate.http_address);
    Http::new().post(&url, &[], &body.to_string()).await.status
}

#[tokio::test]
async fn hits_that_no_decision_explains_are_told() {
    for store in Store::every() {
        let receiver = Receiver::start(&[]).await;
        let channel = format!(
            "channels:\n  hook: {{ type: webhook, url: '{}', allow_private_addresses: true }}\n",
            receiver.url()
        );
        let file = AlertFile::new(&format!("{channel}alerts: {{}}"));
        let flags = ["--usage", "--alerts", file.path.to_str().unwrap()];
        let tollgate = Tollgate::serve_with(POLICY, &store, &flags).await;
        // Two hours ago, which is over and has no decisions.
        let hour_s = jiff::Timestamp::now().as_second() / 3_600 - 2;
        let start = jiff::Timestamp::from_second(hour_s * 3_600).unwrap();
        let count =
            |start: &str, hits: u64| json!({ "domain": "gate", "start": start, "hits": hits });
        assert_eq!(post(&tollgate, "near", &count("2026-01-01T00:00:00Z", 500)).await, 422);
        assert_eq!(post(&tollgate, "near", &count("2100-01-01T00:00:00Z", 500)).await, 422);
        let middle = start + jiff::SignedDuration::from_secs(60);
        assert_eq!(post(&tollgate, "near", &count(&middle.to_string(), 500)).await, 422);
        let count = count(&start.to_string(), 500);
        assert_eq!(post(&tollgate, "far", &count).await, 404);
        for _ in 0..2 {
            assert_eq!(post(&tollgate, "near", &count).await, 204);
        }
        // A rule is evaluated at once after an edit.
        file.edit(&format!("{channel}alerts: {{ around: {{ when: bypass, above: 5% }} }}"));
        let told = received(&receiver, 1).await;
        let data = told[0].json()["data"].clone();
        assert_eq!(data["title"], "no decision explains 100% of the hits of near", "{data}");
        assert_eq!(data["labels"]["domain"], "gate", "{data}");
    }
}
