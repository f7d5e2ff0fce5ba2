//! A pepper file that others can read, and records in Redis that can't be read.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::checker::Checker;
use super::scene::{Keeper, PEPPER, POLICY};
use crate::support::eventually;
use crate::support::redis::{Server, query};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pepper_file_that_others_can_read_is_told_at_the_start() {
    let folder = TempDir::new().unwrap();
    let pepper = folder.path().join("pepper.txt");
    fs::write(&pepper, PEPPER).unwrap();
    for (mode, is_told) in
        [(0o644, true), (0o640, true), (0o604, true), (0o600, false), (0o400, false)]
    {
        fs::set_permissions(&pepper, Permissions::from_mode(mode)).unwrap();
        let flags = ["--api-key-pepper-file", pepper.to_str().unwrap()];
        let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
        let output = tollgate.output();
        let lines = output.lines().filter(|line| line.contains("can read the pepper file"));
        let lines: Vec<&str> = lines.collect();
        assert_eq!(lines.len(), usize::from(is_told), "{mode:o}: {output}");
        for part in [pepper.to_str().unwrap(), &format!("{mode:03o}"), "chmod 600"] {
            assert!(lines.iter().all(|line| line.contains(part)), "{part}: {lines:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_can_not_be_read_is_an_outage_for_its_api_key_alone() {
    for on_outage in ["deny", "cached"] {
        let Some(server) = Server::start(&[]) else { return };
        let mut redis = server.raw().await;
        let store = Store::Redis(server);
        let policy = POLICY.replace("api_keys:", &format!("api_keys:\n  on_outage: {on_outage}"));
        let keeper = Keeper::start(&policy, &store, &[]).await;
        let (damaged, id) = keeper.create(&json!({ "caller": "acme" })).await;
        let known = Checker::of(&keeper.tollgate, "192.0.2.1").await;
        let is_cached = async || (known.status(&damaged).await == 200).then_some(());
        eventually("it is cached", is_cached).await;
        let of_damaged: Vec<String> = query(&mut redis, "KEYS tgc1-apikey-hash|*");
        let (fine, _) = keeper.create(&json!({ "caller": "acme" })).await;
        for row in of_damaged.iter().cloned().chain([format!("tgc1-apikey|{id}")]) {
            query::<String>(
                &mut redis,
                &format!("SET {row} {{\"version\":9,\"api_key\":{{\"id\":\"{id}\"}}}}"),
            );
        }
        // Its sidecar knows it from before. Another one does not, so neither answer of an outage lets it pass.
        let other = Keeper::start(&policy, &store, &[]).await;
        let fresh = Checker::of(&other.tollgate, "192.0.2.1").await;
        for _ in 0..20 {
            assert_eq!(fresh.status(&damaged).await, 503);
            assert_eq!(fresh.status(&fine).await, 200);
            assert_eq!(known.status(&damaged).await, 200);
        }
        let output = other.tollgate.output();
        assert_eq!(
            output.matches("a record of an API key in Redis can't be read").count(),
            1,
            "{output}"
        );
        assert!(output.contains(&id), "{output}");

        let shown = other.call("GET", &format!("/{id}"), &Value::Null).await;
        assert_eq!(shown.status, 503, "{}", shown.json());
        let listed = other.call("GET", "", &Value::Null).await.json();
        assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
    }
}
