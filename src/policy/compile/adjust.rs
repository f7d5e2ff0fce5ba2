//! Compiles `adjust` of a limit.

use std::ptr;

use super::rate::parse_length_ms;
use crate::limit::{Adjustment, Algorithm, Limit, Scale};
use crate::policy::model::{Adjust, Share, SignalSource};
use crate::policy::problem::Severity;
use crate::policy::schema::{AdjustFile, PolicyFile, RuleFile};
use crate::policy::yaml::{Reader, Spanned};

/// What holds if nothing says it.
const STEP: Scale = Scale::of_hundredths(1_000);
const EVERY_MS: u64 = 10_000;
const STALE_AFTER_MS: u64 = 60_000;

/// The shortest and the longest time between two steps, and for which a signal holds: scales are looked at each second.
const LENGTH_MS_MIN: u64 = 1_000;
const LENGTH_MS_MAX: u64 = 86_400_000;

/// Bytes of a signal's name.
const NAME_LEN_MAX: usize = 64;

/// Separates the parts of an id: names have no control characters.
const SEPARATOR: &str = "\n";

impl Adjust {
    /// What the file says of a limit, which `id` tells apart: its domain, its rule and its label.
    pub(super) fn compile(
        reader: &mut Reader<'_>,
        file: &AdjustFile,
        (limit, id): (&Limit, [&str; 3]),
    ) -> Option<Self> {
        if let Algorithm::Bucket(_) = limit.algorithm() {
            let message = "`adjust` is not supported by token_bucket; use a window";
            reader.error(file.span.clone(), message);
        }
        let signal = signal(reader, file);
        let bound = |reader: &mut Reader<'_>, said: &Option<Spanned<String>>| {
            let said = said.as_ref()?;
            parse(&said.value).map_err(|message| reader.error(said.span.clone(), message)).ok()
        };
        let (above, below) = (bound(reader, &file.above), bound(reader, &file.below));
        if let (Some(above), Some(below), Some(said)) = (above, below, &file.below)
            && above < below
        {
            reader.error(said.span.clone(), "`below` must not exceed `above`");
        }
        let least = file.least.as_ref().and_then(|said| scale(reader, said));
        let step = file.step.as_ref().map_or(Some(STEP), |said| {
            let step = scale(reader, said)?;
            if step.hundredths() == 0 {
                reader.error(said.span.clone(), "`step` must be more than 0%");
            }
            Some(step)
        });
        let stale = file.stale.as_ref().map_or(Some(Scale::ALL), |said| {
            let stale = scale(reader, said)?;
            if least.is_some_and(|least| stale < least) {
                reader.error(said.span.clone(), "`stale` must be at least `least`");
            }
            Some(stale)
        });
        let every_ms = length(reader, &file.every, EVERY_MS);
        let stale_after_ms = length(reader, &file.stale_after, STALE_AFTER_MS);
        let adjustment = Adjustment {
            above: above?,
            below: below?,
            least: least?,
            step: step?,
            every_ms: every_ms?,
            stale_after_ms: stale_after_ms?,
            stale: stale?,
        };
        Some(Self::new(id.join(SEPARATOR).into(), signal?, adjustment))
    }
}

/// Warns of bounds that no signal crosses, of each `utilization` that names no rule with limits (only where domains are merged,
/// another file may have it), and of limits that follow their own.
pub fn check_adjustments(reader: &mut Reader<'_>, file: &PolicyFile) {
    let all = file.descriptors.as_deref().unwrap_or_default();
    let defaults = file.defaults.as_ref();
    let all_exceed = defaults.is_some_and(|all| all.overdraft.is_some() || all.grace.is_some());
    let exceeds = |rule: &RuleFile| {
        let mut limits = rule.limits.iter().flat_map(|limits| &limits.value);
        all_exceed || limits.any(|one| one.map.overdraft.is_some() || one.map.grace.is_some())
    };
    let mut open: Vec<&RuleFile> = all.iter().collect();
    while let Some(rule) = open.pop() {
        open.extend(rule.descriptors.iter().flatten());
        let limits = rule.limits.iter().flat_map(|limits| &limits.value);
        for adjust in limits.filter_map(|limit| limit.map.adjust.as_ref()) {
            let mut entries = adjust.utilization.iter();
            let may_exceed = entries.any(|entries| leads_to(all, entries, &exceeds));
            check_bounds(reader, adjust, may_exceed);
            let Some(entries) = adjust.utilization.as_ref().filter(|list| !list.is_empty()) else {
                continue;
            };
            let (first, _) = &entries[0];
            let mut warn = |message| reader.note(Severity::Warning, first.span.clone(), message);
            if !leads_to(all, entries, &|_| true) {
                warn("`utilization` leads to no rule with limits in this file");
            } else if leads_to(all, entries, &|target| ptr::eq(target, rule)) {
                warn(
                    "the limit follows its own utilization, which rises when the limit is lowered",
                );
            }
        }
    }
}

