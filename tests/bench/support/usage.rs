//! Usage figures of a process from the operating system.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// The CPU time of each thread that a process has, in nanoseconds.
///
/// From `schedstat`, because `stat` of the whole process has ticks of 10 ms. The time of threads that have ended is
/// lost; servers keep their threads.
#[derive(Clone, Debug)]
pub struct CpuTimes(BTreeMap<String, u64>);

impl CpuTimes {
    /// The time so far.
    pub fn of(process: u32) -> Result<Self> {
        let folder = format!("/proc/{process}/task");
        let mut times = BTreeMap::new();
        for thread in fs::read_dir(&folder).with_context(|| folder.clone())? {
            let thread = thread?;
            // A thread may end between the listing and the read.
            let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
            let first = text.split_whitespace().next().context("an empty schedstat")?;
            times.insert(thread.file_name().display().to_string(), first.parse()?);
        }
        Ok(Self(times))
    }

    /// The total.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.0.values().sum())
    }

    /// The usage since `before`.
    pub fn since(&self, before: &Self) -> Duration {
        let used = self.0.iter().map(|(thread, time)| {
            time.saturating_sub(before.0.get(thread).copied().unwrap_or_default())
        });
        Duration::from_nanos(used.sum())
    }
}

/// Resident memory, in KiB.
pub fn resident_kib(process: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("a status without VmRSS")?.parse()?)
}
