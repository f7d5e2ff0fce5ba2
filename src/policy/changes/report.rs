//! What an edit of policies does to the counts.

use std::fmt;

/// A warning for [`CountChanges::is_cut`].
pub const NOT_ALL_COMPARED: &str =
    "too many rules to compare all: more limits may start a new count, or be gone";

/// What an edit does to the counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountChanges {
    /// In the order of domains and rules.
    pub restarts: Vec<Restart>,
    /// The same. Without those of domains with too many rules.
    pub gone: Vec<Gone>,
    /// Whether there were too many rules to compare them all.
    pub is_cut: bool,
}

impl CountChanges {
    /// Whether every limit that was there goes on with its count.
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
    /// What metrics and answers call the limit.
    pub limit: String,
    /// The path of the rule that the requests met before, if it is another one: only these requests are concerned.
    pub rule_before: Option<String>,
    /// What has changed, as a clause.
    pub reason: String,
}

/// A limit that was there, whose counts no limit goes on with or starts anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    pub domain: String,
    /// The rule's path.
    pub rule: String,
    /// What metrics and answers called the limit.
    pub limit: String,
}

impl Restart {
    /// The reason, and which requests are concerned.
    pub fn told(&self) -> String {
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
        write!(f, "domain `{domain}`, rule `{rule}`: `{limit}` starts a new count{}", self.told())
    }
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, rule, limit } = self;
        write!(f, "domain `{domain}`, rule `{rule}`: no limit uses the counts of `{limit}`")
    }
}
