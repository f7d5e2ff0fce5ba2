//! The results as a table: the median of all rounds in every cell.

use crate::support::latencies::{Latencies, median};

/// The columns after the name of the server.
const COLUMNS: [&str; 11] = [
    "decisions/s",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "CPU µs",
    "x floor",
    "x base",
    "Redis µs",
    "Redis calls",
    "RSS MiB",
    "Redis B/key",
];

/// Width of the column of names.
pub const NAME_LEN: usize = 24;

/// The result of one run of one server.
#[derive(Clone, Debug)]
pub struct Sample {
    pub decisions_per_second: f64,
    pub latencies: Latencies,
    /// CPU time per decision, in microseconds.
    pub cpu_us: f64,
    pub redis: Option<RedisSample>,
    pub resident_kib: u64,
}

impl Sample {
    /// CPU time per decision in microseconds, including its Redis.
    fn cost_us(&self) -> f64 {
        self.cpu_us + self.redis.map_or(0.0, |redis| redis.cpu_us)
    }
}

/// The load on its Redis, per decision.
#[derive(Clone, Copy, Debug)]
pub struct RedisSample {
    pub cpu_us: f64,
    pub calls: f64,
}

/// The samples of one server, round by round.
#[derive(Debug, Default)]
pub struct Row {
    pub name: String,
    pub samples: Vec<Sample>,
    /// The samples of the workload's base, if it has one.
    pub base: Vec<Sample>,
    /// Bytes of Redis's memory for each new key of this workload.
    pub redis_key_bytes: Option<f64>,
}

/// Prints the rows of a workload; the first is the floor.
pub fn print(workload: &str, rows: &[Row], markdown: bool) {
    let Some(floor) = rows.first() else { return };
    println!();
    if markdown {
        println!("| {workload} | {} |", COLUMNS.join(" | "));
        println!("|---|{}", "---:|".repeat(COLUMNS.len()));
    } else {
        let columns = COLUMNS.map(|name| format!(" {name:>11}"));
        println!("{workload:NAME_LEN$}{}", columns.concat());
    }
    for row in rows {
        let cells = row.cells(floor);
        if markdown {
            println!("| {} | {} |", row.name, cells.join(" | "));
        } else {
            let cells: String = cells.iter().map(|cell| format!(" {cell:>11}")).collect();
            println!("{:NAME_LEN$}{cells}", row.name);
        }
    }
}

impl Row {
    fn cells(&self, floor: &Self) -> [String; COLUMNS.len()] {
        let of = |value: &dyn Fn(&Sample) -> f64| median(self.samples.iter().map(value));
        let latency = |share: f64| format!("{:.0}", of(&|one| one.latencies.quantile_us(share)));
        let pairs = self.samples.iter().zip(&floor.samples);
        let bases = self.samples.iter().zip(&self.base);
        let ratios = bases.map(|(own, base)| own.cost_us() / base.cost_us());
        let has_redis = self.samples.iter().any(|sample| sample.redis.is_some());
        let redis = |value: &dyn Fn(RedisSample) -> String| match has_redis {
            true => value(RedisSample {
                cpu_us: median(self.samples.iter().filter_map(|one| Some(one.redis?.cpu_us))),
                calls: median(self.samples.iter().filter_map(|one| Some(one.redis?.calls))),
            }),
            false => "-".to_owned(),
        };
        [
            format!("{:.0}", of(&|one| one.decisions_per_second)),
            latency(0.5),
            latency(0.99),
            latency(0.999),
            format!("{:.1}", of(&|one| one.cpu_us)),
            format!("{:.2}", median(pairs.map(|(own, floor)| own.cpu_us / floor.cpu_us))),
            if self.base.is_empty() { "-".to_owned() } else { format!("{:.2}", median(ratios)) },
            redis(&|redis| format!("{:.1}", redis.cpu_us)),
            redis(&|redis| format!("{:.3}", redis.calls)),
            format!("{:.1}", of(&|one| one.resident_kib as f64 / 1024.0)),
            self.redis_key_bytes.map_or("-".to_owned(), |bytes| format!("{bytes:.0}")),
        ]
    }
}
