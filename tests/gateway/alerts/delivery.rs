//! Receivers that fail, hang, redirect or are at private addresses.

use super::{AlertFile, ask, received};
use crate::support::client::Http;
use crate::support::eventually;
use crate::support::process;
use crate::support::receiver::{Reaction, Receiver};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

/// A file with one rule, and a channel for each receiver; `more` are more keys of each channel.
fn file(receivers: &[&Receiver], more: &str) -> AlertFile {
    let channel = |(index, receiver): (usize, &&Receiver)| {
        format!("  hook{index}: {{ type: webhook, url: '{}'{more} }}\n", receiver.url())
    };
    let channels: String = receivers.iter().enumerate().map(channel).collect();
    AlertFile::new(&format!(
        "channels:\n{channels}alerts:\n  quota: {{ when: threshold, percent: [80%] }}"
    ))
}

const PRIVATE: &str = ", allow_private_addresses: true";

async fn metric(tollgate: &Tollgate, name: &str) -> Option<String> {
    let url = format!("http://{}/metrics", tollgate.http_address);
    let text = String::from_utf8(Http::new().get(&url, &[]).await.body.to_vec()).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name).map(|value| value.trim().to_owned()))
}

#[tokio::test]
async fn a_failed_notification_is_sent_again_with_the_same_id() {
    let answer = |status| Reaction::Answer(status, None);
    let reactions = [answer(500), answer(429)];
    let receiver = Receiver::start(&reactions).await;
    let tollgate = file(&[&receiver], PRIVATE).serve(&Store::Embedded).await;
    ask(&tollgate, "ann", 8).await;
    let all = received(&receiver, 3).await;
    let ids: Vec<_> = all.iter().map(|one| one.header("webhook-id").to_owned()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    eventually("the result", async || {
        let sent = metric(
            &tollgate,
            r#"tollgate_alert_notifications_total{channel="hook0",result="sent"}"#,
        );
        (sent.await.as_deref() == Some("1")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_a_hanging_receiver_delays_no_other() {
    let target = Receiver::start(&[]).await;
    let redirect = Reaction::Answer(302, Some(("location", target.url())));
    let (redirecting, hanging) =
        (Receiver::start(&[redirect]).await, Receiver::start(&vec![Reaction::Hang; 100]).await);
    let good = Receiver::start(&[]).await;
    let file = file(&[&hanging, &redirecting, &good], PRIVATE);
    let tollgate = file.serve(&Store::Embedded).await;
    for user in 0..10 {
        ask(&tollgate, &format!("user{user}"), 8).await;
    }
    received(&good, 10).await;
    // The first attempt is answered with a redirect, which counts as a failure.
    received(&redirecting, 11).await;
    assert_eq!(target.received().len(), 0);
    assert!(hanging.received().len() <= 4, "attempts of one channel at a time");
}

#[tokio::test]
async fn private_addresses_are_refused_unless_they_are_allowed() {
    let receiver = Receiver::start(&[]).await;
    let tollgate = file(&[&receiver], "").serve(&Store::Embedded).await;
    ask(&tollgate, "ann", 8).await;
    eventually("the refusal", async || {
        let said = "the receiver is at the private address 127.0.0.1";
        tollgate.output().contains(said).then_some(())
    })
    .await;
    assert_eq!(receiver.received().len(), 0);
}

#[tokio::test]
async fn what_a_killed_sidecar_did_not_send_is_sent_by_another() {
    for store in Store::every() {
        let Store::Redis(_) = &store else { continue };
        // The first sidecar can't reach its receiver.
        let receiver = Receiver::start(&[]).await;
        let blind = file(&[&receiver], "");
        let mut killed = blind.serve(&store).await;
        ask(&killed, "ann", 8).await;
        eventually("a failed attempt", async || {
            killed.output().contains("sending a notification failed").then_some(())
        })
        .await;
        process::signal(killed.id(), "KILL");
        killed.exit().await;
        let seeing = file(&[&receiver], PRIVATE);
        let _other = seeing.serve(&store).await;
        let all = received(&receiver, 1).await;
        assert_eq!(all[0].json()["subject"], "ann");
    }
}
