//! Compiles policy files to a policy set, or to every problem that they have.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::limit::Overdraft;

use super::Mode;
use super::PolicySet;
use super::answer::AnswerSettings;
use super::capacity::Capacity;
use super::capacity::Only;
use super::choice::Choice;
use super::choice::unruled;
use super::classes::Classes;
use super::cost::Cost;
use super::fields::Reader;
use super::idle;
use super::idle::Replacer;
use super::lease::Lease;
use super::level::Level;
use super::level::Obstacle;
use super::limits::Defaults;
use super::limits::RuleLimits;
use super::pattern::Pattern;
use super::problem::Problem;
use super::problem::Severity;
use super::problem::Source;
use super::read::read;
use super::rule::Domain;
use super::rule::Rule;
use super::rule::RuleValue;
use super::rule::SourceLocation;
use super::schema::PolicyFile;
use super::schema::RuleFile;
use super::schema::Spanned;
use super::wait::Wait;

/// How files become a policy.
#[derive(Clone, Copy, Debug, Default)]
pub struct CompileOptions {
    /// Files of one domain are joined instead of refused.
    pub merge_domains: bool,
}

/// Compiles policy files.
///
/// # Errors
/// Every problem of every file, warnings included, if any of them is an error.
pub fn compile(sources: &[Source], options: CompileOptions) -> Result<PolicySet, Vec<Problem>> {
    let mut domains: BTreeMap<String, Domain> = BTreeMap::new();
    let mut problems = Vec::new();
    let mut replacers = Vec::new();
    let mut choosers = Vec::new();
    for source in sources {
        let (file, form) = read(source);
        problems.extend(form);
        let mut compiler = Compiler::new(source, &file);
        compiler.domain(&file, &mut domains, options);
        let replaced = compiler.replaced;
        problems.extend(compiler.reader.into_problems());
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
        return Err(problems);
    }
    Ok(PolicySet::new(domains.into_values(), problems))
}

/// Compiles one file.
struct Compiler<'a> {
    reader: Reader<'a>,
    file_name: Arc<str>,
    /// The byte at which each line starts: every rule asks for its line.
    line_starts: Vec<usize>,
    defaults: Defaults,
    replaced: Vec<Spanned<String>>,
    /// Limits of the domain so far.
    limit_count: usize,
}

/// What stands above the rules of a level.
#[derive(Clone, Copy)]
struct Above<'a> {
    /// The way to the level, with a slash at its end unless it is the top.
    path: &'a str,
    /// The way names the caller.
    of_caller: bool,
}

