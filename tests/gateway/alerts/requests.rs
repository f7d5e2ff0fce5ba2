//! Rules over the addresses, API keys and identifiers of requests.

use std::collections::BTreeSet;

use super::AlertFile;
use crate::support::ask::request;
use crate::support::eventually;
use crate::support::receiver::{Received, Receiver};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const POLICY: &str = "
domain: gate
caller: { key: user }
abuse: { address: remote_address, api_key: key_id, identifier: hotel_id }
descriptors:
  - { key: user, limits: [100000/day] }
";

const RULES: &str = "
  stuffing: { when: address_callers, above: 3 }
  farm: { when: address_api_keys, above: 4 }
  shared: { when: caller_addresses, above: 3 }
  stolen: { when: api_key_addresses, above: 3 }
  burst: { when: burst, above: 30 }
  probing: { when: probing, above: 20 }
";

#[tokio::test]
async fn what_requests_show_of_abuse_is_told_once() {
    for store in Store::every() {
        let receiver = Receiver::start(&[]).await;
        let file = AlertFile::new(&format!(
            "channels:\n  hook: {{ type: webhook, url: '{}', allow_private_addresses: true }}\nalerts:{RULES}",
            receiver.url()
        ));
        let flags = ["--alerts", file.path.to_str().unwrap()];
        let tollgate = Tollgate::serve_with(POLICY, &store, &flags).await;
        let mut client = tollgate.client().await;
        let expected = [
            "burst: walker",
            "farm: 2001:db8:0:1::/64",
            "probing: walker",
            "shared: roamer",
            "stolen: k-roamer",
            "stuffing: 192.0.2.1",
        ];
        let expected: BTreeSet<String> = expected.into_iter().map(str::to_owned).collect();
        // A rule is in force up to a second after the start.
        eventually("all alerts", async || {
            let mut asked = Vec::new();
            for one in 0..6 {
                asked.push(format!("user=u{one},remote_address=192.0.2.1,key_id=k-1"));
                asked.push(format!("user=farm,remote_address=2001:db8:0:1::{one},key_id=k-{one}"));
                asked.push(format!("user=roamer,remote_address=198.51.100.{one},key_id=k-roamer"));
            }
            for one in 0..100 {
                asked.push(format!("user=walker,hotel_id=H-{:04}", 995 + one));
            }
            for descriptor in &asked {
                client.should_rate_limit(request("gate", &[descriptor], 1)).await.unwrap();
            }
            let told: BTreeSet<String> = told(&receiver).into_iter().collect();
            // More may fire, such as bursts, because it asks again and again.
            expected.is_subset(&told).then_some(())
        })
        .await;
        let mut told = told(&receiver);
        let count = told.len();
        told.sort_unstable();
        told.dedup();
        assert_eq!(told.len(), count, "each is told once");
    }
}

/// The rules of the notifications of what fires, and whom each is about.
fn told(receiver: &Receiver) -> Vec<String> {
    let about = |received: &Received| {
        let data = received.json()["data"].clone();
        let labels = ["caller", "address", "api_key"].map(|name| data["labels"][name].as_str());
        let about = labels.iter().flatten().next().unwrap();
        let about = format!("{}: {about}", data["rule"].as_str().unwrap());
        (data["status"] == "firing").then_some(about)
    };
    receiver.received().iter().filter_map(about).collect()
}

#[tokio::test]
async fn a_rule_whose_entries_no_policy_names_is_told_in_the_log() {
    let file = AlertFile::new("alerts: { shared: { when: caller_addresses, above: 3 } }");
    let tollgate = file.serve(&Store::Embedded).await;
    eventually("the warning", async || {
        let is_told =
            tollgate.output().contains("alert `shared`: no policy names these entries in `abuse`");
        is_told.then_some(())
    })
    .await;
}
