//! Limits in a file, from `limits` or `rate_limit`, before they are compiled.

use std::ops::Range;

use super::identity::Identity;
use super::joint::Places;
use super::rate::Rate;
use crate::policy::model::{LimitPlaces, Unit};
use crate::policy::problem::Severity;
use crate::policy::schema::{LimitFile, RateLimitFile, RuleFile};
use crate::policy::yaml::{Reader, Spanned};

/// Maximum number of limits in one rule: they share one record, which must stay small.
const LIMITS_MAX: usize = 16;

/// The rate of a limit in an overlay that is the resource's.
const SENT: &str = "sent";

/// A limit in a file, in either format.
#[derive(Debug, Default)]
pub struct Draft {
    pub rate: Option<Rate>,
    pub file: LimitFile,
    /// In the format of the reference: it is the only limit of its rule, so its identity needs no name.
    pub is_alone: bool,
    /// Where an overlay says more of a limit of the resource.
    pub more: Option<Range<usize>>,
}

impl Draft {
    /// The limits of a rule in the file.
    pub fn all(reader: &mut Reader<'_>, rule: &RuleFile) -> Vec<Self> {
        let RuleFile { rate_limit, limits, .. } = rule;
        if let (Some(rate_limit), Some(limits)) = (rate_limit, limits) {
            let message = "use `rate_limit` or `limits` in a rule, not both";
            let start = limits.span.start.max(rate_limit.span.start);
            reader.error(start..limits.span.end, message);
        }
        let mut drafts = Vec::new();
        drafts.extend(rate_limit.as_ref().and_then(|file| from_rate_limit(reader, file)));
        if let Some(limits) = limits.as_ref().filter(|_| !rule.is_exempt()) {
            drafts = from_limits(reader, limits);
        }
        drafts
    }

    /// The limits of a rule that has one in the format of the reference, from a resource, and others from an overlay. A
    /// `rate: sent` is that of the resource, and the rest of its map is added.
    pub fn of_both(reader: &mut Reader<'_>, rule: &RuleFile, places: &Places<'_>) -> Vec<Self> {
        let sent = rule.rate_limit.as_ref();
        let mut drafts: Vec<Self> =
            sent.and_then(|file| from_rate_limit(reader, file)).into_iter().collect();
        let Some(limits) = &rule.limits else { return drafts };
        if let Some(unlimited) = sent.filter(|_| drafts.is_empty()) {
            let place = places.of(&unlimited.span);
            let message = format!("the resource says that no limit applies here ({place})");
            reader.error(limits.span.clone(), message);
            return drafts;
        }
        if rule.is_exempt() {
            reader.error(limits.span.clone(), "an overlay can't take limits away");
            return drafts;
        }
        let is_sent =
            |file: &LimitFile| file.map.rate.as_ref().is_some_and(|rate| rate.value == SENT);
        let (more, own): (Vec<LimitFile>, Vec<LimitFile>) =
            limits.value.iter().cloned().partition(is_sent);
        if LIMITS_MAX < drafts.len() + own.len() {
            let message = format!("too many limits; a rule may have at most {LIMITS_MAX}");
            reader.error(limits.span.clone(), message);
        }
        for (index, file) in more.into_iter().enumerate() {
            match drafts.first_mut().filter(|_| index == 0) {
                Some(draft) => draft.add(reader, file),
                None if index == 0 => {
                    let place = places.of(&rule.span);
                    let message = format!("the resource has no limit in this rule ({place})");
                    reader.error(file.span, message);
                }
                None => reader.error(file.span, "`rate: sent` occurs twice in this rule"),
            }
        }
        drafts.extend(own.into_iter().take(LIMITS_MAX).map(|file| Self::of_limit(reader, file)));
        drafts
    }

    fn of_limit(reader: &mut Reader<'_>, file: LimitFile) -> Self {
        let rate = file.map.rate.as_ref().and_then(|text| {
            Rate::parse(&text.value)
                .map_err(|message| reader.error(text.span.clone(), message))
                .ok()
        });
        Self { rate, file, is_alone: false, more: None }
    }

