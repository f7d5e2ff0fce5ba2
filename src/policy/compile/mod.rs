//! Compiles policy files to a policy set, or to all of their problems.

mod abuse;
mod adjust;
mod algorithm;
mod answer;
mod api_keys;
mod by_tier;
mod capacity;
mod choice;
mod classes;
mod condition;
mod cost;
mod defaults;
mod draft;
mod enforcement;
mod estimate;
mod file;
mod grace;
mod idempotency;
mod identity;
mod idle;
mod joint;
mod limits;
mod matching;
mod metadata;
mod partial;
mod percent;
mod price;
mod rate;
mod reach;
mod reservation;
mod rules;
mod thresholds;
mod wait;
mod when;
mod words;

use std::collections::{BTreeMap, HashSet};

use choice::unruled;
use idle::Replacer;

pub use condition::{
    NEVER_ACTIVE, compile as compile_condition, holds_ever, parse_dates, parse_hours, parse_months,
    parse_weekdays,
};
pub use defaults::parse_zone;

use super::model::{Domain, LegacyNames, PolicySet};
use super::problem::{Problem, Severity, Source};
use super::render;
use super::schema::{PolicyFile, read, read_node};

pub use joint::{Conflicts, Joint};
pub use percent::percent as parse_percent;
pub use rate::{Rate, currency as currency_of, parse_length_ms};
pub use thresholds::PERCENT_MAX;

/// Options of the compilation.
#[derive(Clone, Debug, Default)]
pub struct CompileOptions {
    /// Files with the same domain are joined instead of rejected.
    pub merge_domains: bool,
    /// Domains without `answer` have the headers `ratelimit-limit` and so on.
    pub legacy_headers: bool,
    /// The names of these headers there.
    pub legacy_names: LegacyNames,
    /// Domains without `answer` have metadata in all answers.
    pub metadata_always: bool,
}

/// Compiles policy files.
///
/// # Errors
/// All problems of all files, warnings included, if any of them is an error.
pub fn compile(sources: &[Source], options: CompileOptions) -> Result<PolicySet, Vec<Problem>> {
    compile_files(sources, options).map(Compiled::into_set)
}

/// Compiles one resource with its overlay.
///
/// # Errors
/// All problems, if any of them is an error.
pub fn compile_joint(joint: &Joint<'_>, options: CompileOptions) -> Result<Compiled, Conflicts> {
    let source = &joint.source;
    let (file, form) = read_node(source, &joint.node);
    let read = FileRead { source, file, form, joint: Some(joint) };
    // A rule of an overlay that meets several rules has its problems once.
    let placed = |problems: Vec<Problem>| {
        let mut known = HashSet::new();
        let placed = problems.into_iter().map(|problem| joint.placed(problem));
        placed.filter(|problem| known.insert(joint.mistake(problem))).collect()
    };
    match compile_read(std::iter::once(read), options) {
        Ok(Compiled { domains, warnings }) => Ok(Compiled { domains, warnings: placed(warnings) }),
        Err(Conflicts { problems, rules }) => Err(Conflicts { problems: placed(problems), rules }),
    }
}

/// The domains of some files, and warnings.
#[derive(Debug)]
pub struct Compiled {
    pub domains: BTreeMap<String, Domain>,
    pub warnings: Vec<Problem>,
}

impl Compiled {
    /// The set of these domains.
    pub fn into_set(self) -> PolicySet {
        let hash = render::digest(self.domains.values());
        PolicySet::new(self.domains.into_values(), self.warnings, hash)
    }
}

/// A file, and its problems of form.
struct FileRead<'a> {
    source: &'a Source,
    file: PolicyFile,
    form: Vec<Problem>,
    joint: Option<&'a Joint<'a>>,
}

/// Compiles files without overlays.
///
/// # Errors
/// All their problems, if any of them is an error.
pub fn compile_files(
    sources: &[Source],
    options: CompileOptions,
) -> Result<Compiled, Vec<Problem>> {
    let read = sources.iter().map(|source| {
        let (file, form) = read(source);
        FileRead { source, file, form, joint: None }
    });
    compile_read(read, options).map_err(|found| found.problems)
}

