//! Compiles maintenance windows: times of a schedule in which notifications are held back.

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::model::MaintenanceWindow;
use crate::clock::Timestamp;
use crate::limit::Timetable;
use crate::policy::compile::{compile_condition, parse_zone};
use crate::policy::schema::{AlertsFile, MaintenanceFile};
use crate::policy::yaml::{Reader, nearest};

/// The time zone of the windows of a file; UTC if it has none, or an unknown one, which is reported.
pub fn compile_zone(reader: &mut Reader<'_>, file: &AlertsFile) -> TimeZone {
    let Some(name) = &file.timezone else { return TimeZone::UTC };
    parse_zone(&name.value).unwrap_or_else(|message| {
        reader.error(name.span.clone(), message);
        TimeZone::UTC
    })
}

/// The window of the file; None if it has a problem. `rules` are the names of all rules.
pub fn compile_window(
    reader: &mut Reader<'_>,
    (name, file): (&str, &MaintenanceFile),
    zone: TimeZone,
    rules: &[String],
) -> Option<MaintenanceWindow> {
    let condition = file.condition();
    if condition.is_empty() {
        let message = "missing times; add months, weekdays, hours or dates";
        reader.error(file.span.clone(), message);
        return None;
    }
    let condition = compile_condition(reader, name, &condition);
    let known: Vec<&str> = rules.iter().map(String::as_str).collect();
    let mut covered: Vec<Arc<str>> = Vec::new();
    for named in file.alerts.iter().flat_map(|list| &list.value) {
        if rules.contains(&named.value) {
            covered.push(named.value.as_str().into());
            continue;
        }
        let hint = match nearest(&named.value, &known) {
            Some(meant) => format!("; did you mean `{meant}`?"),
            None => "; `alerts` has none of this name".to_owned(),
        };
        reader.error(named.span.clone(), format!("unknown alert `{}`{hint}", named.value));
    }
    if let Some(list) = file.alerts.as_ref().filter(|list| list.value.is_empty()) {
        let message = "`alerts` is empty; without it, the window holds for all alerts";
        reader.error(list.span.clone(), message);
    }
    let labels = file.labels.iter().flatten();
    let labels = labels.map(|(name, value)| (name.value.clone(), value.value.clone())).collect();
    let timezone = zone.iana_name().unwrap_or("UTC").into();
    let timetable = Arc::new(Timetable::new(vec![condition?], zone));
    let name = name.into();
    Some(MaintenanceWindow { name, rules: covered, labels, timezone, timetable })
}

/// The names of rules in files.
pub fn rule_names<'f>(files: impl Iterator<Item = &'f AlertsFile>) -> Vec<String> {
    let names = files.flat_map(|file| file.alerts.iter().flatten());
    names.map(|(name, _)| name.value.clone()).collect()
}

impl MaintenanceWindow {
    /// Whether it holds back the notifications of an alert of this rule and with these labels at a time.
    pub fn covers<'l>(
        &self,
        rule: &str,
        label: impl Fn(&str) -> Option<&'l str>,
        now: Timestamp,
    ) -> bool {
        self.covers_rule(rule)
            && self.labels.iter().all(|(name, value)| label(name) == Some(value))
            && self.is_active(now)
    }

    /// Whether it is for alerts of this rule, with any labels.
    pub fn covers_rule(&self, rule: &str) -> bool {
        self.rules.is_empty() || self.rules.iter().any(|covered| **covered == *rule)
    }

    /// Whether all of its dates are past at a time.
    pub fn is_past(&self, now: Option<Timestamp>) -> bool {
        now.is_some_and(|now| self.timetable.is_past(now))
    }

    /// Whether it is now.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.timetable.holding_now(now).is_some()
    }
}
