//! Compiles the limits of one rule.

use std::fmt::Write;
use std::sync::Arc;

use super::algorithm::algorithm;
use super::by_tier::{self, TierRate};
use super::defaults::Defaults;
use super::draft::Draft;
use super::enforcement::Enforcement;
use super::estimate::Estimated;
use super::grace::{GraceDraft, Graced};
use super::joint::Places;
use super::partial::{Taken, partial};
use super::rate::currency;
use super::thresholds::{thresholds, used_max};
use super::when::When;
use crate::limit::{Limit, LimitName, Overdraft};
use crate::policy::model::{
    Adjust, Cost, Estimate, Lease, Mode, OnOutage, Refused, RuleLimit, TierLimit, Wait, Window,
};
use crate::policy::schema::RuleFile;
use crate::policy::yaml::{Reader, nearest};

/// Compiles the limits of one rule.
#[derive(Debug)]
pub struct RuleLimits<'a> {
    pub file: &'a RuleFile,
    pub path: &'a str,
    /// The number of the first limit among those of the domain.
    pub first_index: usize,
    pub defaults: &'a Defaults,
    /// What the rule says of its limits.
    pub rule: Option<Enforcement>,
    /// The places of limits, if the rule has an overlay.
    pub places: Option<&'a Places<'a>>,
}

