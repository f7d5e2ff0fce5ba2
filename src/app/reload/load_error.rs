//! The reason that a source could not be loaded, and its log lines.

use std::slice;

use crate::policy::{Problem, Severity, Source, render};

/// The reason that a source could not be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// The source can't be read.
    Unreadable(anyhow::Error),
    /// The texts are invalid.
    Invalid { problems: Vec<Problem>, sources: Vec<Source> },
}

impl LoadError {
    /// Logs all problems, each with an excerpt and carets.
    pub fn report(&self) {
        match self {
            Self::Unreadable(error) => tracing::error!("{error}"),
            Self::Invalid { problems, sources } => {
                problems.iter().for_each(|problem| report_problem(problem, sources));
            }
        }
    }
}

fn report_problem(problem: &Problem, sources: &[Source]) {
    let excerpt = render(slice::from_ref(problem), sources);
    // The level of the line already has the severity.
    let excerpt = excerpt.trim_start_matches("error: ").trim_start_matches("warning: ");
    let Problem { path, line, column, .. } = problem;
    match problem.severity {
        Severity::Error => tracing::error!(file = path, line, column, "{excerpt}"),
        Severity::Warning => tracing::warn!(file = path, line, column, "{excerpt}"),
    }
}
