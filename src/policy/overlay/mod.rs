//! Overlays: files that add to the domains of resources from elsewhere what those can't say, rule by rule.
//!
//! Only the resources decide whether a set is valid. An overlay with problems is left out, or the one before it stays; one
//! for a domain or rules that the resources don't have waits for them. What conflicts with a rule of a resource is left out
//! there, if there is no text before it that would do.

mod merge;
mod refused;
mod rules;

use std::collections::HashSet;

use super::compile::{CompileOptions, Compiled, Conflicts, compile_files, compile_joint};
use super::model::{Overlay, OverlayState, PolicySet};
use super::problem::{Problem, Severity, Source};
use super::schema::read;
use super::yaml::Node;

use merge::merge;
use refused::refused;

/// Maximum number of attempts to leave out what conflicts. One finds all but what other errors hide.
const ROUNDS_MAX: usize = 8;

/// Compiles resources and the overlays on them. `before` is the set in force, whose overlays stay where the new ones have
/// problems.
///
/// # Errors
/// All problems of all resources, if any of them is an error.
pub fn compile_with_overlays(
    (resources, overlays): (&[Source], &[Source]),
    options: CompileOptions,
    before: Option<&PolicySet>,
) -> Result<PolicySet, Vec<Problem>> {
    let compiled = compile_files(resources, options.clone())?;
    if overlays.is_empty() {
        return Ok(compiled.into_set());
    }
    let resources = resources.iter().map(|resource| {
        let (file, _) = read(resource);
        (file.domain.map(|domain| domain.value).unwrap_or_default(), resource)
    });
    let mut stack =
        Stack { resources: resources.collect(), options, compiled, overlays: Vec::new() };
    let before = |source: &Source| before.and_then(|set| set.overlay(&source.path));
    let mut order: Vec<usize> = (0..overlays.len()).collect();
    order.sort_by_cached_key(|index| claim(&overlays[*index], before(&overlays[*index])));
    for index in &order {
        let overlay = stack.lay(&overlays[*index], before(&overlays[*index]));
        stack.overlays.push(overlay);
    }
    let Stack { compiled, overlays, .. } = stack;
    let mut overlays: Vec<(usize, Overlay)> = order.into_iter().zip(overlays).collect();
    overlays.sort_unstable_by_key(|(index, _)| *index);
    let overlays = overlays.into_iter().map(|(_, overlay)| overlay).collect();
    Ok(compiled.into_set().with_overlays(overlays))
}

/// How well founded a file's claim to its domain is; the first that claims a domain has it. None is as good as being in
/// force, so that a second file for a domain never takes the place of a first one.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    InForce,
    /// It was in force, and waits or is broken.
    Earlier,
    New,
}

fn claim(source: &Source, before: Option<&Overlay>) -> Claim {
    let Some(before) = before.filter(|before| before.text.is_some()) else { return Claim::New };
    let (file, form) = read(source);
    let has_moved = file.domain.is_some_and(|domain| domain.value != before.domain);
    match before.state.is_in_force() {
        _ if has_moved && !has_error(&form) => Claim::New,
        true => Claim::InForce,
        false => Claim::Earlier,
    }
}

/// The domains so far.
struct Stack<'a> {
    /// Each with its domain.
    resources: Vec<(String, &'a Source)>,
    options: CompileOptions,
    compiled: Compiled,
    overlays: Vec<Overlay>,
}

/// The reason that an overlay is not in force.
enum Left {
    Waiting(Problem),
    Invalid(Vec<Problem>),
}

