//! Child processes that end with this one: Tollgate, Redis, and others that print when they serve.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use super::redis::Redis;

/// A child process, killed on drop.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Kept open: the child may still write.
    output: BufReader<ChildStdout>,
}

impl Running {
    /// Starts it and reads its output.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().expect("it is piped");
        Ok(Self { child, output: BufReader::new(output) })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The result of `read` on the first line where it finds something.
    pub fn line<T>(&mut self, read: impl Fn(&str) -> Option<T>) -> Result<T> {
        let mut lines = (&mut self.output).lines().map_while(Result::ok);
        lines.find_map(|line| read(&line)).context("it ended before it served")
    }

    /// The address after `label` in Tollgate's banner.
    pub fn address(&mut self, label: &str) -> Result<String> {
        self.line(|line| Some(line.trim().strip_prefix(label)?.trim().to_owned()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The Tollgate that was built with this benchmark.
pub const TOLLGATE: &str = env!("CARGO_BIN_EXE_tollgate");

/// `tollgate serve` with these policies, on free ports.
pub fn tollgate(program: &Path, policies: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(["serve", "--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"])
        .args(["--log-level", "warn", "--policies"])
        .arg(policies);
    command
}

/// Starts a Redis without persistence that listens only on `socket`.
pub fn redis(socket: &Path) -> Result<(Running, Redis)> {
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]);
    let mut running = Running::start(command.arg(socket))
        .context("redis-server does not start (Debian's package: redis-server)")?;
    running.line(|line| line.contains("ready to accept connections").then_some(()))?;
    Ok((running, Redis::connect(&socket.display().to_string())?))
}

/// Runs `tollgate keys` on the Tollgate whose API has this address, and returns its answer.
pub fn keys(program: &Path, url: &str, arguments: &[&str]) -> Result<Value> {
    let mut command = Command::new(program);
    command.arg("keys").args(arguments).args(["--output", "json"]);
    let answer = command.args(["--api-url", url]).output()?;
    serde_json::from_slice(&answer.stdout)
        .with_context(|| String::from_utf8_lossy(&answer.stderr).into_owned())
}
