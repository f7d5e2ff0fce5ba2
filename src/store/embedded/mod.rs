//! The embedded store: counters in this process, and their file.

mod amends;
mod bonuses;
mod byte_code;
mod counter_file;
mod decide;
mod durability;
mod erase;
mod gauges;
mod given_back;
mod holdings;
mod journal;
mod kept;
mod limit_code;
mod memory;
mod on_schedule;
mod partial;
mod persistence;
mod record;
mod record_code;
mod report;
mod retries;
mod signals;
mod simple;
mod spend;

pub use counter_file::CounterFile;
pub use memory::{Memory, Spent};
pub use partial::PARTS_MAX;
