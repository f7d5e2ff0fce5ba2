//! Checks callers against the policies: tiers and limits that are in no policy have no effect.

use std::collections::{BTreeMap, BTreeSet};

use super::flaw::Flaw;
use crate::policy::model::{Caller, OverrideAmount, PolicySet, Rule, RuleValue};
use crate::policy::yaml::nearest;

/// Maximum number of tiers in a message for a name that is similar to none of them.
const LISTED_MAX: usize = 8;

/// The names that callers may use.
#[derive(Debug, Default)]
pub struct CallerNames<'p> {
    tiers: BTreeSet<&'p str>,
    /// Limits with a name, and whether they are a caller's own: only those can have overrides and bonuses.
    limits: BTreeMap<&'p str, bool>,
}

impl<'p> CallerNames<'p> {
    /// The names in all policies.
    pub fn of(policies: &'p PolicySet) -> Self {
        let mut names = Self::default();
        for domain in policies.domains() {
            names.tiers.extend(domain.classes.tiers.iter().map(|tier| &**tier));
            domain.rules().iter().for_each(|rule| names.add(rule));
        }
        names
    }

    fn add(&mut self, rule: &'p Rule) {
        for limit in rule.limits.iter().filter(|limit| !limit.name.is_empty()) {
            *self.limits.entry(&limit.name).or_default() |= rule.of_caller;
        }
        rule.rules().iter().for_each(|rule| self.add(rule));
    }

    /// The unknown tiers and limits of a caller. Those that it had `before` are not reported: if a policy has changed
    /// since, the other fields can still be changed.
    pub fn check(&self, caller: &Caller, before: Option<&Caller>) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        let mut note = |path: &[&str], message: Option<String>| {
            let path = path.iter().map(ToString::to_string).collect();
            flaws.extend(message.map(|message| Flaw { path, message }));
        };
        let known_tier = before.and_then(|before| before.tier.as_ref());
        if let Some(tier) = caller.tier.as_ref().filter(|tier| known_tier != Some(tier)) {
            note(&["tier"], self.check_tier(tier));
        }
        for limit in caller.overrides.keys() {
            if before.is_none_or(|before| !before.overrides.contains_key(limit)) {
                note(&["overrides", limit], self.check_limit(limit));
            }
        }
        for (limit, known) in &caller.overrides {
            let is_known = |before: &Caller| before.overrides.get(limit) == Some(known);
            if let OverrideAmount::Tier(tier) = &known.amount
                && !before.is_some_and(is_known)
            {
                note(&["overrides", limit], self.check_tier(tier));
            }
        }
        for (index, bonus) in caller.bonuses.iter().enumerate() {
            let is_known =
                |before: &Caller| before.bonuses.iter().any(|known| known.limit == bonus.limit);
            if !before.is_some_and(is_known) {
                let index = index.to_string();
                note(&["bonuses", &index, "limit"], self.check_limit(&bonus.limit));
            }
        }
        flaws
    }

    fn check_tier(&self, tier: &str) -> Option<String> {
        if self.tiers.contains(tier) {
            return None;
        }
        let names: Vec<&str> = self.tiers.iter().copied().collect();
        let hint = match (names.len(), nearest(tier, &names)) {
            (0, _) => "; no policy has `tiers`".to_owned(),
            (_, Some(meant)) => format!("; did you mean `{meant}`?"),
            (1..=LISTED_MAX, None) => format!("; known names: {}", names.join(", ")),
            (_, None) => String::new(),
        };
        Some(format!("unknown tier `{tier}`{hint}"))
    }

    fn check_limit(&self, limit: &str) -> Option<String> {
        match self.limits.get(limit) {
            Some(true) => None,
            Some(false) => Some(format!(
                "limit `{limit}` does not belong to a caller: no path of its rules has the entry of `caller.key`"
            )),
            None => {
                let own = self.limits.iter().filter(|(_, is_own)| **is_own);
                let names: Vec<&str> = own.map(|(name, _)| *name).collect();
                let hint = match (names.len(), nearest(limit, &names)) {
                    (0, _) => "; no limit of a caller has a `name`".to_owned(),
                    (_, Some(meant)) => format!("; did you mean `{meant}`?"),
                    (1..=LISTED_MAX, None) => format!("; known names: {}", names.join(", ")),
                    (_, None) => String::new(),
                };
                Some(format!("unknown limit `{limit}`{hint}"))
            }
        }
    }
}

