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

pub use counts::Counts;
pub use counts::Total;
pub use granularity::Granularity;
pub use memory::UsageMemory;
pub use query::Dimension;
pub use query::Group;
pub use query::GroupName;
pub use query::Page;
pub use query::Rank;
pub use query::UsageQuery;
pub use query::View;
pub use rollups::Rollups;
