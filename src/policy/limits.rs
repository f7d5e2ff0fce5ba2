//! The limits of one rule, from either way of writing them.

use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::limit::Algorithm;
use crate::limit::Bucket;
use crate::limit::Calendar;
use crate::limit::Fixed;
use crate::limit::Limit;
use crate::limit::Sliding;

use super::Mode;
use super::fields::Reader;
use super::problem::Severity;
use super::rate::Rate;
use super::rate::Window;
use super::rule::OnOutage;
use super::rule::RuleLimit;
use super::schema::AlgorithmFile;
use super::schema::LimitFile;
use super::schema::RateLimitFile;
use super::schema::RuleFile;
use super::schema::Spot;
use super::unit::Unit;

/// Limits in one rule: they share one record, which must stay small.
const LIMITS_MAX: usize = 16;

/// What holds for every limit of a file that does not say otherwise.
#[derive(Debug)]
pub struct Defaults {
    pub zone: TimeZone,
    pub algorithm: Option<AlgorithmFile>,
    pub mode: Option<Mode>,
    pub on_outage: Option<OnOutage>,
}

/// Makes the limits of one rule.
#[derive(Debug)]
pub struct RuleLimits<'a> {
    pub file: &'a RuleFile,
    pub path: &'a str,
    /// The number of the first among the limits of the domain.
    pub first_index: usize,
    pub defaults: &'a Defaults,
}

impl RuleLimits<'_> {
    /// The limits; what has a problem is noted and left out.
    pub fn build(&self, reader: &mut Reader<'_>) -> Vec<Arc<RuleLimit>> {
        let RuleFile { rate_limit, limits, .. } = self.file;
        if let (Some(rate_limit), Some(limits)) = (rate_limit, limits) {
            let message = "a rule has `rate_limit` or `limits`, not both";
            let start = limits.span.start.max(rate_limit.span.start);
            reader.error(start..limits.span.end, message);
        }
        let mut drafts = Vec::new();
        drafts.extend(rate_limit.as_ref().and_then(|file| from_rate_limit(reader, file)));
        drafts.extend(limits.iter().flat_map(|file| from_limits(reader, file)));
        let mut limits: Vec<Arc<RuleLimit>> = Vec::new();
        for draft in &drafts {
            if let Some(limit) = self.limit(reader, draft, &limits) {
                limits.push(Arc::new(limit));
            }
        }
        limits
    }

    fn limit(
        &self,
        reader: &mut Reader<'_>,
        draft: &Draft,
        siblings: &[Arc<RuleLimit>],
    ) -> Option<RuleLimit> {
        let rate = draft.rate?;
        let limit = Limit::new(rate.amount, self.algorithm(reader, draft, rate)?);
        // The siblings of one window are told apart by their order.
        let window = |limit: &Limit| limit.tag().split('#').next().map(str::to_owned);
        let twins = siblings.iter().filter(|twin| window(&twin.limit) == window(&limit)).count();
        let limit = limit.numbered(twins);
        let name = draft.file.map.name.as_ref().map_or("", |name| name.value.as_str());
        let label =
            if name.is_empty() { format!("{} {limit}", self.path) } else { name.to_owned() };
        Some(RuleLimit {
            index: self.first_index + siblings.len(),
            name: name.into(),
            label: label.into(),
            limit: Arc::new(limit),
            window: rate.window,
            mode: self.mode(reader, draft),
            on_outage: self.on_outage(draft),
        })
    }

    fn algorithm(&self, reader: &mut Reader<'_>, draft: &Draft, rate: Rate) -> Option<Algorithm> {
        let said = draft.file.map.algorithm.as_ref();
        let word = said.map(|said| said.value);
        let span = said.map_or(&draft.file.span, |said| &said.span).clone();
        let burst = draft.file.map.burst.as_ref();
        let algorithm = match (rate.window, word.or(self.defaults.algorithm)) {
            (Window::Total, _) if word.is_some() => Err("a total has no `algorithm`".to_owned()),
            (Window::Total, _) => Ok(Algorithm::Total),
            (Window::Calendar(unit), Some(AlgorithmFile::Calendar) | None) => {
                Ok(Algorithm::Calendar(Calendar::new(unit, self.defaults.zone.clone())))
            }
            (Window::Calendar(unit), Some(_)) if word.is_none() => {
                Ok(Algorithm::Calendar(Calendar::new(unit, self.defaults.zone.clone())))
            }
            (Window::Calendar(unit), Some(_)) => Err(format!(
                "a {unit} has no fixed length; write a number of days or use `calendar`"
            )),
            (Window::Length(_), Some(AlgorithmFile::Calendar)) => {
                match rate.window.calendar_unit() {
                    Some(unit) => {
                        Ok(Algorithm::Calendar(Calendar::new(unit, self.defaults.zone.clone())))
                    }
                    None => Err("a `calendar` window is a minute, hour, day, week, month or year"
                        .to_owned()),
                }
            }
            (Window::Length(window_ms), Some(AlgorithmFile::FixedWindow)) => {
                Ok(Algorithm::Fixed(Fixed::new(window_ms)))
            }
            (Window::Length(window_ms), Some(AlgorithmFile::TokenBucket)) => {
                let burst = burst.map_or(rate.amount, |burst| burst.value);
                bucket(rate.amount, window_ms, burst)
            }
            (Window::Length(window_ms), Some(AlgorithmFile::SlidingWindow) | None) => {
                Ok(Algorithm::Sliding(Sliding::new(window_ms, rate.amount)))
            }
        };
        if let (Some(burst), Ok(algorithm)) = (burst, &algorithm)
            && !matches!(algorithm, Algorithm::Bucket(_))
        {
            reader.error(burst.span.clone(), "only a `token_bucket` has a `burst`");
        }
        algorithm.map_err(|message| reader.error(span, message)).ok()
    }

    /// The limit's own mode, or its rule's, or the file's.
    fn mode(&self, reader: &mut Reader<'_>, draft: &Draft) -> Mode {
        let map = &draft.file.map;
        let shadow = map.shadow.as_ref().filter(|shadow| shadow.value);
        if let (Some(shadow), Some(_)) = (shadow, &map.mode) {
            reader.error(shadow.span.clone(), "a limit has `mode` or `shadow`, not both");
        }
        let on = |flag: &Option<Spot<bool>>| flag.as_ref().is_some_and(|flag| flag.value);
        if let Some(mode) = &map.mode {
            mode.value.into()
        } else if shadow.is_some() || on(&self.file.shadow_mode) {
            Mode::Shadow
        } else if on(&self.file.quota_mode) {
            Mode::Quota
        } else {
            self.defaults.mode.unwrap_or_default()
        }
    }

    fn on_outage(&self, draft: &Draft) -> OnOutage {
        let said = draft.file.map.on_outage.as_ref().or(self.file.on_outage.as_ref());
        said.map(|said| said.value.into()).or(self.defaults.on_outage).unwrap_or_default()
    }
}

