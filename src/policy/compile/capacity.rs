//! Compiles `capacity` and `only` of a rule.

use std::sync::Arc;

use super::classes::tier_named;
use super::defaults::Defaults;
use super::when::ENTRIES_MAX;
use crate::limit::Timetable;
use crate::policy::model::{
    Capacity, Classes, Only, PRESSURE_LEVELS_MAX, PressureLevel, ScheduledCapacity, Share,
};
use crate::policy::schema::{CapacityFile, CapacityWhenFile, Named, OnlyFile, PressureFile};
use crate::policy::yaml::{Reader, Spanned};

/// The default of `until`: how far below `above` a pressure level ends.
const HYSTERESIS: &str = "5%";

impl Capacity {
    /// The settings in the file.
    pub(super) fn compile(
        reader: &mut Reader<'_>,
        defaults: &Defaults,
        file: &Spanned<CapacityFile>,
    ) -> Self {
        let CapacityFile { reserve, pressure, when } = &file.value;
        let classes = &defaults.classes;
        let ceilings = reserve.as_ref().map(|reserve| ceilings(reader, classes, reserve));
        let levels = pressure.as_ref().map(|pressure| levels(reader, classes, pressure));
        let usual = Self {
            ceilings: ceilings.unwrap_or_default(),
            levels: levels.unwrap_or_default(),
            scheduled: None,
        };
        let scheduled = when.as_ref().and_then(|when| usual.on_schedule(reader, defaults, when));
        Self { scheduled: scheduled.map(Box::new), ..usual }
    }

    /// The capacity while each entry holds: what the entry says, and else as usual.
    fn on_schedule(
        &self,
        reader: &mut Reader<'_>,
        defaults: &Defaults,
        when: &Spanned<Vec<CapacityWhenFile>>,
    ) -> Option<ScheduledCapacity> {
        if ENTRIES_MAX < when.value.len() {
            let message = format!("too many entries; `when` may have at most {ENTRIES_MAX}");
            reader.error(when.span.clone(), message);
        }
        let Defaults { schedules, classes, zone, .. } = defaults;
        let (mut conditions, mut capacities) = (Vec::new(), Vec::new());
        for file in when.value.iter().take(ENTRIES_MAX) {
            let said = (file.during.as_ref(), file.condition());
            let condition = schedules.condition(reader, said);
            let ceilings = file.reserve.as_ref().map(|reserve| ceilings(reader, classes, reserve));
            let levels = file.pressure.as_ref().map(|pressure| levels(reader, classes, pressure));
            if let Some(condition) = condition {
                conditions.push(condition);
                capacities.push(Self {
                    ceilings: ceilings.unwrap_or_else(|| self.ceilings.clone()),
                    levels: levels.unwrap_or_else(|| self.levels.clone()),
                    scheduled: None,
                });
            }
        }
        let timetable = Arc::new(Timetable::new(conditions, zone.clone()));
        let capacities = capacities.into_boxed_slice();
        (!capacities.is_empty()).then_some(ScheduledCapacity { timetable, capacities })
    }

    /// Whether a share is 100 %.
    pub(super) fn is_all(share: &str) -> bool {
        Share::parse(share) == Ok(Share::ALL)
    }
}

/// The levels of pressure, each with what the one below it says.
fn levels(
    reader: &mut Reader<'_>,
    classes: &Classes,
    pressure: &Spanned<Vec<PressureFile>>,
) -> Vec<PressureLevel> {
    if PRESSURE_LEVELS_MAX < pressure.value.len() {
        let message =
            format!("too many levels of pressure; at most {PRESSURE_LEVELS_MAX} are allowed");
        reader.error(pressure.span.clone(), message);
    }
    let mut levels: Vec<PressureLevel> = Vec::new();
    for file in pressure.value.iter().take(PRESSURE_LEVELS_MAX) {
        if let Some(level) = PressureLevel::compile(reader, classes, file, levels.last()) {
            levels.push(level);
        }
    }
    levels
}

