//! The `capacity:` of a rule: how much of a shared limit is open to each tier, and how pressure changes it.

use serde_json::Value;
use serde_json::json;

use super::Share;
use super::classes::Classes;
use super::fields::Reader;
use super::schema::CapacityFile;
use super::schema::OnlyFile;
use super::schema::PressureFile;
use super::schema::Spanned;

/// Levels of pressure; as many as a store's gauge has.
pub const PRESSURE_LEVELS_MAX: usize = 4;

/// How far below its threshold the use must fall for a level of pressure to end, if nothing says it.
const HYSTERESIS: &str = "5%";

/// How much of a rule's limits is open to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// By tier: the part of each limit that is open to it; empty if all is open to all.
    ceilings: Vec<Share>,
    /// Levels of pressure, from 1 on.
    pub levels: Vec<Level>,
}

/// A level of pressure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// It holds when more than this part of a limit is used,
    pub above: Share,
    /// until no more than this part of any is.
    pub until: Share,
    /// By tier: how much of their own limits callers keep; empty if all.
    scale: Vec<Share>,
    /// Who passes at all; everybody if None.
    pub only: Option<Only>,
}

/// Who passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Only {
    /// By tier.
    tiers: Vec<bool>,
    /// From this priority on.
    priority: Option<u8>,
}

impl Capacity {
    /// What the file says.
    pub(super) fn new(
        reader: &mut Reader<'_>,
        classes: &Classes,
        file: &Spanned<CapacityFile>,
    ) -> Self {
        let ceilings = ceilings(reader, classes, &file.value);
        let mut levels: Vec<Level> = Vec::new();
        if let Some(pressure) = &file.value.pressure {
            if PRESSURE_LEVELS_MAX < pressure.value.len() {
                let message = format!("there are at most {PRESSURE_LEVELS_MAX} levels of pressure");
                reader.error(pressure.span.clone(), message);
            }
            for file in pressure.value.iter().take(PRESSURE_LEVELS_MAX) {
                if let Some(level) = Level::new(reader, classes, file, levels.last()) {
                    levels.push(level);
                }
            }
        }
        Self { ceilings, levels }
    }

    /// Whether a share is the whole.
    pub(super) fn is_all(share: &str) -> bool {
        Share::parse(share) == Ok(Share::ALL)
    }

    /// How much of a limit's `capacity` is open to a tier while nothing presses.
    pub fn open(&self, tier: usize, capacity: u64) -> u64 {
        self.ceilings.get(tier).map_or(capacity, |share| share.of(capacity))
    }

    /// What is open to each tier, and the levels of pressure, in the words of the policy.
    pub(super) fn describe(&self, classes: &Classes) -> Value {
        let levels = self.levels.iter().map(|level| {
            json!({
                "above": level.above.to_string(),
                "until": level.until.to_string(),
                "scale": by_tier(classes, &level.scale),
                "only": level.only.as_ref().map(|only| only.describe(classes)),
            })
        });
        json!({ "open": by_tier(classes, &self.ceilings), "pressure": levels.collect::<Value>() })
    }
}

/// The part that is open to each tier: all but what is reserved for those above it.
fn ceilings(reader: &mut Reader<'_>, classes: &Classes, file: &CapacityFile) -> Vec<Share> {
    let Some(reserve) = &file.reserve else { return Vec::new() };
    let mut reserved = vec![None; classes.tiers.len()];
    for (name, text) in reserve {
        let Some(tier) = classes.tier_named(reader, name) else { continue };
        if tier == 0 {
            let message =
                format!("`{}` is the lowest tier: nobody is left to reserve it from", name.value);
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
            let message = "more than 100% of the limits is reserved";
            reader.error(first.span.start..last.end, message);
            return Vec::new();
        }
        open = open.minus(reserved);
    }
    ceilings
}

