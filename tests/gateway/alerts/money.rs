//! Rules over stored usage: money against a budget, and when a rule would have fired.

use serde_json::Value;

use super::{AlertFile, received};
use crate::support::ask::DomainClient;
use crate::support::client::Http;
use crate::support::eventually;
use crate::support::receiver::Receiver;
use crate::support::store::Store;
use crate::support::tollgate::{self, Tollgate};

const POLICY: &str = "
domain: gate
caller: { key: user }
budget: { day: 10 EUR }
prices: [{ when: { provider: near }, price: 1 EUR }]
descriptors:
  - { key: user, limits: [100000/day] }
  - { key: provider, limits: [100000/day] }
";

const TITLE: &str = "2640% of the daily budget will be spent at the rate of the last hour in gate";

async fn get(tollgate: &Tollgate, path: &str) -> (u16, Value) {
    let url = format!("http://{}{path}", tollgate.http_address);
    let answer = Http::new().get(&url, &[]).await;
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

#[tokio::test]
async fn a_budget_that_is_exceeded_is_told_once_and_replayed() {
    for store in Store::every() {
        let receiver = Receiver::start(&[]).await;
        let channel = format!(
            "channels:\n  hook: {{ type: webhook, url: '{}', allow_private_addresses: true }}\n",
            receiver.url()
        );
        let file = AlertFile::new(&format!("{channel}alerts: {{}}"));
        let path = file.path.to_str().unwrap().to_owned();
        let more = ["--alerts", &*path, "--usage"];
        let tollgate = Tollgate::serve_with(POLICY, &store, &more).await;
        let other = match store {
            Store::Embedded => None,
            Store::Redis(_) => Some(Tollgate::serve_with(POLICY, &store, &more).await),
        };
        let mut client = DomainClient::new(&tollgate, "gate").await;
        for _ in 0..11 {
            client.ask(&["user=ann", "provider=near"], 1).await;
        }
        eventually("the spend", async || {
            let (_, costs) = get(&tollgate, "/v1/costs").await;
            (costs["items"][0]["hour_micros"] == 11_000_000).then_some(())
        })
        .await;
        file.edit(&format!(
            "{channel}alerts:\n  daily: {{ when: budget, above: 100% }}\n\
             \x20 more: {{ when: spend, above: 12 }}\n  slow: {{ when: latency, above: 1h }}"
        ));
        let told = received(&receiver, 1).await;
        let data = &told[0].json()["data"];
        assert_eq!(data["title"], TITLE);
        let (_, replayed) = get(&tollgate, "/v1/alerts/rules/daily/firings").await;
        assert_eq!(replayed["items"][0]["labels"]["domain"], "gate", "{replayed}");
        assert_eq!(replayed["items"].as_array().unwrap().len(), 1, "{replayed}");
        let (_, replayed) = get(&tollgate, "/v1/alerts/rules/more/firings?days=2").await;
        assert_eq!(replayed["items"].as_array().unwrap().len(), 0, "{replayed}");
        let (status, problem) = get(&tollgate, "/v1/alerts/rules/slow/firings").await;
        assert_eq!(status, 422);
        assert!(problem.to_string().contains("usage does not hold"), "{problem}");
        assert_eq!(get(&tollgate, "/v1/alerts/rules/daily/firings?days=91").await.0, 422);
        assert_eq!(get(&tollgate, "/v1/alerts/rules/none/firings").await.0, 404);
        let url = format!("http://{}", tollgate.http_address);
        let mut command = tollgate::command();
        command.args(["alerts", "test", "daily", "--against", "usage", "--api-url", &url]);
        let output = command.output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(said.contains(TITLE), "{said}");
        assert_eq!(receiver.received().len(), 1, "it is told once, by one of the sidecars");
        drop(other);
    }
}

#[tokio::test]
async fn a_rule_over_usage_that_is_not_counted_is_told_in_the_log() {
    let file = AlertFile::new("alerts: { cost: { when: spend, above: 1 } }");
    let tollgate = file.serve(&Store::Embedded).await;
    eventually("the warning", async || {
        tollgate
            .output()
            .contains("an alert never fires: the setting `usage` is false")
            .then_some(())
    })
    .await;
    assert_eq!(get(&tollgate, "/v1/alerts/rules/cost/firings").await.0, 404);
}
