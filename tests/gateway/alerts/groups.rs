//! Notifications that are sent together, at real receivers.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{AlertFile, ask, received};
use crate::support::eventually;
use crate::support::process;
use crate::support::receiver::{Reaction, Receiver};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

/// A file with a rule, and a channel of a receiver that groups notifications; `more` are more channels.
fn file(receiver: &Receiver, grouping: &str, more: &str) -> AlertFile {
    AlertFile::new(&format!(
        "channels:\n  hook: {{ type: webhook, url: '{}', allow_private_addresses: true, {grouping} }}\n{more}\
         alerts:\n  quota: {{ when: threshold, percent: [80%, 90%] }}",
        receiver.url()
    ))
}

/// The callers in a message.
fn callers(event: &Value) -> BTreeSet<String> {
    let alerts = event["data"]["alerts"].as_array().unwrap();
    alerts.iter().map(|alert| alert["labels"]["caller"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_fleet_sends_one_message_for_many_alerts_and_the_next_after_the_interval() {
    for store in Store::every() {
        // The first attempt fails: the message stays the same.
        let receiver = Receiver::start(&[Reaction::Answer(500, None)]).await;
        let chat = Receiver::start(&[]).await;
        let grouping = "group_by: [rule, percent], group_wait: 5s, group_interval: 12s";
        let more = format!(
            "  chat: {{ type: slack, url: '{}', allow_private_addresses: true, {grouping} }}\n",
            chat.url()
        );
        let file = file(&receiver, grouping, &more);
        let tollgate = file.serve(&store).await;
        let other = match store {
            Store::Embedded => None,
            Store::Redis(_) => Some(file.serve(&store).await),
        };
        for user in ["ann", "bob", "cid"] {
            ask(&tollgate, user, 4).await;
            ask(other.as_ref().unwrap_or(&tollgate), user, 4).await;
        }
        let told = received(&receiver, 2).await;
        let event = told[0].json();
        assert_eq!(event["type"], "dev.tollgate.alert.group.v1", "{event}");
        assert_eq!(event["data"]["title"], "3 firing: percent=80 rule=quota");
        assert_eq!(callers(&event), BTreeSet::from(["ann", "bob", "cid"].map(str::to_owned)));
        assert_eq!(told[0].header("webhook-id"), told[1].header("webhook-id"));
        assert_eq!(event["data"], told[1].json()["data"]);
        ask(&tollgate, "eve", 8).await;
        let told = received(&receiver, 3).await;
        assert_eq!(callers(&told[2].json()), BTreeSet::from(["eve".to_owned()]));
        let text = received(&chat, 2).await[0].json()["text"].as_str().unwrap().to_owned();
        assert!(text.starts_with("[GROUP] 3 firing: percent=80 rule=quota\n[FIRING] "), "{text}");
        assert_eq!(text.lines().count(), 4, "{text}");
        assert_eq!((receiver.received().len(), chat.received().len()), (3, 2));
    }
}

#[tokio::test]
async fn a_group_outlives_the_sidecar_that_is_killed_while_it_waits() {
    for store in Store::every() {
        let Store::Redis(_) = &store else { continue };
        let receiver = Receiver::start(&[]).await;
        let file = file(&receiver, "group_by: [], group_wait: 15s", "  log: { type: log }\n");
        let mut killed = file.serve(&store).await;
        ask(&killed, "ann", 8).await;
        ask(&killed, "bob", 9).await;
        // They are in the book of the fleet, when the log has them too.
        eventually("the alerts", async || {
            (3 <= killed.output().matches("has used").count()).then_some(())
        })
        .await;
        process::signal(killed.id(), "KILL");
        killed.exit().await;
        assert_eq!(receiver.received().len(), 0);
        let _other: Tollgate = file.serve(&store).await;
        let told = received(&receiver, 1).await;
        assert_eq!(told[0].json()["data"]["firing"], 3);
    }
}

#[tokio::test]
async fn a_group_in_memory_is_sent_at_a_regular_end_and_one_in_redis_stays() {
    for store in Store::every() {
        let expected = match &store {
            Store::Embedded => 1,
            Store::Redis(_) => 0,
        };
        let receiver = Receiver::start(&[]).await;
        let file = file(&receiver, "group_by: [], group_wait: 1h", "  log: { type: log }\n");
        let mut tollgate = file.serve(&store).await;
        ask(&tollgate, "ann", 8).await;
        eventually("the alert", async || tollgate.output().contains("has used").then_some(()))
            .await;
        tollgate.terminate();
        assert!(tollgate.exit().await.success());
        let told: Vec<_> = receiver.received().iter().map(|one| callers(&one.json())).collect();
        assert_eq!(told, vec![BTreeSet::from(["ann".to_owned()]); expected]);
    }
}
