//! The latency that Tollgate adds to a request through a real Envoy.
//!
//! One Envoy has a listener with the filter and one without. They take turns, at a load that leaves the machine partly
//! idle, so that latency is measured and not a queue.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use super::options::Options;
use super::servers::Server;
use crate::remaining;
use crate::support::children::Running;
use crate::support::drive;
use crate::support::drive::{Client, Shape};
use crate::support::latencies::{Latencies, median};

/// Few requests in flight: more would measure queueing.
const SHAPE: Shape = Shape { connections: 1, streams: 2 };

/// Number of attempts until Envoy serves, and the pause between them.
const TRIES_MAX: usize = 200;
const TRY_INTERVAL: Duration = Duration::from_millis(50);

/// The names of the reported percentiles of latency.
const SHARES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// Measures with the Envoy at `program` and this server.
pub async fn measure(program: &Path, server: &Server, options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let [limited, free, upstream] = free_ports()?;
    let (_, tollgate) = server.address.rsplit_once(':').context("an address without a port")?;
    let config = include_str!("gateway.yaml")
        .replace("LIMITED", &limited.to_string())
        .replace("FREE", &free.to_string())
        .replace("UPSTREAM", &upstream.to_string())
        .replace("TOLLGATE", tollgate);
    let file = folder.path().join("envoy.yaml");
    fs::write(&file, config)?;
    let mut command = Command::new(program);
    command.args(["--concurrency", "1", "--log-level", "error", "--disable-hot-restart", "-c"]);
    let _envoy = Running::start(command.arg(&file)).context("envoy does not start")?;
    let [limited, free] = [limited, free].map(|port| format!("127.0.0.1:{port}"));
    for address in [&limited, &free] {
        wait_until_served(address).await?;
    }
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..=options.rounds {
        let unfiltered = run(&free, options.requests).await?;
        let before = remaining(server).await?;
        let filtered = run(&limited, options.requests).await?;
        let spent = before.zip(remaining(server).await?).map(|(before, after)| before - after);
        let expected = u32::try_from(options.requests + 1)?;
        ensure!(spent == Some(expected), "{spent:?} hits were spent, not {expected}");
        // The first round is a warm-up.
        if 0 < round {
            with.push(filtered);
            without.push(unfiltered);
        }
    }
    print(&server.name, &with, &without);
    Ok(())
}

fn print(server: &str, with: &[Latencies], without: &[Latencies]) {
    println!("\n{:24} {:>10} {:>10} {:>10}", "through Envoy, µs", "without", "with", "added");
    for (name, share) in SHARES {
        let of = |one: &Latencies| one.quantile_us(share);
        let added = with.iter().zip(without).map(|(with, without)| of(with) - of(without));
        println!(
            "{:24} {:>10.0} {:>10.0} {:>10.0}",
            format!("{server}, {name}"),
            median(without.iter().map(of)),
            median(with.iter().map(of)),
            median(added),
        );
    }
}

async fn run(address: &str, requests: usize) -> Result<Latencies> {
    Ok(drive::get(address, SHAPE, requests).await?.latencies)
}

async fn wait_until_served(address: &str) -> Result<()> {
    for _ in 0..TRIES_MAX {
        if let Ok(mut client) = Client::connect(address).await
            && client.get().await.is_ok()
        {
            return Ok(());
        }
        // Envoy does not report when it listens.
        sleep(TRY_INTERVAL).await;
    }
    Client::connect(address).await?.get().await.context("Envoy does not pass a request")
}

/// Free ports.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}
