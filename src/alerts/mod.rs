//! Alerts: rules over what the process sees, the alerts that are open, and their notifications.
//!
//! [`Conditions`] decides which rules fire; it is pure. [`UsageWatcher`] reads usage for those that follow it. The [`Book`] has the open alerts and the notifications to be
//! sent; it is pure too, and the [`Keeper`] keeps it in memory or, for a fleet, in Redis. [`Senders`] sends.

mod abuse;
mod book;
mod conditions;
mod counted;
mod delivery;
mod denials;
mod in_force;
mod intake;
mod keeper;
mod labels;
mod past;
mod risk;
mod rule_counts;

pub use book::{
    AlertAnswer, Book, Claimed, ClosedAlert, Firing, Notification, NotificationKind, OpenAlert,
    ProviderCount, Silence,
};
pub use conditions::{Conditions, Seen};
pub use counted::{Counters, Recent};
pub use delivery::{SendError, Senders, check_need};
pub use in_force::Alerts;
pub use intake::{AlertEvent, Intake};
pub use keeper::{AlertList, Keeper};
pub use labels::{AlertId, Labels};
pub use past::{NotReplayed, PastFiring, Replay, UsageSeen, UsageSources, UsageWatcher, replay};
pub use risk::{Risk, RiskReason, risks};
