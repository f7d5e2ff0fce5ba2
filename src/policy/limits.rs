//! Compiles the limits of one rule.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::limit::Algorithm;
use crate::limit::Bucket;
use crate::limit::Calendar;
use crate::limit::Fixed;
use crate::limit::Limit;
use crate::limit::LimitName;
use crate::limit::Overdraft;
use crate::limit::Sliding;

use super::Mode;
use super::brought::Brought;
use super::brought::OVERRIDE_LABEL;
use super::classes::Classes;
use super::cost::Cost;
use super::draft::Draft;
use super::fields::Reader;
use super::fields::nearest;
use super::lease::Lease;
use super::outage::OnOutage;
use super::problem::Severity;
use super::rate::Rate;
use super::rate::Window;
use super::rate::currency;
use super::rule::Refused;
use super::rule::RuleLimit;
use super::rule::TierLimit;
use super::schema::AlgorithmFile;
use super::schema::OutageFile;
use super::schema::OverdraftFile;
use super::schema::RuleFile;
use super::schema::Spanned;
use super::wait::Wait;

/// What holds for every limit of a file that does not say otherwise.
#[derive(Debug)]
pub struct Defaults {
    pub domain: Box<str>,
    pub zone: TimeZone,
    pub algorithm: Option<AlgorithmFile>,
    pub mode: Option<Mode>,
    pub on_outage: Option<OnOutage>,
    pub overdraft: Overdraft,
    pub wait: Option<Wait>,
    pub lease: Lease,
    pub classes: Arc<Classes>,
    /// By name.
    pub costs: BTreeMap<String, Arc<Cost>>,
}

