//! How soon Tollgate serves, and whether callers notice a reload: `cargo bench --bench start`.
//!
//! The start is timed from before the process is made until its greeting, which comes when it listens and is ready.
//! A reload is of a large policy, edited while requests come in, beside a run of the same length without one.

// A benchmark's product is what it prints.
#![allow(clippy::print_stdout)]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use bytes::Bytes;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tokio::task::spawn_local;
use tokio::time::sleep;

use support::children;
use support::children::Running;
use support::children::TOLLGATE;
use support::drive;
use support::drive::Questions;
use support::drive::Shape;
use support::latencies::median;
use support::message;
use support::usage::CpuTimes;

/// Starts of each size of policy.
const STARTS: usize = 15;

/// Rules of the policies that are started with.
const START_RULES: [usize; 3] = [1, 1_000, 10_000];

/// Rules of the policy that is reloaded.
const RELOAD_RULES: usize = 10_000;

/// Requests of a run beside reloads, and how many runs there are of each kind.
const REQUESTS: usize = 20_000;
const RUNS: usize = 5;

/// Few at a time: the machine must have room for a reload, as that of a sidecar has.
const SHAPE: Shape = Shape { connections: 1, streams: 2 };

/// How long after the start of a run the policy is edited.
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

/// A policy of so many rules, each of which is another one in another edition.
fn text(rules: usize, edition: usize) -> String {
    let mut text = "domain: bench\ndescriptors:\n".to_owned();
    text.push_str("- { key: user, limits: [4_000_000_000/day] }\n");
    for rule in 1..rules {
        let amount = 1_000 + edition;
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
    let grpc = running.address("gRPC")?;
    let http = running.address("HTTP")?;
    println!();
    println!(
        "{:24} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}",
        format!("{RELOAD_RULES} rules"),
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "max µs",
        "reloads",
        "CPU ms"
    );
    let user = message::frame("bench", &["user=alice"]);
    // The first run warms up.
    for run in 0..=RUNS {
        for edits in [false, true] {
            let before = (reload_count(&http)?, CpuTimes::of(running.id())?);
            let editing = edits.then(|| spawn_local(edit(policy.to_owned(), run + 1)));
            let asked = drive::run(&grpc, SHAPE, REQUESTS, Rc::new(Same(user.clone()))).await?;
            if let Some(editing) = editing {
                editing.await??;
            }
            let reloads = reload_count(&http)? - before.0;
            if run == 0 {
                continue;
            }
            ensure!(reloads == u64::from(edits), "{reloads} reloads while requests came");
            let cpu = CpuTimes::of(running.id())?.since(&before.1);
            println!(
                "{:24} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {reloads:>9} {:>10.0}",
                if edits { "with a reload" } else { "without" },
                asked.latencies.quantile_us(0.5),
                asked.latencies.quantile_us(0.99),
                asked.latencies.quantile_us(0.999),
                asked.latencies.max_us(),
                cpu.as_secs_f64() * 1e3,
            );
        }
    }
    Ok(())
}

/// Puts another edition in the policy's place, at once, some time after the run began.
async fn edit(policy: PathBuf, edition: usize) -> Result<()> {
    sleep(EDIT_DELAY).await;
    let other = policy.with_extension("new");
    fs::write(&other, text(RELOAD_RULES, edition))?;
    Ok(fs::rename(&other, &policy)?)
}

/// How many edits have been put in force.
fn reload_count(http: &str) -> Result<u64> {
    let address = http.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).with_context(|| address.to_owned())?;
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let name = "tollgate_reloads_total{result=\"ok\"} ";
    let line = answer.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.context("metrics without reloads")?.trim().parse()?)
}

/// One question again and again.
struct Same(Bytes);

impl Questions for Same {
    fn question(&self, _: usize) -> (Bytes, Code) {
        (self.0.clone(), Code::Ok)
    }
}
