//! Alerts in YAML files: rules, and the channels that are notified.

mod abuse;
mod address;
mod channel;
mod duration;
mod fit;
mod grouping;
mod idle;
mod labels;
mod maintenance;
mod model;
mod needs;
mod rule;
mod signal;
mod template;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::policy::model::PolicySet;
use crate::policy::problem::{Problem, Severity, Source};
use crate::policy::schema::{AlertsFile, read_alerts};
use crate::policy::yaml::{Reader, Spanned};

use channel::compile_channel;
use fit::report_misfits;
use idle::{report_idle_channels, report_idle_windows};
use maintenance::{compile_window, compile_zone, rule_names};
use needs::CheckNeed;
use rule::compile_rule;

pub use abuse::DISTINCT_MAX;
pub use address::check_url;
pub use fit::{Misfit, misfits};
pub use model::{
    AlertBounds, AlertChannel, AlertEscalation, AlertFilter, AlertGrouping, AlertPolicy,
    AlertReceiver, AlertRestriction, AlertRule, AlertSeverity, AlertSignal, AlertSplit, AlertUrl,
    HttpReceiver, MailReceiver, MailTls, MaintenanceWindow,
};
pub use needs::AlertNeed;
pub use template::{
    AlertTemplate, AlertTemplates, TemplateAlert, TemplateFailed, TemplateFields, escape_slack,
};

/// Maximum number of rules, and of channels.
const RULES_MAX: usize = 100;
const CHANNELS_MAX: usize = 20;

/// Maximum number of maintenance windows: each notification is compared with all of them.
const WINDOWS_MAX: usize = 50;

/// Maximum length of the name of a rule, a channel or a window.
const NAME_LEN_MAX: usize = 64;

/// Compiles files of alerts, without a check of what their channels need.
///
/// # Errors
/// All problems of all files.
pub fn compile_alerts(sources: &[Source]) -> Result<AlertPolicy, Vec<Problem>> {
    let checks = AlertChecks { need: &|_| Ok(()), policies: None, now: None };
    compile_alerts_with(sources, &checks)
}

/// What files of alerts are checked against.
#[derive(Clone, Copy)]
pub struct AlertChecks<'c> {
    /// Tells what channels need and do not have.
    pub need: &'c CheckNeed<'c>,
    /// The policies that must have what rules name; None: any may.
    pub policies: Option<&'c PolicySet>,
    /// The time after which maintenance windows must be active again; None: any time.
    pub now: Option<Timestamp>,
}

