//! Schedules: conditions on local time, their starts and ends, and amounts that depend on them.

mod condition;
mod scheduled;
mod timeline;
mod timetable;

pub use condition::{Condition, DAY_MINUTES, DateRange, HourRange};
pub use scheduled::{Effect, Outlook, Scale, Scheduled, pay};
pub use timeline::Span;
pub use timetable::Timetable;
