//! `tollgate keys` on a running Tollgate.

use std::process::Output;

use serde_json::Value;

use super::checker::Checker;
use super::scene::{Keeper, POLICY};
use crate::support::store::Store;
use crate::support::tollgate::command;

/// Runs `tollgate keys` with JSON as its output.
fn keys(keeper: &Keeper, arguments: &[&str]) -> Output {
    let url = format!("http://{}", keeper.tollgate.http_address);
    let mut keys = command();
    keys.arg("keys").args(arguments).args(["--api-url", &url, "--output", "json"]);
    keys.output().unwrap()
}

/// What it prints when all is well.
fn answer(keeper: &Keeper, arguments: &[&str]) -> Value {
    let output = keys(keeper, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_is_made_changed_rotated_and_deleted_on_the_command_line() {
    for store in Store::every() {
        let keeper = Keeper::start(POLICY, &store, &[]).await;
        let checker = Checker::of(&keeper.tollgate, "192.0.2.1").await;
        let create = ["create", "acme", "--scope", "hotels:read", "--expires", "2099-12-31"];
        let made = answer(&keeper, &[&create[..], &["--address", "192.0.2.0/24"]].concat());
        let (key, id) = (made["api_key"].as_str().unwrap(), made["id"].as_str().unwrap());
        assert_eq!(made["scopes"][0], "hotels:read");
        assert_eq!(checker.status(key).await, 200);

        let disabled = answer(&keeper, &["disable", id]);
        assert_eq!((&disabled["disabled"], checker.status(key).await), (&true.into(), 401));
        answer(&keeper, &["enable", id]);
        assert_eq!(checker.status(key).await, 200);
        let updated = answer(&keeper, &["update", id, "--address", "", "--name", "engine"]);
        assert_eq!((&updated["name"], &updated["addresses"]), (&"engine".into(), &Value::Null));

        let limited = answer(&keeper, &["update", id, "--limit", "9/hour", "--limit", "20/total"]);
        assert_eq!(limited["limits"], serde_json::json!(["9/hour", "20/total"]));
        assert_eq!(checker.status(key).await, 200);
        let shown = answer(&keeper, &["show", id]);
        assert_eq!(
            (&shown["quota"][1]["used"], &shown["quota"][1]["remaining"]),
            (&1.into(), &19.into())
        );
        let wrong = keys(&keeper, &["update", id, "--limit", "9/hours"]);
        assert!(
            String::from_utf8_lossy(&wrong.stderr).contains("limits.0: unknown window `hours`")
        );
        answer(&keeper, &["update", id, "--limit", ""]);
        assert_eq!(answer(&keeper, &["show", id])["limits"], Value::Null);

        let rotated = answer(&keeper, &["rotate", id, "--overlap", "7d"]);
        let new = rotated["api_key"].as_str().unwrap();
        assert_eq!((checker.status(key).await, checker.status(new).await), (200, 200));
        assert_eq!(answer(&keeper, &["show", id])["secrets"].as_array().unwrap().len(), 2);

        answer(&keeper, &["create", "bob"]);
        let items =
            |arguments: &[&str]| answer(&keeper, arguments)["items"].as_array().unwrap().len();
        assert_eq!((items(&["list"]), items(&["list", "acme"])), (2, 1));
        let gone = keys(&keeper, &["delete", id]);
        assert_eq!(String::from_utf8(gone.stdout).unwrap(), "deleted\n");
        assert_eq!((checker.status(new).await, items(&["list", "acme"])), (401, 0));
        assert_eq!(keys(&keeper, &["delete", id]).status.code(), Some(1));
        assert_eq!(keys(&keeper, &["rotate", id, "--overlap", "soon"]).status.code(), Some(2));
    }
}
