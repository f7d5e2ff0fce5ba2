//! The servers under test: child processes that end with this one, and peers that somebody started.

use std::env;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::process::Child;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context;
use anyhow::Result;

use super::options::Peer;

/// A limit that no run can spend, and that `limit_remaining` (32 bits) can tell. Were the store out,
/// the refusals would show.
const POLICY: &str = "
domain: bench
descriptors:
- key: user
  limits: [{rate: 4_000_000_000/day}]
  on_outage: deny
";

/// A server that answers.
#[derive(Debug)]
pub struct Server {
    pub name: String,
    pub address: String,
    pub process: u32,
    /// The Redis that it counts in, if it has one of its own.
    pub redis: Option<u32>,
    /// Whether its answers tell how much of the limit remains, exactly.
    pub is_exact: bool,
    children: Vec<Running>,
}

/// A child process, killed when this goes.
#[derive(Debug)]
struct Running {
    child: Child,
    /// Kept open: the child may still have something to say.
    output: BufReader<ChildStdout>,
}

impl Server {
    /// All of them, the floor first. Their files are in `folder`.
    pub fn start(folder: &Path, peers: &[Peer]) -> Result<Vec<Self>> {
        let policy = folder.join("bench.yaml");
        fs::write(&policy, POLICY)?;
        let mut servers = vec![
            Self::floor()?,
            Self::embedded(&policy)?,
            Self::on_redis(&policy, &folder.join("redis.sock"))?,
        ];
        servers.extend(peers.iter().map(Self::peer));
        Ok(servers)
    }

    fn floor() -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        Self::launch("floor", command.arg("--serve-floor"))
    }

    fn embedded(policy: &Path) -> Result<Self> {
        let server = Self::launch("tollgate, embedded", &mut tollgate(policy))?;
        Ok(Self { is_exact: true, ..server })
    }

    fn on_redis(policy: &Path, socket: &Path) -> Result<Self> {
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]);
        let mut redis = Running::start(command.arg(socket))
            .context("redis-server does not start (Debian's package: redis-server)")?;
        redis.line(|line| line.contains("ready to accept connections").then_some(()))?;
        // On a busy machine, the usual 10 ms would turn some decisions into outages.
        let url = format!("unix://{}", socket.display());
        let mut command = tollgate(policy);
        command.args(["--store-deadline", "1s", "--redis-url", &url]);
        let mut server = Self::launch("tollgate, Redis", &mut command)?;
        server.redis = Some(redis.child.id());
        server.children.push(redis);
        Ok(Self { is_exact: true, ..server })
    }

    fn peer(peer: &Peer) -> Self {
        let Peer { name, address, process } = peer.clone();
        Self { name, address, process, redis: None, is_exact: false, children: Vec::new() }
    }

    /// Starts a server that says where it serves.
    fn launch(name: &str, command: &mut Command) -> Result<Self> {
        let mut child = Running::start(command).with_context(|| format!("can't start {name}"))?;
        let address = |line: &str| Some(line.trim().strip_prefix("gRPC  ")?.to_owned());
        let address = child.line(address).with_context(|| name.to_owned())?;
        let process = child.child.id();
        let children = vec![child];
        Ok(Self { name: name.to_owned(), address, process, redis: None, is_exact: false, children })
    }
}

fn tollgate(policy: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command
        .args(["serve", "--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"])
        .args(["--log-level", "warn", "--policies"])
        .arg(policy);
    command
}

impl Running {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().expect("it is piped");
        Ok(Self { child, output: BufReader::new(output) })
    }

    /// What `read` finds in the first line that holds it.
    fn line<T>(&mut self, read: impl Fn(&str) -> Option<T>) -> Result<T> {
        let mut lines = (&mut self.output).lines().map_while(Result::ok);
        lines.find_map(|line| read(&line)).context("it ended before it served")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
