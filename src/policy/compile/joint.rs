//! A resource and its overlay as one text, so that they compile as one policy, and every place in it as one of its file.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::policy::model::SourceLocation;
use crate::policy::problem::{Problem, Source};
use crate::policy::yaml::Node;

/// A resource with its overlay.
#[derive(Debug)]
pub struct Joint<'a> {
    pub resource: &'a Source,
    pub overlay: &'a Source,
    /// Both texts, one after the other, under the path of the resource.
    pub source: Source,
    /// The tree of both. Its places are in `source`.
    pub node: Node,
    /// The start of each rule of the resource that a rule of the overlay meets, and that rule's start, in `source`.
    pub met: HashMap<usize, usize>,
}

/// Why a resource and its overlay are not one policy.
#[derive(Debug)]
pub struct Conflicts {
    /// Each in one of the two.
    pub problems: Vec<Problem>,
    /// The starts of rules of the resource that have errors with the overlay, in the text of both.
    pub rules: Vec<usize>,
}

/// The places of a text, as those of its files.
#[derive(Debug)]
pub struct Places<'a> {
    file: Arc<str>,
    /// The byte offset of each line: every rule needs its line.
    line_starts: Vec<usize>,
    overlay: Option<OverlayPlaces<'a>>,
}

#[derive(Debug)]
struct OverlayPlaces<'a> {
    file: Arc<str>,
    start: usize,
    met: &'a HashMap<usize, usize>,
}

impl<'a> Joint<'a> {
    /// Both texts as one.
    pub fn source(resource: &Source, overlay: &Source) -> Source {
        let text = [&*resource.text, "\n", &*overlay.text].concat();
        Source { path: resource.path.clone(), text }
    }

    /// The start of the overlay in the text of both.
    pub fn overlay_start(resource: &Source) -> usize {
        resource.text.len() + 1
    }

    /// The problem at its place in one of the two.
    pub fn placed(&self, problem: Problem) -> Problem {
        let Problem { severity, span, message, .. } = problem;
        let start = Self::overlay_start(self.resource);
        if span.start < start {
            let len = self.resource.text.len();
            return Problem::at(self.resource, severity, span.start..span.end.min(len), message);
        }
        Problem::at(self.overlay, severity, span.start - start..span.end - start, message)
    }

    /// What a problem is, whatever the place in the resource that its message names.
    pub fn mistake(&self, problem: &Problem) -> (bool, usize, String) {
        Self::mistake_of(self.resource, problem)
    }

    /// The same before the two are joined.
    pub fn mistake_of(resource: &Source, problem: &Problem) -> (bool, usize, String) {
        let (is_own, message) = (problem.path == resource.path, problem.message.as_str());
        let message = message.split(resource.path.as_str()).next().unwrap_or_default();
        (is_own, problem.span.start, message.to_owned())
    }

    fn overlay_places(&'a self) -> OverlayPlaces<'a> {
        let start = Self::overlay_start(self.resource);
        OverlayPlaces { file: self.overlay.path.as_str().into(), start, met: &self.met }
    }
}

impl<'a> Places<'a> {
    /// The places of a source, or of a joint one.
    pub fn new(source: &Source, joint: Option<&'a Joint<'a>>) -> Self {
        let newlines = source.text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            file: source.path.as_str().into(),
            line_starts: std::iter::once(0).chain(newlines).collect(),
            overlay: joint.map(Joint::overlay_places),
        }
    }

    /// The file and line of a part.
    pub fn of(&self, span: &Range<usize>) -> SourceLocation {
        let line = |at: usize| self.line_starts.partition_point(|start| *start <= at);
        match &self.overlay {
            Some(overlay) if overlay.start <= span.start => SourceLocation {
                file: overlay.file.clone(),
                line: line(span.start) + 1 - line(overlay.start),
            },
            _ => SourceLocation { file: self.file.clone(), line: line(span.start) },
        }
    }

    /// Whether the source has an overlay.
    pub fn has_overlay(&self) -> bool {
        self.overlay.is_some()
    }

    /// The place of the overlay's rule that meets a rule of the resource.
    pub fn overlay_of(&self, rule: &Range<usize>) -> Option<SourceLocation> {
        let at = *self.overlay.as_ref()?.met.get(&rule.start)?;
        Some(self.of(&(at..at)))
    }
}
