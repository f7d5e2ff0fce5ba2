//! Reservations: how requests hold hits of a rule's limits for an operation, and settle them.

use std::time::Duration;

/// How requests hold hits of a rule's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservations {
    /// The keys of the entries that hold the id of a reservation, and what a request does with it; None if reservations are
    /// made over HTTP alone.
    pub entries: Option<ReservationEntries>,
    /// How long hits are held if a request does not say it.
    pub ttl: Duration,
    /// The longest time that a request may say.
    pub ttl_max: Duration,
}

/// The keys of the entries of a request with a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservationEntries {
    pub id: Box<str>,
    pub action: Box<str>,
}

/// What a request does with its reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationAction {
    /// Holds hits.
    Reserve,
    /// Spends hits, instead of those that are held.
    Settle,
    /// Has what is held lapse later.
    Extend,
    /// Ends what is held; nothing is spent.
    Cancel,
}

impl ReservationAction {
    /// Every action.
    pub const ALL: [Self; 4] = [Self::Reserve, Self::Settle, Self::Extend, Self::Cancel];

    /// As entries name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Settle => "settle",
            Self::Extend => "extend",
            Self::Cancel => "cancel",
        }
    }

    /// The action of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}