impl Stack<'_> {
    /// Adds an overlay, or else the one in force before it.
    fn lay(&mut self, source: &Source, before: Option<&Overlay>) -> Overlay {
        let file = source.path.as_str().into();
        let (met_count, known) = (0, before.and_then(|overlay| overlay.text.clone()));
        let (domain, problems) = match self.try_lay(source, false) {
            Ok(overlay) => return overlay,
            Err((domain, Left::Waiting(problem))) => {
                let is_same = before.is_some_and(|before| before.domain == domain);
                let (state, problems) = (OverlayState::Waiting, vec![problem]);
                let text = known.filter(|_| is_same);
                return Overlay { file, domain, state, met_count, text, problems };
            }
            Err((domain, Left::Invalid(problems))) => (domain, problems),
        };
        let other = known.as_deref().filter(|text| **text != source.text);
        let kept = other.and_then(|text| {
            let source = Source { path: source.path.clone(), text: text.to_owned() };
            self.try_lay(&source, false).or_else(|_| self.try_lay(&source, true)).ok()
        });
        if let Some(kept) = kept {
            return Overlay { state: OverlayState::Kept, problems, ..kept };
        }
        if other.is_none()
            && let Ok(overlay) = self.try_lay(source, true)
        {
            return overlay;
        }
        let (state, text) = (OverlayState::Rejected, known);
        let domain = match (before, &text) {
            (Some(before), Some(_)) => before.domain.clone(),
            _ => domain,
        };
        Overlay { file, domain, state, met_count, text, problems }
    }

    /// Adds an overlay; what conflicts with a rule of its resource may be left out there. Returns its domain, if it has one,
    /// and the reason if it is not added.
    fn try_lay(&mut self, source: &Source, may_leave_out: bool) -> Result<Overlay, (String, Left)> {
        let (file, form) = read(source);
        let name = file.domain.as_ref().map_or("", |domain| domain.value.as_str()).to_owned();
        let invalid = |problems| Err((name.clone(), Left::Invalid(problems)));
        let (Some(domain), false) = (&file.domain, has_error(&form)) else { return invalid(form) };
        let refused = refused(source, &tree(source));
        if !refused.is_empty() {
            return invalid(refused);
        }
        let at = |severity, message| Problem::at(source, severity, domain.span.clone(), message);
        let is_laid = |overlay: &&Overlay| overlay.domain == name && overlay.state.is_in_force();
        if let Some(other) = self.overlays.iter().find(is_laid) {
            let message = format!("the domain `{name}` has an overlay already, in {}", other.file);
            return invalid(vec![at(Severity::Error, message)]);
        }
        let mut resources = self.resources.iter().filter(|(domain, _)| *domain == name);
        let resource = match (resources.next(), resources.next()) {
            (None, _) => {
                let message = format!("this waits: there is no resource of the domain `{name}`");
                return Err((name.clone(), Left::Waiting(at(Severity::Warning, message))));
            }
            (Some((_, resource)), None) => *resource,
            (Some((_, one)), Some((_, other))) => {
                let message = format!(
                    "the domain `{name}` has two resources, {} and {}; an overlay adds to one",
                    one.path, other.path
                );
                return invalid(vec![at(Severity::Error, message)]);
            }
        };
        self.join(&name, (resource, source), may_leave_out).or_else(invalid)
    }

    /// Adds an overlay to its resource, or returns its problems.
    fn join(
        &mut self,
        domain: &str,
        (resource, source): (&Source, &Source),
        may_leave_out: bool,
    ) -> Result<Overlay, Vec<Problem>> {
        let (mut left_out, mut errors, mut rounds) = (HashSet::new(), Vec::new(), 1..ROUNDS_MAX);
        loop {
            let merged = merge((resource, tree(resource)), (source, tree(source)), &left_out);
            if !merged.conflicts.is_empty() && !may_leave_out {
                return Err(merged.conflicts);
            }
            let (compiled, found) = match compile_joint(&merged.joint, self.options.clone()) {
                Ok(compiled) => (compiled, merged),
                Err(Conflicts { mut problems, rules }) => {
                    // Warnings of the resource are told with it.
                    let is_own = |problem: &Problem| problem.path == source.path;
                    problems.retain(|one| one.severity == Severity::Error || is_own(one));
                    let known = left_out.len();
                    left_out.extend(rules);
                    if !may_leave_out || left_out.len() == known || rounds.next().is_none() {
                        return Err(problems);
                    }
                    problems.retain(|one| one.severity == Severity::Error);
                    errors.extend(problems);
                    continue;
                }
            };
            self.compiled.domains.extend(compiled.domains);
            self.compiled.warnings.retain(|known| known.path != resource.path);
            self.compiled.warnings.extend(compiled.warnings);
            let problems = [found.conflicts, errors].concat();
            let state = match problems.is_empty() {
                true => OverlayState::InForce,
                false => OverlayState::Partial,
            };
            return Ok(Overlay {
                file: source.path.as_str().into(),
                domain: domain.to_owned(),
                state,
                met_count: found.met_count,
                text: Some(source.text.as_str().into()),
                problems: [problems, found.waiting].concat(),
            });
        }
    }
}

fn tree(source: &Source) -> Node {
    Node::parse(&source.text).expect("it has been read")
}

fn has_error(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.severity == Severity::Error)
}

#[cfg(test)]
mod tests;
