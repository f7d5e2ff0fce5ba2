//! Compiles the rules of a file.

use std::collections::HashSet;
use std::sync::Arc;

use super::defaults::Defaults;
use super::enforcement::Enforcement;
use super::joint::Places;
use super::limits::RuleLimits;
use super::matching::matcher;
use super::metadata::metadata;
use super::reach::Obstacle;
use crate::policy::model::{
    Capacity, Idempotency, MetricValues, Mode, Only, Pattern, Reservations, Rule, RuleLevel,
    RuleValue,
};
use crate::policy::problem::Severity;
use crate::policy::schema::{PolicyFile, RuleFile};
use crate::policy::yaml::{Reader, Spanned};

/// Compiles the rules of one file.
pub struct RuleCompiler<'a> {
    pub reader: Reader<'a>,
    places: Places<'a>,
    pub defaults: Defaults,
    /// Names in `replaces`.
    pub replaced: Vec<Spanned<String>>,
    /// The starts of rules that have an overlay, and errors with it.
    pub conflicts: Vec<usize>,
    /// Errors that were found in one of the rules so far.
    in_rules: usize,
    /// Limits of the domain so far.
    pub limit_count: usize,
    /// Whether any rule so far has `idempotency`.
    pub has_retries: bool,
    /// Whether hits of any rule's limits so far may be held.
    pub has_reservations: bool,
}

/// The context of a level of rules.
#[derive(Clone, Copy)]
struct Above<'a> {
    /// The path to the level, with a trailing slash unless it is the top.
    path: &'a str,
    /// The path contains the caller.
    of_caller: bool,
}

impl<'a> RuleCompiler<'a> {
    /// A compiler for a source with these places and defaults, for a domain without limits yet.
    pub fn new(places: Places<'a>, reader: Reader<'a>, defaults: Defaults) -> Self {
        Self {
            reader,
            places,
            has_retries: defaults.idempotency.is_some(),
            has_reservations: false,
            defaults,
            replaced: Vec::new(),
            conflicts: Vec::new(),
            in_rules: 0,
            limit_count: 0,
        }
    }

    /// Adds the rules of the file.
    pub fn rules(&mut self, file: &PolicyFile, rules: &mut RuleLevel) {
        let top = Above { path: "", of_caller: false };
        self.level(file.descriptors.as_deref().unwrap_or_default(), top, rules);
    }

    fn level(&mut self, files: &[RuleFile], above: Above<'_>, level: &mut RuleLevel) {
        let mut of_addresses = Vec::new();
        for file in files {
            let rule = self.watched_rule(file, above);
            if rule.key.is_empty() {
                // That has been reported, and it makes no other rule unreachable.
                continue;
            }
            let what = rule.path.clone();
            let obstacle = Obstacle::of(level, &rule);
            if matches!(obstacle, None | Some(Obstacle::Hides(..) | Obstacle::Partly(_))) {
                if !rule.networks().is_empty() {
                    of_addresses.push((level.rules().len(), file));
                }
                level.push(rule);
            }
            if let Some(obstacle) = obstacle {
                self.report(file, &what, obstacle);
            }
        }
        level.complete();
        for (index, file) in of_addresses {
            if !level.has_addresses(index) {
                let path = &level.rules()[index].path;
                let message =
                    format!("unreachable rule `{path}`: earlier rules have all its addresses");
                self.reader.note(self.unreachable(file), file.span.clone(), message);
            }
        }
    }

    /// Reports that a rule is unreachable, or makes another one so.
    fn report(&mut self, file: &RuleFile, what: &str, obstacle: Obstacle) {
        let (severity, message) = match obstacle {
            Obstacle::Same(place) => {
                let message = format!("duplicate rule `{what}`; the first one is in {place}");
                (Severity::Error, message)
            }
            Obstacle::Hides(place, key) => {
                let message =
                    format!("unreachable rule `{key}` in {place}: `{what}` matches all its values");
                (self.unreachable(file), message)
            }
            Obstacle::Covered(place, pattern) => {
                let message = format!(
                    "unreachable rule `{what}`: `{pattern}` in {place} matches all its values"
                );
                (self.unreachable(file), message)
            }
            Obstacle::Partly(values) => {
                for (value, place) in values {
                    let message = format!("`{value}` is never matched here: {place} has it");
                    self.reader.note(Severity::Warning, file.span.clone(), message);
                }
                return;
            }
        };
        self.reader.note(severity, file.span.clone(), message);
    }

    /// The rule, with a note of it if it has errors with an overlay.
    fn watched_rule(&mut self, file: &RuleFile, above: Above<'_>) -> Rule {
        let (known, below) = (self.reader.error_count(), self.in_rules);
        let rule = self.rule(file, above);
        let own = self.reader.error_count() - known - (self.in_rules - below);
        self.in_rules += own;
        if 0 < own && rule.overlay.is_some() {
            self.conflicts.push(file.span.start);
        }
        rule
    }

