//! Warns of channels that nothing notifies, and of maintenance windows that are never active.

use super::labels::LABELS;
use super::model::{AlertPolicy, MaintenanceWindow};
use crate::clock::Timestamp;
use crate::policy::problem::Severity;
use crate::policy::schema::{AlertsFile, MaintenanceFile, ManyFile};
use crate::policy::yaml::{Reader, nearest};

/// Reports channels that no rule notifies, and rules that name a channel which is not notified of their severity.
pub fn report_idle_channels(files: &mut [(AlertsFile, Reader<'_>)], policy: &AlertPolicy) {
    let rules = files.iter().flat_map(|(file, _)| file.alerts.iter().flatten()).count();
    // A rule with a problem may be the one that notifies a channel.
    if rules == 0 || policy.rules.len() != rules {
        return;
    }
    for (file, reader) in files {
        for (name, _) in file.channels.iter().flatten() {
            let is_used = policy.rules.iter().any(|rule| {
                let escalated = rule.escalate.iter().flat_map(|escalation| &escalation.notify);
                rule.notify.iter().chain(escalated).any(|channel| **channel == *name.value)
            });
            if policy.channel(&name.value).is_some() && !is_used {
                let message = format!("no alert notifies the channel `{}`", name.value);
                reader.note(Severity::Warning, name.span.clone(), message);
            }
        }
        for (name, rule) in file.alerts.iter().flatten() {
            let Some(compiled) = policy.rule(&name.value) else { continue };
            // What is escalated is told whatever its severity.
            for named in rule.notify.iter().flat_map(|list| &list.value) {
                let least = policy.channel(&named.value).map(|channel| channel.severity);
                if let Some(least) = least.filter(|least| compiled.severity < *least) {
                    let message = format!(
                        "the channel `{}` is notified from `{}` on, and this alert is `{}`",
                        named.value,
                        least.as_str(),
                        compiled.severity.as_str()
                    );
                    reader.note(Severity::Warning, named.span.clone(), message);
                }
            }
        }
    }
}

/// Reports maintenance windows for labels that none of their alerts has, and those whose dates are past.
pub fn report_idle_windows(
    files: &mut [(AlertsFile, Reader<'_>)],
    policy: &AlertPolicy,
    now: Option<Timestamp>,
) {
    let rules = files.iter().flat_map(|(file, _)| file.alerts.iter().flatten()).count();
    for (file, reader) in files {
        for (name, window) in file.maintenance.iter().flatten() {
            let compiled = policy.maintenance.iter().find(|one| *one.name == *name.value);
            let Some(compiled) = compiled else { continue };
            // A rule with a problem may be the one that has the label.
            if rules == policy.rules.len() {
                report_idle_labels(reader, (window, compiled), policy);
            }
            if let Some(dates) = window.dates.as_ref().filter(|_| compiled.is_past(now)) {
                let message = "these dates are past, so the window is never active again";
                let ManyFile(texts) = &dates.value;
                let ends = texts.first().zip(texts.last());
                let all = ends.map(|(first, last)| first.span.start..last.span.end);
                reader.note(Severity::Warning, all.unwrap_or_else(|| dates.span.clone()), message);
            }
        }
    }
}

fn report_idle_labels(
    reader: &mut Reader<'_>,
    (file, window): (&MaintenanceFile, &MaintenanceWindow),
    policy: &AlertPolicy,
) {
    let covered = policy.rules.iter().filter(|rule| window.covers_rule(&rule.name));
    let given: Vec<&str> = covered.flat_map(|rule| rule.signal.labels()).copied().collect();
    for (name, _) in file.labels.iter().flatten().filter(|(name, _)| !given.contains(&&*name.value))
    {
        let hint = match nearest(&name.value, LABELS) {
            Some(meant) if meant != name.value => format!("; did you mean `{meant}`?"),
            _ => String::new(),
        };
        let label = &name.value;
        let message = format!(
            "none of its alerts has the label `{label}`, so the window holds back nothing{hint}"
        );
        reader.note(Severity::Warning, name.span.clone(), message);
    }
}
