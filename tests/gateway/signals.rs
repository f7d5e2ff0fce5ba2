//! A limit that follows a signal, through a real Envoy: `/v1/signals`, `/policy` and metrics.

use serde_json::{Value, json};

use crate::support::client::Http;
use crate::support::eventually;
use crate::support::gateway::{Gateway, tcp};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const POLICY: &str = "
domain: gate
descriptors:
- key: user
  limits:
  - { name: hourly, rate: 1000000/hour, adjust: { signal: errors, above: 5%, below: 2%, least: 0%, step: 100%, every: 1s } }
";

#[tokio::test]
async fn a_signal_lowers_a_limit_and_raises_it_again() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(POLICY, &store).await;
        let Some(gateway) = Gateway::start(&[tcp(tollgate.grpc_address)]).await else { return };
        let url = |path: &str| format!("http://{}/{path}", tollgate.http_address);
        let signal = async |name: &str, value: Value| {
            let body = json!({ "value": value }).to_string();
            Http::new().post(&url(&format!("v1/signals/{name}")), &[], &body).await.status
        };
        let shown = async |path: &str| {
            let body = Http::new().get(&url(path), &[]).await.body.to_vec();
            String::from_utf8(body).unwrap()
        };
        gateway.caller.gets("ann", 200).await;
        assert_eq!(signal("error", json!(0.5)).await, 404);
        assert_eq!(signal("errors", json!(-1)).await, 422);
        assert_eq!(signal("errors", json!("many")).await, 400);

        assert_eq!(signal("errors", json!(0.5)).await, 204);
        gateway.caller.gets("ann", 429).await;
        let answer = Http::new().get(&url("v1/signals"), &[]).await.json();
        let [limit, reported] = [&answer["limits"][0], &answer["signals"][0]];
        assert_eq!((&reported["name"], &reported["value"]), (&json!("errors"), &json!(0.5)));
        assert_eq!((&limit["limit"], &limit["percent"]), (&json!("hourly"), &json!(0.0)));
        assert_eq!((&limit["reason"], &limit["value"]), (&json!("above"), &json!(0.5)));
        assert!(shown("policy").await.contains("\"reason\""));
        let metrics = shown("metrics").await;
        for line in [
            r#"tollgate_adjusted_percent{domain="gate",limit="hourly"} 0"#,
            r#"tollgate_adjustments_total{domain="gate",limit="hourly",reason="above"} 1"#,
        ] {
            assert!(metrics.lines().any(|known| known == line), "{line}\n{metrics}");
        }

        assert_eq!(signal("errors", json!(0.0)).await, 204);
        eventually("the whole limit", async || {
            let answer = Http::new().get(&url("v1/signals"), &[]).await.json();
            (answer["limits"][0]["percent"] == 100.0).then_some(())
        })
        .await;
        assert_eq!(gateway.caller.ask("ann", "").await.status, 200);
    }
}
