//! The OpenAPI document against what is answered: requests that schemathesis makes of it, valid and invalid ones.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::support::find_program;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

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

/// No 5xx, and no answer that the document does not describe. The same requests in each run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_answer_is_as_the_document_describes_it() {
    let installed = PathBuf::from(INSTALLED).join("bin/schemathesis");
    let program = find_program("schemathesis", "SCHEMATHESIS", Some(installed));
    let (Some(program), Some(server)) = (program, Server::start(&[])) else { return };
    let store = Store::Redis(server);
    let tollgate =
        Tollgate::serve_with(POLICY, &store, &["--usage=true", "--alerts", "config/alerts.yaml"])
            .await;
    let url = format!("http://{}/v1/openapi.json", tollgate.http_address);
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(program);
    command
        .env("PYTHONPATH", INSTALLED)
        .current_dir(folder.path())
        .args(["run", &url, "--checks", CHECKS, "--phases", "coverage,fuzzing"])
        .args(["--seed", "1", "--max-examples", "10", "--workers", "1", "--generation-database"])
        .args(["none", "--no-shrink", "--no-color", "--warnings", "off"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("No issues found"), "{text}");
}
