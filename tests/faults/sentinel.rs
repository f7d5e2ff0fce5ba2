//! A master with a replica, watched by a Sentinel that replaces it.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use crate::support::find_program;
use crate::support::ports::free_port;
use crate::support::process::Process;
use crate::support::redis::{Server, query, until};

/// The servers.
pub struct Watched {
    pub master: Server,
    pub replica: Server,
    port: u16,
    _sentinel: Process,
    _folder: TempDir,
}

impl Watched {
    /// Starts them; None without Redis.
    pub async fn start() -> Option<Self> {
        // Sentinels name servers by their ports, so those have to be known before.
        let (first, second, third) = (free_port(), free_port(), free_port());
        let master = Server::start(&["--port", &first.to_string()])?;
        let replica_of = format!("127.0.0.1 {first}");
        let replica = ["--port", &second.to_string(), "--replicaof", &replica_of];
        let replica = Server::start(&replica)?;
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("sentinel.conf");
        let lines = [
            format!("port {third}"),
            format!("dir {}", folder.path().display()),
            format!("sentinel monitor mymaster 127.0.0.1 {first} 1"),
            "sentinel down-after-milliseconds mymaster 300".to_owned(),
            "sentinel failover-timeout mymaster 3000".to_owned(),
        ];
        fs::write(&file, lines.join("\n")).unwrap();
        let mut behind = replica.raw().await;
        let linked = || query::<String>(&mut behind, "INFO replication").contains("link_status:up");
        until("the replica follows", linked).await;
        // It looks for replicas every ten seconds, and first at its start.
        let program = find_program("redis-server", "REDIS_SERVER", None)?;
        let sentinel =
            Process::start("sentinel", Command::new(program).arg(&file).arg("--sentinel"));
        Some(Self { master, replica, port: third, _sentinel: sentinel, _folder: folder })
    }

    /// The flags of `tollgate serve`.
    pub fn flags(&self) -> Vec<String> {
        let sentinel = format!("redis://127.0.0.1:{}", self.port);
        let flags = ["--redis-url", "redis://mymaster", "--redis-sentinels", &sentinel];
        flags.into_iter().chain(["--store-deadline", "1s"]).map(str::to_owned).collect()
    }
}
