//! Usage: what was decided, summed by minute, hour and day. Fed by the sink, never on the data path.
//!
//! `Rollups` is arithmetic: records and the time go in, sums come out. `UsageMemory` keeps it for one process; other
//! storage can stand behind the same queries.

mod bucket;
mod counts;
mod granularity;
mod memory;
mod query;
mod rollups;
mod series;

pub use counts::{Counts, Total};
pub use granularity::Granularity;
pub use memory::UsageMemory;
pub use query::{Dimension, Group, GroupName, Page, Rank, UsageQuery, View};
pub use rollups::Rollups;
