//! Answers and latencies under a load far above the capacity.
//!
//! One client has many requests in flight on many connections and waits only for a limited time, like Envoy. For each
//! answer it sends a new request at once. A second client sends one request after the other. The server must be slower
//! than the client, or this measures the client.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::options::Options;
use super::servers::Server;
use super::table::NAME_LEN;
use super::workload;
use crate::support::drive::{Client, Flood, Impatient};
use crate::support::latencies::{Latencies, median};
use crate::support::{drive, usage};

const COLUMNS: [&str; 9] = [
    "answered/s",
    "refused/s",
    "late/s",
    "p50 ms",
    "p99 ms",
    "in time",
    "calm p50 ms",
    "calm p99 ms",
    "RSS MiB",
];

/// One run of a server.
struct Sample {
    flood: Flood,
    calm: Latencies,
    resident_kib: u64,
}

/// Measures all servers in turns, with a client whose timeout is `timeout`.
pub async fn measure(servers: &[Server], timeout: Duration, options: &Options) -> Result<()> {
    let mut rows: Vec<Vec<Sample>> = servers.iter().map(|_| Vec::new()).collect();
    // The first run of each server is a warm-up.
    for round in 0..=options.rounds {
        for (server, row) in servers.iter().zip(&mut rows) {
            let sample = sample(server, timeout, options).await?;
            if 0 < round {
                row.push(sample);
            }
        }
    }
    println!("\n{:NAME_LEN$}{}", "flood", COLUMNS.map(|name| format!(" {name:>11}")).concat());
    for (server, row) in servers.iter().zip(&rows) {
        println!("{:NAME_LEN$}{}", server.name, cells(row, timeout));
    }
    Ok(())
}

async fn sample(server: &Server, timeout: Duration, options: &Options) -> Result<Sample> {
    let is_over = Arc::new(AtomicBool::new(false));
    let calm = thread::spawn({
        let (address, is_over) = (server.address.clone(), is_over.clone());
        move || drive::block_on(async move { ask_until(&address, &is_over).await })
    });
    let Options { requests, shape, .. } = *options;
    let asked = Impatient { frame: workload::hot(), timeout };
    let flood = drive::flood(&server.address, shape, requests, asked).await;
    is_over.store(true, Relaxed);
    let calm = calm.join().map_err(|_| anyhow!("the calm client panicked"))??;
    Ok(Sample { flood: flood?, calm, resident_kib: usage::resident_kib(server.process)? })
}

/// Sends one request after the other.
async fn ask_until(address: &str, is_over: &AtomicBool) -> Result<Latencies> {
    let mut client = Client::connect(address).await?;
    let mut latencies = Vec::new();
    while !is_over.load(Relaxed) {
        let start = Instant::now();
        client.ask(workload::hot()).await?;
        latencies.push(start.elapsed());
    }
    Ok(Latencies::new(latencies))
}

/// The medians of a row, with a client whose timeout is `timeout`.
fn cells(row: &[Sample], timeout: Duration) -> String {
    let of = |value: &dyn Fn(&Sample) -> f64| median(row.iter().map(value));
    let rate = |count: usize, flood: &Flood| count as f64 / flood.duration.as_secs_f64();
    let ms = |latencies: &Latencies, share: f64| latencies.quantile_us(share) / 1e3;
    let cells = [
        format!("{:.0}", of(&|one| rate(one.flood.latencies.len(), &one.flood))),
        format!("{:.0}", of(&|one| rate(one.flood.refused, &one.flood))),
        format!("{:.0}", of(&|one| rate(one.flood.late, &one.flood))),
        format!("{:.1}", of(&|one| ms(&one.flood.latencies, 0.5))),
        format!("{:.1}", of(&|one| ms(&one.flood.latencies, 0.99))),
        format!("{:.3}", of(&|one| one.flood.latencies.share_within(timeout))),
        format!("{:.1}", of(&|one| ms(&one.calm, 0.5))),
        format!("{:.1}", of(&|one| ms(&one.calm, 0.99))),
        format!("{:.1}", of(&|one| one.resident_kib as f64 / 1024.0)),
    ];
    cells.map(|cell| format!(" {cell:>11}")).concat()
}
