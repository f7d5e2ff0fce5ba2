//! Usage: decisions, summed by minute, hour and day. Fed by the sink, never on the data path.
//!
//! `Rollups` is pure: it takes records and the time, and returns sums. `UsageMemory` keeps it for one process. `Outbox`
//! makes batches for a store of sums that outlives the process, and `stored.rs` reads them back for the same queries.

mod bucket;
mod busy;
mod code;
mod counts;
pub mod forecast;
mod granularity;
mod groups;
mod last_tier;
mod memory;
pub mod offers;
mod outbox;
mod parts;
mod query;
mod retention;
mod rollups;
mod series;
mod stored;

pub use counts::{Counts, SpendTotal, Total};
pub use granularity::Granularity;
pub use last_tier::{LastTiers, last_tiers, last_tiers_query};
pub use memory::UsageMemory;
pub use outbox::{Outbox, periods_with_callers};
pub use query::{Dimension, Group, GroupName, Page, Rank, UsageQuery, View};
pub use retention::Retention;
pub use rollups::Rollups;
pub use stored::StoredGroups;
