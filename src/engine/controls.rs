//! Changes of providers for a while, as requests meet them. Without one, a request reads a flag.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;

use crate::clock::Timestamp;
use crate::limit::Scale;
use crate::policy::{Domain, PolicySet};
use crate::store::provider_controls::{ControlAction, ProviderControl};

use super::request::Request;

/// The controls in force under the policies in force.
#[derive(Debug, Default)]
pub struct ControlsInForce {
    is_any: AtomicBool,
    set: ArcSwapOption<ControlSet>,
}

/// Controls, and what they change under a set of policies.
#[derive(Debug)]
struct ControlSet {
    controls: Vec<ProviderControl>,
    active: Vec<Active>,
}

/// A control of one entry of a domain.
#[derive(Debug)]
struct Active {
    domain: String,
    entry: Entry,
    /// The index of the tier; None: all.
    tier: Option<usize>,
    until: Timestamp,
    effect: Effect,
}

type Entry = (Arc<str>, Arc<str>);

#[derive(Debug)]
enum Effect {
    Pause,
    Priority { entry: Option<(String, String)>, priority: u8 },
    Cap(Cap),
}

/// What is left of some limits.
#[derive(Clone, Debug)]
struct Cap {
    entry: Entry,
    /// By their indexes in the domain.
    limits: Arc<[usize]>,
    scale: Scale,
}

/// The controls that change one request.
#[derive(Clone, Debug, Default)]
pub struct RequestControls {
    /// It does not wait for capacity.
    pub is_paused: bool,
    /// The priority that it has instead of its own.
    pub priority: Option<u8>,
    caps: Vec<Cap>,
}

impl ControlsInForce {
    /// Puts these controls in force, and no others.
    pub fn put(&self, policies: &PolicySet, controls: Vec<ProviderControl>) {
        let active: Vec<Active> =
            controls.iter().flat_map(|control| activated(policies, control)).collect();
        let is_any = !active.is_empty();
        self.set.store(Some(Arc::new(ControlSet { controls, active })));
        self.is_any.store(is_any, Ordering::Release);
    }

    /// Whether these are in force already.
    pub fn are(&self, controls: &[ProviderControl]) -> bool {
        match &*self.set.load() {
            Some(set) => set.controls == controls,
            None => controls.is_empty(),
        }
    }

    /// Those that change a request of a caller with this tier; None if none does.
    pub fn of(
        &self,
        domain: &Domain,
        request: &Request<'_>,
        (tier, now): (usize, Timestamp),
    ) -> Option<Box<RequestControls>> {
        if !self.is_any.load(Ordering::Acquire) {
            return None;
        }
        let set = self.set.load();
        let has = |key: &str, value: &str| {
            let entries = request.descriptors().iter().flat_map(|descriptor| &descriptor.entries);
            entries.into_iter().any(|entry| *entry == (key, value))
        };
        let of_request = set.iter().flat_map(|set| &set.active).filter(|one| {
            let of_caller = one.tier.is_none_or(|of| of == tier);
            one.domain == domain.name && now < one.until && of_caller && {
                let (key, value) = &one.entry;
                has(key, value)
            }
        });
        let mut changed = None::<Box<RequestControls>>;
        let mut closest = None;
        for one in of_request {
            match &one.effect {
                Effect::Pause => changed.get_or_insert_default().is_paused = true,
                Effect::Priority { entry, priority } => {
                    if entry.as_ref().is_some_and(|(key, value)| !has(key, value)) {
                        continue;
                    }
                    // One for an entry comes before one for a tier, and that before one for all.
                    let rank = (entry.is_some(), one.tier.is_some(), *priority);
                    if closest.is_none_or(|known| known < rank) {
                        closest = Some(rank);
                        changed.get_or_insert_default().priority = Some(*priority);
                    }
                }
                Effect::Cap(cap) => changed.get_or_insert_default().caps.push(cap.clone()),
            }
        }
        changed
    }

    /// What is left to all tiers of a limit of a provider; None if there is no cap for all.
    pub fn cap_of_all(
        &self,
        domain: &Domain,
        (key, name): (&str, &str),
        (limit, now): (usize, Timestamp),
    ) -> Option<Scale> {
        let set = self.set.load();
        let active = set.iter().flat_map(|set| &set.active);
        let scales = active.filter_map(|one| match &one.effect {
            Effect::Cap(cap) => {
                let (of_key, of_name) = &one.entry;
                let is_meant = one.domain == domain.name && (&**of_key, &**of_name) == (key, name);
                let holds = one.tier.is_none() && now < one.until;
                (is_meant && holds && cap.limits.contains(&limit)).then_some(cap.scale)
            }
            Effect::Pause | Effect::Priority { .. } => None,
        });
        scales.min()
    }
}

impl RequestControls {
    /// What is left of a limit with this index, of a rule with this path.
    pub fn cap(&self, path: &[(&str, &str)], limit: usize) -> Option<Scale> {
        let caps = self.caps.iter().filter(|cap| {
            let (key, value) = &cap.entry;
            cap.limits.contains(&limit) && path.contains(&(&**key, &**value))
        });
        caps.map(|cap| cap.scale).min()
    }
}

/// What a control changes; nothing if the policies have no such provider, tier or limit.
fn activated(policies: &PolicySet, control: &ProviderControl) -> Vec<Active> {
    let Some(domain) = policies.domain(&control.domain) else { return Vec::new() };
    let tier = match control.action.tier() {
        Some(name) => match domain.classes.tier(name) {
            Some(tier) => Some(tier),
            None => return Vec::new(),
        },
        None => None,
    };
    let providers = domain.providers();
    let own = providers.iter().filter(|provider| provider.name == control.provider);
    let active = own.map(|provider| {
        let entry: Entry = (provider.key.into(), provider.name.into());
        let effect = match &control.action {
            ControlAction::Pause => Effect::Pause,
            ControlAction::Priority { entry, priority, .. } => {
                Effect::Priority { entry: entry.clone(), priority: *priority }
            }
            ControlAction::Cap { limit, percent, .. } => Effect::Cap(Cap {
                entry: entry.clone(),
                limits: limits(domain, &provider.paths, limit.as_deref()),
                scale: Scale::of_hundredths(u32::from(*percent) * 100),
            }),
        };
        Active { domain: domain.name.clone(), entry, tier, until: control.until, effect }
    });
    active.collect()
}

/// The indexes of the limits of rules at these paths: those with a name, or all.
fn limits(domain: &Domain, paths: &[Vec<(&str, &str)>], name: Option<&str>) -> Arc<[usize]> {
    let rules = paths.iter().filter_map(|path| domain.walk(&domain.path(path)).end());
    let limits = rules.flat_map(|rule| &rule.limits);
    let named = limits.filter(|limit| name.is_none_or(|name| *limit.label == *name));
    named.map(|limit| limit.index).collect()
}
