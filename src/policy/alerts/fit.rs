//! Whether the policies have what rules of alerts name: domains, tiers, providers, and entries of requests.

use std::collections::BTreeSet;

use super::model::{AlertPolicy, AlertRule};
use crate::policy::model::{AbuseEntry, Domain, PolicySet};
use crate::policy::problem::Severity;
use crate::policy::schema::AlertsFile;
use crate::policy::yaml::{Reader, nearest};

/// Maximum number of names in a message for one that is similar to none of them.
const LISTED_MAX: usize = 8;

/// Something that a rule names and no policy has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    key: Key,
    /// A clause with the reason.
    pub message: String,
}

/// The key of a rule that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    When,
    Domain,
    Tier,
    Provider,
    Answer,
}

/// What a rule names and no policy has, of those domains that it follows.
pub fn misfits(rule: &AlertRule, policies: &PolicySet) -> Vec<Misfit> {
    let mut misfits = Vec::new();
    let mut report = |key, message| misfits.push(Misfit { key, message });
    let all = policies.domains();
    let filter = &rule.filter;
    if let Some(domain) = filter.domain.as_deref().filter(|name| policies.domain(name).is_none()) {
        let known = all.iter().map(|domain| domain.name.as_str()).collect();
        report(Key::Domain, unknown(("domain", domain), known, "it never fires"));
        return misfits;
    }
    let domains: Vec<&Domain> =
        all.into_iter().filter(|domain| !filter.excludes_domain(&domain.name)).collect();
    let tiers = || domains.iter().flat_map(|domain| &domain.classes.tiers).map(|tier| &**tier);
    if let Some(tier) = filter.tier.as_deref().filter(|tier| tiers().all(|known| known != *tier)) {
        report(Key::Tier, unknown(("tier", tier), tiers().collect(), "it never fires"));
    }
    if let Some(answer) = rule.answer.as_ref()
        && tiers().all(|known| *known != *answer.tier)
    {
        let effect = "its answer restricts nobody";
        report(Key::Answer, unknown(("tier", &answer.tier), tiers().collect(), effect));
    }
    if let Some(provider) = filter.provider.as_deref() {
        let known: BTreeSet<&str> = domains.iter().flat_map(|domain| providers(domain)).collect();
        if !known.contains(provider) {
            report(Key::Provider, unknown(("provider", provider), known, "it never fires"));
        }
    }
    let entries = rule.signal.entries();
    if !domains.iter().any(|domain| entries.iter().all(|entry| may_have(domain, *entry))) {
        let names: Vec<_> = entries.iter().map(|entry| entry.name()).collect();
        let names = names.join(", ");
        report(
            Key::When,
            format!("no policy names these entries in `abuse`, so it never fires: {names}"),
        );
    }
    misfits
}