/// Warns of bounds that no signal crosses: of a utilization that is more than all, unless its limits may be exceeded, or of less
/// than nothing.
fn check_bounds(reader: &mut Reader<'_>, adjust: &AdjustFile, may_exceed: bool) {
    let bound = |said: &Option<Spanned<String>>| {
        let said = said.as_ref()?;
        Some((parse(&said.value).ok()?, said.span.clone()))
    };
    if let Some((above, span)) = bound(&adjust.above)
        && adjust.utilization.is_some()
        && !may_exceed
        && 1.0 <= above
    {
        let message = "no effect: a utilization is at most 100%, so the limit is never lowered";
        reader.note(Severity::Warning, span, message);
    }
    if let Some((below, span)) = bound(&adjust.below)
        && below <= 0.0
    {
        let message = "no signal is below 0, so the limit is raised only when the signal is stale";
        reader.note(Severity::Warning, span, message);
    }
}

/// Whether a descriptor with these entries may end at a rule with limits that `is_sought`, or pass one whose limits cascade.
fn leads_to(
    rules: &[RuleFile],
    entries: &[(Spanned<String>, Spanned<String>)],
    is_sought: &dyn Fn(&RuleFile) -> bool,
) -> bool {
    let Some(((key, value), rest)) = entries.split_first() else { return false };
    let matches = |rule: &&RuleFile| {
        let is_key = rule.key.as_ref().is_some_and(|own| own.value == key.value);
        let fits = |own: &Spanned<String>| own.value.contains('*') || own.value == value.value;
        is_key && rule.value.as_ref().is_none_or(fits)
    };
    rules.iter().filter(matches).any(|rule| {
        let has_limits = rule.limits.is_some() || rule.rate_limit.is_some();
        let cascades = rule.cascade.as_ref().is_some_and(|cascade| cascade.value);
        let below = rule.descriptors.as_deref().unwrap_or_default();
        let ends = has_limits && (rest.is_empty() || cascades);
        ends && is_sought(rule) || leads_to(below, rest, is_sought)
    })
}

fn signal(reader: &mut Reader<'_>, file: &AdjustFile) -> Option<SignalSource> {
    if let Some(entries) = &file.utilization {
        let entries = entries
            .iter()
            .map(|(key, value)| (key.value.as_str().into(), value.value.as_str().into()));
        let entries: Box<[_]> = entries.collect();
        if entries.is_empty() {
            let message = "`utilization` is empty; name the entries of a descriptor";
            reader.error(file.span.clone(), message);
        }
        return Some(SignalSource::Utilization(entries));
    }
    let name = file.signal.as_ref()?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let text = name.value.as_str();
    if text.is_empty() || NAME_LEN_MAX < text.len() || !text.bytes().all(fits) {
        let message = format!(
            "invalid signal `{text}`; use up to {NAME_LEN_MAX} letters, digits, `_`, `-` and `.`"
        );
        reader.error(name.span.clone(), message);
    }
    Some(SignalSource::Reported(text.into()))
}

/// Reads a number from 0 on, or a percentage.
fn parse(text: &str) -> Result<f64, String> {
    let trimmed = text.trim();
    let (number, whole) = match trimmed.strip_suffix('%') {
        Some(percent) => (percent.trim_end(), 100.0),
        None => (trimmed, 1.0),
    };
    let number = number.parse::<f64>().ok().filter(|number| number.is_finite() && 0.0 <= *number);
    number.map(|number| number / whole).ok_or_else(|| {
        format!(
            "invalid number `{text}`; use a number from 0 on or a percentage, such as 800 or 5%"
        )
    })
}

/// Reads a share of the limit.
fn scale(reader: &mut Reader<'_>, said: &Spanned<String>) -> Option<Scale> {
    let share = Share::parse(&said.value);
    let share = share.map_err(|message| reader.error(said.span.clone(), message)).ok()?;
    Some(Scale::of_hundredths(share.hundredths()))
}

fn length(reader: &mut Reader<'_>, said: &Option<Spanned<String>>, default_ms: u64) -> Option<u64> {
    let Some(said) = said else { return Some(default_ms) };
    let ms = parse_length_ms(&said.value);
    let ms = ms.map_err(|message| reader.error(said.span.clone(), message)).ok()?;
    if !(LENGTH_MS_MIN..=LENGTH_MS_MAX).contains(&ms) {
        let message = format!("duration `{}` must be from 1s to 1d", said.value);
        reader.error(said.span.clone(), message);
    }
    Some(ms)
}
