//! Rate-limit servers under load, side by side: `cargo bench --bench load`.
//!
//! The machine may be busy with other things, so the servers take turns, round by round, and what counts
//! is CPU time by the operating system's accounting, as a ratio to the floor's in the same round.

// A benchmark's product is what it prints.
#![allow(clippy::print_stdout)]

mod drive;
mod floor;
mod options;
mod servers;
mod table;
mod usage;

use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;

use drive::Workload;
use options::Options;
use servers::Server;
use table::Row;
use table::Sample;

fn main() -> Result<()> {
    let options = Options::read();
    if options.serves_floor {
        return floor::serve();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(&options))
}

async fn measure(options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let servers = Server::start(folder.path(), &options.peers)?;
    let Options { requests, rounds, connections, streams, .. } = options;
    println!(
        "{rounds} rounds of {requests} decisions, {connections} connections with {streams} in flight"
    );
    for workload in Workload::ALL {
        let mut rows: Vec<Row> = servers.iter().map(Row::new).collect();
        // Each server's first turn warms it up.
        for round in 0..=*rounds {
            for (server, row) in servers.iter().zip(&mut rows) {
                let sample = sample(workload, server, options, folder.path()).await;
                let sample = sample.with_context(|| format!("{}, {workload:?}", server.name))?;
                if 0 < round {
                    row.samples.push(sample);
                }
            }
        }
        table::print(workload.name(), &rows);
    }
    Ok(())
}

impl Row {
    fn new(server: &Server) -> Self {
        Self { name: server.name.clone(), samples: Vec::new() }
    }
}

/// One turn of one server.
async fn sample(
    workload: Workload,
    server: &Server,
    options: &Options,
    folder: &Path,
) -> Result<Sample> {
    let remaining = drive::probe(&server.address).await?;
    let redis_cpu = || server.redis.map(usage::cpu_us).transpose();
    let (cpu_before, redis_before) = (usage::cpu_us(server.process)?, redis_cpu()?);
    let run = drive::run(workload, &server.address, options, folder).await?;
    let (cpu_after, redis_after) = (usage::cpu_us(server.process)?, redis_cpu()?);
    let remaining_after = drive::probe(&server.address).await?;
    if server.is_exact && workload == Workload::OneKey {
        // The second probe spends one too.
        let spent = remaining.zip(remaining_after).map(|(before, after)| before - after);
        let expected = u32::try_from(options.requests + 1)?;
        ensure!(spent == Some(expected), "{spent:?} hits were spent, not {expected}");
    }
    let requests = options.requests as f64;
    let each = |before: u64, after: u64| (after - before) as f64 / requests;
    Ok(Sample {
        decisions_per_second: requests / run.duration.as_secs_f64(),
        p50: run.percentile(50),
        p99: run.percentile(99),
        cpu_us: each(cpu_before, cpu_after),
        redis_cpu_us: redis_before.zip(redis_after).map(|(before, after)| each(before, after)),
        resident_kib: usage::resident_kib(server.process)?,
    })
}
