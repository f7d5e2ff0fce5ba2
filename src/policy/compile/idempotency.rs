//! Compiles `idempotency` of a file and of its rules.

use std::time::Duration;

use super::rate::parse_length_ms;
use crate::policy::model::Idempotency;
use crate::policy::schema::{IdempotencyFile, PolicyFile, RuleFile, RuleIdempotencyFile};
use crate::policy::yaml::{Reader, Spanned};

/// The default time for free retries.
const LIFE_DEFAULT: Duration = Duration::from_secs(600);

/// Maximum time for free retries.
const LIFE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Maximum time of a fingerprint.
const FINGERPRINT_MAX: Duration = Duration::from_secs(600);

/// The default number of free retries.
const RETRIES_DEFAULT: u16 = 5;

impl Idempotency {
    /// The settings in the file.
    pub(super) fn compile(reader: &mut Reader<'_>, file: &IdempotencyFile) -> Self {
        let life = file.r#for.as_ref().and_then(|said| length(reader, said, (LIFE_MAX, "7d")));
        let fingerprint = file.fingerprint.as_ref();
        let fingerprint =
            fingerprint.and_then(|said| length(reader, said, (FINGERPRINT_MAX, "10m")));
        let retries = file.retries.as_ref().and_then(|retries| u16::try_from(retries.value).ok());
        Self {
            key: file.key.as_ref().map(|key| key.value.as_str().into()),
            life: life.unwrap_or(LIFE_DEFAULT),
            fingerprint,
            retries_max: retries.unwrap_or(RETRIES_DEFAULT),
        }
    }
}

/// The keys of all entries with idempotency keys, in order.
pub fn keys(file: &PolicyFile) -> Vec<&Spanned<String>> {
    let mut said: Vec<&IdempotencyFile> = file.idempotency.iter().collect();
    let mut rules: Vec<&RuleFile> = file.descriptors.iter().flatten().collect();
    while let Some(rule) = rules.pop() {
        said.extend(rule.idempotency.as_ref().and_then(RuleIdempotencyFile::these));
        rules.extend(rule.descriptors.iter().flatten());
    }
    let mut keys: Vec<&Spanned<String>> =
        said.into_iter().filter_map(|said| said.key.as_ref()).collect();
    keys.sort_unstable_by(|one, other| one.value.cmp(&other.value));
    keys
}

fn length(
    reader: &mut Reader<'_>,
    said: &Spanned<String>,
    (max, shown): (Duration, &str),
) -> Option<Duration> {
    match parse_length_ms(&said.value).map(Duration::from_millis) {
        Ok(length) if length <= max => return Some(length),
        Ok(_) => {
            let message = format!("duration `{}` exceeds the maximum of {shown}", said.value);
            reader.error(said.span.clone(), message);
        }
        Err(message) => reader.error(said.span.clone(), message),
    }
    None
}
