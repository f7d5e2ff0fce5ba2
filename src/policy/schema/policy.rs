//! The type of a policy file, and the reader of whole files.

use std::collections::BTreeMap;

use super::Named;
use super::abuse::AbuseFile;
use super::answer::AnswerFile;
use super::api_keys::ApiKeysFile;
use super::choice::ChoiceFile;
use super::idempotency::IdempotencyFile;
use super::limit::{DefaultsFile, LimitMapFile};
use super::map::{MapFile, Read, map, start_of};
use super::price::{BudgetFile, PriceFile};
use super::readers::{list, named, names, one, spanned, spanned_list, text, word};
use super::reservation::ReservationFile;
use super::rule::{RateLimitFile, RuleFile};
use super::schedule::ScheduleFile;
use super::sharing::{CallerFile, CapacityFile, CostFile};
use super::words::ModeFile;
use crate::policy::problem::{Problem, Source};
use crate::policy::yaml::{Node, Reader, Shape, Spanned, Value};

/// The maps in which a misplaced key may be valid.
const ELSEWHERE: &[&Shape] = &[
    &PolicyFile::SHAPE,
    &RuleFile::SHAPE,
    &RateLimitFile::SHAPE,
    &LimitMapFile::SHAPE,
    &CapacityFile::SHAPE,
    &IdempotencyFile::SHAPE,
];

/// Reads a source. Invalid parts are omitted from the result.
pub fn read(source: &Source) -> (PolicyFile, Vec<Problem>) {
    match Node::parse(&source.text) {
        Ok(node) => read_node(source, &node),
        Err(error) => {
            let mut reader = Reader::new(source);
            reader.error(error.span, error.message);
            (PolicyFile::default(), reader.into_problems())
        }
    }
}

/// Reads a tree whose places are in a source.
pub fn read_node(source: &Source, node: &Node) -> (PolicyFile, Vec<Problem>) {
    let mut reader = Reader::of_language(source, ELSEWHERE);
    (policy(&mut reader, node), reader.into_problems())
}

fn policy(reader: &mut Reader<'_>, node: &Node) -> PolicyFile {
    if let (Some(callers), None) = (node.key("callers"), node.key("domain")) {
        let message = "this is a file of callers, not a policy: `tollgate check --callers` checks it, and the setting \
                       `callers` names it to `tollgate serve`";
        reader.error(callers.span.clone(), message);
        return PolicyFile::default();
    }
    PolicyFile::read(reader, node)
}

map! {
    /// The limits of one domain.
    #[schemars(title = "Tollgate policy")]
    pub struct PolicyFile in "a policy" checked by check;

    /// The domain, as set in Envoy's rate limit filter.
    #[schemars(required)]
    domain: Spanned<String> = text;
    /// The time zone of calendar windows and schedules, such as Europe/Madrid; UTC if absent.
    timezone: Spanned<String> = text;
    /// Named schedules for `when`.
    #[schemars(with = "Option<BTreeMap<String, ScheduleFile>>")]
    schedules: Named<ScheduleFile> = schedules;
    /// The mode of all limits that say no other, nor their rule; enforce if absent.
    mode: Spanned<ModeFile> = word;
    /// The part of the callers for whom they are enforced, such as 25%; the others are warned. All if absent.
    enforce: Spanned<String> = text;
    /// The entries that identify the caller, its tier and its priority.
    caller: CallerFile = one;
    /// The tiers of callers, lowest first.
    tiers: Spanned<Vec<Spanned<String>>> = names;
    /// Keys of entries that are not part of a descriptor's path, so counters do not depend on them. Costs and priorities
    /// may use them.
    qualifiers: Spanned<Vec<Spanned<String>>> = names;
    /// Cost tables, by name. A limit refers to one with `cost`.
    #[schemars(with = "Option<BTreeMap<String, Vec<CostFile>>>")]
    costs: Named<Vec<CostFile>> = costs;
    /// Prices of requests at providers, for sums of costs; they decide nothing.
    prices: Spanned<Vec<PriceFile>> = spanned_list;
    /// What may be spent by these prices.
    budget: Spanned<BudgetFile> = spanned;
    /// Choices: entries whose value is replaced by the best of several values, such as providers.
    choices: Spanned<Vec<ChoiceFile>> = spanned_list;
    /// Identifies retries of earlier requests, which are charged once; none if absent.
    idempotency: IdempotencyFile = one;
    /// Reservations of the limits of all rules: hits that are held for an operation and settled for what it used; none if
    /// absent.
    reservation: ReservationFile = one;
    /// Defaults for all limits of the file.
    defaults: DefaultsFile = one;
    /// Headers, body and metadata of answers.
    answer: AnswerFile = one;
    /// API keys, which Envoy's ext_authz filter has Tollgate check; Tollgate checks none if absent.
    api_keys: Spanned<ApiKeysFile> = spanned;
    /// The entries that alerts about abuse read: the client's address, its API key, and what it asks for.
    abuse: Spanned<AbuseFile> = spanned;
    /// The rules for the first entry of a descriptor.
    descriptors: Vec<RuleFile> = list;
}

fn check(_: &PolicyFile, reader: &mut Reader<'_>, node: &Node) {
    if matches!(node.value, Value::Map(_)) && node.get("domain").is_none() {
        reader.error(start_of(node), "missing domain; add `domain: NAME`");
    }
}

/// Schedules, by name.
fn schedules(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Named<ScheduleFile>> {
    Some(named(reader, node, what, |reader, node| Some(ScheduleFile::read(reader, node))))
}

/// Cost tables, by name.
fn costs(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Named<Vec<CostFile>>> {
    Some(named(reader, node, what, |reader, node| list(reader, node, "a cost table")))
}
