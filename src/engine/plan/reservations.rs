//! What the charges of a request do with reservations: which hits they hold, and which they settle.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::Question;
use super::model::Plan;
use crate::engine::caller::entry;
use crate::engine::request::{AskedReservation, Request};
use crate::limit::Hits;
use crate::policy::{Refused, ReservationAction, Reservations, RetryId};
use crate::store::{FINAL, IdempotencyMark, Once, Reservation};

/// How long an id is remembered after its reservation has lapsed or was settled.
const REMEMBERED: Duration = Duration::from_secs(3_600);

/// Retries of a reservation, or of its settlement, that are free.
const RETRIES_MAX: u16 = 100;

/// Has reservations count where the policy has any, and charges hold or settle what the request asks.
pub fn reserve(plan: &mut Plan<'_>, Question { domain, request, caller, .. }: Question<'_, '_>) {
    if !domain.has_reservations() {
        return;
    }
    for index in 0..plan.batch.charges.len() {
        let rule = plan.rules[index];
        let charge = &mut plan.batch.charges[index];
        let Some(reservations) = rule.and_then(|rule| rule.reservations.as_deref()) else {
            let ends = request
                .reservation()
                .is_some_and(|asked| asked.action != ReservationAction::Reserve);
            if ends {
                // It has been charged when the reservation was made.
                (charge.hits, charge.refused) = (Hits::Spend(0), Refused::Free);
            }
            continue;
        };
        charge.reservation = Some(Box::new(Reservation::Count));
        let Some(asked) = asked(reservations, request) else { continue };
        let ttl = asked.ttl.unwrap_or(reservations.ttl).min(reservations.ttl_max);
        let (id, life_ms) = (id(caller.name, asked.id), ms(ttl));
        let key = &plan.batch.keys[charge.key_index];
        let (step, mark) = match (asked.action, charge.hits) {
            (ReservationAction::Reserve, Hits::Spend(0) | Hits::GiveBack(_)) => continue,
            (ReservationAction::Reserve, Hits::Spend(_)) => {
                let key = key.mark(caller.name, RetryId::Reserve(asked.id));
                (Reservation::Hold { id, life_ms }, Some((key, ttl + REMEMBERED)))
            }
            (ReservationAction::Extend, _) => (Reservation::Extend { id, life_ms }, None),
            (ReservationAction::Settle | ReservationAction::Cancel, _) => {
                let key = key.mark(caller.name, RetryId::Settle(asked.id));
                (Reservation::Settle { id }, Some((key, REMEMBERED)))
            }
        };
        if let ReservationAction::Extend | ReservationAction::Cancel = asked.action {
            charge.hits = Hits::Spend(0);
        }
        charge.refused = match step {
            Reservation::Settle { .. } => Refused::Booked,
            _ => Refused::Free,
        };
        charge.reservation = Some(Box::new(step));
        charge.once = None;
        if let Some((key, life)) = mark {
            let (retries_max, life_ms, attempt) = (RETRIES_MAX, ms(life), FINAL);
            let mark = IdempotencyMark { key_index: 0, retries_max, life_ms, attempt };
            let key_index = plan.batch.key_index(key);
            plan.batch.charges[index].once = Some(Once::Mark(mark).under(key_index));
        }
    }
}

/// What a request asks of reservations: by itself, or by its entries.
fn asked<'r>(reservations: &Reservations, request: &Request<'r>) -> Option<AskedReservation<'r>> {
    if let Some(asked) = request.reservation() {
        return Some(*asked);
    }
    let entries = reservations.entries.as_ref()?;
    let id = entry(request, &entries.id).filter(|id| !id.is_empty())?;
    let action = entry(request, &entries.action).and_then(ReservationAction::parse);
    let action = action.unwrap_or(ReservationAction::Settle);
    Some(AskedReservation { action, id, ttl: None })
}

/// A number for the id of a reservation of a caller, by which a counter's record tells it from others.
fn id(caller: Option<&str>, id: &str) -> u64 {
    let mut hasher = Sha256::new();
    let caller = caller.unwrap_or_default();
    // With its length, so that no name can pass for a longer one's beginning.
    hasher.update((caller.len() as u64).to_le_bytes());
    hasher.update(caller.as_bytes());
    hasher.update(id.as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize()[..8]);
    u64::from_le_bytes(bytes)
}

fn ms(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}
