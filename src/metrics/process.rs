//! Metrics of the process from the operating system, under the names that all Prometheus clients use.
//!
//! It is read from `/proc` at each scrape. Unreadable values are omitted.

use std::{fmt, fs};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Ticks per second in `/proc`. Linux fixed it at 100 for programs, whatever the kernel's timer.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads `/proc/self`.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stat = Stat::read();
        if let Some(stat) = &stat {
            let cpu = ConstCounter::new(stat.cpu_s);
            put(&mut encoder, "process_cpu_seconds", "Processor time used", &cpu)?;
        }
        if let Some(start_s) = stat.and_then(|stat| Some(boot_s()? + stat.start_s)) {
            let name = "process_start_time_seconds";
            put(&mut encoder, name, "Start time of the process", &ConstGauge::new(start_s))?;
        }
        for (line, name, help) in [
            ("VmRSS:", "process_resident_memory_bytes", "Memory in use"),
            ("VmSize:", "process_virtual_memory_bytes", "Address space in use"),
        ] {
            if let Some(bytes) = memory_bytes(line) {
                put(&mut encoder, name, help, &ConstGauge::new(bytes))?;
            }
        }
        if let Some(count) = open_fds() {
            put(&mut encoder, "process_open_fds", "Open files", &ConstGauge::new(count))?;
        }
        Ok(())
    }
}

fn put(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// The parts of `/proc/self/stat` that are shown.
struct Stat {
    cpu_s: f64,
    /// After the boot of the machine.
    start_s: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// See proc_pid_stat(5). The second field is a name in parentheses, which may contain parentheses. So fields are
    /// counted from its last one on; the first field after it is the third.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let cpu_s = (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND;
        Some(Self { cpu_s, start_s: ticks(22)? / TICKS_PER_SECOND })
    }
}

/// The boot time of the machine, in seconds since the Unix epoch.
fn boot_s() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The memory in a line of `/proc/self/status`.
fn memory_bytes(start: &str) -> Option<i64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(start))?;
    let kib: i64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

fn open_fds() -> Option<i64> {
    let count = i64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?;
    // One of them is the directory listing itself.
    Some(count - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b) S 1 1 1 0 -1 4 0 0 0 0 250 50 0 0 20 0 3 0 4200 0";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.cpu_s, stat.start_s), (3.0, 42.0));
    }

    #[test]
    fn a_short_line_is_no_statistics() {
        assert!(Stat::parse("7 (a) S 1 1").is_none());
        assert!(Stat::parse("").is_none());
    }
}