/// Whether a limit has one counter for each caller: then a bonus on it counts once.
pub fn has_one_counter(policies: &PolicySet, limit: &str) -> bool {
    let mut counters = 0;
    for domain in policies.domains() {
        let caller_key = domain.classes.caller_key.as_deref();
        domain.rules().iter().for_each(|rule| {
            counters += counters_of((rule, limit), caller_key, false);
        });
    }
    counters == 1
}

/// How many counters of one caller the limits of that name have in a rule and below, where 2 stands for several; `several` if
/// the path to it stands for several already.
fn counters_of((rule, limit): (&Rule, &str), caller_key: Option<&str>, several: bool) -> usize {
    let is_caller = Some(rule.key.as_str()) == caller_key;
    let several = several || !(is_caller || matches!(rule.value, RuleValue::Exact(_)));
    let own = rule.limits.iter().filter(|known| rule.of_caller && *known.name == *limit).count();
    let below = rule.rules().iter().map(|rule| counters_of((rule, limit), caller_key, several));
    own * (1 + usize::from(several)) + below.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{CallerForm, CompileOptions, Source, compile};

    const POLICY: &str = "
domain: d
caller: {key: user}
tiers: [free, premium]
descriptors:
- key: user
  limits: [{name: daily, rate: 5/day}, 3/hour]
  descriptors: [{key: op, limits: [{name: booking, rate: 5/day}]}]
- {key: provider, limits: [{name: search, rate: 5/day}]}";

    fn caller(json: &serde_json::Value) -> Caller {
        serde_json::from_value::<CallerForm>(json.clone()).unwrap().check().unwrap()
    }

    fn flaws(policy: &str, json: &serde_json::Value, before: Option<&Caller>) -> Vec<String> {
        let source = Source { path: "p.yaml".to_owned(), text: policy.to_owned() };
        let policies = compile(&[source], CompileOptions::default()).unwrap();
        let flaws = CallerNames::of(&policies).check(&caller(json), before);
        flaws.iter().map(ToString::to_string).collect()
    }

    fn said(tier: &str, limit: &str, bonus: &str) -> serde_json::Value {
        let bonus = serde_json::json!({ "limit": bonus, "amount": 1, "until": "2099-01-01" });
        serde_json::json!({ "tier": tier, "overrides": { limit: 1 }, "bonuses": [bonus] })
    }

    #[test]
    fn names_that_no_policy_has_are_told_with_the_nearest() {
        let none: [&str; 0] = [];
        assert_eq!(flaws(POLICY, &said("premium", "daily", "booking"), None), none);
        assert_eq!(
            flaws(POLICY, &said("premiun", "dayly", "bookings"), None),
            [
                "tier: unknown tier `premiun`; did you mean `premium`?",
                "overrides.dayly: unknown limit `dayly`; did you mean `daily`?",
                "bonuses.0.limit: unknown limit `bookings`; did you mean `booking`?",
            ]
        );
        assert_eq!(
            flaws(POLICY, &said("enterprise", "search", "monthly usage"), None),
            [
                "tier: unknown tier `enterprise`; known names: free, premium",
                "overrides.search: limit `search` does not belong to a caller: no path of its rules has the entry of \
                 `caller.key`",
                "bonuses.0.limit: unknown limit `monthly usage`; known names: booking, daily",
            ]
        );
        let bare = "{domain: d, descriptors: [{key: a, limits: [1/day]}]}";
        assert_eq!(
            flaws(bare, &said("free", "daily", "daily"), None)[..2],
            [
                "tier: unknown tier `free`; no policy has `tiers`",
                "overrides.daily: unknown limit `daily`; no limit of a caller has a \
                 `name`",
            ]
        );
    }

    #[test]
    fn what_was_said_before_is_left_alone() {
        let before = caller(&said("gold", "old", "older"));
        let mut now = said("gold", "old", "older");
        now["notes"] = "changed".into();
        assert!(flaws(POLICY, &now, Some(&before)).is_empty());
        now["overrides"]["new"] = 1.into();
        let reported = flaws(POLICY, &now, Some(&before));
        assert!(reported.len() == 1 && reported[0].starts_with("overrides.new: "), "{reported:?}");
    }
}
