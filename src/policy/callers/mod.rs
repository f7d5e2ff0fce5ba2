//! A directory of callers in YAML files.

mod bonus_form;
mod flaw;
mod form;
mod names;
mod overrides;
mod read;
mod schema;
mod tighter;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::policy::model::{Caller, Lineage, Member, PARENTS_MAX, PolicySet};
use crate::policy::problem::{Problem, Severity, Source};
use crate::policy::yaml::Reader;

use read::{ELSEWHERE, Read, read};

pub use bonus_form::{BonusForm, check_id, parse_until, show_time};
pub use flaw::{Flaw, Flaws, check_text};
pub use form::{CallerForm, NAME_LEN_MAX, check_caller_name};
pub use names::{CallerNames, has_one_counter};
pub use overrides::{OverrideForm, OverrideUntilForm};
pub use schema::callers_schema;
pub use tighter::tighter_limits;

/// Callers by name.
#[derive(Debug, Default)]
pub struct Callers {
    by_name: HashMap<Arc<str>, Arc<Caller>, RandomState>,
    /// Ordered, for pages.
    names: Vec<Arc<str>>,
    warnings: Vec<Problem>,
}

/// The policies against which callers are checked.
#[derive(Clone, Copy, Debug)]
pub struct CallersFor<'p> {
    pub policies: &'p PolicySet,
    /// The severity of a tier or a limit that is unknown to the policies.
    pub severity: Severity,
}

/// The reason that parents are invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParentError {
    #[error("unknown parent `{0}`: it is not in the directory")]
    Missing(Arc<str>),
    #[error("cyclic parents: {0}")]
    Circle(String),
    #[error("too many levels of parents; at most {PARENTS_MAX} are allowed: {0}")]
    Depth(String),
}

/// Compiles caller files, without a check against policies.
///
/// # Errors
/// All problems of all files.
pub fn compile_callers(sources: &[Source]) -> Result<Callers, Vec<Problem>> {
    compile_callers_for(sources, None)
}

/// Compiles caller files, and checks their tiers and limits against the policies.
///
/// # Errors
/// All problems of all files.
pub fn compile_callers_for(
    sources: &[Source],
    whom: Option<CallersFor<'_>>,
) -> Result<Callers, Vec<Problem>> {
    let mut compiler = Compiler::default();
    let names = whom.map(|whom| (CallerNames::of(whom.policies), whom.severity));
    for (index, source) in sources.iter().enumerate() {
        let mut reader = Reader::of_language(source, ELSEWHERE);
        for caller in read(&mut reader, source, names.as_ref()) {
            compiler.add(&mut reader, caller, index);
        }
        compiler.readers.push(reader);
    }
    compiler.check_parents();
    let mut problems: Vec<Problem> =
        compiler.readers.into_iter().flat_map(Reader::into_problems).collect();
    problems
        .sort_by(|one, other| (&one.path, one.span.start).cmp(&(&other.path, other.span.start)));
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(problems);
    }
    Ok(Callers::new(compiler.callers, problems))
}

/// Checks the parents of `name`, whose own parent is `parent`. `parent_of` returns the parents of others, and None for
/// unknown callers.
///
/// # Errors
/// If a parent is missing, if parents are cyclic, or if there are too many.
pub fn check_parents(
    name: &str,
    parent: &str,
    parent_of: impl Fn(&str) -> Option<Option<Arc<str>>>,
) -> Result<(), ParentError> {
    let mut chain: Vec<Arc<str>> = vec![name.into()];
    let mut next: Option<Arc<str>> = Some(parent.into());
    while let Some(parent) = next {
        let is_known = chain.contains(&parent);
        chain.push(parent.clone());
        if is_known {
            return Err(ParentError::Circle(chain.join(" → ")));
        }
        if PARENTS_MAX + 1 < chain.len() {
            return Err(ParentError::Depth(chain.join(" → ")));
        }
        next = parent_of(&parent).ok_or(ParentError::Missing(parent))?;
    }
    Ok(())
}

impl Callers {
    fn new(callers: HashMap<Arc<str>, CallerEntry>, warnings: Vec<Problem>) -> Self {
        let mut names: Vec<Arc<str>> = callers.keys().cloned().collect();
        names.sort_unstable();
        let by_name = callers.into_iter().map(|(name, place)| (name, place.caller)).collect();
        Self { by_name, names, warnings }
    }

    /// Warnings: parts without effect.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The number of callers.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The record of a caller.
    pub fn get(&self, name: &str) -> Option<&Arc<Caller>> {
        self.by_name.get(name)
    }

    /// A caller and its parents, nearest first.
    pub fn lineage(&self, name: &str) -> Lineage {
        let mut lineage = Lineage::default();
        let mut found = self.by_name.get_key_value(name);
        while let Some((name, caller)) = found {
            lineage.members.push(Member { name: name.clone(), caller: caller.clone() });
            found = lineage.next().and_then(|name| self.by_name.get_key_value(name));
        }
        lineage
    }

    /// The next `limit` callers after the name, ordered.
    pub fn page(&self, after: &str, limit: usize) -> Vec<Member> {
        let start = self.names.partition_point(|name| &**name <= after);
        let names = self.names[start..].iter().take(limit);
        let member = |name: &Arc<str>| {
            Some(Member { name: name.clone(), caller: self.by_name.get(name)?.clone() })
        };
        names.filter_map(member).collect()
    }
}

#[derive(Default)]
struct Compiler<'a> {
    readers: Vec<Reader<'a>>,
    callers: HashMap<Arc<str>, CallerEntry>,
}