impl<'a> Compiler<'a> {
    fn new(source: &'a Source, file: &PolicyFile) -> Self {
        let mut reader = Reader::new(source);
        let zone = file.timezone.as_ref().map_or(TimeZone::UTC, |zone| {
            TimeZone::get(&zone.value).unwrap_or_else(|_| {
                let message = format!("`{}` is no time zone, such as Europe/Madrid", zone.value);
                reader.error(zone.span.clone(), message);
                TimeZone::UTC
            })
        });
        let costs = file.costs.iter().flatten();
        let costs = costs
            .map(|(name, lines)| (name.value.clone(), Cost::new(&mut reader, &name.value, lines)));
        let costs = costs.map(|(name, cost)| (name, Arc::new(cost))).collect();
        let said = file.defaults.as_ref();
        let defaults = Defaults {
            domain: file.domain.as_ref().map_or("", |domain| &domain.value).into(),
            zone,
            algorithm: said.and_then(|file| file.algorithm.as_ref()).map(|word| word.value),
            mode: said.and_then(|file| file.mode.as_ref()).map(|word| word.value.into()),
            on_outage: said.and_then(|file| file.on_outage.as_ref()).map(|word| word.value.into()),
            overdraft: said
                .and_then(|file| file.overdraft.as_ref())
                .map_or_else(Overdraft::default, |word| word.value.into()),
            wait: said
                .and_then(|file| file.wait.as_ref())
                .and_then(|file| Wait::new(&mut reader, file)),
            lease: said
                .and_then(|file| file.lease.as_ref())
                .map_or_else(Lease::default, |word| word.value.into()),
            classes: Arc::new(Classes::new(&mut reader, file)),
            costs,
        };
        let file_name = source.path.as_str().into();
        let newlines = source.text.match_indices('\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(newlines).collect();
        Self { reader, file_name, line_starts, defaults, replaced: Vec::new(), limit_count: 0 }
    }

    fn domain(
        &mut self,
        file: &PolicyFile,
        domains: &mut BTreeMap<String, Domain>,
        options: CompileOptions,
    ) {
        let Some(name) = &file.domain else {
            // That has been noted; what is wrong with the rules is told along with it.
            return self.rules(file, &mut Level::default());
        };
        if name.value.is_empty() {
            self.reader.error(name.span.clone(), "the domain is empty");
        }
        let known = domains.contains_key(&name.value);
        if known && !options.merge_domains {
            let message = format!(
                "the domain `{}` is in another file already; `merge_domains` would join them",
                name.value
            );
            self.reader.error(name.span.clone(), message);
        }
        let domain = domains.entry(name.value.clone()).or_insert_with(|| Domain {
            name: name.value.clone(),
            answer: AnswerSettings::default(),
            classes: self.defaults.classes.clone(),
            choices: Vec::new(),
            zone: self.defaults.zone.clone(),
            rules: Level::default(),
            brought: self.defaults.brought(),
            limit_count: 0,
        });
        if let Some(answer) = file.answer.as_ref().map(AnswerSettings::new) {
            if known && domain.answer != AnswerSettings::default() && domain.answer != answer {
                let message = format!("the domain `{}` has another `answer` already", name.value);
                self.reader.error(name.span.clone(), message);
            }
            domain.answer = answer;
        }
        if *domain.classes == Classes::default() {
            domain.classes = self.defaults.classes.clone();
        } else if *self.defaults.classes == Classes::default() {
            self.defaults.classes = domain.classes.clone();
        } else if domain.classes != self.defaults.classes {
            let message = format!(
                "the domain `{}` has other `tiers` or another `caller` already",
                name.value
            );
            self.reader.error(name.span.clone(), message);
        }
        let choices = Choice::all(&mut self.reader, &domain.classes, file);
        if domain.choices.is_empty() {
            domain.choices = choices;
        } else if let Some(said) = file.choices.as_ref().filter(|_| domain.choices != choices) {
            let message = format!("the domain `{}` has other `choices` already", name.value);
            self.reader.error(said.span.clone(), message);
        }
        self.limit_count = domain.limit_count;
        idle::warn(&mut self.reader, &domain.classes, file);
        self.rules(file, &mut domain.rules);
        domain.limit_count = self.limit_count;
    }

    fn rules(&mut self, file: &PolicyFile, rules: &mut Level) {
        let top = Above { path: "", of_caller: false };
        self.level(file.descriptors.as_deref().unwrap_or_default(), top, rules);
    }

    fn level(&mut self, files: &[RuleFile], above: Above<'_>, level: &mut Level) {
        for file in files {
            let rule = self.rule(file, above);
            if rule.key.is_empty() {
                // That has been noted, and no other rule can be in its way.
                continue;
            }
            // A rule in the reference's words may be out of reach there too, unnoticed.
            let unreachable =
                if file.limits.is_some() { Severity::Error } else { Severity::Warning };
            let what = rule.path.clone();
            match level.push(rule) {
                Ok(()) => {}
                Err(Obstacle::Same(place)) => {
                    let message = format!("a rule for `{what}` stands in {place} already");
                    self.reader.error(file.span.clone(), message);
                }
                Err(Obstacle::Hides(place, key)) => {
                    let message = format!(
                        "`{what}` takes all values of `{key}`: the rule for it in {place} is never met"
                    );
                    self.reader.note(unreachable, file.span.clone(), message);
                }
                Err(Obstacle::Covered(place, pattern)) => {
                    let message = format!(
                        "`{what}` is never met: `{pattern}` in {place} takes all its values"
                    );
                    self.reader.note(unreachable, file.span.clone(), message);
                }
            }
        }
    }

    fn rule(&mut self, file: &RuleFile, above: Above<'_>) -> Rule {
        let key = file.key.as_ref().map(|key| key.value.clone()).unwrap_or_default();
        let classes = self.defaults.classes.clone();
        if let Some(said) = file.key.as_ref().filter(|key| classes.qualifies(&key.value)) {
            let message = format!("`{key}` only qualifies requests; no rule can be for it");
            self.reader.error(said.span.clone(), message);
        }
        let of_caller = above.of_caller || classes.caller_key.as_deref() == Some(&key);
        let parent = above.path;
        let value = self.value(file);
        let of_caller = of_caller || self.is_of_caller(&value);
        let path = match &value {
            RuleValue::Joined { .. } => match &file.value {
                Some(value) => format!("{parent}{key}={}", value.value),
                None => format!("{parent}{key}"),
            },
            RuleValue::Exact(value) => format!("{parent}{key}={value}"),
            RuleValue::Pattern { pattern, .. } => format!("{parent}{key}={}", pattern.as_str()),
            RuleValue::Any => format!("{parent}{key}"),
        };
        for flag in [&file.detailed_metric, &file.value_to_metric].into_iter().flatten() {
            let message = "this has no effect: values of requests never become metrics";
            self.reader.note(Severity::Warning, flag.span.clone(), message);
        }
        let (first_index, defaults) = (self.limit_count, &self.defaults);
        let limits =
            RuleLimits { file, path: &path, first_index, defaults }.build(&mut self.reader);
        self.limit_count += limits.len();
        let cascade = file.cascade.as_ref().is_some_and(|cascade| cascade.value);
        if let Some(span) = file.cascade.as_ref().filter(|_| cascade && has_no_limit(file)) {
            let message = "a rule without limits has nothing to cascade";
            self.reader.error(span.span.clone(), message);
        }
        let mut below = Level::default();
        let files = file.descriptors.as_deref().unwrap_or_default();
        let here = Above { path: &format!("{path}/"), of_caller };
        self.level(files, here, &mut below);
        let rate_limit = file.rate_limit.as_ref().map(|rate_limit| &rate_limit.value);
        let unlimited = rate_limit.and_then(|file| file.unlimited.as_ref());
        Rule {
            key,
            value,
            path,
            limits,
            unlimited: unlimited.is_some_and(|unlimited| unlimited.value),
            cascade,
            of_caller,
            only: file.only.as_ref().map(|only| Only::new(&mut self.reader, &classes, only)),
            shadow: self.is_shadow(file),
            capacity: self.capacity(file, &classes),
            replaces: self.replaces(file),
            metadata: file.metadata.clone(),
            location: self.location(&file.span),
            below,
        }
    }

    /// Whether the rule is only told, as its limits are that don't say otherwise.
    fn is_shadow(&self, file: &RuleFile) -> bool {
        let on = |flag: &Option<Spanned<bool>>| flag.as_ref().is_some_and(|flag| flag.value);
        let by_default = self.defaults.mode == Some(Mode::Shadow) && !on(&file.quota_mode);
        on(&file.shadow_mode) || by_default
    }

    fn capacity(&mut self, file: &RuleFile, classes: &Classes) -> Option<Box<Capacity>> {
        let capacity = file.capacity.as_ref()?;
        if file.limits.is_none() && file.rate_limit.is_none() {
            let message = "a rule without limits has no capacity to share";
            self.reader.error(capacity.span.clone(), message);
        }
        Some(Box::new(Capacity::new(&mut self.reader, classes, capacity)))
    }

    fn value(&mut self, file: &RuleFile) -> RuleValue {
        let shared = file.share_threshold.as_ref().filter(|shared| shared.value);
        let value = file.value.as_ref().filter(|value| !value.value.is_empty());
        let key = file.key.as_ref().map_or("", |key| key.value.as_str());
        if key.contains('*') {
            let joined = match value {
                Some(value) => format!("{key}_{}", value.value),
                None => key.to_owned(),
            };
            let shared = shared.is_some();
            let pattern = Pattern::parse(&joined).expect("the key has a `*`");
            return RuleValue::Joined { pattern, shared };
        }
        let pattern = value.and_then(|value| Pattern::parse(&value.value));
        if let (Some(shared), None) = (shared, &pattern) {
            let message = "`share_threshold` needs a `value` with a `*`";
            self.reader.error(shared.span.clone(), message);
        }
        match (pattern, value) {
            (Some(pattern), _) => RuleValue::Pattern { pattern, shared: shared.is_some() },
            (None, Some(value)) => RuleValue::Exact(value.value.clone()),
            (None, None) => RuleValue::Any,
        }
    }

    /// Whether a pattern of keys takes every entry that names a caller.
    fn is_of_caller(&self, value: &RuleValue) -> bool {
        let caller = self.defaults.classes.caller_key.as_deref();
        match (value, caller) {
            (RuleValue::Joined { pattern, .. }, Some(key)) => pattern.matches(&format!("{key}_*")),
            _ => false,
        }
    }

    fn replaces(&mut self, file: &RuleFile) -> Vec<String> {
        let Some(rate_limit) = &file.rate_limit else { return Vec::new() };
        let own = rate_limit.value.name.as_ref().map(|name| name.value.as_str());
        let mut names = HashSet::new();
        for replaced in rate_limit.value.replaces.iter().flatten() {
            match replaced.name.as_ref().filter(|name| !name.value.is_empty()) {
                None => self.reader.error(replaced.span.clone(), "an entry of `replaces` is empty"),
                Some(name) if own == Some(name.value.as_str()) => {
                    let message = format!("`{}` replaces itself", name.value);
                    self.reader.error(name.span.clone(), message);
                }
                Some(name) => {
                    self.replaced.push(name.clone());
                    names.insert(name.value.clone());
                }
            }
        }
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort_unstable();
        names
    }

    fn location(&self, span: &Range<usize>) -> SourceLocation {
        let line = self.line_starts.partition_point(|start| *start <= span.start);
        SourceLocation { file: self.file_name.clone(), line }
    }
}

/// Whether a rule is written without any limit. One that has a mistake is one.
fn has_no_limit(file: &RuleFile) -> bool {
    let unlimited = file.rate_limit.as_ref().and_then(|limit| limit.value.unlimited.as_ref());
    let is_unlimited = unlimited.is_some_and(|unlimited| unlimited.value);
    file.limits.is_none() && (file.rate_limit.is_none() || is_unlimited)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let set = compile(&sources, CompileOptions { merge_domains: true }).unwrap();
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
        assert!(error[0].message.contains("is never met"), "{}", error[0].message);
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
}
