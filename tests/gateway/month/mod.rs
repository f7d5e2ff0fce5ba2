//! A month of traffic of three tiers through a real Envoy, and two sidecars on one Redis or one with a file, of which one is
//! replaced in the middle: the API, the commands and CSV agree with an independent count, to the hit.

mod told;
mod truth;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::support::client::Http;
use crate::support::clock::Clock;
use crate::support::eventually;
use crate::support::gateway::{Gateway, pipe};
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, command};
use crate::support::usage::{counted, requests};
use truth::{DAYS, HOURS, Request, START, Truth};

/// Days after which all usage must be stored: a sidecar that can't store keeps the hours of two days.
const STORED_DAYS: u32 = 2;

/// The day on which a sidecar is replaced.
const REPLACED_ON: u32 = 15;

/// The time by the real clock in which a sidecar ends the refusals that it keeps.
const SETTLED: Duration = Duration::from_millis(250);

/// Sidecars whose sockets have names that stay.
struct Stage {
    clock: Clock,
    store: Store,
    folder: TempDir,
}

impl Stage {
    /// For sidecars on one Redis. None without faketime or Redis.
    fn of_redis() -> Option<Self> {
        let clock = Clock::new()?;
        set(&clock, 0, 0);
        let mut server = Server::prepare(&[])?;
        server.environment = clock.environment();
        // The allocator of Redis asks for the time before faketime is ready: that of libc does not.
        let library = server.environment.iter_mut().find(|(name, _)| name == "LD_PRELOAD");
        library.unwrap().1.push_str(":libc.so.6");
        server.launch();
        Some(Self { clock, store: Store::Redis(server), folder: TempDir::new().unwrap() })
    }

    /// For a sidecar that stores everything in files. None without faketime.
    fn of_files() -> Option<Self> {
        let clock = Clock::new()?;
        set(&clock, 0, 0);
        Some(Self { clock, store: Store::Embedded, folder: TempDir::new().unwrap() })
    }

    fn sidecars(&self) -> usize {
        match self.store {
            Store::Embedded => 1,
            Store::Redis(_) => 2,
        }
    }

    fn socket(&self, index: usize) -> PathBuf {
        self.folder.path().join(index.to_string())
    }

    /// Starts a sidecar at one of the sockets.
    async fn serve(&self, index: usize) -> Tollgate {
        let mut command = command();
        command.envs(self.clock.environment());
        let policy = truth::policy();
        let data = self.folder.path().join("data").display().to_string();
        let flags = match self.store {
            Store::Embedded => &["--usage=true", "--data-dir", &data][..],
            Store::Redis(_) => &["--usage=true"],
        };
        let tollgate = Tollgate::serve_by(command, &policy, &self.store, flags).await;
        let _ = fs::remove_file(self.socket(index));
        symlink(tollgate.socket(), self.socket(index)).unwrap();
        tollgate
    }
}

/// Sets a clock to an hour of a day of the month, some minutes after its start.
fn set(clock: &Clock, day: u32, hour: u32) {
    let hours = i64::from(day * 24 + hour);
    let start: Timestamp = START.parse().unwrap();
    let at = start + SignedDuration::from_hours(hours) + SignedDuration::from_mins(5);
    clock.step_to(at.duration_since(Timestamp::now()).as_mins());
}

/// Waits until a sidecar has noticed the time of its Redis.
async fn noticed(tollgate: &Tollgate) {
    let url = format!("http://{}/v1/callers/probe/quota", tollgate.http_address);
    eventually("the new time", async || {
        let answer = Http::new().get(&url, &[]).await;
        (answer.status == 200 && answer.json()["fallback"] != true).then_some(())
    })
    .await;
}

async fn ask(gateway: &Gateway, request: Request) -> bool {
    let headers = [
        ("x-user", request.name()),
        ("x-tier", request.tier()),
        ("x-provider", request.provider),
        ("x-op", request.op),
    ];
    match gateway.caller.get("/", &headers).await.status {
        200 => true,
        429 => false,
        other => panic!("{request:?}: {other}"),
    }
}

fn rate_limits() -> Value {
    let header = |name: &str, key: &str| json!({ "request_headers": { "header_name": name, "descriptor_key": key } });
    json!([
        { "actions": [header("x-user", "user"), header("x-tier", "tier")] },
        { "actions": [header("x-provider", "provider")] },
        { "actions": [header("x-op", "op")] },
    ])
}

/// Waits until all sums are stored.
async fn stored(stage: &Stage, sidecar: &Tollgate, expected: u64) {
    match stage.store {
        Store::Redis(_) => counted(sidecar, expected).await,
        Store::Embedded => {
            eventually("the requests in the usage", async || {
                (requests(sidecar).await == expected).then_some(())
            })
            .await;
        }
    }
}

/// Sends the traffic of the month, and compares its answers and sums with the truth.
async fn play(stage: Stage) {
    let mut sidecars = Vec::new();
    for index in 0..stage.sidecars() {
        sidecars.push(stage.serve(index).await);
    }
    let addresses: Vec<Value> =
        (0..sidecars.len()).map(|index| pipe(Path::new(&stage.socket(index)))).collect();
    let Some(gateway) = Gateway::limiting(&rate_limits(), &addresses).await else { return };
    let last = sidecars.len() - 1;
    let mut truth = Truth::default();
    for day in 0..DAYS {
        if day == REPLACED_ON {
            sidecars[last].terminate();
            assert!(sidecars[last].exit().await.success());
            if last == 0 {
                sidecars[0] = stage.serve(0).await;
            }
            gateway.healthy(1).await;
        }
        for hour in HOURS {
            sleep(SETTLED).await;
            // What is not summed before the clock is set counts in the next hour.
            stored(&stage, &sidecars[0], truth.count()).await;
            set(&stage.clock, day, hour);
            for sidecar in &sidecars[..if day == REPLACED_ON { 1 } else { sidecars.len() }] {
                noticed(sidecar).await;
            }
            for request in truth::requests(day, hour) {
                let passed = ask(&gateway, request).await;
                assert_eq!(passed, truth.decide(request), "{request:?}");
            }
        }
        // Of two sidecars, the other one has answered for a day.
        if day == REPLACED_ON && last == 1 {
            sidecars[1] = stage.serve(1).await;
            gateway.healthy(2).await;
        }
        if day % STORED_DAYS == 1 {
            stored(&stage, &sidecars[0], truth.count()).await;
        }
    }
    stored(&stage, &sidecars[0], truth.count()).await;
    for sidecar in &sidecars {
        told::check(sidecar, &truth).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_of_traffic_is_told_to_the_hit_by_api_commands_and_csv() {
    if let Some(stage) = Stage::of_redis() {
        play(stage).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_in_files_is_told_to_the_hit_over_a_restart() {
    if let Some(stage) = Stage::of_files() {
        play(stage).await;
    }
}
