//! What the policies offer to API keys.

use std::collections::BTreeSet;

use crate::http::edge::Edge;

/// What the policies in force offer.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// The domains that check API keys.
    pub domains: Vec<String>,
    /// Their tiers, the lowest first.
    pub tiers: Vec<String>,
    /// The scopes that they know.
    pub scopes: BTreeSet<String>,
}

impl Choices {
    /// Reads them.
    pub fn of(edge: &Edge) -> Self {
        let mut choices = Self::default();
        for domain in edge.engine.policies().domains() {
            let Some(policy) = &domain.api_keys else { continue };
            choices.domains.push(domain.name.to_string());
            for tier in &domain.classes.tiers {
                if !choices.tiers.iter().any(|known| **known == **tier) {
                    choices.tiers.push(tier.to_string());
                }
            }
            choices.scopes.extend(policy.known_scopes().into_iter().map(str::to_owned));
        }
        choices
    }
}
