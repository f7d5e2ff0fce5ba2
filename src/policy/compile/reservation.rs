//! Compiles `reservation` of a file and of its rules.

use std::time::Duration;

use super::rate::parse_length_ms;
use crate::policy::model::{ReservationEntries, Reservations};
use crate::policy::schema::{PolicyFile, ReservationFile, RuleFile};
use crate::policy::yaml::{Reader, Spanned};

/// How long hits are held if nothing says it.
const TTL_DEFAULT: Duration = Duration::from_secs(600);

/// The longest time for which a request may have hits held if the policy does not say it.
const TTL_MAX_DEFAULT: Duration = Duration::from_secs(24 * 3_600);

/// The longest time for which a policy may have hits held.
const TTL_LONGEST: Duration = Duration::from_secs(7 * 24 * 3_600);

impl Reservations {
    /// What the file says.
    pub(super) fn compile(reader: &mut Reader<'_>, file: &ReservationFile) -> Self {
        let ttl = file.ttl.as_ref().and_then(|said| length(reader, said)).unwrap_or(TTL_DEFAULT);
        let said_max = file.ttl_max.as_ref().and_then(|said| length(reader, said));
        if let (Some(said), Some(max)) = (&file.ttl_max, said_max)
            && max < ttl
        {
            let message = format!("`ttl_max` must be at least `ttl`, {}s", ttl.as_secs_f64());
            reader.error(said.span.clone(), message);
        }
        let name = |key: &Spanned<String>| key.value.as_str().into();
        let both = file.key.as_ref().zip(file.action.as_ref());
        let entries =
            both.map(|(id, action)| ReservationEntries { id: name(id), action: name(action) });
        Self { entries, ttl, ttl_max: said_max.unwrap_or(TTL_MAX_DEFAULT).max(ttl) }
    }
}

/// The keys of all entries that hold ids of reservations, and what is done with them.
pub fn keys(file: &PolicyFile) -> Vec<&str> {
    let mut said: Vec<&ReservationFile> = file.reservation.iter().collect();
    let mut rules: Vec<&RuleFile> = file.descriptors.iter().flatten().collect();
    while let Some(rule) = rules.pop() {
        said.extend(&rule.reservation);
        rules.extend(rule.descriptors.iter().flatten());
    }
    let keys = said.into_iter().flat_map(|said| said.key.iter().chain(&said.action));
    let mut keys: Vec<&str> = keys.map(|key| key.value.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn length(reader: &mut Reader<'_>, said: &Spanned<String>) -> Option<Duration> {
    match parse_length_ms(&said.value).map(Duration::from_millis) {
        Ok(length) if length <= TTL_LONGEST => return Some(length),
        Ok(_) => {
            let message = format!("duration `{}` exceeds the maximum of 7d", said.value);
            reader.error(said.span.clone(), message);
        }
        Err(message) => reader.error(said.span.clone(), message),
    }
    None
}
