//! Compiles a file into its domain.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::answer::answer;
use super::api_keys::api_keys;
use super::defaults::Defaults;
use super::joint::{Joint, Places};
use super::rules::RuleCompiler;
use super::{CompileOptions, adjust, idle};
use crate::policy::model::{
    AbuseEntries, AnswerMetadata, AnswerSettings, Choice, Classes, Domain, Prices, RuleLevel,
};
use crate::policy::problem::{Problem, Source};
use crate::policy::schema::PolicyFile;
use crate::policy::yaml::{Reader, Spanned};

/// What is in a file beside its domain.
pub struct Found {
    /// The names in its `replaces`.
    pub replaced: Vec<Spanned<String>>,
    /// The starts of rules that have errors with an overlay.
    pub conflicts: Vec<usize>,
    pub problems: Vec<Problem>,
}

/// Adds a file to the domains. `base`: the answers of domains that say nothing of them; `merge_domains`: files with the
/// same domain are joined. Returns what else is in it.
pub fn compile(
    (source, file, joint): (&Source, &PolicyFile, Option<&Joint<'_>>),
    domains: &mut BTreeMap<String, Domain>,
    (base, merge_domains): (&AnswerSettings, bool),
) -> Found {
    let mut reader = Reader::new(source);
    let defaults = Defaults::compile(&mut reader, file);
    let mut compiler = RuleCompiler::new(Places::new(source, joint), reader, defaults);
    match &file.domain {
        Some(name) => {
            if domains.contains_key(&name.value) && !merge_domains {
                let message = format!(
                    "duplicate domain `{}`: another file has it; set `merge_domains` to join them",
                    name.value
                );
                compiler.reader.error(name.span.clone(), message);
            }
            let known = domains.remove(&name.value);
            let domain = add(&mut compiler, name, file, (known, base));
            domains.insert(name.value.clone(), domain);
        }
        // That has been reported; problems of the rules are reported with it.
        None => compiler.rules(file, &mut RuleLevel::default()),
    }
    let RuleCompiler { replaced, conflicts, reader, .. } = compiler;
    Found { replaced, conflicts, problems: reader.into_problems() }
}

/// The answers of domains that say nothing of them.
pub fn base_answer(options: CompileOptions) -> AnswerSettings {
    let metadata = match options.metadata_always {
        true => AnswerMetadata::Always,
        false => AnswerMetadata::default(),
    };
    AnswerSettings {
        ratelimit_legacy: options.legacy_headers,
        legacy_names: options.legacy_names,
        metadata,
        ..AnswerSettings::default()
    }
}

/// The domain with the file's contents; `known` has the contents of other files, `base` its answers if no file says any.
fn add(
    compiler: &mut RuleCompiler<'_>,
    name: &Spanned<String>,
    file: &PolicyFile,
    (known, base): (Option<Domain>, &AnswerSettings),
) -> Domain {
    if name.value.is_empty() {
        compiler.reader.error(name.span.clone(), "the domain is empty");
    }
    let is_known = known.is_some();
    let mut domain = known.unwrap_or_else(|| Domain {
        name: name.value.clone(),
        answer: base.clone(),
        abuse: AbuseEntries::default(),
        api_keys: None,
        classes: compiler.defaults.classes.clone(),
        choices: Vec::new(),
        prices: None,
        zone: compiler.defaults.zone.clone(),
        rules: RuleLevel::default(),
        has_retries: false,
        has_reservations: false,
        brought: compiler.defaults.brought(),
        limit_count: 0,
    });
    if let Some(said) = &file.answer {
        let answer = answer(&mut compiler.reader, said);
        if is_known && domain.answer != *base && domain.answer != answer {
            let message = format!("domain `{}` has another `answer` in another file", name.value);
            compiler.reader.error(name.span.clone(), message);
        }
        domain.answer = answer;
    }
    if *domain.classes == Classes::default() {
        domain.classes = compiler.defaults.classes.clone();
    } else if *compiler.defaults.classes == Classes::default() {
        compiler.defaults.classes = domain.classes.clone();
    } else if domain.classes != compiler.defaults.classes {
        let message = format!(
            "domain `{}` has other `tiers` or another `caller` in another file",
            name.value
        );
        compiler.reader.error(name.span.clone(), message);
    }
    let choices = Choice::compile_all(&mut compiler.reader, &domain.classes, file);
    if domain.choices.is_empty() {
        domain.choices = choices;
    } else if let Some(said) = file.choices.as_ref().filter(|_| domain.choices != choices) {
        let message = format!("domain `{}` has other `choices` in another file", name.value);
        compiler.reader.error(said.span.clone(), message);
    }
    add_prices(compiler, &mut domain, file);
    add_api_keys(compiler, &mut domain, file);
    add_abuse(compiler, &mut domain, file);
    compiler.limit_count = domain.limit_count;
    idle::warn(&mut compiler.reader, &domain.classes, file);
    adjust::check_adjustments(&mut compiler.reader, file);
    compiler.rules(file, &mut domain.rules);
    domain.limit_count = compiler.limit_count;
    domain.has_retries |= compiler.has_retries;
    domain.has_reservations |= compiler.has_reservations;
    domain
}

fn add_prices(compiler: &mut RuleCompiler<'_>, domain: &mut Domain, file: &PolicyFile) {
    let prices = Prices::compile(&mut compiler.reader, &domain.choices, file).map(Arc::new);
    if domain.prices.is_none() {
        domain.prices = prices;
    } else if let Some(said) = file.prices.as_ref().filter(|_| domain.prices != prices) {
        let message = format!("domain `{}` has other `prices` in another file", domain.name);
        compiler.reader.error(said.span.clone(), message);
    }
}

fn add_api_keys(compiler: &mut RuleCompiler<'_>, domain: &mut Domain, file: &PolicyFile) {
    let Some(said) = &file.api_keys else { return };
    if domain.api_keys.is_some() {
        let message = format!("domain `{}` has `api_keys` in another file", domain.name);
        compiler.reader.error(said.span.clone(), message);
    }
    domain.api_keys = Some(api_keys(&mut compiler.reader, &domain.classes, &said.value));
}

fn add_abuse(compiler: &mut RuleCompiler<'_>, domain: &mut Domain, file: &PolicyFile) {
    let Some(said) = &file.abuse else { return };
    let entries = AbuseEntries::compile(&mut compiler.reader, file, &said.value);
    if domain.abuse != AbuseEntries::default() && domain.abuse != entries {
        let message = format!("domain `{}` has another `abuse` in another file", domain.name);
        compiler.reader.error(said.span.clone(), message);
    }
    domain.abuse = entries;
}
