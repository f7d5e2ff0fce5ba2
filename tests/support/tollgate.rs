//! The program under test.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use tempfile::TempDir;

use super::client::{Grpc, Http};
use super::process::Process;
use super::store::Store;
use super::{client, eventually};

/// The binary that cargo built for the tests.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_tollgate");

/// A `tollgate` command without the developer's own settings.
pub fn command() -> Command {
    let mut command = Command::new(PROGRAM);
    let inherited = std::env::vars_os().map(|(name, _)| name);
    for name in inherited.filter(|name| name.to_string_lossy().starts_with("TOLLGATE_")) {
        command.env_remove(name);
    }
    command
}

/// A new token for the API: itself, and its line of `api_tokens`.
pub fn api_token(name: &str, role: &str) -> (String, String) {
    let output = command().args(["token", name, "--role", role]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    (lines[0].to_owned(), lines[1].to_owned())
}

/// A serving Tollgate with its own folder of policies.
#[derive(Debug)]
pub struct Tollgate {
    process: Process,
    folder: TempDir,
    pub grpc_address: SocketAddr,
    pub http_address: SocketAddr,
}

impl Tollgate {
    /// Serves one policy.
    pub async fn serve(policy: &str, store: &Store) -> Self {
        Self::serve_with(policy, store, &[]).await
    }

    /// Serves one policy with more flags.
    pub async fn serve_with(policy: &str, store: &Store, flags: &[&str]) -> Self {
        Self::serve_by(command(), policy, store, flags).await
    }

    /// The same with a command that may have another environment.
    pub async fn serve_by(
        mut command: Command,
        policy: &str,
        store: &Store,
        flags: &[&str],
    ) -> Self {
        let folder = TempDir::new().unwrap();
        let policies = folder.path().join("policies");
        fs::create_dir(&policies).unwrap();
        fs::write(policies.join("policy.yaml"), policy).unwrap();
        command
            .args(["serve", "--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"])
            .arg("--policies")
            .arg(&policies)
            .arg("--grpc-unix-socket")
            .arg(socket_in(folder.path()))
            .args(store.flags())
            .args(flags);
        let mut process = Process::start("tollgate", &mut command);
        let (grpc_address, http_address) = eventually("tollgate's banner", async || {
            process.assert_runs();
            let output = process.output();
            if !store.is_used(&output) {
                return None;
            }
            Some((address_in(&output, "gRPC ")?, address_in(&output, "HTTP ")?))
        })
        .await;
        let mut tollgate = Self { process, folder, grpc_address, http_address };
        // A test with TLS has its own client.
        if !tollgate.output().contains("HTTP  https://") {
            tollgate.ready().await;
        }
        tollgate
    }

    /// A client of its rate-limit service over TCP.
    pub async fn client(&self) -> Grpc {
        client::grpc(&format!("http://{}", self.grpc_address)).await
    }

    /// The Unix socket on which it also listens.
    pub fn socket(&self) -> PathBuf {
        socket_in(self.folder.path())
    }

    /// Replaces the policy, like an editor: by a rename.
    pub fn edit(&self, policy: &str) {
        let draft = self.folder.path().join("draft.yaml");
        fs::write(&draft, policy).unwrap();
        fs::rename(draft, self.folder.path().join("policies/policy.yaml")).unwrap();
    }

    /// All of its output so far.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Its standard output so far.
    pub fn stdout(&self) -> String {
        self.process.stdout()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its maximum memory so far, in bytes.
    pub fn memory_peak(&self) -> u64 {
        self.process.memory_peak()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.process.terminate();
    }

    /// Waits for its end.
    pub async fn exit(&mut self) -> ExitStatus {
        self.process.exit().await
    }

    async fn ready(&mut self) {
        let http = Http::new();
        let url = format!("http://{}/readyz", self.http_address);
        eventually("tollgate's readiness", async || {
            self.process.assert_runs();
            let answer = http.try_get(&url, &[]).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }
}

fn socket_in(folder: &Path) -> PathBuf {
    folder.join("grpc.sock")
}

/// The address on the line of the banner that starts like this, without its scheme.
fn address_in(output: &str, beginning: &str) -> Option<SocketAddr> {
    let mut lines = output.lines().filter_map(|line| line.trim().strip_prefix(beginning));
    lines.find_map(|rest| {
        let word = rest.split_whitespace().next()?;
        let address = word.split_once("://").map_or(word, |(_, address)| address);
        // So the banner shows every interface.
        address.replace("localhost", "127.0.0.1").parse().ok()
    })
}
