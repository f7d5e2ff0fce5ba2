//! Time until Tollgate serves, and the effect of a reload on latency: `cargo bench --bench start`.
//!
//! The start is measured from before the process is created until its banner, which is printed when it listens and is
//! ready. The reload is that of a large policy while requests arrive, compared with a run of the same length without
//! one.

// A benchmark's product is its output.
#![allow(clippy::print_stdout)]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tokio::task::spawn_local;
use tokio::time::sleep;

use support::children::{Running, TOLLGATE};
use support::drive::{Client, Questions, Shape};
use support::latencies::{Latencies, median};
use support::usage::CpuTimes;
use support::{children, drive, message};

/// Number of starts for each size of policy.
const STARTS: usize = 15;

/// Number of rules of the started policies.
const START_RULES: [usize; 3] = [1, 1_000, 10_000];

/// Number of rules of the reloaded policy.
const RELOAD_RULES: usize = 10_000;

/// The amount of the limits in an edition: this plus the edition's number.
const FIRST_EDITION: usize = 1_000_000;

/// Number of requests between two checks whether an edition is in force, and the number of editions.
const REQUESTS: usize = 2_000;
const RUNS: usize = 5;

/// Few at a time: the machine needs CPU for the reload, as a sidecar's has.
const SHAPE: Shape = Shape { connections: 1, streams: 2 };

/// Time between the start of a run and the edit.
const EDIT_DELAY: Duration = Duration::from_millis(100);

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("policy.yaml");
    println!("{:24} {:>10} {:>10} {:>10}", "start", "ready ms", "worst ms", "CPU ms");
    for rules in START_RULES {
        fs::write(&policy, text(rules, 0))?;
        print_start(rules, &policy)?;
    }
    drive::block_on(reloads(&policy))
}

/// A policy of this many rules, all of them different in each edition.
fn text(rules: usize, edition: usize) -> String {
    let mut text = "domain: bench\ndescriptors:\n".to_owned();
    text.push_str("- { key: user, limits: [4_000_000_000/day] }\n");
    let amount = FIRST_EDITION + edition;
    text.push_str(&format!("- {{ key: edition, limits: [{amount}/day] }}\n"));
    for rule in 2..rules {
        text.push_str(&format!(
            "- {{ key: path, value: /v1/resource-{rule}, limits: [{amount}/second, {amount}0/hour] }}\n"
        ));
    }
    text
}

fn print_start(rules: usize, policy: &Path) -> Result<()> {
    let mut times = Vec::new();
    let mut cpu = Vec::new();
    for _ in 0..STARTS {
        let start = Instant::now();
        let mut running = Running::start(&mut children::tollgate(TOLLGATE.as_ref(), policy))?;
        running.address("gRPC")?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        cpu.push(CpuTimes::of(running.id())?.total().as_secs_f64() * 1e3);
    }
    let worst = times.iter().copied().fold(0.0, f64::max);
    let name = format!("{rules} rules");
    println!("{name:24} {:>10.1} {worst:>10.1} {:>10.1}", median(times), median(cpu));
    Ok(())
}

async fn reloads(policy: &Path) -> Result<()> {
    fs::write(policy, text(RELOAD_RULES, 0))?;
    let mut running = Running::start(&mut children::tollgate(TOLLGATE.as_ref(), policy))?;
    let address = running.address("gRPC")?;
    let mut client = Client::connect(&address).await?;
    println!();
    println!(
        "{:24} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        format!("{RELOAD_RULES} rules"),
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "max µs",
        "requests",
        "CPU ms"
    );
    for edition in 1..=RUNS {
        let other = policy.with_extension("new");
        fs::write(&other, text(RELOAD_RULES, edition))?;
        let before = CpuTimes::of(running.id())?;
        let editing = spawn_local(replace(policy.to_owned(), other));
        let mut with = Vec::new();
        while self::edition(&mut client).await? != edition {
            with.extend(ask(&address, REQUESTS).await?);
        }
        editing.await??;
        // Dropping the previous policy is part of this run too.
        with.extend(ask(&address, REQUESTS).await?);
        let between = CpuTimes::of(running.id())?;
        let without = ask(&address, with.len()).await?;
        let after = CpuTimes::of(running.id())?;
        print("with a reload", with, between.since(&before));
        print("without", without, after.since(&between));
    }
    Ok(())
}

fn print(name: &str, latencies: Vec<Duration>, cpu: Duration) {
    let requests = latencies.len();
    let latencies = Latencies::new(latencies);
    let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|share| latencies.quantile_us(share));
    let cpu = cpu.as_secs_f64() * 1e3;
    println!("{name:24} {p50:>9.0} {p99:>9.0} {p999:>9.0} {max:>9.0} {requests:>9} {cpu:>9.0}");
}

/// The latencies of this many requests.
async fn ask(address: &str, requests: usize) -> Result<Vec<Duration>> {
    let same = Rc::new(Same(message::frame("bench", &["user=alice"])));
    Ok(drive::run(address, SHAPE, requests, same).await?.latencies.into_inner())
}

/// Replaces the policy's file, some time after the start of the run.
async fn replace(policy: PathBuf, other: PathBuf) -> Result<()> {
    // The requests before the edit show the usual latency.
    sleep(EDIT_DELAY).await;
    Ok(fs::rename(other, policy)?)
}

/// The edition of the policy that is in force.
async fn edition(client: &mut Client) -> Result<usize> {
    let answer = client.ask(message::frame("bench", &["edition=which"])).await?;
    let limit = answer.statuses.first().and_then(|status| status.current_limit.as_ref());
    let amount = limit.context("no limit tells the edition")?.requests_per_unit;
    Ok(usize::try_from(amount)? - FIRST_EDITION)
}

/// Sends the same request repeatedly.
struct Same(Bytes);

impl Questions for Same {
    fn question(&self, _: usize) -> (Bytes, Code) {
        (self.0.clone(), Code::Ok)
    }
}
