//! Renders problems with excerpts of their lines.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

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
    let group = Group::with_title(title);
    let Some(Source { text, .. }) = sources.iter().find(|source| source.path == problem.path)
    else {
        let place = Origin::path(problem.path.as_str()).line(problem.line);
        let group = group.element(place.char_column(problem.column));
        return Renderer::plain().render(&[group]);
    };
    let len = text.len();
    let whole = |at: usize| (at.min(len)..len).find(|at| text.is_char_boundary(*at)).unwrap_or(len);
    let start = whole(problem.span.start);
    let end = whole(problem.span.end).max(start);
    let annotation = AnnotationKind::Primary.span(start..end);
    let snippet = Snippet::source(text.as_str()).path(problem.path.as_str()).annotation(annotation);
    Renderer::plain().render(&[group.element(snippet)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(span: std::ops::Range<usize>) -> Problem {
        let (path, message) = ("a.yaml".to_owned(), "no such key".to_owned());
        Problem { severity: Severity::Error, path, span, line: 7, column: 3, message }
    }

    #[test]
    fn a_problem_at_a_place_that_the_texts_do_not_have_is_told_without_an_excerpt() {
        let text = "key: ä".to_owned();
        let source = || vec![Source { path: "a.yaml".to_owned(), text: text.clone() }];
        assert!(render(&[problem(0..3)], &source()).contains("^^^"));
        for span in [0..900, 700..900, 6..6, 6..7, 7..7] {
            let told = render(&[problem(span.clone())], &source());
            assert!(told.contains("a.yaml:1:"), "{span:?}: {told}");
        }
        let told = render(&[problem(46..46)], &[]);
        assert!(told.contains("error: no such key") && told.contains("a.yaml:7:3"), "{told}");
    }
}
