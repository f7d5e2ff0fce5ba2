//! Unreachable rules: another rule of their level takes precedence for all of their entries.

use crate::policy::model::{Rule, RuleLevel, RuleValue, SourceLocation, ValueSet};

/// The reason that a rule is unreachable, or the rule that it makes unreachable.
#[derive(Debug)]
pub enum Obstacle {
    /// There is another rule for the same entries.
    Same(SourceLocation),
    /// This earlier pattern matches all of its entries.
    Covered(SourceLocation, String),
    /// It matches all entries of the rule for this key alone.
    Hides(SourceLocation, String),
    /// Other rules have these of its values.
    Partly(Vec<(String, SourceLocation)>),
}

/// Values in one report.
const VALUES_MAX: usize = 10;

impl Obstacle {
    /// The earlier rule that makes a new rule unreachable, or the one that the new rule makes unreachable.
    pub fn of(level: &RuleLevel, rule: &Rule) -> Option<Self> {
        among(level, rule)
            .or_else(|| covered(level, rule))
            .or_else(|| same(level, rule))
            .or_else(|| hidden(level, rule))
    }
}

/// What takes precedence over values of a set. Networks within others are found when the level is complete.
fn among(level: &RuleLevel, rule: &Rule) -> Option<Obstacle> {
    let matcher = rule.matcher()?;
    if let Some(same) = level.among(&rule.key, matcher.id()) {
        return Some(Obstacle::Same(same.location.clone()));
    }
    if let ValueSet::OneOf(values) = matcher.values() {
        let place = |value: &str| Some(level.exact(&rule.key, value)?.location.clone());
        let found = values.iter().filter_map(|value| Some((value.to_string(), place(value)?)));
        let mut taken: Vec<(String, SourceLocation)> = found.collect();
        taken.sort_by(|(one, _), (other, _)| one.cmp(other));
        let is_all = taken.len() == values.len();
        return match taken.first() {
            Some((value, place)) if is_all => Some(Obstacle::Covered(place.clone(), value.clone())),
            Some(_) => {
                taken.truncate(VALUES_MAX);
                Some(Obstacle::Partly(taken))
            }
            None => None,
        };
    }
    let text = format!("{}_*", rule.key);
    let wide = level.joined().find(|(_, pattern)| pattern.matches(&text));
    let all = || level.patterns(&rule.key).find(|(_, pattern)| pattern.matches_all());
    let (found, _) = wide.or_else(all)?;
    Some(Obstacle::Covered(found.location.clone(), found.joined().unwrap_or_default()))
}

/// The pattern that takes precedence over a rule for all of its entries, other than one of the same kind: a pattern of
/// keys, or of all values of the key.
fn covered(level: &RuleLevel, rule: &Rule) -> Option<Obstacle> {
    let text = rule.joined()?;
    let wide = level.joined().find(|(_, pattern)| pattern.matches(&text));
    let all = matches!(rule.value, RuleValue::Any)
        .then(|| level.patterns(&rule.key).find(|(_, pattern)| pattern.matches_all()));
    let (found, pattern) = wide.or_else(|| all.flatten())?;
    let is_same = found.key == rule.key
        && matches!((&found.value, &rule.value), (RuleValue::Joined { .. }, RuleValue::Joined { pattern: own, .. }) if own == pattern);
    Some(match is_same {
        true => Obstacle::Same(found.location.clone()),
        false => Obstacle::Covered(found.location.clone(), found.joined().unwrap_or_default()),
    })
}

/// The earlier rule of the same kind that matches the same values, or more.
fn same(level: &RuleLevel, rule: &Rule) -> Option<Obstacle> {
    match &rule.value {
        RuleValue::Joined { .. } | RuleValue::Among { .. } => None,
        RuleValue::Exact(value) => {
            level.exact(&rule.key, value).map(|found| Obstacle::Same(found.location.clone()))
        }
        RuleValue::Any => level.any(&rule.key).map(|found| Obstacle::Same(found.location.clone())),
        RuleValue::Pattern { pattern, .. } => {
            let (found, other) =
                level.patterns(&rule.key).find(|(_, other)| other.covers(pattern))?;
            let location = found.location.clone();
            Some(match other == pattern {
                true => Obstacle::Same(location),
                false => Obstacle::Covered(location, other.as_str().to_owned()),
            })
        }
    }
}

/// The earlier rule for the key alone that a new pattern makes unreachable.
fn hidden(level: &RuleLevel, rule: &Rule) -> Option<Obstacle> {
    let known = match &rule.value {
        RuleValue::Joined { pattern, .. } => {
            let mut known = level.rules().iter();
            known.find(|known| {
                matches!(known.value, RuleValue::Any)
                    && known.joined().is_some_and(|text| pattern.matches(&text))
            })
        }
        RuleValue::Pattern { pattern, .. } if pattern.matches_all() => level.any(&rule.key),
        RuleValue::Pattern { .. }
        | RuleValue::Exact(_)
        | RuleValue::Among { .. }
        | RuleValue::Any => None,
    }?;
    Some(Obstacle::Hides(known.location.clone(), known.key.clone()))
}

#[cfg(test)]
mod tests {
    use crate::policy::{CompileOptions, PolicySet, Source, compile};

    fn compiled(rules: &str) -> PolicySet {
        let text = format!("domain: d\ndescriptors: [{rules}]");
        compile(&[Source { path: "a.yaml".to_owned(), text }], CompileOptions::default()).unwrap()
    }

    #[test]
    fn rules_behind_a_wildcard_are_told() {
        for (rules, reported) in [
            ("{key: a, value: '*'}, {key: a, regex: x}", "unreachable rule `a=regex x`: `a_*`"),
            ("{key: 'a*'}, {key: a, not: {value: x}}", "unreachable rule `a=not one_of x`: `a*`"),
            ("{key: a, value: x}, {key: a, one_of: [x, y]}", "`x` is never matched here: "),
            ("{key: a, value: x}, {key: a, one_of: [x]}", "unreachable rule `a=one_of x`: `x`"),
            (
                "{key: a, cidr: [10.0.0.0/8]}, {key: a, cidr: [10.1.0.0/16, 10.2.0.0/16]}",
                "unreachable rule `a=cidr 10.1.0.0/16 10.2.0.0/16`: earlier rules",
            ),
            ("{key: a, cidr: [10.0.0.0/8, 10.1.0.0/16]}", "no effect: `10.0.0.0/8` has all"),
            ("{key: 'hdr*'}, {key: 'hdr_*'}", "unreachable rule `hdr_*`: `hdr*`"),
            ("{key: 'hdr*'}, {key: hdr, value: 'a*'}", "unreachable rule `hdr=a*`: `hdr*`"),
            ("{key: 'hdr*'}, {key: hdr}", "unreachable rule `hdr`: `hdr*`"),
            ("{key: a, value: '*'}, {key: a}", "unreachable rule `a`: `a_*`"),
            ("{key: a}, {key: a, value: '*'}", "unreachable rule `a` in "),
            ("{key: hdr}, {key: 'hdr*'}", "unreachable rule `hdr` in "),
        ] {
            let set = compiled(rules);
            let warnings: Vec<_> = set.warnings().iter().map(|one| one.message.as_str()).collect();
            assert!(
                warnings.len() == 1 && warnings[0].starts_with(reported),
                "{rules}: {warnings:?}"
            );
        }
    }
}