impl Defaults {
    /// What holds for limits that requests bring along.
    pub fn brought(&self) -> Brought {
        let domain = self.domain.clone();
        let label = OVERRIDE_LABEL.into();
        Brought {
            name: Arc::new(LimitName { domain, label }),
            zone: self.zone.clone(),
            algorithm: self.algorithm,
            mode: self.mode.unwrap_or_default(),
            on_outage: self.on_outage.unwrap_or_default(),
            overdraft: self.overdraft,
            wait: self.wait,
            lease: self.lease,
        }
    }
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
        let drafts = Draft::all(reader, self.file);
        let mut limits: Vec<Arc<RuleLimit>> = Vec::new();
        for draft in &drafts {
            let Some(limit) = self.limit(reader, draft, limits.len()) else { continue };
            if limits.iter().any(|known| known.limit.tag() == limit.limit.tag()) {
                not_told_apart(reader, draft);
            }
            limits.push(Arc::new(limit));
        }
        limits
    }

    fn limit(&self, reader: &mut Reader<'_>, draft: &Draft, siblings: usize) -> Option<RuleLimit> {
        let by_tier = self.by_tier(reader, draft);
        let currency = self.currency(reader, draft);
        let rate = draft.rate.or_else(|| by_tier.iter().find_map(TierRate::rate))?;
        let base = Limit::new(rate.amount, self.algorithm(reader, draft, rate)?);
        let base = draft.identity().of(base, currency).overdrawn(self.overdraft(draft));
        let name = draft.name().unwrap_or_default();
        let shown = base.to_string();
        let label = match (name, shown.split_once('/')) {
            ("", Some((_, window))) if !by_tier.is_empty() => {
                format!("{} by_tier/{window}", self.path)
            }
            ("", _) => format!("{} {base}", self.path),
            (name, _) => name.to_owned(),
        };
        let domain = self.defaults.domain.clone();
        let base = base.named(Arc::new(LimitName { domain, label: label.as_str().into() }));
        let of_tier = |rate: &TierRate| match rate {
            TierRate::Rate(rate) => TierLimit::Limit(Arc::new(base.with_amount(rate.amount))),
            TierRate::None => TierLimit::None,
            TierRate::Unlimited => TierLimit::Unlimited,
        };
        let by_tier: Box<[TierLimit]> = by_tier.iter().map(of_tier).collect();
        Some(RuleLimit {
            index: self.first_index + siblings,
            name: name.into(),
            label: label.into(),
            limit: Arc::new(base),
            by_tier,
            cost: self.cost(reader, draft),
            currency: currency.map(Into::into),
            wait: self.wait(reader, draft, rate.window),
            lease: draft
                .file
                .map
                .lease
                .as_ref()
                .map_or(self.defaults.lease, |said| said.value.into()),
            window: rate.window,
            mode: self.mode(reader, draft),
            on_outage: self.on_outage(draft),
            refused: self.refused(draft),
        })
    }

    /// The rate of each tier; none if the limit doesn't tell them apart.
    fn by_tier(&self, reader: &mut Reader<'_>, draft: &Draft) -> Vec<TierRate> {
        let Some(by_tier) = &draft.file.map.by_tier else { return Vec::new() };
        let classes = &self.defaults.classes;
        let mut rates: Vec<Option<TierRate>> =
            vec![draft.rate.map(TierRate::Rate); classes.tiers.len()];
        let mut window = draft.rate.map(|rate| rate.window);
        let mut named = 0;
        // A mistake that has been told; what is missing because of it is not another one.
        let mut malformed = draft.file.map.rate.is_some() && draft.rate.is_none();
        malformed |= by_tier.value.is_empty();
        for (name, text) in &by_tier.value {
            let Some(tier) = classes.tier_named(reader, name) else {
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
                let message = "the tiers of one limit have one window, so that a caller who changes \
                               tier keeps its count";
                reader.error(text.span.clone(), message);
            }
            rates[tier] = Some(rate);
            named += 1;
        }
        let unsaid = classes.tiers.iter().zip(&rates).filter(|(_, rate)| rate.is_none());
        for (tier, _) in unsaid.filter(|_| !malformed) {
            let message = format!("`{tier}` has no rate; add it, or a `rate` for those not named");
            reader.error(by_tier.span.clone(), message);
        }
        if let Some(rate) = draft.file.map.rate.as_ref().filter(|_| classes.tiers.len() == named) {
            let message = "every tier has a rate of its own: this one has no effect";
            reader.note(Severity::Warning, rate.span.clone(), message);
        }
        let rates: Vec<TierRate> =
            rates.into_iter().map(|rate| rate.unwrap_or(TierRate::None)).collect();
        if !malformed && !rates.is_empty() && rates.iter().all(|rate| rate.rate().is_none()) {
            let message = "no tier has a rate; write `only` on the rule to say who may pass";
            reader.error(by_tier.span.clone(), message);
        }
        rates
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
        let on = |flag: &Option<Spanned<bool>>| flag.as_ref().is_some_and(|flag| flag.value);
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

    fn overdraft(&self, draft: &Draft) -> Overdraft {
        let said = draft.file.map.overdraft.as_ref().map(|word| word.value.into());
        said.unwrap_or(self.defaults.overdraft)
    }

    fn refused(&self, draft: &Draft) -> Refused {
        Refused::of(self.overdraft(draft), self.file.rate_limit.is_some())
    }

    fn cost(&self, reader: &mut Reader<'_>, draft: &Draft) -> Option<Arc<Cost>> {
        let name = draft.file.map.cost.as_ref()?;
        let cost = self.defaults.costs.get(&name.value);
        if cost.is_none() {
            let names: Vec<&str> = self.defaults.costs.keys().map(String::as_str).collect();
            let meant = nearest(&name.value, &names);
            let hint = meant.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
            let message = format!("`costs` has no table `{}`{hint}", name.value);
            reader.error(name.span.clone(), message);
        }
        cost.cloned()
    }

    /// What the limit is counted in if that is money. Notes rates that are in another currency than those before them, or
    /// than the costs.
    fn currency<'d>(&'d self, reader: &mut Reader<'_>, draft: &'d Draft) -> Option<&'d str> {
        let map = &draft.file.map;
        let cost = map.cost.as_ref().and_then(|name| self.defaults.costs.get(&name.value));
        let mut known = cost.and_then(|cost| cost.currency());
        let of_tiers = map.by_tier.iter().flat_map(|by_tier| &by_tier.value).map(|(_, text)| text);
        for text in map.rate.iter().chain(of_tiers) {
            let Some(own) = currency(&text.value) else { continue };
            let first = *known.get_or_insert(own);
            if first != own {
                let message =
                    format!("a limit and its costs have one currency, not {first} and {own}");
                reader.error(text.span.clone(), message);
            }
        }
        known
    }

    fn wait(&self, reader: &mut Reader<'_>, draft: &Draft, window: Window) -> Option<Wait> {
        match (&draft.file.map.wait, window) {
            (Some(file), Window::Total) => {
                if let Some(up_to) = &file.up_to {
                    let message = "a total has no `wait`: time brings nothing back";
                    reader.error(up_to.span.clone(), message);
                }
                None
            }
            (Some(file), _) => Wait::new(reader, file),
            (None, _) => self.defaults.wait,
        }
    }

    fn on_outage(&self, draft: &Draft) -> OnOutage {
        let said = draft.file.map.on_outage.as_ref().or(self.file.on_outage.as_ref());
        said.map(|said| said.value.into()).or(self.defaults.on_outage).unwrap_or_default()
    }
}

/// Notes a limit that has the counter of another one in its rule.
fn not_told_apart(reader: &mut Reader<'_>, draft: &Draft) {
    let (span, message) = match &draft.file.map.name {
        Some(name) if draft.name().is_some() => {
            let message = format!(
                "two limits of this rule are named `{}` and have one window; name one differently",
                name.value
            );
            (name.span.clone(), message)
        }
        _ => {
            let message = "nothing tells this limit apart from another one of this rule; give it a \
                           `name`, by which its count is kept when the rule is edited";
            (draft.file.span.clone(), message.to_owned())
        }
    };
    reader.error(span, message);
}

/// What a limit says of one tier.
#[derive(Clone, Copy, Debug)]
enum TierRate {
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

    fn rate(&self) -> Option<Rate> {
        match self {
            Self::Rate(rate) => Some(*rate),
            Self::None | Self::Unlimited => None,
        }
    }
}

impl From<OutageFile> for OnOutage {
    fn from(word: OutageFile) -> Self {
        match word {
            OutageFile::Error => Self::Error,
            OutageFile::Allow => Self::Allow,
            OutageFile::Deny => Self::Deny,
            OutageFile::Local => Self::Local,
        }
    }
}

impl From<OverdraftFile> for Overdraft {
    fn from(word: OverdraftFile) -> Self {
        match word {
            OverdraftFile::None => Self::None,
            OverdraftFile::Allow => Self::Allow,
            OverdraftFile::Clip => Self::Clip,
        }
    }
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
