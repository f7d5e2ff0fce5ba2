//! Compiles `caller`, `tiers` and `qualifiers` of a file.

use super::{abuse, estimate, idempotency, reservation};
use crate::policy::model::{Classes, PRIORITY_DEFAULT, PRIORITY_MAX, PRIORITY_MIN, Priority};
use crate::policy::schema::{CallerFile, PolicyFile, PriorityFile};
use crate::policy::yaml::{Reader, Spanned, nearest};

/// Maximum number of tiers in a policy: each has its own form of every limit with `by_tier`.
const TIERS_MAX: usize = 32;

impl Classes {
    /// The settings in the file.
    pub(super) fn compile(reader: &mut Reader<'_>, file: &PolicyFile) -> Self {
        let mut classes = Self { tiers: tiers(reader, file), ..Self::default() };
        let none = CallerFile::default();
        let caller = file.caller.as_ref().unwrap_or(&none);
        let key = |key: &Option<Spanned<String>>| key.as_ref().map(|key| key.value.as_str().into());
        classes.caller_key = key(&caller.key);
        if let Some(tier) = &caller.tier {
            classes.tier_key = key(&tier.key);
            let default = tier.default.as_ref();
            classes.default_tier =
                default.and_then(|name| tier_named(reader, &classes, name)).unwrap_or_default();
        }
        if let Some(priority) = &caller.priority {
            classes.priority = self::priority(reader, &classes, priority);
        }
        let listed = file.qualifiers.iter().flat_map(|names| &names.value);
        let choices = file.choices.iter().flat_map(|choices| &choices.value);
        let latencies = choices.filter_map(|choice| choice.latency_key.as_ref());
        classes.qualifiers =
            listed.chain(latencies).map(|name| name.value.as_str().into()).collect();
        let own = [&classes.tier_key, &classes.priority.key];
        let own: Vec<Box<str>> = own.into_iter().flatten().cloned().collect();
        let keys = idempotency::keys(file);
        let estimates = estimate::keys(file);
        let taken = |key: &Spanned<String>| own.iter().any(|own| **own == *key.value);
        let idempotency = keys.iter().map(|key| (key, "hold an idempotency key"));
        let stated = estimates.iter().map(|key| (key, "state an estimate"));
        for (key, use_) in idempotency.chain(stated).filter(|(key, _)| taken(key)) {
            let message =
                format!("`{}` is the key of the tier or priority and can't {use_} too", key.value);
            reader.error(key.span.clone(), message);
        }
        classes.qualifiers.extend(own);
        let mut keys: Vec<Box<str>> =
            keys.into_iter().map(|key| key.value.as_str().into()).collect();
        keys.dedup();
        let mut estimates: Vec<Box<str>> =
            estimates.into_iter().map(|key| key.value.as_str().into()).collect();
        estimates.dedup();
        classes.qualifiers.extend(estimates);
        classes.qualifiers.extend(keys);
        classes.qualifiers.extend(reservation::keys(file).into_iter().map(Box::from));
        classes.qualifiers.extend(abuse::qualifiers(file).into_iter().map(Box::from));
        if let Some(key) = caller.key.as_ref().filter(|key| classes.qualifies(&key.value)) {
            let message =
                format!("`{}` is the key of the caller and can't be a qualifier too", key.value);
            reader.error(key.span.clone(), message);
        }
        classes
    }
}

/// The index of a tier in the file, which must exist.
pub(super) fn tier_named(
    reader: &mut Reader<'_>,
    classes: &Classes,
    name: &Spanned<String>,
) -> Option<usize> {
    let index = classes.tier(&name.value);
    if index.is_none() {
        let names: Vec<&str> = classes.tiers.iter().map(|tier| &**tier).collect();
        let message = match (names.as_slice(), nearest(&name.value, &names)) {
            ([], _) => {
                let message = format!("unknown tier `{}`; the policy has no `tiers`", name.value);
                reader.error_once(name.span.clone(), "no `tiers`", message);
                return None;
            }
            (_, Some(meant)) => {
                format!("unknown tier `{}`; did you mean `{meant}`?", name.value)
            }
            _ => format!("unknown tier `{}`; known tiers: {}", name.value, names.join(", ")),
        };
        reader.error(name.span.clone(), message);
    }
    index
}

fn priority(reader: &mut Reader<'_>, classes: &Classes, file: &PriorityFile) -> Priority {
    let mut priority = Priority {
        key: file.key.as_ref().map(|key| key.value.as_str().into()),
        default: file.default.as_ref().map_or(PRIORITY_DEFAULT, |one| clamp(one.value)),
        by_tier: vec![0; classes.tiers.len()],
        under_pressure: file.under_pressure.as_ref().map_or(0, |one| addend(one.value)),
        ..Priority::default()
    };
    for (what, table) in file.add.iter().flatten() {
        let table = table.iter().map(|(name, add)| (name, addend(add.value)));
        match what.value.as_str() {
            "tier" => {
                for (name, add) in table {
                    if let Some(tier) = tier_named(reader, classes, name) {
                        priority.by_tier[tier] = add;
                    }
                }
            }
            "role" => {
                priority.by_role =
                    table.map(|(name, add)| (name.value.as_str().into(), add)).collect();
            }
            key => {
                let table = table.map(|(name, add)| (name.value.as_str().into(), add));
                priority.by_entry.push((key.into(), table.collect()));
            }
        }
    }
    priority
}

fn tiers(reader: &mut Reader<'_>, file: &PolicyFile) -> Vec<Box<str>> {
    let mut tiers: Vec<Box<str>> = Vec::new();
    let Some(names) = &file.tiers else { return tiers };
    if TIERS_MAX < names.value.len() {
        let count = names.value.len();
        let message = format!("too many tiers: {count}; a policy may have at most {TIERS_MAX}");
        reader.error(names.span.clone(), message);
    }
    for name in names.value.iter().take(TIERS_MAX) {
        if name.value.is_empty() {
            reader.error(name.span.clone(), "empty tier name");
        } else if tiers.iter().any(|tier| **tier == *name.value) {
            reader.error(name.span.clone(), format!("duplicate tier `{}`", name.value));
        } else {
            tiers.push(name.value.as_str().into());
        }
    }
    tiers
}

fn clamp(number: u64) -> u8 {
    u8::try_from(number).unwrap_or(PRIORITY_MAX).clamp(PRIORITY_MIN, PRIORITY_MAX)
}

fn addend(number: i64) -> i8 {
    i8::try_from(number).expect("the reader lets one digit pass")
}
