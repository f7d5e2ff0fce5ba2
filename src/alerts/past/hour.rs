//! The query of an hour of usage.

use std::time::Duration;

use crate::usage::{Granularity, UsageQuery, View};

/// The query of all requests in an hour.
pub fn of_hour(hour: u64) -> UsageQuery {
    let from = Granularity::Hour.start_of(hour);
    UsageQuery {
        to: from.after(Duration::from_secs(3_600)),
        named_only: true,
        ..UsageQuery::since(View::Requests, Granularity::Hour, from)
    }
}