/// A caller and its place.
struct CallerEntry {
    caller: Arc<Caller>,
    /// The place of the parent's name, if there is one.
    parent: Range<usize>,
    source: usize,
}

impl Compiler<'_> {
    fn add(&mut self, reader: &mut Reader<'_>, read: Read, source: usize) {
        if self.callers.contains_key(&*read.name.value) {
            let message = format!("duplicate caller `{}`", read.name.value);
            return reader.error(read.name.span, message);
        }
        let place = CallerEntry { caller: Arc::new(read.caller), parent: read.parent, source };
        self.callers.insert(read.name.value.into(), place);
    }

    /// Reports invalid parents, in no particular order.
    fn check_parents(&mut self) {
        for (name, place) in &self.callers {
            let Some(parent) = &place.caller.parent else { continue };
            let parent_of = |name: &str| {
                self.callers.get(name).map(|place| place.caller.parent.as_deref().map(Arc::from))
            };
            match check_parents(name, parent, parent_of) {
                // A parent further up is missing or cyclic; it is reported at its own place.
                Err(ParentError::Missing(missing)) if *missing != **parent => {}
                Err(ParentError::Circle(circle)) if !circle.ends_with(&format!(" → {name}")) => {}
                Err(error) => {
                    self.readers[place.source].error(place.parent.clone(), error.to_string());
                }
                Ok(()) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    fn compiled(text: &str) -> Callers {
        compile_callers(&[source("callers.yaml", text)]).unwrap()
    }

    fn names(members: &[Member]) -> Vec<&str> {
        members.iter().map(|member| &*member.name).collect()
    }

    #[test]
    fn files_say_what_is_known_of_a_caller() {
        let callers = compiled(
            "callers:
  acme: { tier: enterprise, roles: [partner], notes: \"signed 2026-10\" }
  alice: { parent: acme, share: 0.2 }
  007: { disabled: true, overrides: { daily: 500 } }
  bob:
  carol: { bonuses: [ { id: launch, limit: booking, amount: 40, until: 2026-12-31 } ] }",
        );
        assert_eq!(callers.len(), 5);
        assert_eq!(callers.get("acme").unwrap().tier.as_deref(), Some("enterprise"));
        assert_eq!(callers.get("alice").unwrap().share.unwrap().to_string(), "20%");
        assert!(callers.get("007").unwrap().disabled);
        assert_eq!(
            callers.get("007").unwrap().overrides["daily"].amount,
            crate::policy::OverrideAmount::Hits(500)
        );
        assert_eq!(**callers.get("bob").unwrap(), Caller::default());
        assert_eq!(&*callers.get("carol").unwrap().bonuses[0].bonus.id, "launch");
        assert!(callers.get("dave").is_none());
    }

    #[test]
    fn a_lineage_goes_from_the_caller_up() {
        let callers = compiled("callers: {a: {parent: b}, b: {parent: c}, c: {parent: d}, d: }");
        assert_eq!(names(&callers.lineage("a").members), ["a", "b", "c", "d"]);
        assert_eq!(names(&callers.lineage("d").members), ["d"]);
        assert!(callers.lineage("x").members.is_empty());
    }

    #[test]
    fn pages_follow_each_other_in_order() {
        let callers = compiled("callers: {c: , a: , d: , b: }");
        assert_eq!(names(&callers.page("", 3)), ["a", "b", "c"]);
        assert_eq!(names(&callers.page("c", 3)), ["d"]);
        assert_eq!(names(&callers.page("bb", 1)), ["c"]);
        assert!(callers.page("d", 3).is_empty());
    }

    #[test]
    fn parents_that_can_not_be_are_told_once_where_they_stand() {
        let check = |text: &str, places: &[(usize, &str)]| {
            let problems = compile_callers(&[source("callers.yaml", text)]).unwrap_err();
            let reported: Vec<_> = problems.iter().map(|problem| problem.line).collect();
            assert_eq!(reported, places.iter().map(|place| place.0).collect::<Vec<_>>(), "{text}");
            for (problem, (_, message)) in problems.iter().zip(places) {
                assert!(problem.message.contains(message), "{}", problem.message);
            }
        };
        check(
            "callers:\n  a: {parent: b}\n  b: {parent: c}",
            &[(3, "unknown parent `c`: it is not in the directory")],
        );
        check("callers:\n  a: {parent: a}\n  b: {parent: a}", &[(2, "cyclic parents: a → a")]);
        check(
            "callers:\n  a: {parent: b}\n  b: {parent: a}",
            &[(2, "cyclic parents: a → b → a"), (3, "cyclic parents: b → a → b")],
        );
        check(
            "callers:\n  a: {parent: b}\n  b: {parent: c}\n  c: {parent: d}\n  d: {parent: e}\n  e: ",
            &[(2, "at most 3 are allowed: a → b → c → d → e")],
        );
    }

    #[test]
    fn files_join_and_share_no_caller() {
        let sources =
            [source("a.yaml", "callers: {a: {parent: b}}"), source("b.yaml", "callers: {b: }")];
        assert_eq!(compile_callers(&sources).unwrap().len(), 2);
        let twice = [source("a.yaml", "callers: {a: }"), source("b.yaml", "callers: {a: }")];
        let problems = compile_callers(&twice).unwrap_err();
        assert_eq!((problems[0].path.as_str(), problems.len()), ("b.yaml", 1));
    }

    #[test]
    fn the_schema_names_what_a_caller_may_hold() {
        let schema = callers_schema().to_string();
        for name in ["tier", "overrides", "bonuses", "until"] {
            assert!(schema.contains(&format!("\"{name}\"")), "{schema}");
        }
    }
}
