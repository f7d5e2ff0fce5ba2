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
            // Each problem is a line of the error.
            Self::Unreadable(error) => {
                error.to_string().lines().for_each(|problem| tracing::error!("{problem}"));
            }
            Self::Invalid { problems, sources } => {
                report(problems, sources);
            }
        }
    }
}

/// Logs problems, each with an excerpt and carets.
pub fn report(problems: &[Problem], sources: &[Source]) {
    problems.iter().for_each(|problem| report_problem(problem, sources));
}

fn report_problem(problem: &Problem, sources: &[Source]) {
    let rendered = render(slice::from_ref(problem), sources);
    // The line of the log has the severity and the message.
    let excerpt = rendered.split_once('\n').map_or("", |(_, excerpt)| excerpt);
    let Problem { path, line, column, message, .. } = problem;
    match problem.severity {
        Severity::Error => tracing::error!(file = path, line, column, excerpt, "{message}"),
        Severity::Warning => tracing::warn!(file = path, line, column, excerpt, "{message}"),
    }
}