/// The part that each tier may use: all except the reserves of higher tiers.
fn ceilings(
    reader: &mut Reader<'_>,
    classes: &Classes,
    reserve: &Named<Spanned<String>>,
) -> Vec<Share> {
    let mut reserved = vec![None; classes.tiers.len()];
    for (name, text) in reserve {
        let Some(tier) = tier_named(reader, classes, name) else { continue };
        if tier == 0 {
            let message = format!(
                "`{}` is the lowest tier: there is no lower tier to reserve from",
                name.value
            );
            reader.error(name.span.clone(), message);
        }
        reserved[tier] = share(reader, text);
    }
    let mut open = Share::ALL;
    let mut ceilings = vec![Share::ALL; reserved.len()];
    for (ceiling, reserved) in ceilings.iter_mut().zip(&reserved).rev() {
        *ceiling = open;
        let reserved = reserved.unwrap_or(Share::NOTHING);
        if open < reserved {
            let (first, _) = &reserve[0];
            let last = reserve.last().map_or(&first.span, |(_, text)| &text.span);
            let message = "the reserves exceed 100% in total";
            reader.error(first.span.start..last.end, message);
            return Vec::new();
        }
        open = open.minus(reserved);
    }
    ceilings
}

impl PressureLevel {
    fn compile(
        reader: &mut Reader<'_>,
        classes: &Classes,
        file: &PressureFile,
        below: Option<&Self>,
    ) -> Option<Self> {
        let said = file.above.as_ref()?;
        let above = share(reader, said)?;
        if below.is_some_and(|below| above <= below.above) {
            let message = format!("`{}` must be above the previous level", said.value);
            reader.error(said.span.clone(), message);
        }
        let until = match &file.until {
            Some(text) => share(reader, text)?,
            None => above.minus(Share::parse(HYSTERESIS).expect("it is a share")),
        };
        if let Some(text) = file.until.as_ref().filter(|_| above < until) {
            let message = format!("`until` of `{}` exceeds `above` of {above}", text.value);
            reader.error(text.span.clone(), message);
        }
        if file.scale.is_none() && file.only.is_none() {
            reader.error(file.span.clone(), "a level of pressure needs `scale` or `only`");
        }
        let mut scale = below.map(|below| below.scale.clone()).unwrap_or_default();
        if file.scale.is_some() {
            scale.resize(classes.tiers.len(), Share::ALL);
        }
        for (name, text) in file.scale.iter().flatten() {
            let Some(tier) = tier_named(reader, classes, name) else { continue };
            let Some(keeps) = share(reader, text) else { continue };
            if scale[tier] < keeps {
                let left = scale[tier];
                let message = format!("`{}` exceeds the {left} of a lower level", text.value);
                reader.error(text.span.clone(), message);
            }
            scale[tier] = keeps;
        }
        let below = below.and_then(|below| below.only.as_ref());
        let only = file.only.as_ref().map(|only| Only::compile(reader, classes, only));
        if let (Some(only), Some(below)) = (&only, below)
            && only.admits_more_than(below)
        {
            let message = "`only` of a higher level admits requests that a lower level refuses";
            reader.error(file.span.clone(), message);
        }
        let only = only.or_else(|| below.cloned());
        Some(Self { above, until, scale, only })
    }
}

impl Only {
    /// The settings in the file.
    pub(super) fn compile(reader: &mut Reader<'_>, classes: &Classes, file: &OnlyFile) -> Self {
        let mut tiers = vec![false; classes.tiers.len()];
        for name in file.tier.iter().flatten() {
            if let Some(tier) = tier_named(reader, classes, name) {
                tiers[tier] = true;
            }
        }
        let priority = file.priority.as_ref();
        let priority = priority.map(|one| u8::try_from(one.value).expect("the reader says 1 to 4"));
        Self { tiers, priority }
    }

    /// Whether this admits a caller that `other` refuses.
    fn admits_more_than(&self, other: &Self) -> bool {
        let tiers = self.tiers.iter().zip(&other.tiers).any(|(here, there)| *here && !*there);
        let priority = match (self.priority, other.priority) {
            (Some(here), Some(there)) => here < there,
            (Some(_), None) => true,
            (None, _) => false,
        };
        tiers || priority
    }
}

/// Parses a share, and reports problems.
fn share(reader: &mut Reader<'_>, text: &Spanned<String>) -> Option<Share> {
    Share::parse(&text.value).map_err(|message| reader.error(text.span.clone(), message)).ok()
}
