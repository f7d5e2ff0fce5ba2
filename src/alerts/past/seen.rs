//! What rules last saw in stored usage.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::alerts::conditions::Seen;
use crate::lock::lock;
use crate::policy::{AlertPolicy, AlertRule};

/// What rules last saw. An edited rule has seen nothing yet: its values may be of another kind.
#[derive(Debug, Default)]
pub struct UsageSeen(Mutex<Known>);

/// Rules and what they saw, by the name of the rule.
type Known = BTreeMap<Arc<str>, (AlertRule, Vec<Seen>)>;

impl UsageSeen {
    /// Replaces what a rule saw.
    pub fn put(&self, rule: &AlertRule, seen: Vec<Seen>) {
        lock(&self.0).insert(rule.name.clone(), (rule.clone(), seen));
    }

    /// What a rule saw last; nothing if it has not been evaluated yet.
    pub fn of(&self, rule: &AlertRule) -> Vec<Seen> {
        let all = lock(&self.0);
        let known = all.get(&rule.name).filter(|(known, _)| known == rule);
        known.map(|(_, seen)| seen.clone()).unwrap_or_default()
    }

    /// Forgets rules that are not in force.
    pub fn retain(&self, policy: &AlertPolicy) {
        lock(&self.0).retain(|name, _| policy.rule(name).is_some());
    }

    /// Forgets callers.
    pub fn erase(&self, is_erased: &dyn Fn(&str) -> bool) {
        let is_known = |seen: &Seen| !seen.labels.get("caller").is_some_and(is_erased);
        lock(&self.0).values_mut().for_each(|(_, seen)| seen.retain(is_known));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::labels::Labels;
    use crate::alerts::past::testing::rule;

    #[test]
    fn an_edited_rule_has_seen_nothing_and_callers_are_forgotten() {
        let seen = UsageSeen::default();
        let (old, new) = (rule("{ when: spend, above: 500 }"), rule("{ when: spike, above: 6 }"));
        let of = |caller| Seen { labels: Labels::new().with("caller", Some(caller)), value: 7.0 };
        seen.put(&old, vec![of("ann"), of("bob")]);
        assert_eq!((seen.of(&old).len(), seen.of(&new).len()), (2, 0));
        seen.erase(&|caller| caller == "ann");
        assert_eq!(seen.of(&old), [of("bob")]);
        seen.retain(&AlertPolicy::default());
        assert_eq!(seen.of(&old), []);
    }
}
