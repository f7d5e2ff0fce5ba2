//! Warns of channels that nothing notifies.

use super::model::AlertPolicy;
use crate::policy::problem::Severity;
use crate::policy::schema::AlertsFile;
use crate::policy::yaml::Reader;

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
