//! Providers: the upstreams with a capacity of their own, as the policy of a domain names them.

use super::choice::{Candidate, Choice};
use super::domain::Domain;
use super::rule::{Rule, RuleValue};

/// Entries of a path.
type Entries<'p> = Vec<(&'p str, &'p str)>;

/// A provider: a candidate of a choice, or the value of the first entry of a rule with `capacity`.
#[derive(Clone, Debug)]
pub struct Provider<'p> {
    /// The key of the entry with its name.
    pub key: &'p str,
    pub name: &'p str,
    /// The first choice that has it as a candidate.
    pub candidate: Option<&'p Candidate>,
    /// The paths of its rules with limits that have a single counter each, in the order of the file.
    pub paths: Vec<Entries<'p>>,
}

impl Domain {
    /// The providers: those of choices first, then in the order of the file.
    pub fn providers(&self) -> Vec<Provider<'_>> {
        let mut providers: Vec<Provider<'_>> = Vec::new();
        let mut add = |key, name, candidate| {
            if !providers.iter().any(|known| (known.key, known.name) == (key, name)) {
                providers.push(Provider { key, name, candidate, paths: Vec::new() });
            }
        };
        for Choice { key, candidates, .. } in &self.choices {
            candidates.iter().for_each(|candidate| add(key, &candidate.name, Some(candidate)));
        }
        let shared = self.exact_paths(|rule| rule.capacity.is_some());
        let is_candidate = |(key, name): &(&str, &str)| {
            let mut choices = self.choices.iter().filter(|choice| *choice.key == **key);
            choices.any(|choice| choice.candidates.iter().any(|one| *one.name == **name))
        };
        for path in shared.iter().filter(|path| !path.iter().any(is_candidate)) {
            path.first().into_iter().for_each(|(key, name)| add(key, name, None));
        }

        let limited = self.exact_paths(|rule| !rule.limits.is_empty());
        for provider in &mut providers {
            let entry = (provider.key, provider.name);
            let own = limited.iter().filter(|path| path.contains(&entry)).cloned();
            provider.paths = own.chain(self.paths_of_any(entry)).collect();
        }
        providers
    }

    /// The paths with limits from a single entry on, if a rule for any value of its key matches it.
    fn paths_of_any<'p>(&'p self, entry: (&'p str, &'p str)) -> Vec<Entries<'p>> {
        let own = vec![entry];
        let is_limited = |path: &Entries<'_>| {
            self.walk(&self.path(path)).end().is_some_and(|rule| !rule.limits.is_empty())
        };
        match self.walk(&self.path(&own)).end() {
            Some(Rule { value: RuleValue::Exact(_), .. }) | None => Vec::new(),
            Some(_) => {
                let below = self.paths_below(&own);
                std::iter::once(own).chain(below).filter(is_limited).collect()
            }
        }
    }

    fn exact_paths(&self, is_listed: fn(&Rule) -> bool) -> Vec<Entries<'_>> {
        let mut paths = Vec::new();
        self.rules.exact_paths(&[], is_listed, &mut paths);
        paths
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::{CompileOptions, Source, compile};

    /// Each provider as `key=name`, with its paths.
    fn check(policy: &str, expected: &[(&str, &[&str])]) {
        let source = Source { path: "policy.yaml".to_owned(), text: policy.to_owned() };
        let policies = compile(&[source], CompileOptions::default()).unwrap();
        let providers = policies.domain("d").unwrap().providers();
        let joined = |path: &Vec<(&str, &str)>| {
            path.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
        };
        let reported: Vec<(String, Vec<String>)> = providers
            .iter()
            .map(|one| {
                (format!("{}={}", one.key, one.name), one.paths.iter().map(joined).collect())
            })
            .collect();
        let expected: Vec<(String, Vec<String>)> = expected
            .iter()
            .map(|(name, paths)| {
                ((*name).to_owned(), paths.iter().map(|path| (*path).to_owned()).collect())
            })
            .collect();
        assert_eq!(reported, expected);
    }

    #[test]
    fn candidates_and_rules_with_capacity_are_providers() {
        check(
            "
domain: d
tiers: [free, paid]
choices: [{ key: provider, value: any, among: { near: {}, far: {} } }]
descriptors:
- { key: user, limits: [1/day], descriptors: [{ key: provider, value: near, limits: [9/day] }] }
- key: provider
  value: near
  descriptors:
  - { key: op, value: search, limits: [10/minute], capacity: { reserve: { paid: 10% } } }
  - { key: op, value: book, limits: [5/minute] }
- { key: provider, value: far, limits: [4/hour] }
- { key: model, value: large, limits: [3/hour], capacity: { reserve: { paid: 10% } } }
- { key: model, value: small, limits: [3/hour] }",
            &[
                ("provider=near", &["provider=near,op=search", "provider=near,op=book"]),
                ("provider=far", &["provider=far"]),
                ("model=large", &["model=large"]),
            ],
        );
    }

    #[test]
    fn a_rule_for_any_provider_has_a_counter_for_each() {
        check(
            "
domain: d
choices: [{ key: provider, value: any, among: { near: {}, far: {} } }]
descriptors:
- { key: provider, value: far, descriptors: [{ key: op, limits: [9/day] }] }
- { key: provider, limits: [4/hour], descriptors: [{ key: op, value: book, limits: [1/hour] }] }",
            &[
                ("provider=near", &["provider=near", "provider=near,op=book"]),
                ("provider=far", &[]),
            ],
        );
    }
}
