//! Why what a source gives is not used, and the log of it.

use std::slice;

use crate::policy::{Problem, Severity, Source, render};

/// Why nothing was made of what a source gives.
#[derive(Debug)]
pub enum LoadError {
    /// It can't be read.
    Unreadable(anyhow::Error),
    /// Its texts are invalid.
    Invalid { problems: Vec<Problem>, sources: Vec<Source> },
}

impl LoadError {
    /// Logs everything that is wrong, each problem with an excerpt and carets.
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
    // The level says it already.
    let excerpt = excerpt.trim_start_matches("error: ").trim_start_matches("warning: ");
    let Problem { path, line, column, .. } = problem;
    match problem.severity {
        Severity::Error => tracing::error!(file = path, line, column, "{excerpt}"),
        Severity::Warning => tracing::warn!(file = path, line, column, "{excerpt}"),
    }
}