fn compile_read<'a>(
    files: impl Iterator<Item = FileRead<'a>>,
    options: CompileOptions,
) -> Result<Compiled, Conflicts> {
    let merge_domains = options.merge_domains;
    let base = file::base_answer(options);
    let mut domains: BTreeMap<String, Domain> = BTreeMap::new();
    let (mut problems, mut rules) = (Vec::new(), Vec::new());
    let mut replacers = Vec::new();
    let mut choosers = Vec::new();
    for FileRead { source, file, form, joint } in files {
        problems.extend(form);
        let read = (source, &file, joint);
        let file::Found { replaced, conflicts, problems: found } =
            file::compile(read, &mut domains, (&base, merge_domains));
        problems.extend(found);
        rules.extend(conflicts);
        let domain = file.domain.map(|domain| domain.value).unwrap_or_default();
        choosers.push((source, domain.clone(), file.choices));
        replacers.push(Replacer { source, domain, replaced });
    }
    for (source, domain, choices) in &choosers {
        let domain = domains.get(domain);
        problems.extend(choices.iter().zip(domain).flat_map(|(choices, domain)| {
            choices.value.iter().flat_map(|file| unruled(source, domain, file))
        }));
    }
    problems.extend(replacers.into_iter().flat_map(|replacer| replacer.unnamed(&domains)));
    problems
        .sort_by(|one, other| (&one.path, one.span.start).cmp(&(&other.path, other.span.start)));
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(Conflicts { problems, rules });
    }
    Ok(Compiled { domains, warnings: problems })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::model::TierLimit;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    fn compiled(text: &str) -> PolicySet {
        compile(&[source("a.yaml", text)], CompileOptions::default()).unwrap()
    }

    #[test]
    fn files_of_one_domain_are_joined_only_on_request() {
        let one = source("a.yaml", "domain: d\ndescriptors: [{key: a, limits: [1/day]}]");
        let other = source("b.yaml", "domain: d\ndescriptors: [{key: b, limits: [1/day]}]");
        let sources = [one, other];
        let problems = compile(&sources, CompileOptions::default()).unwrap_err();
        assert_eq!((problems[0].path.as_str(), problems[0].line), ("b.yaml", 1));
        let set =
            compile(&sources, CompileOptions { merge_domains: true, ..CompileOptions::default() })
                .unwrap();
        assert_eq!(set.domain("d").unwrap().rules().len(), 2);
    }

    #[test]
    fn the_hash_follows_what_is_decided_not_how_it_is_written() {
        let one = compiled("domain: d\ndescriptors: [{key: a, limits: [60/minute]}]");
        let same = compiled("# A comment.\ndomain: d\ndescriptors:\n- key: a\n  limits: [60/1m]");
        assert_eq!(one.hash(), same.hash());
        for other in [
            "domain: d\ndescriptors: [{key: a, limits: [61/minute]}]",
            "domain: d\ndescriptors: [{key: a, limits: [0.60 EUR/minute]}]",
            "domain: d\ntimezone: Europe/Madrid\ndescriptors: [{key: a, limits: [60/minute]}]",
        ] {
            assert_ne!(one.hash(), compiled(other).hash(), "{other}");
        }
    }

    #[test]
    fn limits_of_one_window_have_counters_of_their_own_whatever_their_order() {
        let tags = |limits: &str| {
            let limits = format!("domain: d\ndescriptors: [{{key: a, limits: [{limits}]}}]");
            let set = compiled(&limits);
            let limits = set.domain("d").unwrap().limits();
            limits.iter().map(|limit| limit.limit.tag().to_string()).collect::<Vec<_>>()
        };
        let named = "{name: x, rate: 5/day, shadow: true}";
        assert_eq!(tags(&format!("9/day, {named}")), ["s86400000", "s86400000=x"]);
        assert_eq!(tags(&format!("{named}, 9/day")), ["s86400000=x", "s86400000"]);
    }

    #[test]
    fn a_rule_out_of_reach_is_an_error_unless_the_reference_would_load_it() {
        let ours =
            "domain: d\ndescriptors: [{key: a, value: x*}, {key: a, value: xy*, limits: [1/day]}]";
        let error = compile(&[source("a.yaml", ours)], CompileOptions::default()).unwrap_err();
        assert!(error[0].message.contains("unreachable rule"), "{}", error[0].message);
        let limit = "rate_limit: {unit: day, requests_per_unit: 1}";
        let theirs = ours.replace("limits: [1/day]", limit);
        assert_eq!(compiled(&theirs).warnings().len(), 1);
    }

    #[test]
    fn defaults_hold_for_limits_that_do_not_say_otherwise() {
        let set = compiled(
            "domain: d\ndefaults: {algorithm: fixed_window, mode: shadow, on_outage: deny}\n\
             descriptors: [{key: a, limits: [1/day, 1/month, {rate: 1/hour, algorithm: calendar, mode: enforce}]}]",
        );
        let limits = set.domain("d").unwrap().limits();
        let shown: Vec<String> = limits
            .iter()
            .map(|limit| format!("{} {} {}", limit.limit.algorithm(), limit.mode, limit.on_outage))
            .collect();
        let expected =
            ["fixed_window shadow deny", "calendar shadow deny", "calendar enforce deny"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_threshold_above_all_of_a_limit_is_for_tiers_that_have_a_grace_of_at_least_a_hit() {
        let set = compiled(
            "domain: d\ntiers: [free, premium]\ncaller: {key: a, tier: {key: tier}}\n\
             descriptors: [{key: a, limits: [{by_tier: {free: 5/day, premium: 1000/day}, grace: 10%, thresholds: [100%, 110%]}]}]",
        );
        let limit = &set.domain("d").unwrap().limits()[0];
        let TierLimit::Limit(premium) = &limit.by_tier[1] else { panic!("{limit:?}") };
        let points: Vec<(u16, u64)> = premium.thresholds().unwrap().points().collect();
        assert_eq!(points, [(100, 1_000), (110, 1_100)]);
    }
}
