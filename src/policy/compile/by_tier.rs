//! Compiles the `by_tier` of a limit.

use super::classes::tier_named;
use super::draft::Draft;
use super::rate::Rate;
use crate::policy::model::Classes;
use crate::policy::problem::Severity;
use crate::policy::yaml::Reader;

/// The value of one tier.
#[derive(Clone, Copy, Debug)]
pub enum TierRate {
    Rate(Rate),
    None,
    Unlimited,
}

impl TierRate {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "unlimited" => Ok(Self::Unlimited),
            text => Rate::parse(text).map(Self::Rate),
        }
    }

    /// The rate, if the value is one.
    pub fn rate(&self) -> Option<Rate> {
        match self {
            Self::Rate(rate) => Some(*rate),
            Self::None | Self::Unlimited => None,
        }
    }
}

/// The rate of each tier; none without `by_tier`.
pub fn rates(reader: &mut Reader<'_>, classes: &Classes, draft: &Draft) -> Vec<TierRate> {
    let Some(by_tier) = &draft.file.map.by_tier else { return Vec::new() };
    let mut rates: Vec<Option<TierRate>> =
        vec![draft.rate.map(TierRate::Rate); classes.tiers.len()];
    let mut window = draft.rate.map(|rate| rate.window);
    let mut named = 0;
    // The mistake has been reported; a missing tier because of it is not another one.
    let mut malformed = draft.file.map.rate.is_some() && draft.rate.is_none();
    malformed |= by_tier.value.is_empty();
    for (name, text) in &by_tier.value {
        let Some(tier) = tier_named(reader, classes, name) else {
            malformed = true;
            continue;
        };
        let rate = match TierRate::parse(&text.value) {
            Ok(rate) => rate,
            Err(message) => {
                reader.error(text.span.clone(), message);
                malformed = true;
                continue;
            }
        };
        if let Some(rate) = rate.rate()
            && *window.get_or_insert(rate.window) != rate.window
        {
            let message = "all tiers of a limit must have the same window, so that a caller that changes \
                           tier keeps its count";
            reader.error(text.span.clone(), message);
        }
        rates[tier] = Some(rate);
        named += 1;
    }
    let unsaid = classes.tiers.iter().zip(&rates).filter(|(_, rate)| rate.is_none());
    for (tier, _) in unsaid.filter(|_| !malformed) {
        let message = format!("missing rate for `{tier}`; add it, or a `rate` for the others");
        reader.error(by_tier.span.clone(), message);
    }
    if let Some(rate) = draft.file.map.rate.as_ref().filter(|_| classes.tiers.len() == named) {
        let message = "no effect: every tier has its own rate";
        reader.note(Severity::Warning, rate.span.clone(), message);
    }
    let rates: Vec<TierRate> =
        rates.into_iter().map(|rate| rate.unwrap_or(TierRate::None)).collect();
    if !malformed && !rates.is_empty() && rates.iter().all(|rate| rate.rate().is_none()) {
        let message = "no tier has a rate; use `only` on the rule to restrict access";
        reader.error(by_tier.span.clone(), message);
    }
    rates
}
