//! A full disk and damaged files: logs are lost, usage waits in memory, and requests are decided.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::client::{Http, request};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;
use crate::support::{client, eventually, tollgate};

const POLICY: &str = "{domain: d, descriptors: [{key: user, limits: [5/day]}]}";

/// Every write to it fails: the device is full.
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
    // It exists before there is a reader.
    eventually("the socket", async || UnixStream::connect(&socket).ok().map(drop)).await;
    let mut client = client::grpc(&format!("unix://{}", socket.display())).await;
    let mut codes = Vec::new();
    for _ in 0..6 {
        let asked = request("d", &[&[("user", "alice")]]);
        codes.push(client.should_rate_limit(asked).await.unwrap().into_inner().overall_code);
    }
    // A problem with a long message, which is lost.
    std::fs::write(&policy, "domain: [").unwrap();
    let asked = request("d", &[&[("user", "bob")]]);
    let after = client.should_rate_limit(asked).await.unwrap().into_inner().overall_code;
    let running = process.try_wait().unwrap().is_none();
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!((codes, after, running), (vec![1, 1, 1, 1, 1, 2], 1, true));
}

const USAGE_POLICY: &str = "
domain: shop
caller: { key: user }
descriptors: [{ key: user, limits: [{ name: daily, rate: 100000/day }] }]
";

/// Serves with a file for usage. A write beyond the limit of file sizes is an error there, and not a signal.
async fn serve(data_dir: &Path) -> Tollgate {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", tollgate::PROGRAM]);
    let data_dir = data_dir.display().to_string();
    let flags = ["--usage=true", "--data-dir", &data_dir];
    Tollgate::serve_by(command, USAGE_POLICY, &Store::Embedded, &flags).await
}

/// Sends requests of other callers each time, so that the file grows. All are admitted.
async fn ask(tollgate: &Tollgate, callers: std::ops::Range<u32>) {
    let mut client = tollgate.client().await;
    for caller in callers {
        let name = format!("{caller}-{}", "x".repeat(200));
        let answer = client.should_rate_limit(request("shop", &[&[("user", &name)]])).await;
        assert_eq!(answer.unwrap().into_inner().overall_code, 1);
    }
}

/// Waits until the file, and not the memory of this process, has this many requests.
async fn stored(tollgate: &Tollgate, expected: u64) {
    let url = format!("http://{}/v1/usage?granularity=day", tollgate.http_address);
    eventually("the requests in the file", async || {
        let page = Http::new().get(&url, &[]).await.json();
        let requests = page["items"].as_array()?.iter().map(|item| item["requests"].as_u64());
        let requests: Option<u64> = requests.sum();
        (requests == Some(expected)).then_some(())
    })
    .await;
}

async fn metric(tollgate: &Tollgate, name: &str) -> u64 {
    let url = format!("http://{}/metrics", tollgate.http_address);
    let answer = Http::new().get(&url, &[]).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name}"))
}

/// Limits the size of the process's files, as on a full disk.
fn limit_files(tollgate: &Tollgate, bytes: &str) {
    let limit = format!("--fsize={bytes}:");
    let mut command = Command::new("prlimit");
    command.args(["--pid", &tollgate.id().to_string(), &limit]);
    assert!(command.status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_waits_in_memory_while_the_disk_is_full_and_nothing_is_lost() {
    let folder = TempDir::new().unwrap();
    let mut tollgate = serve(folder.path()).await;
    ask(&tollgate, 0..20).await;
    stored(&tollgate, 20).await;
    let len = std::fs::metadata(folder.path().join("usage.redb")).unwrap().len();
    limit_files(&tollgate, &len.to_string());
    // Until the file is full, and longer.
    let mut asked = 20;
    eventually("a write that fails", async || {
        ask(&tollgate, asked..asked + 2_000).await;
        asked += 2_000;
        (metric(&tollgate, "tollgate_usage_file_unavailable").await == 1).then_some(())
    })
    .await;
    ask(&tollgate, asked..asked + 100).await;
    asked += 100;
    limit_files(&tollgate, "unlimited");
    stored(&tollgate, u64::from(asked)).await;
    assert_eq!(metric(&tollgate, "tollgate_usage_file_unavailable").await, 0);
    assert_eq!(metric(&tollgate, "tollgate_usage_files_damaged_total").await, 0);
    tollgate.terminate();
    assert!(tollgate.exit().await.success());
    stored(&serve(folder.path()).await, u64::from(asked)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_usage_file_stops_no_start() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("usage.redb");
    std::fs::write(&path, "no database").unwrap();
    let mut tollgate = serve(folder.path()).await;
    assert!(tollgate.output().contains("the usage file is damaged"), "{}", tollgate.output());
    ask(&tollgate, 0..5).await;
    stored(&tollgate, 5).await;
    assert_eq!(metric(&tollgate, "tollgate_usage_files_damaged_total").await, 1);
    tollgate.terminate();
    assert!(tollgate.exit().await.success());
    // The last page is lost.
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 4_096).unwrap();
    let tollgate = serve(folder.path()).await;
    ask(&tollgate, 0..7).await;
    stored(&tollgate, 7).await;
}
