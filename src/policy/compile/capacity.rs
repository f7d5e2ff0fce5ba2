//! Compiles `capacity` and `only` of a rule.

use super::classes::tier_named;
use crate::policy::model::{Capacity, Classes, Only, PRESSURE_LEVELS_MAX, PressureLevel, Share};
use crate::policy::schema::{CapacityFile, OnlyFile, PressureFile};
use crate::policy::yaml::{Reader, Spanned};

/// The default of `until`: how far below `above` a pressure level ends.
const HYSTERESIS: &str = "5%";

impl Capacity {
    /// The settings in the file.
    pub(super) fn compile(
        reader: &mut Reader<'_>,
        classes: &Classes,
        file: &Spanned<CapacityFile>,
    ) -> Self {
        let ceilings = ceilings(reader, classes, &file.value);
        let mut levels: Vec<PressureLevel> = Vec::new();
        if let Some(pressure) = &file.value.pressure {
            if PRESSURE_LEVELS_MAX < pressure.value.len() {
                let message = format!(
                    "too many levels of pressure; at most {PRESSURE_LEVELS_MAX} are allowed"
                );
                reader.error(pressure.span.clone(), message);
            }
            for file in pressure.value.iter().take(PRESSURE_LEVELS_MAX) {
                if let Some(level) = PressureLevel::compile(reader, classes, file, levels.last()) {
                    levels.push(level);
                }
            }
        }
        Self { ceilings, levels }
    }

    /// Whether a share is 100 %.
    pub(super) fn is_all(share: &str) -> bool {
        Share::parse(share) == Ok(Share::ALL)
    }
}

/// The part that each tier may use: all except the reserves of higher tiers.
fn ceilings(reader: &mut Reader<'_>, classes: &Classes, file: &CapacityFile) -> Vec<Share> {
    let Some(reserve) = &file.reserve else { return Vec::new() };
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
