//! What checks of API keys ask of Redis: nothing for those that are cached, mistyped, or of an address with too many bad ones.

use redis::Connection;
use serde_json::{Value, json};

use super::checker::Checker;
use super::scene::{Keeper, POLICY};
use crate::support::eventually;
use crate::support::redis::{Server, calls, query};
use crate::support::store::Store;

/// The calls of Redis for API keys in twenty checks of each of these API keys, which all have this status.
async fn asked(raw: &mut Connection, checker: &Checker, (keys, status): (&[&str], i32)) -> u64 {
    let before = calls(raw, "mget");
    for _ in 0..20 {
        for key in keys {
            assert_eq!(checker.status(key).await, status, "{key}");
        }
    }
    calls(raw, "mget") - before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_asks_redis_for_nothing_that_it_knows() {
    let Some(server) = Server::start(&[]) else { return };
    let mut raw = server.raw().await;
    let store = Store::Redis(server);
    let policy = POLICY.replace("1000/minute", "200/hour");
    let keeper = Keeper::start(&policy, &store, &[]).await;
    let checker = Checker::of(&keeper.tollgate, "192.0.2.1").await;
    let (known, _) = keeper.create(&json!({ "caller": "acme" })).await;
    let mut unknown = Vec::new();
    for _ in 0..3 {
        let (key, id) = keeper.create(&json!({ "caller": "acme" })).await;
        assert_eq!(keeper.call("DELETE", &format!("/{id}"), &Value::Null).await.status, 204);
        unknown.push(key);
    }
    let is_cached = async || (asked(&mut raw, &checker, (&[&known], 200)).await == 0).then_some(());
    eventually("a known one is cached", is_cached).await;
    assert_eq!(asked(&mut raw, &checker, (&[&known], 200)).await, 0);
    // It has no limits of its own, so there is nothing to count.
    assert_eq!(query::<Vec<String>>(&mut raw, "KEYS tg1|*"), Vec::<String>::new());

    // An unknown one is asked for once, and a mistyped one never.
    assert_eq!(asked(&mut raw, &checker, (&[&unknown[0]], 401)).await, 1);
    let last = if known.ends_with('x') { 'y' } else { 'x' };
    let mistyped = format!("{}{last}", &known[..known.len() - 1]);
    assert_eq!(asked(&mut raw, &checker, (&[&mistyped, "tg_x"], 401)).await, 0);

    // An address that has sent too many of them is refused before Redis is asked, also for others.
    let is_refused = async || (checker.status(&mistyped).await == 429).then_some(());
    eventually("the address has sent too many", is_refused).await;
    assert_eq!(asked(&mut raw, &checker, (&[&unknown[1], &unknown[2]], 429)).await, 0);
    assert_eq!(asked(&mut raw, &checker, (&[&known], 200)).await, 0);
}
