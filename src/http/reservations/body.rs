//! What the operations on reservations read, keep and tell.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::http::problem::Problem;
use crate::http::quota::params::{AskedTarget, invalid, one, target, wrong_resource};
use crate::observe::audit::instant;
use crate::policy::PolicySet;
use crate::store::ReservationRecord;

/// How long a record is kept after its reservation has ended.
const KEPT: Duration = Duration::from_secs(3_600);

/// Bytes of an id.
const ID_LEN_MAX: usize = 128;

/// The body of a new reservation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ReservationRequest")]
pub struct ReserveForm {
    /// The id, by which a retry is found; generated if absent.
    pub id: Option<String>,
    /// The domain; may be absent if only one has a policy that names callers.
    pub domain: Option<String>,
    /// How many hits are held.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_000_u64))]
    pub hits: u64,
    /// More entries after the caller's, in order, as a request has them in one descriptor.
    #[serde(default)]
    pub entries: Vec<BTreeMap<String, String>>,
    /// How long, in milliseconds, hits are held before they lapse; as the policy says if absent.
    pub ttl_ms: Option<u64>,
}

/// The body of a settlement.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ReservationSettlement")]
pub struct SettleForm {
    /// How many hits were used.
    #[schemars(range(max = 1_000_000_000_000_000_u64))]
    pub hits: u64,
}

/// The body of an extension.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ReservationExtension")]
pub struct ExtendForm {
    /// How long from now on, in milliseconds, hits are held before they lapse; as the policy says if absent.
    pub ttl_ms: Option<u64>,
}

/// A reservation.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Reservation")]
pub struct ReservationBody {
    id: String,
    domain: String,
    entries: Vec<BTreeMap<String, String>>,
    /// Hits that are held, or were.
    hits: u64,
    state: StateName,
    /// When the hits lapse, or have; absent once the reservation was settled or cancelled.
    #[schemars(extend("format" = "date-time"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// Hits that its settlement has charged; absent until it is settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<u64>,
}

/// The reservations of a caller.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Reservations")]
pub struct ReservationsBody {
    pub items: Vec<ReservationBody>,
}

/// What became of a reservation.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ReservationState")]
enum StateName {
    /// Its hits count as used.
    Held,
    /// It was not settled in time, and holds nothing any more.
    Lapsed,
    Settled,
    Cancelled,
}

/// A reservation as its record keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    pub domain: String,
    pub entries: Vec<BTreeMap<String, String>>,
    pub hits: u64,
    pub until_ms: u64,
    pub end: Option<End>,
    /// Hits that its settlement has charged, if they are known, and other than those that were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged: Option<u64>,
}

/// How a reservation has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Settled(u64),
    Cancelled,
}

impl Stored {
    /// The record of it, kept for a while after it has ended.
    pub fn record(&self, now: Timestamp) -> ReservationRecord {
        let ends = match self.end {
            Some(_) => now,
            None => Timestamp::from_ms(self.until_ms),
        };
        let text = serde_json::to_string(self).expect("texts and numbers are JSON");
        ReservationRecord { text, until: ends.after(KEPT) }
    }

    /// One that holds hits until then.
    pub fn held(
        domain: &str,
        (entries, hits): (Vec<BTreeMap<String, String>>, u64),
        until: Timestamp,
    ) -> Self {
        let (domain, until_ms) = (domain.to_owned(), until.as_ms());
        Self { domain, entries, hits, until_ms, end: None, charged: None }
    }

    /// What a record says; None if it makes no sense.
    pub fn parse(record: &ReservationRecord) -> Option<Self> {
        serde_json::from_str(&record.text).ok()
    }

    /// Whether it holds its hits, and was asked for as another is: for the same hits of the same limits.
    pub fn can_be_retried_as(&self, other: &Self, now: Timestamp) -> bool {
        let is_same =
            (&self.domain, &self.entries, self.hits) == (&other.domain, &other.entries, other.hits);
        is_same && self.end.is_none() && !self.is_lapsed(now)
    }

    /// The caller and the entries that it is for.
    pub fn target(&self, caller: &str) -> Result<AskedTarget, Problem> {
        target(caller.to_owned(), Some(self.domain.clone()), &self.entries)
    }

    /// Whether no policy has its domain any more, so that no limit counts what it holds.
    pub fn is_orphan(&self, policies: &PolicySet) -> bool {
        policies.domain(&self.domain).is_none()
    }

    /// A problem: it is an orphan.
    pub fn orphaned(&self, id: &str) -> Problem {
        let (domain, until) = (&self.domain, instant(Timestamp::from_ms(self.until_ms)));
        let detail = format!(
            "no policy has the domain `{domain}` of the reservation `{id}` any more: no limit counts its hits, and it lapses at {until}"
        );
        wrong_resource(detail)
    }

    /// Whether it holds its hits no more, without having been settled or cancelled.
    pub fn is_lapsed(&self, now: Timestamp) -> bool {
        self.end.is_none() && self.until_ms <= now.as_ms()
    }

    /// What is told of it.
    pub fn body(&self, id: &str, now: Timestamp) -> ReservationBody {
        let (state, used) = match self.end {
            Some(End::Settled(used)) => (StateName::Settled, Some(self.charged.unwrap_or(used))),
            Some(End::Cancelled) => (StateName::Cancelled, None),
            None if self.is_lapsed(now) => (StateName::Lapsed, None),
            None => (StateName::Held, None),
        };
        let until = self.end.is_none().then(|| Timestamp::from_ms(self.until_ms));
        ReservationBody {
            id: id.to_owned(),
            domain: self.domain.clone(),
            entries: self.entries.clone(),
            hits: self.hits,
            state,
            expires_at: until.map(instant),
            used,
        }
    }
}

/// Checks the id of a reservation.
pub fn check_id(id: &str) -> Result<(), Problem> {
    if id.is_empty() || ID_LEN_MAX < id.len() || id.chars().any(char::is_control) {
        let detail = format!("`id` has 1 to {ID_LEN_MAX} bytes and no control characters");
        return Err(invalid(detail));
    }
    Ok(())
}

/// A problem: there is no such reservation.
pub fn not_found(caller: &str, id: &str) -> Problem {
    let detail = format!("`{caller}` has no reservation `{id}`");
    Problem::new(StatusCode::NOT_FOUND, detail).coded("RESERVATION_NOT_FOUND")
}

/// A problem: a reservation can't become what was asked any more.
pub fn conflict(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::CONFLICT, detail).coded("RESERVATION_CONFLICT")
}