/// Reports what the rules of files name and no policy has.
pub fn report_misfits(
    files: &mut [(AlertsFile, Reader<'_>)],
    alerts: &AlertPolicy,
    policies: &PolicySet,
) {
    for (file, reader) in files {
        for (name, rule) in file.alerts.iter().flatten() {
            let Some(compiled) = alerts.rule(&name.value) else { continue };
            for Misfit { key, message } in misfits(compiled, policies) {
                let span = match key {
                    Key::When => rule.when.as_ref().map(|word| &word.span),
                    Key::Domain => rule.domain.as_ref().map(|text| &text.span),
                    Key::Tier => rule.tier.as_ref().map(|text| &text.span),
                    Key::Provider => rule.provider.as_ref().map(|text| &text.span),
                    Key::Answer => {
                        let tier = rule.answer.as_ref().and_then(|answer| answer.tier.as_ref());
                        tier.map(|text| &text.span)
                    }
                };
                let span = span.unwrap_or(&name.span).clone();
                // A policy need not have the entries of requests; an unknown name is a mistake.
                let is_name = key != Key::When;
                let severity = if is_name { Severity::Error } else { Severity::Warning };
                reader.note(severity, span, message);
            }
        }
    }
}

/// The providers that usage and capacity tell apart.
fn providers(domain: &Domain) -> Vec<&str> {
    let prices = domain.prices.iter().flat_map(|prices| &prices.lines);
    let of_prices = prices.filter_map(|line| line.provider.as_deref());
    domain.providers().into_iter().map(|provider| provider.name).chain(of_prices).collect()
}

/// Whether requests of a domain may have an entry.
fn may_have(domain: &Domain, entry: AbuseEntry) -> bool {
    // The check of an API key knows the address by itself.
    let checks = domain.api_keys.as_ref().is_some_and(|api_keys| api_keys.charges);
    domain.abuse.key(entry).is_some() || (entry == AbuseEntry::Address && checks)
}

fn unknown((kind, name): (&str, &str), known: BTreeSet<&str>, effect: &str) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let hint = match (known.len(), nearest(name, &known)) {
        (0, _) => format!("; no policy has a {kind}"),
        (_, Some(meant)) => format!("; did you mean `{meant}`?"),
        (1..=LISTED_MAX, None) => format!("; known names: {}", known.join(", ")),
        (_, None) => String::new(),
    };
    format!("unknown {kind} `{name}`, so {effect}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{CompileOptions, Source, compile, compile_alerts};

    const POLICIES: [&str; 2] = [
        "domain: shop\ntiers: [low, high]\ncaller: { key: user, tier: { key: tier } }\nabuse: { address: ip }
prices: [{ when: { to: mail }, price: 1 EUR }]\ndescriptors: [{ key: user, limits: [1/day] }]",
        "domain: gate\nchoices: [{ key: to, value: any, among: { near: {}, far: {} } }]\ndescriptors: [{ key: to, limits: [1/day] }]",
    ];

    /// What is said of a rule.
    fn check(rule: &str, expected: &[&str]) {
        let source = |path: &str, text: String| Source { path: path.to_owned(), text };
        let sources = POLICIES.map(|text| source(&text[..13], text.to_owned()));
        let policies = compile(&sources, CompileOptions::default()).unwrap();
        let text = format!("alerts: {{ one: {{ {rule} }} }}");
        let alerts = compile_alerts(&[source("alerts.yaml", text)]).unwrap();
        let found = misfits(&alerts.rules[0], &policies).into_iter().map(|one| one.message);
        assert_eq!(found.collect::<Vec<_>>(), expected, "{rule}");
    }

    #[test]
    fn names_are_those_of_the_domains_that_a_rule_follows() {
        check("when: latency, above: 1ms", &[]);
        check("when: denials, above: 1, tier: low", &[]);
        let message = "unknown tier `lwo`, so it never fires; did you mean `low`?";
        check("when: denials, above: 1, tier: lwo", &[message]);
        let message = "unknown tier `low`, so it never fires; no policy has a tier";
        check("when: denials, above: 1, tier: low, domain: gate", &[message]);
        let message = "unknown domain `nowhere`, so it never fires; known names: gate, shop";
        check("when: denials, above: 1, tier: lwo, domain: nowhere", &[message]);
        let answer =
            |tier: &str| format!("when: risk, above: 1, answer: {{ tier: {tier}, for: 1h }}");
        check(&answer("high"), &[]);
        let message = "unknown tier `hihg`, so its answer restricts nobody; did you mean `high`?";
        check(&answer("hihg"), &[message]);
        check("when: spend, above: 1, provider: mail", &[]);
        check("when: capacity, above: 1%, provider: near", &[]);
        let message =
            "unknown provider `elsewhere`, so it never fires; known names: far, mail, near";
        check("when: capacity, above: 1%, provider: elsewhere", &[message]);
        check("when: address_callers, above: 1", &[]);
        let message =
            "no policy names these entries in `abuse`, so it never fires: address, api_key";
        check("when: address_api_keys, above: 1", &[message]);
    }
}