    fn rule(&mut self, file: &RuleFile, above: Above<'_>) -> Rule {
        let key = file.key.as_ref().map(|key| key.value.clone()).unwrap_or_default();
        let classes = self.defaults.classes.clone();
        if let Some(said) = file.key.as_ref().filter(|key| classes.qualifies(&key.value)) {
            let message = format!("`{key}` is a qualifier and can't be the key of a rule");
            self.reader.error(said.span.clone(), message);
        }
        let of_caller = above.of_caller || classes.caller_key.as_deref() == Some(&key);
        let value = self.value(file);
        let of_caller = of_caller || self.is_of_caller(&value);
        let path = path(above.path, &key, &value, file);
        let said = self.enforcement(file);
        let (first_index, defaults) = (self.limit_count, &self.defaults);
        let overlay = self.places.overlay_of(&file.span);
        let limits = RuleLimits {
            file,
            path: &path,
            first_index,
            defaults,
            rule: said,
            places: overlay.is_some().then_some(&self.places),
        };
        let limits = limits.build(&mut self.reader);
        let enforcement = said.or(self.defaults.enforcement).unwrap_or_default();
        self.limit_count += limits.len();
        let cascade = is_on(file.cascade.as_ref());
        if let Some(span) = file.cascade.as_ref().filter(|_| cascade && has_no_limit(file)) {
            let message = "`cascade` requires limits in the same rule";
            self.reader.error(span.span.clone(), message);
        }
        let mut below = RuleLevel::default();
        let files = file.descriptors.as_deref().unwrap_or_default();
        let here = Above { path: &format!("{path}/"), of_caller };
        self.level(files, here, &mut below);
        let rate_limit = file.rate_limit.as_ref().map(|rate_limit| &rate_limit.value);
        let unlimited = rate_limit.and_then(|file| file.unlimited.as_ref());
        Rule {
            key,
            value,
            path,
            limits,
            unlimited: file.is_exempt() || unlimited.is_some_and(|unlimited| unlimited.value),
            cascade,
            of_caller,
            only: file.only.as_ref().map(|only| Only::compile(&mut self.reader, &classes, only)),
            mode: enforcement.mode,
            enforced: enforcement.share,
            capacity: self.capacity(file),
            idempotency: self.idempotency(file),
            reservations: self.reservations(file),
            replaces: self.replaces(file),
            metadata: file.metadata.as_deref().map(metadata),
            metric_values: MetricValues {
                own: is_on(file.value_to_metric.as_ref()),
                all: is_on(file.detailed_metric.as_ref()),
            },
            location: self.places.of(&file.span),
            overlay: overlay.map(Box::new),
            below,
        }
    }

    /// The severity of an unreachable rule. In the reference's format it is only a warning, also if an overlay adds `limits`:
    /// its author can't change the rules of the resource.
    fn unreachable(&self, file: &RuleFile) -> Severity {
        match file.limits.is_some() && !self.places.has_overlay() {
            true => Severity::Error,
            false => Severity::Warning,
        }
    }

    /// What the rule says of its `only` and of its limits.
    fn enforcement(&mut self, file: &RuleFile) -> Option<Enforcement> {
        let flags = [(&file.shadow_mode, Mode::Shadow), (&file.quota_mode, Mode::Quota)];
        let mut on =
            flags.into_iter().filter(|(flag, _)| flag.as_ref().is_some_and(|flag| flag.value));
        let by_flag = on.next().map(|(_, mode)| Enforcement::of(mode));
        if let (Some(mode), Some(_)) = (&file.mode, by_flag) {
            let message = "use `mode` or `shadow_mode` and `quota_mode` in a rule, not both";
            self.reader.error(mode.span.clone(), message);
        }
        let own = Enforcement::compile(&mut self.reader, file.mode.as_ref(), file.enforce.as_ref());
        by_flag.or(own)
    }

    fn capacity(&mut self, file: &RuleFile) -> Option<Box<Capacity>> {
        let capacity = file.capacity.as_ref()?;
        if file.limits.is_none() && file.rate_limit.is_none() {
            let message = "`capacity` requires limits in the same rule";
            self.reader.error(capacity.span.clone(), message);
        }
        Some(Box::new(Capacity::compile(&mut self.reader, &self.defaults, capacity)))
    }

    /// The `idempotency` of the rule's limits: its own, or else that of the file.
    fn idempotency(&mut self, file: &RuleFile) -> Option<Arc<Idempotency>> {
        let own = file.idempotency.as_ref().map(|said| {
            let these = said.these();
            these.map(|said| Arc::new(Idempotency::compile(&mut self.reader, said)))
        });
        if let Some(said) = file.idempotency.as_ref().filter(|_| has_no_limit(file)) {
            let message = "`idempotency` requires limits in the same rule";
            self.reader.error(said.span().clone(), message);
        }
        let idempotency = own.unwrap_or_else(|| self.defaults.idempotency.clone());
        self.has_retries |= idempotency.is_some();
        idempotency
    }

