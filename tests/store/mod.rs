//! Counters: the contract of every store, and tests of Redis alone.

mod allowance;
mod cluster;
mod contract;
mod corrections;
mod credits;
mod debits;
mod directory;
mod estimates;
mod grace;
mod holding_races;
mod idempotency;
mod leases;
mod parity;
mod partial;
mod race_answer;
mod redis;
mod reservations;
mod restarts;
mod schedules;
mod sharing_races;
mod sums;
mod sums_file;
mod time_races;
mod usage;
mod thresholds;
