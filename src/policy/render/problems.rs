//! Renders problems with excerpts of their lines.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::policy::problem::{Problem, Severity, Source};

/// Problems as text, each with its place, an excerpt and carets.
pub fn render(problems: &[Problem], sources: &[Source]) -> String {
    let shown: Vec<String> = problems.iter().map(|problem| render_one(problem, sources)).collect();
    shown.join("\n\n")
}

fn render_one(problem: &Problem, sources: &[Source]) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(problem.message.as_str());
    let source = sources.iter().find(|source| source.path == problem.path);
    let text = source.map_or("", |source| source.text.as_str());
    let mut end = problem.span.end.clamp(problem.span.start, text.len().max(problem.span.start));
    while !text.is_char_boundary(end.min(text.len())) {
        end += 1;
    }
    let annotation = AnnotationKind::Primary.span(problem.span.start..end);
    let snippet = Snippet::source(text).path(problem.path.as_str()).annotation(annotation);
    Renderer::plain().render(&[Group::with_title(title).element(snippet)])
}