/// Compiles files of alerts. The rules of one may name the channels of another.
///
/// # Errors
/// All problems of all files, warnings included, if any of them is an error.
pub fn compile_alerts_with(
    sources: &[Source],
    checks: &AlertChecks<'_>,
) -> Result<AlertPolicy, Vec<Problem>> {
    let mut files: Vec<(AlertsFile, Reader<'_>)> = sources.iter().map(read_alerts).collect();
    let mut names = Names::default();
    let mut policy = AlertPolicy::default();
    for (file, reader) in &mut files {
        for (name, channel) in file.channels.iter().flatten() {
            if names.add(reader, ("channel", CHANNELS_MAX), name) {
                policy.channels.extend(compile_channel(reader, &name.value, channel, checks.need));
            }
        }
    }
    // The names of channels that have a problem are known too.
    let channels: Vec<Arc<str>> = names.of("channel").map(Arc::from).collect();
    for (file, reader) in &mut files {
        for (name, rule) in file.alerts.iter().flatten() {
            if names.add(reader, ("alert", RULES_MAX), name) {
                policy.rules.extend(compile_rule(reader, &name.value, rule, &channels));
            }
        }
    }
    let rules = rule_names(files.iter().map(|(file, _)| file));
    for (file, reader) in &mut files {
        let zone = compile_zone(reader, file);
        for (name, window) in file.maintenance.iter().flatten() {
            if names.add(reader, ("maintenance window", WINDOWS_MAX), name) {
                let window = (name.value.as_str(), window);
                policy.maintenance.extend(compile_window(reader, window, zone.clone(), &rules));
            }
        }
    }
    report_idle_channels(&mut files, &policy);
    report_idle_windows(&mut files, &policy, checks.now);
    if let Some(policies) = checks.policies {
        report_misfits(&mut files, &policy, policies);
    }
    let mut problems: Vec<Problem> =
        files.into_iter().flat_map(|(_, reader)| reader.into_problems()).collect();
    problems
        .sort_by(|one, other| (&one.path, one.span.start).cmp(&(&other.path, other.span.start)));
    match problems.iter().any(|problem| problem.severity == Severity::Error) {
        true => Err(problems),
        false => Ok(AlertPolicy { warnings: problems, ..policy }),
    }
}

/// The names so far, by kind.
#[derive(Default)]
struct Names(BTreeMap<&'static str, Vec<String>>);

impl Names {
    /// Adds a name; false if it is invalid, or if there is no place for it.
    fn add(
        &mut self,
        reader: &mut Reader<'_>,
        (kind, max): (&'static str, usize),
        name: &Spanned<String>,
    ) -> bool {
        let known = self.0.entry(kind).or_default();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let message = if known.contains(&name.value) {
            format!("duplicate {kind} `{}`", name.value)
        } else if known.len() == max {
            format!("too many {kind}s; at most {max} are allowed")
        } else if !name.value.bytes().all(is_plain)
            || !(1..=NAME_LEN_MAX).contains(&name.value.len())
        {
            format!(
                "invalid name `{}`; use up to {NAME_LEN_MAX} letters, digits, `-`, `_` and `.`",
                name.value
            )
        } else {
            known.push(name.value.clone());
            return true;
        };
        reader.error(name.span.clone(), message);
        false
    }

    fn of(&self, kind: &str) -> impl Iterator<Item = &str> {
        self.0.get(kind).into_iter().flatten().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn source(text: &str) -> Source {
        Source { path: "alerts.yaml".to_owned(), text: text.to_owned() }
    }

    /// Checks the lines and messages of a file's problems.
    #[track_caller]
    fn check(text: &str, expected: &[(usize, &str)]) {
        let problems = compile_alerts(&[source(text)])
            .map_or_else(|problems| problems, |policy| policy.warnings);
        let lines: Vec<usize> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(
            lines,
            expected.iter().map(|one| one.0).collect::<Vec<_>>(),
            "{text}\n{problems:?}"
        );
        for (problem, (_, message)) in problems.iter().zip(expected) {
            assert!(problem.message.contains(message), "{}", problem.message);
        }
    }

    #[test]
    fn rules_and_channels_are_read() {
        let text = "
channels:
  ops: { type: webhook, url: https://hooks.example.com/a, secret_file: /run/secret, severity: error }
  log: { type: log, resolved: false }
alerts:
  quota: { when: threshold, percent: [80%, 100%], limit: daily }
  slow: { when: latency, above: 50ms, clear: 40ms, for: 2m, severity: critical, notify: [ops] }
  certificate: { when: certificate, below: 14d, notify: [] }";
        let policy = compile_alerts(&[source(text)]).unwrap();
        let quota = policy.rule("quota").unwrap();
        assert_eq!((&*quota.percents, quota.bounds), (&[80, 100][..], None));
        assert_eq!((quota.notify.len(), quota.severity), (2, AlertSeverity::Warning));
        assert!(quota.filter.excludes_limit("monthly") && !quota.filter.excludes_limit("daily"));
        let slow = policy.rule("slow").unwrap();
        let bounds = AlertBounds { is_above: true, fires: 0.05, clears: 0.04 };
        assert_eq!((slow.bounds, slow.over), (Some(bounds), Duration::from_secs(60)));
        assert_eq!((&*slow.notify[0], slow.hold), ("ops", Duration::from_secs(120)));
        let certificate = policy.rule("certificate").unwrap();
        assert!(certificate.notify.is_empty() && !certificate.bounds.unwrap().is_above);
        assert!(!policy.channel("log").unwrap().resolved);
        assert_eq!(policy.channel("ops").unwrap().severity, AlertSeverity::Error);
    }

    #[test]
    fn problems_are_told_where_they_stand() {
        check("alerts:\n  a: { above: 5 }", &[(2, "`when` is missing")]);
        check("alerts:\n  a: { when: lateness }", &[(2, "`when` must be threshold, denials")]);
        check("alerts:\n  a: { when: denials }", &[(2, "`above` is missing")]);
        check("alerts:\n  a: { when: forecast }", &[(2, "`below` is missing")]);
        let reversed = "alerts:\n  a: { when: forecast, above: 3d, notify: [] }";
        check(reversed, &[(2, "`above` fires while all is well; use `below`")]);
        let reversed = "alerts:\n  a: { when: caller_refused, below: 50%, notify: [] }";
        check(reversed, &[(2, "`below` fires while all is well; use `above`")]);
        check("alerts:\n  a: { when: denials, above: 5% }", &[(2, "use a number, such as 5")]);
        check("alerts:\n  a: { when: refused, above: 5 }", &[(2, "use a percentage")]);
        check("alerts:\n  a: { when: latency, above: 5 }", &[(2, "use a duration")]);
        check(
            "alerts:\n  a: { when: queue, above: 5, clear: 6 }",
            &[(2, "use one at or below `5`")],
        );
        check("alerts:\n  a: { when: queue, above: 5, below: 6 }", &[(2, "not both")]);
        check("alerts:\n  a: { when: queue, above: 5, over: 1m }", &[(2, "`over` has no effect")]);
        check("alerts:\n  a: { when: store_down, above: 5 }", &[(2, "`above` has no effect")]);
        check("alerts:\n  a: { when: threshold, for: 1m }", &[(2, "`for` has no effect")]);
        check("alerts:\n  a: { when: threshold, percent: [] }", &[(2, "`percent` is empty")]);
        check("alerts:\n  a: { when: queue, above: 1, percent: [] }", &[(2, "no effect")]);
        check("alerts:\n  a: { when: threshold, percent: [0%] }", &[(2, "invalid threshold `0%`")]);
        check(
            "alerts:\n  a: { when: refused, above: 5%, over: 2h }",
            &[(2, "exceeds the maximum")],
        );
        check("alerts:\n  a: { when: store_down, notify: [x] }", &[(2, "unknown channel `x`")]);
        check(
            "alerts:\n  a: { when: denials, notify: [x] }\n  b: { notify: [y] }\n  c: { when: z, notify: [z] }",
            &[
                (2, "`above` is missing"),
                (2, "unknown channel `x`"),
                (3, "`when` is missing"),
                (3, "unknown channel `y`"),
                (4, "`when` must be"),
                (4, "unknown channel `z`"),
            ],
        );
        check("alerts:\n  \"a b\": { when: store_down }", &[(2, "invalid name `a b`")]);
        check("channels:\n  a: { type: webhook }", &[(2, "`url` or `url_file` is missing")]);
        check("channels:\n  a: { type: webhook, url: ftp://x }", &[(2, "invalid address")]);
        check("channels:\n  a: { type: log, url: http://x }", &[(2, "`url` has no effect")]);
        check("channels:\n  a: { type: webook }", &[(2, "`type` must be")]);
        check(
            "channels:\n  a: { type: email, host: mx }",
            &[(2, "`from` is missing"), (2, "`to` is missing")],
        );
        check(
            "channels:\n  a: { type: email, host: mx, from: a, to: [b@c], user: x }",
            &[(2, "`user` and `secret_file` need each other"), (2, "`a` is no e-mail address")],
        );
        check("channels:\n  a: { type: pagerduty }", &[(2, "`secret_file` is missing")]);
        check(
            "channels:\n  a: { type: slack, url: http://x, to: [a@b] }",
            &[(2, "`to` has no effect")],
        );
        check("alert:\n  a: {}", &[(1, "did you mean `alerts`?")]);
        check("domain: d", &[(1, "this is a policy, not a file of alerts")]);
        check("", &[(1, "the file is empty")]);
    }

    #[test]
    fn problems_of_rules_over_usage_are_told_where_they_stand() {
        let money = |keys: &str| format!("alerts:\n  a: {{ when: spend, above: 500, {keys} }}");
        check(&money("over: 1d, by: provider, tier: free, domain: d"), &[]);
        check(&money("over: 2h"), &[(2, "money is summed over 1h or 1d")]);
        check(&money("by: caller"), &[(2, "`by` must be provider or tier")]);
        check(&money("top: 5"), &[(2, "`top` has no effect with `when: spend`")]);
        check("alerts:\n  a: { when: forecast, below: 3d, limit: plan, top: 9 }", &[]);
        check("alerts:\n  a: { when: caller_refused, above: 50%, top: 9, least: 9, tier: t }", &[]);
        check("alerts:\n  a: { when: caller_refused, above: 50 }", &[(2, "use a percentage")]);
        check("alerts:\n  a: { when: caller_refused, above: 100% }", &[(2, "it never fires")]);
        check("alerts:\n  a: { when: forecast, below: 3 }", &[(2, "use a duration")]);
        check("alerts:\n  a: { when: budget, above: 100 }", &[(2, "use a percentage")]);
        check("alerts:\n  a: { when: spike, above: 6, top: 10, least: 50, tier: free }", &[]);
        check("alerts:\n  a: { when: spike, above: 6, top: 5000 }", &[(2, "from 0 to 1000")]);
        check("alerts:\n  a: { when: spike, above: 6, over: 1h }", &[(2, "`over` has no effect")]);
    }

    #[test]
    fn problems_of_rules_over_requests_are_told_where_they_stand() {
        let rule = |keys: &str| format!("alerts:\n  a: {{ {keys} }}");
        check(&rule("when: address_callers, above: 20, over: 1h, domain: d"), &[]);
        check(&rule("when: address_callers, above: 20, tier: t"), &[(2, "`tier` has no effect")]);
        check(&rule("when: caller_addresses, above: 1000"), &[(2, "up to 1000 are counted")]);
        check(&rule("when: api_key_addresses, below: 3"), &[(2, "use `above`")]);
        check(&rule("when: burst, above: 20, over: 100ms, tier: t"), &[]);
        check(&rule("when: burst, above: 20, over: 5ms"), &[(2, "is shorter than 10ms")]);
        check(&rule("when: burst, above: 20, over: 1m"), &[(2, "exceeds the maximum of 10s")]);
        check(&rule("when: probing, above: 20%"), &[(2, "use a number")]);
        check(&rule("when: probing"), &[(2, "`above` is missing")]);
        check(&rule("when: probing, above: 50, risk: 80"), &[]);
        check(&rule("when: probing, above: 50, risk: 101"), &[(2, "from 0 to 100")]);
        check(&rule("when: queue, above: 50, risk: 10"), &[(2, "`risk` has no effect")]);
        check(&rule("when: risk, above: 70"), &[]);
        let answer = |answer: &str| rule(&format!("when: risk, above: 70, answer: {answer}"));
        check(&answer("{ tier: low, for: 1h }"), &[]);
        check(&answer("{ tier: low }"), &[(2, "`for` is missing")]);
        check(&answer("{ for: 1h }"), &[(2, "`tier` is missing")]);
        check(&answer("{ tier: ' ', for: 1h }"), &[(2, "`tier` is blank")]);
        check(&answer("{ tier: low, for: 1s }"), &[(2, "is shorter than 60s")]);
        check(&answer("{ tier: low, for: 8d }"), &[(2, "exceeds the maximum")]);
        check(&answer("low"), &[(2, "must be a map")]);
        let answer = "when: address_callers, above: 7, answer: { tier: low, for: 1h }";
        check(&rule(answer), &[(2, "`answer` has no effect")]);
        check(&rule("when: risk, above: 100"), &[(2, "a risk is at most 100")]);
    }

    #[test]
    fn parts_without_effect_are_warnings() {
        let warned = |text: &str, expected: &[(usize, &str)]| {
            check(text, expected);
            assert!(compile_alerts(&[source(text)]).is_ok(), "{text}");
        };
        warned("alerts:\n  a: { when: refused, above: 100% }", &[(2, "it never fires")]);
        warned("alerts:\n  a: { when: errors, above: 99.9% }", &[]);
        warned("alerts:\n  a: { when: capacity, above: 100% }", &[]);
        warned("alerts:\n  a: { when: queue, below: 0 }", &[(2, "it never fires")]);
        let channels = "channels:\n  all: { type: log }\n  some: { type: log, severity: error }\n";
        let rules = |rules: &str| format!("{channels}alerts:\n  {rules}");
        warned(channels, &[]);
        warned(&rules("a: { when: store_down }"), &[]);
        warned(
            &rules("a: { when: store_down, notify: [all] }"),
            &[(3, "no alert notifies the channel `some`")],
        );
        warned(
            &rules("a: { when: store_down, notify: [all, some] }"),
            &[(5, "the channel `some` is notified from `error` on, and this alert is `warning`")],
        );
        warned(&rules("a: { when: store_down, severity: critical, notify: [all, some] }"), &[]);
        let escalated =
            "a: { when: store_down, notify: [all], escalate: { after: 1m, notify: [some] } }";
        warned(&rules(escalated), &[]);
        warned(
            &rules("a: { when: store_down, notify: [all], escalate: { after: 1m, notify: [] } }"),
            &[(3, "no alert notifies"), (5, "notifies nobody")],
        );
    }

    #[test]
    fn maintenance_windows_follow_the_time_zone_of_their_file() {
        let text = "
timezone: Europe/Madrid
maintenance:
  nightly: { weekdays: sunday, hours: 02:00-06:00, alerts: [a], labels: { provider: amadeus } }
alerts: { a: { when: store_down }, b: { when: store_down } }";
        let policy = compile_alerts(&[source(text)]).unwrap();
        let window = &policy.maintenance[0];
        let at = |text: &str| {
            let at: jiff::Timestamp = text.parse().unwrap();
            Timestamp::from_ms(u64::try_from(at.as_millisecond()).unwrap())
        };
        let covers = |rule: &str, provider: &'static str, text: &str| {
            window.covers(rule, |name| Some(provider).filter(|_| name == "provider"), at(text))
        };
        // In winter the zone is an hour ahead of UTC, in summer two.
        assert!(covers("a", "amadeus", "2026-12-06T01:00:00Z"));
        assert!(!covers("a", "amadeus", "2026-12-06T00:59:59Z"));
        assert!(covers("a", "amadeus", "2026-07-05T00:00:00Z"));
        assert!(!covers("a", "amadeus", "2026-07-05T04:00:00Z"));
        assert!(!covers("a", "amadeus", "2026-12-07T01:00:00Z"), "a monday");
        assert!(!covers("b", "amadeus", "2026-12-06T01:00:00Z"));
        assert!(!covers("a", "expedia", "2026-12-06T01:00:00Z"));
    }

    #[test]
    fn problems_of_maintenance_windows_are_told_where_they_stand() {
        let window = |keys: &str| {
            format!("alerts: {{ a: {{ when: store_down }} }}\nmaintenance:\n  w: {{ {keys} }}")
        };
        check(&window("hours: 02:00-06:00"), &[]);
        check(&window("alerts: [a]"), &[(3, "missing times")]);
        check(&window("hours: 2-6"), &[(3, "invalid hours `2-6`")]);
        check(&window("weekdays: sundey"), &[(3, "did you mean `sunday`?")]);
        check(&window("dates: 2027-02-28, weekdays: monday"), &[(3, "never active")]);
        check(&window("hours: 02:00-06:00, alerts: [c]"), &[(3, "unknown alert `c`")]);
        check(&window("hours: 02:00-06:00, alerts: []"), &[(3, "`alerts` is empty")]);
        check(&window("hours: 02:00-06:00, rule: a"), &[(3, "unknown key `rule`")]);
        let zone = format!("timezone: Europe/Atlantis\n{}", window("hours: 02:00-06:00"));
        check(&zone, &[(1, "unknown time zone `Europe/Atlantis`")]);
        let message = "none of its alerts has the label `caller`, so the window holds back nothing";
        check(&window("hours: 02:00-06:00, labels: { caller: ann }"), &[(3, message)]);
        let text =
            "alerts: { a: { when: burst, above: 9 }, b: { when: risk, above: 9 } }\nmaintenance:
  one: { hours: 02:00-06:00, labels: { caller: ann, domain: d } }
  two: { hours: 02:00-06:00, labels: { caller: ann, domian: d } }
  three: { hours: 02:00-06:00, alerts: [b], labels: { domain: d } }";
        check(text, &[(4, "has the label `domian`"), (5, "has the label `domain`")]);
        check(text, &[(4, "did you mean `domain`?"), (5, "holds back nothing")]);
    }

    #[test]
    fn windows_whose_dates_are_past_are_told_at_a_time() {
        let told = |dates: &str, now: &str| {
            let text = format!(
                "alerts: {{ a: {{ when: store_down }} }}\nmaintenance:\n  w: {{ {dates} }}"
            );
            let now: jiff::Timestamp = now.parse().unwrap();
            let now = u64::try_from(now.as_millisecond()).map(Timestamp::from_ms).unwrap();
            let checks = AlertChecks { need: &|_| Ok(()), policies: None, now: Some(now) };
            let warnings = compile_alerts_with(&[source(&text)], &checks).unwrap().warnings;
            warnings.iter().map(|one| text[one.span.clone()].to_owned()).collect::<Vec<_>>()
        };
        let (before, after) = ("2026-12-25T12:00:00Z", "2026-12-26T12:00:00Z");
        let night = "dates: 2026-12-24, hours: \"22:00-02:00\"";
        assert_eq!(told(night, before), [""; 0]);
        assert_eq!(told(night, after), ["2026-12-24"]);
        let several = "dates: [2025-01-01..2025-01-03, 2026-12-20]";
        assert_eq!(told(several, after), ["2025-01-01..2025-01-03, 2026-12-20"]);
        assert_eq!(told("dates: [2025-01-01, 2027-01-01]", after), [""; 0]);
        assert_eq!(told("dates: [2025-01-01, 01-01]", after), [""; 0]);
    }

    #[test]
    fn channels_that_cannot_be_used_are_told_where_they_stand() {
        let channel = |keys: &str| format!("channels:\n  a: {{ {keys} }}");
        let mail = "type: email, from: a@b.example, to: [c@d.example]";
        for url in ["https://x:99999/", "https://x:0/", "https://300.1.1.1/", "https://a..b/"] {
            check(&channel(&format!("type: slack, url: '{url}'")), &[(2, "invalid address")]);
        }
        check(&channel(&format!("{mail}, host: 'mx:25'")), &[(2, "invalid host `mx:25`")]);
        check(&channel(&format!("{mail}, host: mx, port: 0")), &[(2, "invalid port 0")]);
        check(&channel(&format!("{mail}, host: mx, port: 65536")), &[(2, "from 0 to 65535")]);
        let missing = |need: AlertNeed<'_>| Err(format!("missing {need:?}"));
        let checks = AlertChecks { need: &missing, policies: None, now: None };
        let text = channel(
            "type: webhook, url: 'http://127.1/', secret_file: /s, ca_file: /c, severity: info",
        );
        let policy = compile_alerts_with(&[source(&text)], &checks).unwrap();
        let told: Vec<_> =
            policy.warnings.iter().map(|one| (&text[one.span.clone()], &*one.message)).collect();
        let expected = [
            ("'http://127.1/'", "missing PublicHost(\"127.0.0.1\")"),
            ("/s", "missing Secrets(\"/s\")"),
            ("/c", "missing Authorities(\"/c\")"),
        ];
        assert_eq!(told, expected);
        let text = channel("type: slack, url: 'http://127.1/', allow_private_addresses: true");
        assert!(compile_alerts_with(&[source(&text)], &checks).unwrap().warnings.is_empty());
        let text = channel(&format!("{mail}, host: mx"));
        let problems = compile_alerts_with(&[source(&text)], &checks).unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:?}");
    }

    #[test]
    fn groups_of_notifications_are_read_and_their_problems_told() {
        let hook = |more: &str| {
            format!(
                "channels:\n  a: {{ type: webhook, url: 'https://a.example', {more} }}\nalerts: {{ s: {{ when: store_down }} }}"
            )
        };
        let grouping = |more: &str| {
            let policy = compile_alerts(&[source(&hook(more))]).unwrap();
            policy.channels[0]
                .grouping
                .clone()
                .map(|found| (found.by.len(), found.wait, found.interval))
        };
        let seconds = Duration::from_secs;
        assert_eq!(grouping("group_by: [rule, caller]"), Some((2, seconds(30), seconds(300))));
        let digest = "group_by: [], group_wait: 1h, group_interval: 1d";
        assert_eq!(grouping(digest), Some((0, seconds(3_600), seconds(86_400))));
        assert_eq!(grouping("resolved: true"), None);
        check(&hook("group_by: [user]"), &[(2, "no alert has the label `user`")]);
        check(&hook("group_by: [rule, rule]"), &[(2, "`rule` is named twice")]);
        check(&hook("group_wait: 5s"), &[(2, "`group_wait` needs `group_by`")]);
        check(&hook("group_by: [], group_interval: 2d"), &[(2, "exceeds the maximum of 86400s")]);
        check(&hook("group_by: [], group_wait: soon"), &[(2, "soon")]);
        check(
            "channels:\n  a: { type: log, group_by: [rule] }\nalerts: { s: { when: store_down } }",
            &[(2, "`group_by` has no effect in a channel of this type")],
        );
    }

    #[test]
    fn files_share_channels_and_no_names() {
        let one = source("channels: { ops: { type: log } }\nalerts: { a: { when: store_down } }");
        let other = source("alerts: { b: { when: store_down, notify: [ops] } }");
        assert_eq!(compile_alerts(&[one.clone(), other]).unwrap().rules.len(), 2);
        let problems = compile_alerts(&[one.clone(), one]).unwrap_err();
        assert_eq!(problems.len(), 2);
    }
}
