//! What people do with alerts: over the API and on the command line, on both stores.

use serde_json::{Value, json};

use super::{AlertFile, ask, received};
use crate::support::client::Http;
use crate::support::eventually;
use crate::support::receiver::{Reaction, Receiver};
use crate::support::store::Store;
use crate::support::tollgate::{self, Tollgate};

/// The output of a command of `tollgate alerts`.
fn run(tollgate: &Tollgate, arguments: &[&str]) -> String {
    let url = format!("http://{}", tollgate.http_address);
    let mut command = tollgate::command();
    let output = command.arg("alerts").args(arguments).args(["--api-url", &url]).output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

async fn get(tollgate: &Tollgate, path: &str) -> Value {
    let url = format!("http://{}{path}", tollgate.http_address);
    let answer = Http::new().get(&url, &[]).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    serde_json::from_slice(&answer.body).unwrap()
}

/// A file with two rules: one that fires at once and for good, and thresholds.
fn file(receiver: &Receiver) -> AlertFile {
    AlertFile::new(&format!(
        "channels:\n  hook: {{ type: webhook, url: '{}', allow_private_addresses: true }}\n\
         alerts:\n  quota: {{ when: threshold, percent: [80%] }}\n  idle: {{ when: queue, below: 1 }}",
        receiver.url()
    ))
}

#[tokio::test]
async fn alerts_are_listed_acknowledged_and_resolved_on_any_sidecar() {
    for store in Store::every() {
        let receiver = Receiver::start(&[]).await;
        let file = file(&receiver);
        let tollgate = file.serve(&store).await;
        let other = match store {
            Store::Embedded => None,
            Store::Redis(_) => Some(file.serve(&store).await),
        };
        let other = other.as_ref().unwrap_or(&tollgate);
        ask(&tollgate, "ann", 8).await;
        received(&receiver, 2).await;
        let open = get(other, "/v1/alerts?state=open").await;
        assert_eq!(open["items"].as_array().unwrap().len(), 2, "{open}");
        let quota = get(other, "/v1/alerts?caller=ann").await["items"][0].clone();
        assert_eq!(quota["title"], "ann has used 80% of daily");
        assert_eq!((&quota["rule"], &quota["state"]), (&json!("quota"), &json!("open")));
        let idle =
            get(other, "/v1/alerts?rule=idle").await["items"][0]["id"].as_str().unwrap().to_owned();
        assert!(run(other, &["ack", &idle]).contains("acknowledged"));
        let list = run(&tollgate, &["list", "--rule", "idle"]);
        assert!(list.contains("loopback") || list.contains("local"), "{list}");
        assert!(run(other, &["resolve", &idle]).contains("resolved"));
        // It still fires, and does not open again.
        let all = received(&receiver, 3).await;
        assert_eq!(all[2].json()["type"], "dev.tollgate.alert.resolved.v1");
        let closed = get(&tollgate, "/v1/alerts?state=closed").await;
        assert_eq!(closed["items"][0]["rule"], "idle", "{closed}");
        assert!(closed["items"][0]["resolved_by"].is_string());
        assert!(run(&tollgate, &["resolve", &idle]).contains("no open alert has the id"));
        assert_eq!(get(&tollgate, "/v1/alerts?rule=idle&state=open").await["items"], json!([]));
    }
}

#[tokio::test]
async fn a_maintenance_window_holds_back_notifications_until_an_edit_ends_it() {
    let receiver = Receiver::start(&[]).await;
    let channel = format!(
        "channels:\n  hook: {{ type: webhook, url: '{}', allow_private_addresses: true }}\n",
        receiver.url()
    );
    let rules = "alerts:\n  idle: { when: queue, below: 1 }\n  other: { when: queue, below: 2 }\n";
    let window =
        "timezone: Asia/Tokyo\nmaintenance:\n  all: { months: january-december, alerts: [idle] }\n";
    let file = AlertFile::new(&format!("{channel}{rules}{window}"));
    let tollgate = file.serve(&Store::Embedded).await;
    let told = received(&receiver, 1).await;
    assert_eq!(told[0].json()["data"]["rule"], "other");
    let open = get(&tollgate, "/v1/alerts?state=open&rule=idle").await;
    assert_eq!(open["items"][0]["silenced"], true, "{open}");
    let list = get(&tollgate, "/v1/alerts/silences").await;
    let expected = json!([{
        "name": "all", "rules": ["idle"], "labels": {}, "timezone": "Asia/Tokyo", "active": true,
        "times": list["maintenance"][0]["times"],
    }]);
    assert_eq!(list["maintenance"], expected);
    let listed = run(&tollgate, &["silences"]);
    let row = listed.lines().find(|line| line.contains("Asia/Tokyo")).unwrap_or_default();
    assert!(row.contains("all") && row.contains("idle") && row.contains("true"), "{listed}");
    file.edit(&format!("{channel}{rules}"));
    let told = received(&receiver, 2).await;
    assert_eq!(told[1].json()["data"]["rule"], "idle");
}

#[tokio::test]
async fn a_silence_holds_back_notifications() {
    let receiver = Receiver::start(&[]).await;
    let file = file(&receiver);
    let tollgate = file.serve(&Store::Embedded).await;
    received(&receiver, 1).await;
    let until = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24)).to_string();
    let said = run(
        &tollgate,
        &[
            "silence",
            "--rule",
            "quota",
            "--label",
            "caller=ann",
            "--until",
            &until,
            "--comment",
            "sale",
        ],
    );
    assert!(said.contains("sale"), "{said}");
    ask(&tollgate, "ann", 8).await;
    ask(&tollgate, "bob", 8).await;
    let all = received(&receiver, 2).await;
    assert_eq!(all[1].json()["subject"], "bob");
    let of_ann = get(&tollgate, "/v1/alerts?caller=ann").await;
    assert_eq!(of_ann["items"][0]["silenced"], true, "{of_ann}");
    let silences = get(&tollgate, "/v1/alerts/silences").await;
    let id = silences["items"][0]["id"].as_str().unwrap();
    assert!(run(&tollgate, &["unsilence", id]).contains("ended"));
    assert!(run(&tollgate, &["silence", "--until", "2020-01-01"]).contains("is over"));
    let unknown = run(&tollgate, &["silence", "--rule", "none", "--until", &until]);
    assert!(unknown.contains("no rule has the name `none`"), "{unknown}");
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test]
async fn an_alert_that_ends_in_a_silence_is_told_to_the_receiver_that_knows_of_it() {
    for store in Store::every() {
        let receiver = Receiver::start(&[]).await;
        let text = format!(
            "channels:\n  hook: {{ type: webhook, url: '{}', allow_private_addresses: true }}\n\
             alerts:\n  bad: {{ when: config_invalid }}\n  quota: {{ when: threshold }}\n",
            receiver.url()
        );
        let file = AlertFile::new(&text);
        let tollgate = file.serve(&store).await;
        file.edit(&format!("{text}  bad: {{ when: nothing }}\n"));
        received(&receiver, 1).await;
        let until = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24)).to_string();
        run(&tollgate, &["silence", "--until", &until]);
        file.edit(&text);
        let all = received(&receiver, 2).await;
        assert_eq!(all[1].json()["type"], "dev.tollgate.alert.resolved.v1");
        assert_eq!(all[0].json()["data"]["alert"], all[1].json()["data"]["alert"]);
        // What begins in the silence is held back.
        ask(&tollgate, "ann", 10).await;
        file.edit(&format!("{text}  bad: {{ when: nothing }}\n"));
        eventually("two open alerts", async || {
            let open = get(&tollgate, "/v1/alerts?state=open").await;
            let items = open["items"].as_array().unwrap();
            let of = |rule: &str| items.iter().any(|item| item["rule"] == rule);
            (of("bad") && of("quota")).then_some(())
        })
        .await;
        assert_eq!(receiver.received().len(), 2);
    }
}

