//! Counters: what every store promises, and what holds in Redis alone.

mod allowance;
mod cluster;
mod contract;
mod debits;
mod directory;
mod idempotency;
mod leases;
mod parity;
mod redis;
mod schedules;
mod sharing_races;
mod sums;
mod usage;
mod thresholds;
