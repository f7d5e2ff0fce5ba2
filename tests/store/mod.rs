//! Counters: what every store promises, and what holds in Redis alone.

mod allowance;
mod cluster;
mod contract;
mod debits;
mod directory;
mod grace;
mod idempotency;
mod leases;
mod parity;
mod redis;
mod schedules;
mod sharing_races;
mod sums;
mod sums_file;
mod usage;
mod thresholds;
