//! Has records hold what rules of alerts read of requests, and warns of rules for which no policy names it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::Engine;
use crate::policy::{AbuseEntry, AlertPolicy, AlertRule, Domain};

/// What is read of requests for rules.
#[derive(Debug, Default)]
pub struct Observing {
    /// The rules that were warned of.
    warned: BTreeSet<Arc<str>>,
}

impl Observing {
    /// Follows the rules and policies in force.
    pub fn follow(&mut self, engine: &Engine, alerts: &AlertPolicy) {
        let entries = alerts.entries();
        engine.observe(entries);
        if entries.is_empty() {
            self.warned.clear();
            return;
        }
        let policies = engine.policies();
        if policies.is_pending() {
            return;
        }
        let lacks = |rule: &&AlertRule| {
            let has_all =
                |domain: &&Domain| rule.signal.entries().iter().all(|entry| has(domain, *entry));
            !policies.domains().iter().any(has_all)
        };
        let lacking: Vec<&AlertRule> = alerts.rules.iter().filter(lacks).collect();
        self.warned.retain(|name| lacking.iter().any(|rule| rule.name == *name));
        for rule in lacking {
            if self.warned.insert(rule.name.clone()) {
                let names: Vec<_> = rule.signal.entries().iter().map(|one| one.name()).collect();
                let entries = names.join(", ");
                tracing::warn!(
                    alert = &*rule.name,
                    entries,
                    "an alert never fires: no policy names these entries in `abuse`"
                );
            }
        }
    }
}

/// Whether requests of a domain may have an entry.
fn has(domain: &Domain, entry: AbuseEntry) -> bool {
    // The check of an API key knows the address by itself.
    let checks = domain.api_keys.as_ref().is_some_and(|api_keys| api_keys.charges);
    domain.abuse.key(entry).is_some() || (entry == AbuseEntry::Address && checks)
}
