//! The servers under test: child processes that end with this one, and peers that are already running.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Error, Result};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;

use super::options::{Build, Options, Peer, Variant};
use super::workload;
use super::workload::Workload;
use crate::support::children;
use crate::support::children::{Running, TOLLGATE};
use crate::support::redis::Redis;

/// The policy's line for leases.
const LEASES: &str = "defaults: { lease: auto }\n";

/// A running server.
#[derive(Debug)]
pub struct Server {
    pub name: String,
    pub address: String,
    pub process: u32,
    /// Its Redis, if it has one of its own.
    pub redis: Option<Redis>,
    pub kind: Kind,
    /// An API key that it accepts; empty if it knows none.
    pub api_key: String,
    children: Vec<Running>,
}

/// The knowledge about a server's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It always says OK.
    Floor,
    /// Its answers have the exact remaining hits of the limit.
    Exact,
    /// The remaining hits are known only in Redis.
    Leasing,
    /// A peer.
    Peer,
}

/// The store of a Tollgate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counting {
    Embedded,
    Redis,
    Leases,
}

impl Counting {
    const ALL: [Self; 3] = [Self::Embedded, Self::Redis, Self::Leases];

    /// The name in the tables.
    fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Redis => "Redis",
            Self::Leases => "leases",
        }
    }
}

/// The paths of the policies.
struct Policies {
    folder: PathBuf,
    exact: PathBuf,
    leasing: PathBuf,
    /// The peppers, if API keys are checked.
    peppers: Option<PathBuf>,
}

impl Server {
    /// All requested servers, the floor first. Their files are in `folder`.
    pub fn start(folder: &Path, options: &Options) -> Result<Vec<Self>> {
        let policies = Policies::write(folder, &options.workloads)?;
        let only = &options.only;
        let wanted = |name: &str| only.is_empty() || only.iter().any(|text| name.contains(text));
        let mut servers = vec![Self::floor()?];
        let own = |name: &str, program: &Path, arguments: &[String]| {
            let mut servers = Vec::new();
            for counts in Counting::ALL {
                let name = format!("{name}, {}", counts.name());
                let is_asked = options.with_leases || counts != Counting::Leases;
                if is_asked && wanted(&name) {
                    let server = Self::own(&name, (program, arguments), counts, &policies);
                    servers.push(server.with_context(|| format!("can't start {name}"))?);
                }
            }
            Ok::<_, Error>(servers)
        };
        servers.extend(own("tollgate", TOLLGATE.as_ref(), &[])?);
        for Build { name, program } in &options.builds {
            servers.extend(own(name, program, &[])?);
        }
        for Variant { name, arguments } in &options.variants {
            servers.extend(own(name, TOLLGATE.as_ref(), arguments)?);
        }
        for peer in options.peers.iter().filter(|peer| wanted(&peer.name)) {
            servers.push(Self::peer(peer)?);
        }
        Ok(servers)
    }

    /// Its answer if a limit is exhausted.
    pub fn refusal(&self) -> Code {
        if self.kind == Kind::Floor { Code::Ok } else { Code::OverLimit }
    }

    /// Whether it supports the rules of the workload.
    pub fn knows(&self, workload: Workload) -> bool {
        self.kind != Kind::Peer || workload.is_common()
    }

    fn floor() -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        Self::launch("floor", Kind::Floor, command.arg("--serve-floor"))
    }

    fn own(
        name: &str,
        (program, arguments): (&Path, &[String]),
        counts: Counting,
        policies: &Policies,
    ) -> Result<Self> {
        let start = |folder: &Path| {
            let mut command = children::tollgate(program, folder);
            command.args(arguments);
            if let Some(peppers) = &policies.peppers {
                command.arg("--api-key-pepper-file").arg(peppers);
            }
            command
        };
        let (exact, leasing) = (|| start(&policies.exact), || start(&policies.leasing));
        let mut server = match counts {
            Counting::Embedded => Self::launch(name, Kind::Exact, &mut exact()),
            Counting::Redis => Self::with_redis(name, Kind::Exact, &policies.folder, exact()),
            Counting::Leases => Self::with_redis(name, Kind::Leasing, &policies.folder, leasing()),
        }?;
        if policies.peppers.is_some() {
            server.api_key = server.create_api_key(program)?;
        }
        Ok(server)
    }

    /// Creates an API key, over its API.
    fn create_api_key(&mut self, program: &Path) -> Result<String> {
        let http = self.children.first_mut().context("it is no child")?.address("HTTP")?;
        let made = children::keys(program, &http, &["create", "acme", "--scope", "hotels:read"])?;
        Ok(made["api_key"].as_str().context("there is no API key")?.to_owned())
    }

    fn with_redis(name: &str, kind: Kind, folder: &Path, mut command: Command) -> Result<Self> {
        let socket = tempfile::Builder::new().prefix("redis-").tempdir_in(folder)?.keep();
        let socket = socket.join("redis.sock");
        let (redis, connection) = children::redis(&socket)?;
        // On a busy machine, the default of 10 ms would turn some decisions into outages.
        let url = format!("unix://{}", socket.display());
        command.args(["--store-deadline", "1s", "--redis-url", &url]);
        let mut server = Self::launch(name, kind, &mut command)?;
        server.redis = Some(connection);
        server.children.push(redis);
        Ok(server)
    }

    fn peer(peer: &Peer) -> Result<Self> {
        let Peer { name, address, process, redis } = peer.clone();
        let redis = redis.map(|address| Redis::connect(&address)).transpose()?;
        Ok(Self {
            name,
            address,
            process,
            redis,
            kind: Kind::Peer,
            api_key: String::new(),
            children: Vec::new(),
        })
    }

    /// Starts a server that prints its address.
    fn launch(name: &str, kind: Kind, command: &mut Command) -> Result<Self> {
        let mut child = Running::start(command)?;
        let address = child.address("gRPC")?;
        let process = child.id();
        let name = name.to_owned();
        let api_key = String::new();
        Ok(Self { name, address, process, redis: None, kind, api_key, children: vec![child] })
    }
}

impl Policies {
    /// Writes the policies that the workloads need: an older build may not know the keys of the others.
    fn write(folder: &Path, workloads: &[Workload]) -> Result<Self> {
        let (exact, leasing) = (folder.join("exact"), folder.join("leasing"));
        let folder = folder.to_owned();
        let travel = workload::travel_policy();
        let mut policies = vec![("bench.yaml", workload::POLICY)];
        if workloads.contains(&Workload::Travel) {
            policies.push(("travel.yaml", &travel));
        }
        if workloads.contains(&Workload::Callers) {
            policies.push(("callers.yaml", workload::CALLERS_POLICY));
        }
        if workloads.contains(&Workload::OverTime) {
            policies.push(("over-time.yaml", workload::OVER_TIME_POLICY));
        }
        if workloads.contains(&Workload::Abuse) {
            policies.push(("abuse.yaml", workload::ABUSE_POLICY));
        }
        let mut peppers = None;
        if workloads.iter().any(|one| one.has_api_keys()) {
            policies.push(("api-keys.yaml", workload::API_KEYS_POLICY));
            let path = folder.join("peppers");
            fs::write(&path, "the pepper of a benchmark, which protects nothing")?;
            peppers = Some(path);
        }
        for (name, policy) in policies {
            for (folder, more) in [(&exact, ""), (&leasing, LEASES)] {
                fs::create_dir_all(folder)?;
                fs::write(folder.join(name), format!("{policy}{more}"))?;
            }
        }
        Ok(Self { folder, exact, leasing, peppers })
    }
}
