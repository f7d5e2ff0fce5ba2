//! The report of an edit's effect on the counts.

use std::fmt;

/// A warning for [`CountChanges::is_cut`].
pub const NOT_ALL_COMPARED: &str =
    "too many rules to compare all: more limits may start a new count, or be gone";

/// The effect of an edit on the counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountChanges {
    /// Ordered by domain and rule.
    pub restarts: Vec<Restart>,
    /// Ordered by domain and rule. Without domains that have too many rules.
    pub gone: Vec<Gone>,
    /// Whether there were too many rules to compare all.
    pub is_cut: bool,
}

impl CountChanges {
    /// Whether every existing limit keeps its count.
    pub fn keep_all(&self) -> bool {
        self.restarts.is_empty() && self.gone.is_empty() && !self.is_cut
    }
}

/// A limit that starts a new count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    pub domain: String,
    /// The rule's path.
    pub rule: String,
    /// The name of the limit in metrics and answers.
    pub limit: String,
    /// The path of the old rule, if it is another one: only its requests are affected.
    pub rule_before: Option<String>,
    /// The difference, as a clause.
    pub reason: String,
}

/// A removed limit, whose count no limit continues or replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    pub domain: String,
    /// The rule's path.
    pub rule: String,
    /// The name of the limit in metrics and answers.
    pub limit: String,
}

impl Restart {
    /// The reason, and the affected requests.
    pub fn reason_text(&self) -> String {
        match &self.rule_before {
            Some(before) => {
                format!(" for requests that met rule `{before}` before: {}", self.reason)
            }
            None => format!(": {}", self.reason),
        }
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, rule, limit, .. } = self;
        write!(
            f,
            "domain `{domain}`, rule `{rule}`: `{limit}` starts a new count{}",
            self.reason_text()
        )
    }
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, rule, limit } = self;
        write!(f, "domain `{domain}`, rule `{rule}`: no limit uses the counts of `{limit}`")
    }
}
