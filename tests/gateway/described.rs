//! The OpenAPI document against what is answered: requests that schemathesis makes of it, valid and invalid ones.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::client::Http;
use crate::support::find_program;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, api_token};

/// The folder in which `tests/run.sh` installs it.
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/schemathesis");

/// A policy with something for each operation.
const POLICY: &str = "
domain: shop
tiers: [free, paid]
caller: { key: user, tier: { key: tier, default: free } }
answer: { refusal_id: [header] }
reservation: { ttl: 10m }
budget: { month: 100 EUR }
prices: [{ when: { provider: near }, price: 0.5 EUR }]
choices: [{ key: provider, value: any, among: { near: { price: 1 }, far: { price: 2 } } }]
descriptors:
- key: user
  limits: [{ name: daily, by_tier: { free: 10/day, paid: 100/day }, adjust: { signal: errors, above: 5%, below: 2%, least: 10%, step: 50%, every: 1s } }]
- { key: provider, limits: [{ name: provider, rate: 100/day }] }
";

const CHECKS: &str = "not_a_server_error,status_code_conformance,response_schema_conformance,content_type_conformance";

/// What schemathesis sends, and by whom.
struct Run<'a> {
    /// None: without a token.
    token: Option<&'a str>,
    examples: u32,
}

/// A Tollgate with tokens, and its document in a file.
struct Described {
    tollgate: Tollgate,
    folder: TempDir,
    admin: String,
    own: String,
}

impl Described {
    async fn start(store: &Store) -> Self {
        let folder = TempDir::new().unwrap();
        let pepper = folder.path().join("pepper");
        fs::write(&pepper, "0123456789abcdef0123456789abcdef").unwrap();
        fs::set_permissions(&pepper, Permissions::from_mode(0o600)).unwrap();
        let (admin, first) = api_token("admin", "admin");
        let (own, second) = api_token("ann", "self");
        let tokens = format!("{first},{second}");
        let flags = ["--usage=true", "--alerts", "config/alerts.yaml", "--api-tokens", &tokens];
        let flags = [&flags[..], &["--api-key-pepper-file", pepper.to_str().unwrap()]].concat();
        let tollgate = Tollgate::serve_with(POLICY, store, &flags).await;
        let url = format!("http://{}/v1/openapi.json", tollgate.http_address);
        let bearer = format!("Bearer {admin}");
        let document = Http::new().get(&url, &[("authorization", &bearer)]).await;
        assert_eq!(document.status, 200);
        fs::write(folder.path().join("openapi.json"), &document.body).unwrap();
        Self { tollgate, folder, admin, own }
    }

    /// Sends requests, the same ones each time, and checks the answers.
    async fn check(&self, program: &Path, run: Run<'_>) {
        let mut command = Command::new(program);
        command
            .env("PYTHONPATH", INSTALLED)
            .current_dir(self.folder.path())
            .args(["run", "openapi.json", "--checks", CHECKS, "--phases", "coverage,fuzzing"])
            .args(["--url", &format!("http://{}", self.tollgate.http_address)])
            .args(["--seed", "1", "--max-examples", &run.examples.to_string(), "--workers", "1"])
            .args(["--generation-database", "none", "--no-shrink", "--no-color"])
            .args(["--warnings", "off"]);
        if let Some(token) = run.token {
            command.args(["--header", &format!("Authorization: Bearer {token}")]);
        }
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("No issues found"), "{text}");
    }
}

/// No 5xx, and no answer that the document does not describe, whoever asks.
async fn check(store: &Store) {
    let installed = PathBuf::from(INSTALLED).join("bin/schemathesis");
    let Some(program) = find_program("schemathesis", "SCHEMATHESIS", Some(installed)) else {
        return;
    };
    let described = Described::start(store).await;
    for run in [
        Run { token: Some(&described.admin), examples: 15 },
        Run { token: Some(&described.own), examples: 3 },
        Run { token: None, examples: 1 },
    ] {
        described.check(&program, run).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_answer_is_as_the_document_describes_it() {
    check(&Store::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_answer_with_redis_is_as_the_document_describes_it() {
    let Some(server) = Server::start(&[]) else { return };
    check(&Store::Redis(server)).await;
}
