//! A disk without room: logs are lost, requests are not.

use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::client::request;
use crate::support::{client, eventually, tollgate};

const POLICY: &str = "{domain: d, descriptors: [{key: user, limits: [5/day]}]}";

/// Whatever is written to it, there is no room.
const FULL: &str = "/dev/full";

#[tokio::test]
async fn logs_that_can_t_be_written_cost_no_request() {
    let folder = TempDir::new().unwrap();
    let (policy, socket) = (folder.path().join("policy.yaml"), folder.path().join("grpc.sock"));
    std::fs::write(&policy, POLICY).unwrap();
    let full = || Stdio::from(std::fs::OpenOptions::new().write(true).open(FULL).unwrap());
    let mut command: Command = tollgate::command();
    command
        .args([
            "serve",
            "--grpc-address",
            "off",
            "--http-address",
            "127.0.0.1:0",
            "--log-level",
            "debug",
        ])
        .args(["--audit-log", FULL, "--grpc-unix-socket"])
        .arg(&socket)
        .arg("--policies")
        .arg(&policy)
        .stdin(Stdio::null())
        .stdout(full())
        .stderr(full());
    let mut process = command.spawn().unwrap();
    // It is there before anybody listens.
    eventually("the socket", async || UnixStream::connect(&socket).ok().map(drop)).await;
    let mut client = client::grpc(&format!("unix://{}", socket.display())).await;
    let mut codes = Vec::new();
    for _ in 0..6 {
        let asked = request("d", &[&[("user", "alice")]]);
        codes.push(client.should_rate_limit(asked).await.unwrap().into_inner().overall_code);
    }
    // A mistake has much to tell, to nobody.
    std::fs::write(&policy, "domain: [").unwrap();
    let asked = request("d", &[&[("user", "bob")]]);
    let after = client.should_rate_limit(asked).await.unwrap().into_inner().overall_code;
    let running = process.try_wait().unwrap().is_none();
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!((codes, after, running), (vec![1, 1, 1, 1, 1, 2], 1, true));
}