impl Level {
    fn new(
        reader: &mut Reader<'_>,
        classes: &Classes,
        file: &PressureFile,
        below: Option<&Self>,
    ) -> Option<Self> {
        let said = file.above.as_ref()?;
        let above = share(reader, said)?;
        if below.is_some_and(|below| above <= below.above) {
            let message = format!("`{}` is not above the level before it", said.value);
            reader.error(said.span.clone(), message);
        }
        let until = match &file.until {
            Some(text) => share(reader, text)?,
            None => above.minus(Share::parse(HYSTERESIS).expect("it is a share")),
        };
        if let Some(text) = file.until.as_ref().filter(|_| above < until) {
            let message = format!("`{}` is above {above}, where the level begins", text.value);
            reader.error(text.span.clone(), message);
        }
        if file.scale.is_none() && file.only.is_none() {
            reader.error(file.span.clone(), "a level of pressure without `scale` or `only`");
        }
        let mut scale = below.map(|below| below.scale.clone()).unwrap_or_default();
        if file.scale.is_some() {
            scale.resize(classes.tiers.len(), Share::ALL);
        }
        for (name, text) in file.scale.iter().flatten() {
            let Some(tier) = classes.tier_named(reader, name) else { continue };
            let Some(keeps) = share(reader, text) else { continue };
            if scale[tier] < keeps {
                let left = scale[tier];
                let message =
                    format!("`{}` is more than the {left} that a lower level leaves", text.value);
                reader.error(text.span.clone(), message);
            }
            scale[tier] = keeps;
        }
        let below = below.and_then(|below| below.only.as_ref());
        let only = file.only.as_ref().map(|only| Only::new(reader, classes, only));
        if let (Some(only), Some(below)) = (&only, below)
            && only.admits_more_than(below)
        {
            let message = "a higher level of pressure lets others pass than the one below";
            reader.error(file.span.clone(), message);
        }
        let only = only.or_else(|| below.cloned());
        Some(Self { above, until, scale, only })
    }

    /// How much of their own limits callers of a tier keep.
    pub fn keeps(&self, tier: usize) -> Share {
        self.scale.get(tier).copied().unwrap_or(Share::ALL)
    }
}

impl Only {
    /// What the file says.
    pub(super) fn new(reader: &mut Reader<'_>, classes: &Classes, file: &OnlyFile) -> Self {
        let mut tiers = vec![false; classes.tiers.len()];
        for name in file.tier.iter().flatten() {
            if let Some(tier) = classes.tier_named(reader, name) {
                tiers[tier] = true;
            }
        }
        let priority = file.priority.as_ref();
        let priority = priority.map(|one| u8::try_from(one.value).expect("the reader says 1 to 4"));
        Self { tiers, priority }
    }

    /// Whether a request of that tier and priority passes.
    pub fn admits(&self, tier: usize, priority: u8) -> bool {
        self.admits_tier(tier) || self.priority.is_some_and(|least| least <= priority)
    }

    /// Whether every request of that tier passes.
    pub fn admits_tier(&self, tier: usize) -> bool {
        self.tiers.get(tier).copied().unwrap_or_default()
    }

    /// The priority from which on others pass too; None if they don't.
    pub fn priority(&self) -> Option<u8> {
        self.priority
    }

    /// Whether somebody passes here whom `other` keeps out.
    fn admits_more_than(&self, other: &Self) -> bool {
        let tiers = self.tiers.iter().zip(&other.tiers).any(|(here, there)| *here && !*there);
        let priority = match (self.priority, other.priority) {
            (Some(here), Some(there)) => here < there,
            (Some(_), None) => true,
            (None, _) => false,
        };
        tiers || priority
    }

    /// In the words of the policy.
    pub(super) fn describe(&self, classes: &Classes) -> Value {
        let named = classes.tiers.iter().zip(&self.tiers).filter(|(_, on)| **on);
        let tiers: Vec<&str> = named.map(|(tier, _)| &**tier).collect();
        json!({ "tier": tiers, "priority": self.priority })
    }
}

/// Shares by the names of their tiers.
fn by_tier(classes: &Classes, shares: &[Share]) -> Value {
    let named = classes.tiers.iter().zip(shares);
    named.map(|(tier, share)| (tier.to_string(), Value::from(share.to_string()))).collect()
}

/// Reads a share, and notes what is wrong with it.
fn share(reader: &mut Reader<'_>, text: &Spanned<String>) -> Option<Share> {
    Share::parse(&text.value).map_err(|message| reader.error(text.span.clone(), message)).ok()
}
