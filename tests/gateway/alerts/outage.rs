//! Outages of Redis: they are told while it is away, and what was open before is not told again.

use http::Request;
use serde_json::{Value, json};

use super::{AlertFile, ask, received};
use crate::support::client::Http;
use crate::support::eventually;
use crate::support::receiver::{Received, Receiver};
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const PRIVATE: &str = "allow_private_addresses: true";

#[tokio::test]
async fn an_outage_of_redis_is_told_and_resolves_and_nothing_is_told_twice() {
    let Some(server) = Server::start(&[]) else { return };
    let receiver = Receiver::start(&[]).await;
    let file = AlertFile::new(&format!(
        "channels:\n  hook: {{ type: webhook, url: '{}', {PRIVATE} }}\n\
         alerts:\n  down: {{ when: store_down, severity: critical }}\n  idle: {{ when: queue, below: 1 }}\n  \
         quota: {{ when: threshold, percent: [80%] }}",
        receiver.url()
    ));
    let store = Store::Redis(server);
    let tollgate: Tollgate = file.serve(&store).await;
    let Store::Redis(mut server) = store else { unreachable!("it was put there") };
    assert_eq!(received(&receiver, 1).await[0].json()["data"]["rule"], "idle");
    server.kill();
    let down = received(&receiver, 2).await[1].json();
    assert_eq!(down["type"], "dev.tollgate.alert.firing.v1");
    assert_eq!(
        (&down["data"]["rule"], &down["data"]["severity"]),
        (&"down".into(), &"critical".into())
    );
    server.launch();
    let up = received(&receiver, 3).await[2].json();
    assert_eq!(
        (&up["type"], &up["data"]["rule"]),
        (&"dev.tollgate.alert.resolved.v1".into(), &"down".into())
    );
    assert_eq!(down["data"]["alert"], up["data"]["alert"]);
    // The book of the outage has gone to Redis, and the idle queue was told before.
    ask(&tollgate, "ann", 8).await;
    let last = received(&receiver, 4).await;
    assert_eq!((last[3].json()["data"]["rule"].as_str(), last.len()), (Some("quota"), 4));
}

/// The alerts and silences as a sidecar sees them.
async fn seen(tollgate: &Tollgate, path: &str) -> Vec<Value> {
    let url = format!("http://{}/v1/alerts{path}", tollgate.http_address);
    Http::new().get(&url, &[]).await.json()["items"].as_array().unwrap().clone()
}

/// Sends a request of a person.
async fn act(tollgate: &Tollgate, method: &str, path: &str, body: &Value) -> Value {
    let uri = format!("http://{}/v1/alerts{path}", tollgate.http_address);
    let request = Request::builder().method(method).uri(uri);
    let request = request.header("content-type", "application/json");
    let answer = Http::new().send(request.body(body.to_string().into()).unwrap()).await;
    assert!(answer.status < 300, "{method} {path}: {answer:?}");
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

/// The kinds of what was told of a rule, in order.
fn told(receiver: &Receiver, rule: &str) -> Vec<String> {
    let told: Vec<Value> = receiver.received().iter().map(Received::json).collect();
    let of_rule = told.iter().filter(|one| one["data"]["rule"] == rule);
    of_rule.map(|one| one["data"]["status"].as_str().unwrap().to_owned()).collect()
}

/// Redis hangs, or is killed and loses its data.
#[derive(Clone, Copy, Debug)]
enum Outage {
    Hangs,
    LosesData,
}

impl Outage {
    fn begin(self, server: &mut Server) {
        match self {
            Self::Hangs => server.signal("STOP"),
            Self::LosesData => server.kill(),
        }
    }

    fn end(self, server: &mut Server) {
        match self {
            Self::Hangs => server.signal("CONT"),
            Self::LosesData => server.launch(),
        }
    }
}

/// Waits until a sidecar knows what was done in the outage.
async fn knows_all(tollgate: &Tollgate) {
    eventually("all is known", async || {
        let open = seen(tollgate, "?state=open").await;
        let silences = seen(tollgate, "/silences").await;
        let closed = seen(tollgate, "?state=closed&rule=bad").await;
        let is_known = open.len() == 1
            && open[0]["acknowledged_by"].is_string()
            && silences.len() == 1
            && silences[0]["labels"]["of"] == "new"
            && closed.len() == 1;
        is_known.then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_done_in_an_outage_of_redis_holds_afterwards_on_every_sidecar() {
    for outage in [Outage::Hangs, Outage::LosesData] {
        let Some(server) = Server::start(&[]) else { return };
        let receiver = Receiver::start(&[]).await;
        let file = AlertFile::new(&format!(
            "channels:\n  hook: {{ type: webhook, url: '{}', {PRIVATE} }}\n\
             alerts:\n  down: {{ when: store_down }}\n  idle: {{ when: queue, below: 1 }}\n  \
             bad: {{ when: config_invalid }}",
            receiver.url()
        ));
        let store = Store::Redis(server);
        let (one, other) = (file.serve(&store).await, file.serve(&store).await);
        let Store::Redis(mut server) = store else { unreachable!("it was put there") };
        // Only on one of the sidecars.
        one.edit("domain: [");
        received(&receiver, 2).await;
        let until = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24)).to_string();
        let silence =
            |label: &str| json!({ "rule": "down", "labels": { "of": label }, "until": until });
        let old = act(&one, "POST", "/silences", &silence("old")).await;
        eventually("both know all", async || {
            let (silences, open) = (seen(&other, "/silences").await, seen(&other, "").await);
            (silences.len() == 1 && open.len() == 2).then_some(())
        })
        .await;
        outage.begin(&mut server);
        eventually("the outage is told by both", async || {
            (told(&receiver, "down").len() == 2).then_some(())
        })
        .await;
        let idle = seen(&one, "?rule=idle").await[0]["id"].as_str().unwrap().to_owned();
        act(&one, "POST", &format!("/{idle}/acknowledge"), &Value::Null).await;
        act(&one, "POST", "/silences", &silence("new")).await;
        act(&one, "DELETE", &format!("/silences/{}", old["id"].as_str().unwrap()), &Value::Null)
            .await;
        one.edit(super::POLICY);
        eventually("the end is told in the outage", async || {
            (told(&receiver, "bad") == ["firing", "resolved"]).then_some(())
        })
        .await;
        outage.end(&mut server);
        eventually("the outage is over", async || {
            let is_over = told(&receiver, "down").iter().any(|kind| kind == "resolved");
            is_over.then_some(())
        })
        .await;
        knows_all(&one).await;
        knows_all(&other).await;
        assert_eq!(told(&receiver, "bad"), ["firing", "resolved"], "{outage:?}");
        assert_eq!(told(&receiver, "idle"), ["firing"], "{outage:?}");
        assert_eq!(told(&receiver, "down"), ["firing", "firing", "resolved"], "{outage:?}");
    }
}
