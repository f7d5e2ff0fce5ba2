//! Has records hold what rules of alerts read of requests, and warns of what rules name and no policy has.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::Engine;
use crate::policy::{AlertPolicy, PolicySet, misfits};

/// What rules read of requests and policies.
#[derive(Debug, Default)]
pub struct Observing {
    /// The alerts and policies that were compared last.
    compared: Option<(Arc<AlertPolicy>, Arc<PolicySet>)>,
    /// What was warned of: the names of rules, and the reasons.
    warned: BTreeSet<(Arc<str>, String)>,
}

impl Observing {
    /// Follows the rules and policies in force.
    pub fn follow(&mut self, engine: &Engine, alerts: &Arc<AlertPolicy>) {
        engine.observe(alerts.entries());
        let policies = engine.policies();
        let is_known = self.compared.as_ref().is_some_and(|(of_alerts, of_policies)| {
            Arc::ptr_eq(of_alerts, alerts) && Arc::ptr_eq(of_policies, &policies)
        });
        if is_known || policies.is_pending() {
            return;
        }
        let found: BTreeSet<_> = alerts
            .rules
            .iter()
            .flat_map(|rule| misfits(rule, &policies).into_iter().map(|one| (&rule.name, one)))
            .map(|(name, misfit)| (name.clone(), misfit.message))
            .collect();
        for (name, reason) in found.difference(&self.warned) {
            tracing::warn!(alert = &**name, "alert `{name}`: {reason}");
        }
        self.warned = found;
        self.compared = Some((alerts.clone(), policies));
    }
}
