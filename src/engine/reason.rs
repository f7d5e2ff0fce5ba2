//! The reason of a refusal.

use std::fmt;

use crate::limit::Bonus;
use crate::store::{Charge, Decision, Outcome, Retry};

/// The reason of a refusal, from those that time resolves to those that it never does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// A limit does not have the hits.
    #[default]
    OverLimit,
    /// The remaining hits of a limit are reserved for higher tiers.
    Reserved,
    /// A limit is lowered by the signal that it follows, and does not have the hits.
    Adjusted,
    /// A provider is under pressure, and its level excludes or restricts the caller.
    Pressure,
    /// The request's idempotency key was used with other hits.
    IdempotencyConflict,
    /// The request's reservation was made or settled with other hits, or has ended.
    ReservationConflict,
    /// The caller has no access: its tier is excluded, or its limit is zero.
    NoAccess,
    /// The caller is disabled in the directory.
    Disabled,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::OverLimit,
        Self::Reserved,
        Self::Adjusted,
        Self::Pressure,
        Self::IdempotencyConflict,
        Self::ReservationConflict,
        Self::NoAccess,
        Self::Disabled,
    ];

    /// The name in metrics, metadata and bodies.
    pub fn name(self) -> &'static str {
        match self {
            Self::OverLimit => "over_limit",
            Self::Reserved => "reserved",
            Self::Adjusted => "adjusted",
            Self::Pressure => "pressure",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::ReservationConflict => "reservation_conflict",
            Self::NoAccess => "no_access",
            Self::Disabled => "disabled",
        }
    }

    /// The text for people, except for exceeded limits.
    pub fn title(self) -> Option<&'static str> {
        match self {
            Self::OverLimit | Self::Reserved | Self::Adjusted | Self::Pressure => None,
            Self::IdempotencyConflict => {
                Some("The idempotency key was used for a request with other hits")
            }
            Self::ReservationConflict => {
                Some("The reservation was made or settled with other hits, or has ended")
            }
            Self::NoAccess => Some("The caller has no access"),
            Self::Disabled => Some("The caller is disabled"),
        }
    }

    /// The reason of a charge's refusal.
    pub(super) fn of(charge: &Charge, decision: &Decision, outcome: &Outcome) -> Self {
        if decision.retry == Some(Retry::Conflict) {
            let step = charge.reservation.as_ref();
            let is_reservation = step.is_some_and(|step| step.id().is_some());
            return match is_reservation {
                true => Self::ReservationConflict,
                false => Self::IdempotencyConflict,
            };
        }
        let ended = |bonus: &Bonus| bonus.until <= outcome.at;
        let limit = charge.limit.at(outcome.at);
        let whole = limit.capacity();
        let open = charge.part(charge.open.hits, limit);
        let pressed = charge.open.pressed.iter().any(|pressed| {
            let level = outcome.levels.get(pressed.gauge).copied().map_or(0, usize::from);
            let hits = level.checked_sub(1).and_then(|index| pressed.hits.get(index));
            hits.is_some_and(|hits| charge.part(*hits, limit) < open)
        });
        match (whole, pressed) {
            (0, _) if charge.bonuses.iter().all(ended) => Self::NoAccess,
            (_, true) => Self::Pressure,
            _ if open < whole => Self::Reserved,
            _ => Self::OverLimit,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