    /// Adds to a limit of a resource what an overlay says of it: all but what would admit more than the resource.
    fn add(&mut self, reader: &mut Reader<'_>, mut more: LimitFile) {
        let map = &more.map;
        let refused = [
            ("name", map.name.is_some()),
            ("by_tier", map.by_tier.is_some()),
            ("mode", map.mode.is_some()),
            ("enforce", map.enforce.is_some()),
            ("shadow", map.shadow.is_some()),
            ("grace", map.grace.is_some()),
            ("when", map.when.is_some()),
        ];
        for (key, _) in refused.iter().filter(|(_, is_said)| *is_said) {
            let message = format!(
                "`{key}` can't change a limit of the resource; write a limit of the overlay beside it"
            );
            reader.error(more.span.clone(), message);
        }
        self.more = Some(more.span.clone());
        more.map.name = self.file.map.name.take();
        (more.map.rate, more.map.grace, more.map.by_tier, more.map.when) = (None, None, None, None);
        self.file.map = more.map;
    }

    /// Where it is said.
    pub fn places(&self, places: &Places<'_>) -> LimitPlaces {
        LimitPlaces {
            rate: places.of(&self.file.span),
            more: self.more.as_ref().map(|span| places.of(span)),
        }
    }

    /// The name of the limit in the policy.
    pub fn name(&self) -> Option<&str> {
        self.file.map.name.as_ref().map(|name| name.value.as_str()).filter(|name| !name.is_empty())
    }

    /// The part that distinguishes the limit from others in its rule.
    pub fn identity(&self) -> Identity<'_> {
        let cost = self.file.map.cost.as_ref();
        match (self.name(), cost) {
            _ if self.is_alone => Identity::Window,
            (Some(name), _) => Identity::Name(name),
            (None, Some(table)) => Identity::Cost(&table.value),
            (None, None) => Identity::Window,
        }
    }
}

fn from_rate_limit(reader: &mut Reader<'_>, file: &Spanned<RateLimitFile>) -> Option<Draft> {
    let RateLimitFile { requests_per_unit, unit, unlimited, name, .. } = &file.value;
    if unlimited.as_ref().is_some_and(|unlimited| unlimited.value) {
        if let Some(unit) = unit {
            reader.error(unit.span.clone(), "`unit` is invalid with `unlimited`");
        }
        if let Some(amount) = requests_per_unit {
            let message = "`requests_per_unit` has no effect with `unlimited`";
            reader.note(Severity::Warning, amount.span.clone(), message);
        }
        return None;
    }
    // The reader has reported missing and malformed parts.
    let unit = unit.as_ref()?;
    let Some(window) = Unit::parse(&unit.value) else {
        let message = format!(
            "unknown unit `{}`; use second, minute, hour, day, week, month or year",
            unit.value
        );
        reader.error(unit.span.clone(), message);
        return None;
    };
    let rate = Rate { amount: requests_per_unit.as_ref()?.value, window: window.into() };
    let mut limit = LimitFile { span: file.span.clone(), ..LimitFile::default() };
    limit.map.name.clone_from(name);
    Some(Draft { rate: Some(rate), file: limit, is_alone: true, more: None })
}

fn from_limits(reader: &mut Reader<'_>, limits: &Spanned<Vec<LimitFile>>) -> Vec<Draft> {
    if limits.value.is_empty() {
        reader.error(limits.span.clone(), "`limits` is empty");
    }
    if LIMITS_MAX < limits.value.len() {
        let message = format!("too many limits; a rule may have at most {LIMITS_MAX}");
        reader.error(limits.span.clone(), message);
    }
    let files = limits.value.iter().take(LIMITS_MAX);
    files.map(|file| Draft::of_limit(reader, file.clone())).collect()
}