/// A limit as written, either way.
#[derive(Debug, Default)]
struct Draft {
    rate: Option<Rate>,
    file: LimitFile,
}

fn from_rate_limit(reader: &mut Reader<'_>, file: &Spot<RateLimitFile>) -> Option<Draft> {
    let RateLimitFile { requests_per_unit, unit, unlimited, name, .. } = &file.value;
    if unlimited.as_ref().is_some_and(|unlimited| unlimited.value) {
        if let Some(unit) = unit {
            reader.error(unit.span.clone(), "an `unlimited` rate limit has no `unit`");
        }
        if let Some(amount) = requests_per_unit {
            let message = "an `unlimited` rate limit does not look at `requests_per_unit`";
            reader.note(Severity::Warning, amount.span.clone(), message);
        }
        return None;
    }
    // What is missing or malformed has been noted by the reader.
    let unit = unit.as_ref()?;
    let Some(window) = Unit::parse(&unit.value) else {
        let message = format!(
            "`{}` is no unit; it is second, minute, hour, day, week, month or year",
            unit.value
        );
        reader.error(unit.span.clone(), message);
        return None;
    };
    let rate = Rate { amount: requests_per_unit.as_ref()?.value, window: window.into() };
    let mut limit = LimitFile { span: file.span.clone(), ..LimitFile::default() };
    limit.map.name.clone_from(name);
    Some(Draft { rate: Some(rate), file: limit })
}

/// A bucket, or why it would be none.
fn bucket(amount: u64, window_ms: u64, burst: u64) -> Result<Algorithm, String> {
    match Bucket::new(amount, window_ms, burst) {
        Some(_) if burst == 0 && 0 < amount => Err("a burst of 0 lets nothing pass".to_owned()),
        Some(bucket) => Ok(Algorithm::Bucket(bucket)),
        None if amount == 0 => Err("a bucket of 0 in a window never refills".to_owned()),
        None => Err("the burst times the window is too large to count exactly".to_owned()),
    }
}

fn from_limits(reader: &mut Reader<'_>, limits: &Spot<Vec<LimitFile>>) -> Vec<Draft> {
    if limits.value.is_empty() {
        reader.error(limits.span.clone(), "`limits` is empty");
    }
    if LIMITS_MAX < limits.value.len() {
        let message = format!("a rule has at most {LIMITS_MAX} limits");
        reader.error(limits.span.clone(), message);
    }
    let mut drafts = Vec::new();
    for file in limits.value.iter().take(LIMITS_MAX) {
        let rate = file.map.rate.as_ref().and_then(|text| {
            Rate::parse(&text.value)
                .map_err(|message| reader.error(text.span.clone(), message))
                .ok()
        });
        drafts.push(Draft { rate, file: file.clone() });
    }
    drafts
}