    /// How requests hold hits of the rule's limits: as it says itself, or else the file.
    fn reservations(&mut self, file: &RuleFile) -> Option<Arc<Reservations>> {
        let own = file.reservation.as_ref();
        let own = own.map(|said| Arc::new(Reservations::compile(&mut self.reader, said)));
        if let Some(said) = file.reservation.as_ref().filter(|_| has_no_limit(file)) {
            let message = "`reservation` requires limits in the same rule";
            self.reader.error(said.span.clone(), message);
        }
        let reservations = own.or_else(|| self.defaults.reservations.clone());
        self.has_reservations |= reservations.is_some();
        reservations
    }

    fn value(&mut self, file: &RuleFile) -> RuleValue {
        let shared = file.share_threshold.as_ref().filter(|shared| shared.value);
        let value = file.value.as_ref().filter(|value| !value.value.is_empty());
        let key = file.key.as_ref().map_or("", |key| key.value.as_str());
        let matcher = matcher(&mut self.reader, file);
        if key.contains('*') {
            let joined = match value {
                Some(value) => format!("{key}_{}", value.value),
                None => key.to_owned(),
            };
            let shared = shared.is_some();
            let pattern = Pattern::parse(&joined).expect("the key has a `*`");
            return RuleValue::Joined { pattern, shared };
        }
        let pattern = value.and_then(|value| Pattern::parse(&value.value));
        if let Some(matcher) = matcher {
            return RuleValue::Among { matcher, shared: shared.is_some() };
        }
        if let (Some(shared), None) = (shared, &pattern) {
            let message = "`share_threshold` requires a `value` with a `*`, `one_of`, `cidr`, `regex` or `not`";
            self.reader.error(shared.span.clone(), message);
        }
        match (pattern, value) {
            (Some(pattern), _) => RuleValue::Pattern { pattern, shared: shared.is_some() },
            (None, Some(value)) => RuleValue::Exact(value.value.clone()),
            (None, None) => RuleValue::Any,
        }
    }

    /// Whether a pattern of keys matches every entry with a caller's name.
    fn is_of_caller(&self, value: &RuleValue) -> bool {
        let caller = self.defaults.classes.caller_key.as_deref();
        match (value, caller) {
            (RuleValue::Joined { pattern, .. }, Some(key)) => pattern.matches(&format!("{key}_*")),
            _ => false,
        }
    }

    fn replaces(&mut self, file: &RuleFile) -> Vec<String> {
        let Some(rate_limit) = &file.rate_limit else { return Vec::new() };
        let own = rate_limit.value.name.as_ref().map(|name| name.value.as_str());
        let mut names = HashSet::new();
        for replaced in rate_limit.value.replaces.iter().flatten() {
            match replaced.name.as_ref().filter(|name| !name.value.is_empty()) {
                None => self.reader.error(replaced.span.clone(), "empty entry in `replaces`"),
                Some(name) if own == Some(name.value.as_str()) => {
                    let message = format!("`{}` can't replace itself", name.value);
                    self.reader.error(name.span.clone(), message);
                }
                Some(name) => {
                    self.replaced.push(name.clone());
                    names.insert(name.value.clone());
                }
            }
        }
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort_unstable();
        names
    }
}

fn is_on(flag: Option<&Spanned<bool>>) -> bool {
    flag.is_some_and(|flag| flag.value)
}

/// Whether a rule has no limit in the file. One with a mistake is a limit.
fn has_no_limit(file: &RuleFile) -> bool {
    let unlimited = file.rate_limit.as_ref().and_then(|limit| limit.value.unlimited.as_ref());
    let is_unlimited = unlimited.is_some_and(|unlimited| unlimited.value);
    let has_limits = file.limits.is_some() && !file.is_exempt();
    !has_limits && (file.rate_limit.is_none() || is_unlimited)
}

/// The path of a rule below `parent`, as messages and metrics show it.
fn path(parent: &str, key: &str, value: &RuleValue, file: &RuleFile) -> String {
    match (value, &file.value) {
        (RuleValue::Joined { .. }, Some(value)) => format!("{parent}{key}={}", value.value),
        (RuleValue::Joined { .. }, None) | (RuleValue::Any, _) => format!("{parent}{key}"),
        (RuleValue::Exact(value), _) => format!("{parent}{key}={value}"),
        (RuleValue::Pattern { pattern, .. }, _) => format!("{parent}{key}={}", pattern.as_str()),
        (RuleValue::Among { matcher, .. }, _) => format!("{parent}{key}={}", matcher.as_str()),
    }
}
