//! Compiles `when`: the amounts of a limit by schedule.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::classes::tier_named;
use super::condition;
use super::rate::Rate;
use crate::limit::{Condition, Effect, Limit, Scale, Timetable};
use crate::policy::model::{Classes, Window};
use crate::policy::schema::{ByTierFile, PolicyFile, ScheduleFile, WhenFile};
use crate::policy::yaml::{Reader, Spanned, nearest};

/// Maximum number of entries of one `when`.
pub const ENTRIES_MAX: usize = 16;

/// Maximum of `scale`, in hundredths of a percent.
const SCALE_MAX: u32 = 100_000;

/// The schedules of a file.
#[derive(Debug, Default)]
pub struct Schedules {
    /// None for an invalid one.
    by_name: BTreeMap<String, Option<Condition>>,
}

/// The amounts of a limit, with their conditions.
#[derive(Clone, Debug, Default)]
pub struct When {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    condition: Condition,
    effects: Effects,
}

#[derive(Clone, Debug)]
enum Effects {
    All(Effect),
    /// By tier; None for tiers that are not in it.
    Tiers(Vec<Option<Effect>>),
}

impl Schedules {
    /// The settings in the file.
    pub fn compile(reader: &mut Reader<'_>, file: &PolicyFile) -> Self {
        let mut by_name = BTreeMap::new();
        for (name, said) in file.schedules.iter().flatten() {
            let condition = condition::compile(reader, &name.value, said);
            by_name.insert(name.value.clone(), condition);
        }
        Self { by_name }
    }

    /// The condition of an entry: the schedule that it names, or else its own. None, with a problem, if it is invalid.
    pub fn condition(
        &self,
        reader: &mut Reader<'_>,
        (during, own): (Option<&Spanned<String>>, ScheduleFile),
    ) -> Option<Condition> {
        let Some(name) = during else {
            // A missing condition has been reported.
            return if own.is_empty() { None } else { condition::compile(reader, "", &own) };
        };
        if let Some(known) = self.by_name.get(&name.value) {
            return known.clone();
        }
        let names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
        let hint = match nearest(&name.value, &names) {
            Some(meant) => format!("; did you mean `{meant}`?"),
            None if names.is_empty() => "; the policy has no `schedules`".to_owned(),
            None => format!("; known schedules: {}", names.join(", ")),
        };
        reader.error(name.span.clone(), format!("unknown schedule `{}`{hint}", name.value));
        None
    }
}

impl When {
    /// A `when` for a limit with this window. None: for limits with any window, which can't have another rate.
    pub fn compile(
        reader: &mut Reader<'_>,
        (schedules, classes): (&Schedules, &Classes),
        list: &Spanned<Vec<WhenFile>>,
        window: Option<Window>,
    ) -> Self {
        if ENTRIES_MAX < list.value.len() {
            let message = format!("too many entries; `when` may have at most {ENTRIES_MAX}");
            reader.error(list.span.clone(), message);
        }
        let mut entries = Vec::new();
        for file in list.value.iter().take(ENTRIES_MAX) {
            let condition = schedules.condition(reader, (file.during.as_ref(), file.condition()));
            let effects = match (&file.scale, &file.rate) {
                (Some(scale), _) => effects(reader, classes, scale, scale_of),
                (None, Some(rate)) => {
                    effects(reader, classes, rate, |text| amount_of(text, window))
                }
                (None, None) => None,
            };
            if let (Some(condition), Some(effects)) = (condition, effects) {
                entries.push(Entry { condition, effects });
            }
        }
        Self { entries }
    }

    /// Whether it has any entries.
    pub fn is_scheduled(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Whether it has entries by tier.
    pub fn is_by_tier(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry.effects, Effects::Tiers(_)))
    }

    /// The same without entries by tier.
    pub fn for_all(&self) -> Self {
        let all = |entry: &&Entry| matches!(entry.effects, Effects::All(_));
        Self { entries: self.entries.iter().filter(all).cloned().collect() }
    }

    /// A limit with the amounts for all callers, or for those of a tier.
    pub fn apply(&self, limit: Limit, tier: Option<usize>, zone: &TimeZone) -> Limit {
        let effect = |entry: &Entry| match &entry.effects {
            Effects::All(effect) => Some(*effect),
            Effects::Tiers(tiers) => tiers.get(tier?).copied().flatten(),
        };
        let entries = self.entries.iter();
        let (conditions, effects): (Vec<Condition>, Vec<Effect>) =
            entries.filter_map(|entry| Some((entry.condition.clone(), effect(entry)?))).unzip();
        if effects.is_empty() {
            return limit;
        }
        let timetable = Arc::new(Timetable::new(conditions, zone.clone()));
        limit.on_schedule(timetable, effects.into())
    }
}

/// The effect of an entry, for all tiers or by tier; None, with problems, if one is invalid.
fn effects(
    reader: &mut Reader<'_>,
    classes: &Classes,
    file: &Spanned<ByTierFile>,
    parse: impl Fn(&str) -> Result<Effect, String>,
) -> Option<Effects> {
    let read = |reader: &mut Reader<'_>, text: &Spanned<String>| {
        parse(&text.value).map_err(|message| reader.error(text.span.clone(), message)).ok()
    };
    match &file.value {
        ByTierFile::All(text) => read(reader, text).map(Effects::All),
        ByTierFile::Tiers(tiers) => {
            let mut by_tier = vec![None; classes.tiers.len()];
            for (name, text) in tiers {
                let effect = read(reader, text);
                by_tier[tier_named(reader, classes, name)?] = effect;
            }
            Some(Effects::Tiers(by_tier))
        }
    }
}

/// Parses `75%`, `150%` or `1.5`.
fn scale_of(text: &str) -> Result<Effect, String> {
    let problem =
        || format!("invalid scale `{text}`; use a percentage up to 1000%, such as 75% or 150%");
    let (number, places) = match text.trim().strip_suffix('%') {
        Some(percent) => (percent.trim_end(), 2),
        None => (text.trim(), 4),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || places < part.len() {
        return Err(problem());
    }
    let parts = format!("{whole}{part:0<places$}").parse::<u32>().ok();
    let parts = parts.filter(|parts| *parts <= SCALE_MAX).ok_or_else(problem)?;
    Ok(Effect::Scale(Scale::of_hundredths(parts)))
}

/// Parses a rate with this window.
fn amount_of(text: &str, window: Option<Window>) -> Result<Effect, String> {
    let rate = Rate::parse(text)?;
    match window {
        None => Err("`defaults` can't set a rate; use `scale`".to_owned()),
        Some(window) if window != rate.window => {
            Err("the rate must have the window of its limit, so that the count is kept".to_owned())
        }
        Some(_) => Ok(Effect::Amount(rate.amount)),
    }
}
