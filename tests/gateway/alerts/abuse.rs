//! Callers that send on although they are refused, as a process finds them in its usage.

use super::{AlertFile, ask, received};
use crate::support::eventually;
use crate::support::receiver::Receiver;
use crate::support::store::Store;
use crate::support::tollgate::{self, Tollgate};
use crate::support::usage::items;

#[tokio::test]
async fn a_caller_that_ignores_refusals_is_told_once_by_a_fleet() {
    for store in Store::every() {
        let receiver = Receiver::start(&[]).await;
        let channel = format!(
            "channels:\n  hook: {{ type: webhook, url: '{}', allow_private_addresses: true }}\n",
            receiver.url()
        );
        let file = AlertFile::new(&format!("{channel}alerts: {{}}"));
        let flags = ["--usage", "--alerts", file.path.to_str().unwrap()];
        let tollgate = Tollgate::serve_with(super::POLICY, &store, &flags).await;
        let other = match store {
            Store::Embedded => None,
            Store::Redis(_) => Some(Tollgate::serve_with(super::POLICY, &store, &flags).await),
        };
        // 30 of 40 and 2 of 12 are refused; the 12 are too few besides.
        ask(&tollgate, "ann", 20).await;
        ask(other.as_ref().unwrap_or(&tollgate), "ann", 20).await;
        ask(&tollgate, "bob", 12).await;
        eventually("the usage of all", async || {
            let (found, _) = items(&tollgate, "/v1/usage?granularity=day&group_by=caller").await;
            let requests = found.iter().map(|item| item["requests"].as_u64().unwrap());
            (requests.sum::<u64>() == 52).then_some(())
        })
        .await;
        // A rule is evaluated at once after an edit.
        let rule = "stubborn: { when: caller_refused, above: 50%, least: 20 }";
        file.edit(&format!("{channel}alerts:\n  {rule}"));
        let told = received(&receiver, 1).await;
        let data = &told[0].json()["data"];
        assert_eq!(data["title"], "75% of the requests of ann are refused", "{data}");
        let url = format!("http://{}", tollgate.http_address);
        let mut command = tollgate::command();
        command.args(["alerts", "test", "stubborn", "--against", "usage", "--api-url", &url]);
        let output = command.output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(said.contains("75% of the requests of ann are refused"), "{said}");
        assert_eq!(receiver.received().len(), 1);
    }
}
