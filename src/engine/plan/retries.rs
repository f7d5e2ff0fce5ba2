//! Idempotency keys of charges, so that retries of a request are charged once.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::Question;
use super::model::Plan;
use crate::engine::caller::entry;
use crate::engine::request::{BroughtLimits, Request};
use crate::limit::Hits;
use crate::policy::{Idempotency, RetryId};
use crate::store::{FINAL, IdempotencyMark, Once, Reservation};

/// Bytes of a fingerprint: enough that no two requests with the same one can be found.
const FINGERPRINT_LEN: usize = 16;

/// A hash of all parts of a request.
type Fingerprint = [u8; FINGERPRINT_LEN];

/// Adds idempotency keys to charges, if the policy has `idempotency`.
pub fn mark(plan: &mut Plan<'_>, Question { domain, request, caller, .. }: Question<'_, '_>) {
    let mut fingerprint = None;
    for index in 0..plan.batch.charges.len() {
        if plan.limits[index].charges_retries {
            continue;
        }
        let Some(idempotency) = domain.idempotency(plan.rules[index]) else { continue };
        let charge = &plan.batch.charges[index];
        if charge.once.is_some() {
            // Its reservation's id tells retries.
            continue;
        }
        if let Some(Reservation::Extend { .. }) = charge.reservation.as_deref() {
            // It asks for no hits, so it may come again.
            continue;
        }
        let key = &plan.batch.keys[charge.key_index];
        let (key, life) = match (value(idempotency, request), idempotency.fingerprint) {
            (Some(value), _) => (key.mark(caller.name, RetryId::Entry(value)), idempotency.life),
            (None, Some(life)) => {
                let hash = fingerprint.get_or_insert_with(|| fingerprint_of(request));
                (key.mark(caller.name, RetryId::Fingerprint(hash)), life)
            }
            (None, None) => continue,
        };
        let mark = IdempotencyMark {
            key_index: 0,
            retries_max: idempotency.retries_max,
            life_ms: ms(life),
            attempt: FINAL,
        };
        let key_index = plan.batch.key_index(key);
        plan.batch.charges[index].once = Some(Once::Mark(mark).under(key_index));
    }
}

/// The idempotency key of a request.
fn value<'r>(idempotency: &Idempotency, request: &Request<'r>) -> Option<&'r str> {
    let key = idempotency.key.as_deref()?;
    entry(request, key).filter(|value| !value.is_empty())
}

fn fingerprint_of(request: &Request<'_>) -> Fingerprint {
    let mut hasher = Sha256::new();
    let number = |hasher: &mut Sha256, number: u64| hasher.update(number.to_le_bytes());
    for descriptor in request.descriptors() {
        number(&mut hasher, descriptor.entries.len() as u64);
        for text in descriptor.entries.iter().flat_map(|(key, value)| [key, value]) {
            number(&mut hasher, text.len() as u64);
            hasher.update(text.as_bytes());
        }
        let sign = u64::from(matches!(descriptor.hits, Hits::GiveBack(_)));
        let brought = match descriptor.limit {
            Some(BroughtLimits::Override(limit)) => (limit.amount, limit.unit as u64 + 1),
            Some(BroughtLimits::OfApiKey(..)) | None => (0, 0),
        };
        for part in [sign, descriptor.hits.amount(), brought.0, brought.1] {
            number(&mut hasher, part);
        }
    }
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(&hasher.finalize()[..FINGERPRINT_LEN]);
    fingerprint
}

fn ms(life: Duration) -> u32 {
    u32::try_from(life.as_millis()).unwrap_or(u32::MAX)
}
