//! A real Envoy, on free ports.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::client::Http;
use super::process::Process;
use super::{eventually, find_program};

/// The path at which `tests/run.sh` installs Envoy if there is none on the PATH.
pub const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/envoy/_bin/envoy");

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    _folder: TempDir,
    admin: SocketAddr,
    http: Http,
}

/// The program, if there is one.
pub fn program() -> Option<PathBuf> {
    find_program("envoy", "ENVOY", Some(PathBuf::from(INSTALLED)))
}

impl Envoy {
    /// Starts Envoy with a configuration whose ports are 0; None if there is no Envoy here.
    pub async fn start(config: &str) -> Option<Self> {
        let program = program()?;
        let folder = TempDir::new().unwrap();
        let config_path = folder.path().join("envoy.yaml");
        let admin_path = folder.path().join("admin");
        fs::write(&config_path, config).unwrap();
        let mut command = Command::new(program);
        command
            .args(["--concurrency", "1", "--log-level", "warning", "--disable-hot-restart"])
            .args(["--file-flush-interval-msec", "10"])
            .arg("--config-path")
            .arg(config_path)
            .arg("--admin-address-path")
            .arg(&admin_path);
        let mut process = Process::start("envoy", &mut command);
        let admin = eventually("envoy's admin address", async || {
            process.assert_runs();
            read_address(&admin_path)
        })
        .await;
        let http = Http::new();
        let ready = format!("http://{admin}/ready");
        eventually("envoy's LIVE", async || {
            process.assert_runs();
            let answer = http.try_get(&ready, &[]).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        Some(Self { process, _folder: folder, admin, http })
    }

    /// The address of the listener with this name.
    pub async fn listener(&self, name: &str) -> SocketAddr {
        let listeners = self.admin_json("listeners?format=json").await;
        let listener = listeners["listener_statuses"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["name"] == name))
            .unwrap_or_else(|| panic!("no listener {name} in {listeners}"));
        let address = &listener["local_address"]["socket_address"];
        let ip = address["address"].as_str().unwrap().parse().unwrap();
        SocketAddr::new(ip, u16::try_from(address["port_value"].as_u64().unwrap()).unwrap())
    }

    /// Waits until Envoy's health checks have found `count` hosts of `cluster` healthy.
    pub async fn healthy(&self, cluster: &str, count: u64) {
        let membership = format!("stats?format=json&filter=^cluster.{cluster}.membership_healthy$");
        eventually(&format!("{count} healthy hosts of {cluster}"), async || {
            let stats = self.admin_json(&membership).await;
            (stats["stats"][0]["value"] == count).then_some(())
        })
        .await;
    }

    /// All of its output so far, including the access log.
    pub fn output(&self) -> String {
        self.process.output()
    }

    async fn admin_json(&self, path: &str) -> Value {
        let answer = self.http.get(&format!("http://{}/{path}", self.admin), &[]).await;
        serde_json::from_slice(&answer.body).unwrap()
    }
}

/// Envoy writes the file in one go, but not at once.
fn read_address(path: &Path) -> Option<SocketAddr> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