#[tokio::test]
async fn what_could_not_be_sent_is_sent_again() {
    let receiver =
        Receiver::start(&[Reaction::Answer(204, None), Reaction::Answer(410, None)]).await;
    let tollgate = file(&receiver).serve(&Store::Embedded).await;
    received(&receiver, 1).await;
    assert!(run(&tollgate, &["test", "quota"]).contains("a test notification is being sent"));
    let dead = eventually("a dead notification", async || {
        let dead = get(&tollgate, "/v1/alerts/notifications").await;
        dead["items"].get(0).cloned()
    })
    .await;
    assert_eq!((&dead["kind"], &dead["rule"]), (&json!("test"), &json!("quota")));
    assert!(dead["error"].as_str().unwrap().contains("410"), "{dead}");
    assert!(run(&tollgate, &["dead"]).contains("410"));
    assert!(run(&tollgate, &["resend", dead["id"].as_str().unwrap()]).contains("sent again"));
    let all = received(&receiver, 3).await;
    assert_eq!(all[2].json()["type"], "dev.tollgate.alert.test.v1");
    assert_eq!(all[1].header("webhook-id"), all[2].header("webhook-id"));
    assert!(run(&tollgate, &["test", "none"]).contains("no rule has the name `none`"));
}

#[tokio::test]
async fn without_files_there_are_no_alerts() {
    let tollgate = Tollgate::serve(super::POLICY, &Store::Embedded).await;
    assert!(run(&tollgate, &["list"]).contains("the setting `alerts` names no files"));
}
