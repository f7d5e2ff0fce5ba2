//! What the operating system says that a process has used.

use std::fs;

use anyhow::Context;
use anyhow::Result;

/// A tick of the accounting: Linux shows it to programs as a hundredth of a second on every machine.
const TICK_US: u64 = 10_000;

/// Fields of `/proc/PID/stat` between the process's name and its user time.
const FIELDS_BEFORE_TIMES: usize = 11;

/// CPU time of all threads so far, in microseconds, user and system together.
pub fn cpu_us(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name, in parentheses, may hold spaces.
    let (_, fields) = text.rsplit_once(')').with_context(|| path.clone())?;
    let times = fields.split_whitespace().skip(FIELDS_BEFORE_TIMES).take(2);
    let ticks: u64 = times.map(str::parse::<u64>).sum::<Result<_, _>>().context(path)?;
    Ok(ticks * TICK_US)
}

/// Resident memory, in KiB.
pub fn resident_kib(process: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("a status without VmRSS")?.parse()?)
}
