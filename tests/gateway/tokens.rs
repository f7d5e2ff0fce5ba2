//! `config/policies/tokens.yaml`: costs, a balance and a daily budget.

use std::fs;

use serde_json::Value;

use crate::support::ask::DomainClient;
use crate::support::gateway::Gateway;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const FILE: &str = "config/policies/tokens.yaml";

/// Runs `check` with the policy on every store.
async fn on_every_store(policy: &str, check: impl AsyncFn(&mut DomainClient)) {
    for store in Store::every() {
        let tollgate = Tollgate::serve(policy, &store).await;
        check(&mut DomainClient::new(&tollgate, "tokens").await).await;
    }
}

fn policy() -> String {
    fs::read_to_string(FILE).unwrap()
}

/// The policy with a budget, or a balance, that no test here exhausts.
fn with(rate: &str, other: &str) -> String {
    let policy = policy();
    assert!(policy.contains(rate));
    policy.replace(rate, other)
}

#[tokio::test]
async fn words_are_paid_in_tokens_which_are_rounded_up() {
    on_every_store(&policy(), async |client| {
        let mut user = 0;
        let mut check = async |operation: &str, words: u32, tokens: u32| {
            user += 1;
            let reported = client.ask(&[&format!("user_id=user-{user}{operation}")], words).await;
            // The tightest limit is the budget of the day, of 200.
            assert_eq!(reported.remaining, [200 - tokens], "{operation} {words}: {reported:?}");
        };
        check(",operation=translate", 1_000, 5).await;
        check(",operation=translate", 1, 1).await;
        check(",operation=translate", 200, 1).await;
        check(",operation=translate", 201, 2).await;
        check(",operation=translate", 10_001, 51).await;
        check(",operation=summarise", 1_000, 2).await;
        check(",operation=summarise", 1, 1).await;
        check(",operation=summarise", 1_501, 4).await;
        // Requests without a line in the table cost their own hits.
        check(",operation=sing", 7, 7).await;
        check("", 7, 7).await;
    })
    .await;
}

#[tokio::test]
async fn one_purse_pays_for_every_operation() {
    on_every_store(&policy(), async |client| {
        let translated = client.ask(&["user_id=ann,operation=translate"], 1_000).await;
        assert_eq!(translated.remaining, [195]);
        let summarised = client.ask(&["user_id=ann,operation=summarise"], 1_000).await;
        assert_eq!(summarised.remaining, [193]);
        assert_eq!(client.ask(&["user_id=bob,operation=summarise"], 1_000).await.remaining, [198]);
    })
    .await;
}

#[tokio::test]
async fn the_balance_ends_and_is_given_back() {
    on_every_store(&with("200/day", "1000000/day"), async |client| {
        let translate = &["user_id=ann,operation=translate"];
        assert!(client.ask(translate, 200_000).await.passed);
        let broke = client.ask(translate, 1).await;
        assert_eq!((broke.reason(), broke.violated()), ("over_limit", vec!["balance"]));
        // Time doesn't bring it back, so there is no retry time.
        assert_eq!(broke.problem.get("retry_after_ms"), None, "{broke:?}");
        assert!(client.give_back(translate, 2_000).await.passed);
        let rest = client.ask(translate, 1_000).await;
        assert_eq!((rest.passed, rest.remaining), (true, vec![5]));
        assert!(client.ask(&["user_id=ann,operation=summarise"], 2_500).await.passed);
        assert!(!client.ask(translate, 1).await.passed);
    })
    .await;
}

#[tokio::test]
async fn the_last_request_of_a_day_may_overdraw_the_budget() {
    on_every_store(&policy(), async |client| {
        let translate = &["user_id=ann,operation=translate"];
        assert!(client.ask(translate, 39_000).await.passed);
        let last = client.ask(translate, 20_000).await;
        assert_eq!((last.passed, last.remaining), (true, vec![0]));
        let next = client.ask(translate, 1).await;
        assert_eq!((next.passed, next.violated()), (false, vec!["daily"]), "{next:?}");
    })
    .await;
}

#[tokio::test]
async fn the_balance_is_never_overdrawn() {
    on_every_store(&with("1000/total", "100/total"), async |client| {
        let translate = &["user_id=ann,operation=translate"];
        let dear = client.ask(translate, 21_000).await;
        assert_eq!((dear.passed, dear.violated()), (false, vec!["balance"]), "{dear:?}");
        assert!(client.ask(translate, 20_000).await.passed);
    })
    .await;
}

/// Through a real Envoy, with the configuration of `deploy/envoy`, which counts the words itself.
#[tokio::test]
async fn a_gateway_counts_the_words_whatever_the_caller_says() {
    for store in Store::every() {
        let tollgate = Tollgate::serve(&policy(), &store).await;
        let ports = [(8081, tollgate.grpc_address)];
        let Some(gateway) = Gateway::deployed("tokens.yaml", &ports).await else { return };
        let post = async |path: &str, words: usize| {
            let headers =
                [("x-api-key", "example-key-of-ann"), ("x-words", "1"), ("x-user-id", "bob")];
            gateway.caller.post(path, &headers, &"word \n".repeat(words)).await
        };
        let mut left: u32 = 200;
        for (path, words, tokens) in [
            ("/translate", 1_000, 5),
            ("/translate", 1_001, 6),
            ("/summarise", 1_000, 2),
            ("/summarise", 1, 1),
            ("/translate", 0, 0),
            ("/translate", 37_200, 186),
        ] {
            let answer = post(path, words).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            left -= tokens;
            assert_eq!(answer.header("x-ratelimit-remaining"), left.to_string(), "{path} {words}");
            let seen: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(seen["x-words"], words.to_string(), "{seen}");
            assert_eq!((&seen["x-user-id"], seen.get("x-api-key")), (&Value::from("ann"), None));
        }
        let refused = post("/translate", 1).await;
        assert_eq!(refused.status, 429, "{refused:?}");
        let problem: Value = serde_json::from_slice(&refused.body).unwrap();
        assert_eq!(problem["violated-policies"][0], "daily", "{problem}");
        assert_eq!(gateway.caller.post("/translate", &[], "word").await.status, 401);
        assert_eq!(post("/summarise", 250_000).await.status, 413);
        assert_eq!(gateway.upstream.served(), 6);
    }
}
