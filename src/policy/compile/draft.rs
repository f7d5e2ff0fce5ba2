//! Limits in a file, from `limits` or `rate_limit`, before they are compiled.

use super::identity::Identity;
use super::rate::Rate;
use crate::policy::model::Unit;
use crate::policy::problem::Severity;
use crate::policy::schema::{LimitFile, RateLimitFile, RuleFile};
use crate::policy::yaml::{Reader, Spanned};

/// Maximum number of limits in one rule: they share one record, which must stay small.
const LIMITS_MAX: usize = 16;

/// A limit in a file, in either format.
#[derive(Debug, Default)]
pub struct Draft {
    pub rate: Option<Rate>,
    pub file: LimitFile,
    /// In the format of the reference: it is the only limit of its rule, so its identity needs no name.
    pub is_alone: bool,
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
    Some(Draft { rate: Some(rate), file: limit, is_alone: true })
}

fn from_limits(reader: &mut Reader<'_>, limits: &Spanned<Vec<LimitFile>>) -> Vec<Draft> {
    if limits.value.is_empty() {
        reader.error(limits.span.clone(), "`limits` is empty");
    }
    if LIMITS_MAX < limits.value.len() {
        let message = format!("too many limits; a rule may have at most {LIMITS_MAX}");
        reader.error(limits.span.clone(), message);
    }
    let mut drafts = Vec::new();
    for file in limits.value.iter().take(LIMITS_MAX) {
        let rate = file.map.rate.as_ref().and_then(|text| {
            Rate::parse(&text.value)
                .map_err(|message| reader.error(text.span.clone(), message))
                .ok()
        });
        drafts.push(Draft { rate, file: file.clone(), is_alone: false });
    }
    drafts
}