impl RuleLimits<'_> {
    /// The limits; invalid ones are reported and omitted.
    pub fn build(&self, reader: &mut Reader<'_>) -> Vec<Arc<RuleLimit>> {
        let drafts = match self.places {
            None => Draft::all(reader, self.file),
            Some(places) => Draft::of_both(reader, self.file, places),
        };
        let mut limits: Vec<Arc<RuleLimit>> = Vec::new();
        for draft in &drafts {
            let Some(limit) = self.limit(reader, draft, limits.len()) else { continue };
            let same = limits.iter().find(|known| known.limit.tag() == limit.limit.tag());
            if let Some(same) = same {
                not_told_apart(reader, draft, same);
            }
            limits.push(Arc::new(limit));
        }
        limits
    }

    fn limit(&self, reader: &mut Reader<'_>, draft: &Draft, siblings: usize) -> Option<RuleLimit> {
        let by_tier = by_tier::rates(reader, &self.defaults.classes, draft);
        let currency = self.currency(reader, draft);
        let rate = draft.rate.or_else(|| by_tier.iter().find_map(TierRate::rate))?;
        let base = Limit::new(rate.amount, algorithm(reader, draft, rate, self.defaults)?);
        let enforcement = self.enforcement(reader, draft);
        let overdraft = self.overdraft(reader, draft, enforcement);
        let base = draft.identity().of(base, currency).overdrawn(overdraft);
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
        let when = self.when(reader, draft, rate.window);
        let of = (rate.window, enforcement, when.is_scheduled());
        let base = self.graced(reader, draft, (base, of));
        let base = match self.thresholds(reader, draft, &base) {
            Some(percents) => base.with_thresholds(percents),
            None => base,
        };
        let adjust = draft.file.map.adjust.as_ref().and_then(|file| {
            let id = [&*self.defaults.domain, self.path, &*label];
            Adjust::compile(reader, file, (&base, id)).map(Arc::new)
        });
        let by_tier = self.of_tiers(&base, &by_tier, &when);
        let estimate = self.estimate(reader, draft, (&base, &by_tier, enforcement));
        let base = when.apply(base, None, &self.defaults.zone);
        Some(RuleLimit {
            index: self.first_index + siblings,
            name: name.into(),
            label: label.into(),
            limit: Arc::new(base),
            by_tier,
            cost: self.cost(reader, draft),
            currency: currency.map(Into::into),
            wait: self.wait(reader, draft, rate.window),
            lease: self.lease(draft),
            estimate,
            partial: self.partial(reader, draft, (enforcement, overdraft)),
            window: rate.window,
            mode: enforcement.mode,
            strict: enforcement.strict,
            enforced: enforcement.share,
            on_outage: self.on_outage(reader, draft, enforcement),
            refused: match enforcement.strict {
                true => Refused::Free,
                false => Refused::of(overdraft, draft.is_alone),
            },
            charges_retries: draft.file.map.idempotency.is_some(),
            adjust,
            places: self.places.map(|places| Box::new(draft.places(places))),
        })
    }

    /// The limit as it is for each tier; none if it is the same for all.
    fn of_tiers(&self, base: &Limit, rates: &[TierRate], when: &When) -> Box<[TierLimit]> {
        let scheduled = |amount, tier| {
            let limit = base.with_amount(amount);
            TierLimit::Limit(Arc::new(when.apply(limit, Some(tier), &self.defaults.zone)))
        };
        let of_tier = |(tier, rate): (usize, &TierRate)| match rate {
            TierRate::Rate(rate) => scheduled(rate.amount, tier),
            TierRate::None => TierLimit::None,
            TierRate::Unlimited => TierLimit::Unlimited,
        };
        if rates.is_empty() && when.is_by_tier() {
            let tiers = 0..self.defaults.classes.tiers.len();
            return tiers.map(|tier| scheduled(base.amount(), tier)).collect();
        }
        rates.iter().enumerate().map(of_tier).collect()
    }

    /// The limit's `when`, or else the file's `defaults`, whose entries by tier apply only to limits with `by_tier`.
    fn when(&self, reader: &mut Reader<'_>, draft: &Draft, window: Window) -> When {
        let Defaults { schedules, classes, when, .. } = self.defaults;
        match &draft.file.map.when {
            Some(list) => When::compile(reader, (schedules, classes), list, Some(window)),
            None if draft.file.map.by_tier.is_none() => when.for_all(),
            None => when.clone(),
        }
    }

    /// What the limit says itself, or its rule, or the file.
    fn enforcement(&self, reader: &mut Reader<'_>, draft: &Draft) -> Enforcement {
        let map = &draft.file.map;
        let shadow = map.shadow.as_ref().filter(|shadow| shadow.value);
        if let (Some(shadow), Some(_)) = (shadow, &map.mode) {
            reader.error(shadow.span.clone(), "use `mode` or `shadow` in a limit, not both");
        }
        let own = Enforcement::compile(reader, map.mode.as_ref(), map.enforce.as_ref());
        let own = shadow.map_or(own, |_| Some(Enforcement::of(Mode::Shadow)));
        own.or(self.rule).or(self.defaults.enforcement).unwrap_or_default()
    }

    fn overdraft(
        &self,
        reader: &mut Reader<'_>,
        draft: &Draft,
        enforcement: Enforcement,
    ) -> Overdraft {
        let said = draft.file.map.overdraft.as_ref();
        let own = said.map(|word| word.value.into());
        if !enforcement.strict {
            return own.unwrap_or(self.defaults.overdraft);
        }
        if let Some(said) = said.filter(|_| own != Some(Overdraft::None)) {
            reader.error(said.span.clone(), "a limit in the mode `strict` has no overdraft");
        }
        Overdraft::None
    }

    /// In percent.
    fn thresholds(
        &self,
        reader: &mut Reader<'_>,
        draft: &Draft,
        limit: &Limit,
    ) -> Option<Arc<[u16]>> {
        let most = used_max(limit);
        match &draft.file.map.thresholds {
            Some(file) => thresholds(reader, file, most),
            None => {
                let reached = self.defaults.thresholds.iter().flat_map(|all| all.iter());
                let reached: Arc<[u16]> = reached.copied().filter(|one| *one <= most).collect();
                (!reached.is_empty()).then_some(reached)
            }
        }
    }

    /// A limit with its grace, or the default of its file.
    fn graced(
        &self,
        reader: &mut Reader<'_>,
        draft: &Draft,
        (limit, (window, enforcement, is_scheduled)): (Limit, (Window, Enforcement, bool)),
    ) -> Limit {
        let in_reference = draft.is_alone;
        let of = Graced { limit: &limit, window, enforcement, in_reference, is_scheduled };
        match (&draft.file.map.grace, self.defaults.grace) {
            (Some(file), _) => match GraceDraft::compile(reader, file) {
                Some(grace) => grace.of(reader, file, of),
                None => limit,
            },
            (None, Some(grace)) => grace.by_default(of),
            (None, None) => limit,
        }
    }

    fn lease(&self, draft: &Draft) -> Lease {
        let said = draft.file.map.lease.as_ref();
        said.map_or(self.defaults.lease, |said| said.value.into())
    }

    fn estimate(
        &self,
        reader: &mut Reader<'_>,
        draft: &Draft,
        (limit, by_tier, enforcement): (&Limit, &[TierLimit], Enforcement),
    ) -> Option<Estimate> {
        let map = &draft.file.map;
        let is_partial = map.partial.as_ref().is_some_and(|said| said.value);
        let has_reservations =
            self.file.reservation.is_some() || self.defaults.reservations.is_some();
        let of = Estimated { limit, by_tier, enforcement, is_partial, has_reservations };
        Estimate::of_limit(reader, map.estimate.as_ref(), self.defaults.estimate.as_ref(), of)
    }

    fn partial(
        &self,
        reader: &mut Reader<'_>,
        draft: &Draft,
        (enforcement, overdraft): (Enforcement, Overdraft),
    ) -> bool {
        let map = &draft.file.map;
        let has_cost = map.cost.is_some();
        partial(reader, map.partial.as_ref(), Taken { enforcement, overdraft, has_cost })
    }

    fn cost(&self, reader: &mut Reader<'_>, draft: &Draft) -> Option<Arc<Cost>> {
        let name = draft.file.map.cost.as_ref()?;
        let cost = self.defaults.costs.get(&name.value);
        if cost.is_none() {
            let names: Vec<&str> = self.defaults.costs.keys().map(String::as_str).collect();
            let meant = nearest(&name.value, &names);
            let hint = meant.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
            let message = format!("unknown cost table `{}`{hint}", name.value);
            reader.error(name.span.clone(), message);
        }
        cost.cloned()
    }

    /// The currency of the limit; None for hits. Reports rates in another currency than those before them, or than the
    /// costs.
    fn currency<'d>(&'d self, reader: &mut Reader<'_>, draft: &'d Draft) -> Option<&'d str> {
        let map = &draft.file.map;
        let cost = map.cost.as_ref().and_then(|name| self.defaults.costs.get(&name.value));
        let mut known = cost.and_then(|cost| cost.currency.as_deref());
        let of_tiers = map.by_tier.iter().flat_map(|by_tier| &by_tier.value).map(|(_, text)| text);
        let at_times =
            map.when.iter().flat_map(|list| &list.value).filter_map(|one| one.rate.as_ref());
        let at_times = at_times.flat_map(|rate| rate.value.texts());
        for text in map.rate.iter().chain(of_tiers).chain(at_times) {
            let Some(own) = currency(&text.value) else { continue };
            let first = *known.get_or_insert(own);
            if first != own {
                let message =
                    format!("a limit and its costs need one currency, not {first} and {own}");
                reader.error(text.span.clone(), message);
            }
        }
        known
    }

    fn wait(&self, reader: &mut Reader<'_>, draft: &Draft, window: Window) -> Option<Wait> {
        match (&draft.file.map.wait, window) {
            (Some(file), Window::Total) => {
                if let Some(up_to) = &file.up_to {
                    let message = "a `total` limit can't have a `wait`: it never resets";
                    reader.error(up_to.span.clone(), message);
                }
                None
            }
            (Some(file), _) => Wait::compile(reader, file),
            (None, _) => self.defaults.wait,
        }
    }

    fn on_outage(
        &self,
        reader: &mut Reader<'_>,
        draft: &Draft,
        enforcement: Enforcement,
    ) -> OnOutage {
        let own = draft.file.map.on_outage.as_ref();
        if enforcement.strict {
            if let Some(own) = own.filter(|own| OnOutage::from(own.value) != OnOutage::Deny) {
                let message = "a limit in the mode `strict` refuses while the store is out";
                reader.error(own.span.clone(), message);
            }
            return OnOutage::Deny;
        }
        let said = own.or(self.file.on_outage.as_ref());
        said.map(|said| said.value.into()).or(self.defaults.on_outage).unwrap_or_default()
    }
}

/// Reports a limit with the same counter as another one in its rule.
fn not_told_apart(reader: &mut Reader<'_>, draft: &Draft, same: &RuleLimit) {
    let (span, mut message) = match &draft.file.map.name {
        Some(name) if draft.name().is_some() => {
            let message = format!(
                "duplicate limit name `{}` with the same window; rename one of the limits",
                name.value
            );
            (name.span.clone(), message)
        }
        _ => {
            let message = "duplicate limit in this rule; give it a `name`, so that its count is kept \
                           when the rule is edited";
            (draft.file.span.clone(), message.to_owned())
        }
    };
    if let Some(places) = &same.places {
        write!(message, "; the other is in {}", places.rate).expect("a String takes any text");
    }
    reader.error(span, message);
}
