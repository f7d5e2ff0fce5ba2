//! Compiles the `estimate` of a limit, and of a file's `defaults`.

use std::time::Duration;

use super::enforcement::Enforcement;
use super::rate::parse_length_ms;
use crate::limit::Limit;
use crate::policy::model::{Estimate, StatedEstimate, TierLimit};
use crate::policy::schema::{EstimateFile, PolicyFile, RuleFile};
use crate::policy::yaml::{Reader, Spanned};

/// How long an estimate is held if nothing says it.
const LIFE_DEFAULT: Duration = Duration::from_secs(300);

/// The longest time that may be said.
const LIFE_MS_MAX: u64 = 24 * 3_600_000;

/// A limit that may have an estimate.
#[derive(Clone, Copy, Debug)]
pub struct Estimated<'a> {
    pub limit: &'a Limit,
    pub by_tier: &'a [TierLimit],
    pub enforcement: Enforcement,
    pub is_partial: bool,
    /// Its rule has reservations.
    pub has_reservations: bool,
}

impl Estimate {
    /// What the file says; None for no estimate.
    pub(super) fn compile(reader: &mut Reader<'_>, file: &EstimateFile) -> Option<Self> {
        let life_ms = file.0.r#for.as_ref().and_then(|text| match parse_length_ms(&text.value) {
            Ok(ms) if ms <= LIFE_MS_MAX => Some(ms),
            Ok(_) => {
                let message = format!("duration `{}` exceeds the maximum of 1d", text.value);
                reader.error(text.span.clone(), message);
                None
            }
            Err(message) => {
                reader.error(text.span.clone(), message);
                None
            }
        });
        let stated = Self::stated(reader, file);
        let hits = file.0.hits.as_ref()?.value;
        let life = life_ms.map_or(LIFE_DEFAULT, Duration::from_millis);
        let at = file.0.at.as_ref().map(|said| said.value.into()).unwrap_or_default();
        (hits != 0 || stated.is_some()).then_some(Self { hits, stated, life, at })
    }

    /// The entry that states the hits, with its bound.
    fn stated(reader: &mut Reader<'_>, file: &EstimateFile) -> Option<StatedEstimate> {
        let (key, max) = match (&file.0.key, &file.0.max) {
            (None, None) => return None,
            (Some(key), Some(max)) => (key, max),
            (Some(key), None) => {
                let message = "an estimate with a `key` needs a `max`: the most that is held, whatever a request states";
                reader.error(key.span.clone(), message);
                return None;
            }
            (None, Some(max)) => {
                reader.error(max.span.clone(), "`max` has no effect without `key`");
                return None;
            }
        };
        if key.value.is_empty() {
            reader.error(key.span.clone(), "the key of an entry is empty");
        }
        if let Some(hits) = file.0.hits.as_ref().filter(|hits| max.value < hits.value) {
            let message = format!("`hits` must be at most `max`: {} of {}", hits.value, max.value);
            reader.error(hits.span.clone(), message);
        }
        Some(StatedEstimate { key: key.value.as_str().into(), max: max.value })
    }

    /// The estimate of a limit: what it says itself, or else the default of its file, if that is less than the limit and the
    /// limit may have one.
    pub(super) fn of_limit(
        reader: &mut Reader<'_>,
        said: Option<&EstimateFile>,
        default: Option<&Self>,
        of: Estimated<'_>,
    ) -> Option<Self> {
        let tiers = of.by_tier.iter().filter_map(|limit| match limit {
            TierLimit::Limit(limit) => Some(limit.capacity()),
            TierLimit::None | TierLimit::Unlimited => None,
        });
        let least = if of.by_tier.is_empty() { Some(of.limit.capacity()) } else { tiers.min() };
        let Some(file) = said else {
            let fits = |estimate: &Self| least.is_none_or(|least| estimate.most() < least);
            return default.filter(|estimate| of.problem().is_none() && fits(estimate)).cloned();
        };
        let estimate = Self::compile(reader, file)?;
        let span = file.0.span.clone();
        if let Some(problem) = of.problem() {
            reader.error(span, problem);
        } else if let Some(least) = least.filter(|least| *least <= estimate.most()) {
            let message =
                format!("an estimate must be less than its limit: {} of {least}", estimate.most());
            reader.error(span, message);
        }
        Some(estimate)
    }
}

/// The keys of entries that state estimates.
pub fn keys(file: &PolicyFile) -> Vec<&Spanned<String>> {
    let default = file.defaults.as_ref().and_then(|defaults| defaults.estimate.as_ref());
    let mut said: Vec<&EstimateFile> = default.into_iter().collect();
    let mut rules: Vec<&RuleFile> = file.descriptors.iter().flatten().collect();
    while let Some(rule) = rules.pop() {
        let limits = rule.limits.iter().flat_map(|limits| &limits.value);
        said.extend(limits.filter_map(|limit| limit.map.estimate.as_ref()));
        rules.extend(rule.descriptors.iter().flatten());
    }
    let mut keys: Vec<&Spanned<String>> =
        said.into_iter().filter_map(|said| said.0.key.as_ref()).collect();
    keys.sort_unstable_by(|one, other| one.value.cmp(&other.value));
    keys
}

impl Estimated<'_> {
    /// The reason that it can't have one.
    fn problem(&self) -> Option<&'static str> {
        if self.has_reservations {
            Some("use `estimate` or `reservation`, not both: each says which hits are held")
        } else if self.is_partial {
            Some("use `estimate` or `partial`, not both: an estimate is held as a whole")
        } else if self.enforcement.strict {
            Some("a limit in the mode `strict` has no `estimate`: what is debited may exceed it")
        } else {
            None
        }
    }
}
