//! Compiles the `grace` of a limit.

use super::enforcement::Enforcement;
use super::percent::percent;
use super::rate::parse_length_ms;
use crate::limit::{Algorithm, Limit, Overdraft, WINDOW_MS_MAX};
use crate::policy::model::Window;
use crate::policy::problem::Severity;
use crate::policy::schema::GraceFile;
use crate::policy::yaml::Reader;

/// The default of `for`: 24 hours.
const FOR_MS_DEFAULT: u64 = 86_400_000;

/// Maximum of `over`, in percent.
const OVER_PERCENT_MAX: u16 = 100;

/// The grace in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraceDraft {
    percent: u16,
    for_ms: u64,
}

/// A limit that gets a grace.
#[derive(Clone, Copy, Debug)]
pub struct Graced<'l> {
    pub limit: &'l Limit,
    pub window: Window,
    pub enforcement: Enforcement,
    /// In the format of envoyproxy/ratelimit, which has no grace.
    pub in_reference: bool,
    /// Its amount follows a schedule.
    pub is_scheduled: bool,
}

impl GraceDraft {
    /// The settings in the file.
    pub fn compile(reader: &mut Reader<'_>, file: &GraceFile) -> Option<Self> {
        let percent = file.0.over.as_ref().and_then(|over| {
            let percent = percent(&over.value, "grace", OVER_PERCENT_MAX);
            percent.map_err(|message| reader.error(over.span.clone(), message)).ok()
        });
        let for_ms = match &file.0.r#for {
            None => Some(FOR_MS_DEFAULT),
            Some(text) => {
                let ms = parse_length_ms(&text.value);
                ms.map_err(|message| reader.error(text.span.clone(), message)).ok()
            }
        };
        let (percent, for_ms) = (percent?, for_ms?);
        Some(Self { percent, for_ms: for_ms.min(WINDOW_MS_MAX) })
    }

    /// The limit with this grace, the default of its file; unchanged if it can't have one.
    pub fn by_default(self, of: Graced<'_>) -> Limit {
        let limit = of.limit.clone();
        if self.problem(of).is_some() { limit } else { limit.with_grace(self.percent, self.for_ms) }
    }

    /// The limit with this grace, which `file` sets for it alone.
    pub fn of(self, reader: &mut Reader<'_>, file: &GraceFile, of: Graced<'_>) -> Limit {
        let limit = of.limit.clone().with_grace(self.percent, self.for_ms);
        let span = file.0.span.clone();
        if let Some(problem) = self.problem(of) {
            reader.error(span, problem);
        } else if limit.grace().is_none() && !of.is_scheduled {
            let (percent, capacity) = (self.percent, limit.capacity());
            let message = format!("no effect: {percent}% of {capacity} is less than one hit");
            reader.note(Severity::Warning, span, message);
        }
        limit
    }

    /// The reason that a limit can't have a grace.
    fn problem(self, of: Graced<'_>) -> Option<String> {
        let ends = matches!(of.limit.algorithm(), Algorithm::Fixed(_) | Algorithm::Calendar(_));
        let window_ms = of.window.nominal_ms().filter(|_| ends);
        if of.limit.overdraft() != Overdraft::None {
            Some("use `grace` or `overdraft`, not both: with an overdraft, hits beyond the limit pass already".to_owned())
        } else if !of.enforcement.mode.refuses() {
            let mode = of.enforcement.mode;
            Some(format!("`grace` has no effect in {mode} mode: all requests pass"))
        } else if of.enforcement.strict {
            Some("a limit in the mode `strict` has no grace".to_owned())
        } else if of.in_reference {
            Some("use `limits` for a limit with a `grace`".to_owned())
        } else if window_ms.is_some_and(|window_ms| window_ms <= self.for_ms) {
            Some("the window must be longer than the grace, or the limit would never be enforced; set a shorter `for`".to_owned())
        } else {
            None
        }
    }
}
