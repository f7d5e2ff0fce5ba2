//! The risk of callers, as any sidecar of a fleet tells it.

use serde_json::Value;

use super::{AlertFile, ask, received};
use crate::support::client::Http;
use crate::support::eventually;
use crate::support::receiver::Receiver;
use crate::support::store::Store;
use crate::support::tollgate::{self, Tollgate};

const RULES: &str = "
  denied: { when: denials, above: 3, notify: [], risk: 60 }
  burst: { when: burst, above: 5, over: 10s, notify: [], risk: 50 }
  risky: { when: risk, above: 70 }
";

async fn read(tollgate: &Tollgate, path: &str) -> Value {
    let url = format!("http://{}{path}", tollgate.http_address);
    serde_json::from_slice(&Http::new().get(&url, &[]).await.body).unwrap()
}

#[tokio::test]
async fn the_risk_of_a_caller_has_reasons_and_is_told_when_it_is_high() {
    for store in Store::every() {
        let receiver = Receiver::start(&[]).await;
        let file = AlertFile::new(&format!(
            "channels:\n  hook: {{ type: webhook, url: '{}', allow_private_addresses: true }}\nalerts:{RULES}",
            receiver.url()
        ));
        let tollgate = file.serve(&store).await;
        let other = match store {
            Store::Embedded => None,
            Store::Redis(_) => Some(file.serve(&store).await),
        };
        let asked = other.as_ref().unwrap_or(&tollgate);
        let none = read(asked, "/v1/callers/ann/risk").await;
        assert_eq!((&none["risk"], &none["reasons"]), (&0.0.into(), &Value::Array(Vec::new())));
        ask(&tollgate, "ann", 20).await;
        ask(&tollgate, "bob", 8).await;
        // 1 - 0.4 x 0.5.
        let risk = eventually("the risk", async || {
            let risk = read(asked, "/v1/callers/ann/risk").await;
            (risk["risk"] == 80.0).then_some(risk)
        })
        .await;
        let shares: Vec<_> = (0..2).map(|index| &risk["reasons"][index]["share"]).collect();
        assert_eq!(shares, [60.0, 50.0], "{risk}");
        assert_eq!(risk["reasons"][0]["title"], "10 requests of ann were refused", "{risk}");
        let risks = eventually("both callers", async || {
            let risks = read(asked, "/v1/risks").await;
            (risks["items"].as_array().unwrap().len() == 2).then_some(risks)
        })
        .await;
        let callers: Vec<_> = (0..2).map(|index| &risks["items"][index]["caller"]).collect();
        assert_eq!(callers, ["ann", "bob"], "{risks}");
        assert_eq!(risks["of_fleet"], other.is_some());
        let told = received(&receiver, 1).await;
        assert_eq!(told[0].json()["data"]["title"], "the risk of ann is 80 of 100");
        let url = format!("http://{}", asked.http_address);
        let mut command = tollgate::command();
        command.args(["alerts", "risk", "ann", "--api-url", &url]);
        let output = command.output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(said.contains("10 requests of ann were refused"), "{said}");
        assert_eq!(read(asked, "/v1/risks?limit=0").await["status"], 400);
    }
}
