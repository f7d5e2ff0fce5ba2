//! What was measured, as a table: the median of all rounds in every cell.

use std::time::Duration;

/// What one run of one server gave.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub decisions_per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
    /// Microseconds of CPU time a decision, of the server and of its Redis.
    pub cpu_us: f64,
    pub redis_cpu_us: Option<f64>,
    pub resident_kib: u64,
}

/// The samples of one server, round by round.
#[derive(Debug)]
pub struct Row {
    pub name: String,
    pub samples: Vec<Sample>,
}

/// Prints the rows of a workload; the first is the floor.
pub fn print(workload: &str, rows: &[Row]) {
    println!(
        "\n{workload:20} {:>12} {:>9} {:>9} {:>8} {:>8} {:>10} {:>9}",
        "decisions/s", "p50 µs", "p99 µs", "CPU µs", "x floor", "Redis µs", "RSS MiB"
    );
    let Some(floor) = rows.first() else { return };
    for row in rows {
        let micros = |latency: Duration| latency.as_secs_f64() * 1e6;
        let of = |value: fn(&Sample) -> f64| median(row.samples.iter().map(value));
        let pairs = row.samples.iter().zip(&floor.samples);
        let redis: Vec<f64> = row.samples.iter().filter_map(|sample| sample.redis_cpu_us).collect();
        let redis = if redis.is_empty() { "-".to_owned() } else { format!("{:.1}", median(redis)) };
        println!(
            "{:20} {:>12.0} {:>9.0} {:>9.0} {:>8.1} {:>8.2} {:>10} {:>9.1}",
            row.name,
            of(|sample| sample.decisions_per_second),
            median(row.samples.iter().map(|sample| micros(sample.p50))),
            median(row.samples.iter().map(|sample| micros(sample.p99))),
            of(|sample| sample.cpu_us),
            median(pairs.map(|(own, floor)| own.cpu_us / floor.cpu_us)),
            redis,
            median(row.samples.iter().map(|sample| sample.resident_kib as f64 / 1024.0)),
        );
    }
}

/// The value in the middle; of an even count, the upper one.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
