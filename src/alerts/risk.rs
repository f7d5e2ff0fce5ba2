//! The risk of callers: a number from 0 to 100 with its reasons, from the alerts about them.
//!
//! Each rule about abuse has a share of the risk of the callers that its alerts name. It counts in full while its alert is
//! open, and half as much with each hour since that was closed; of several alerts of a rule the highest share counts. Shares are
//! joined like the chances of independent causes:
//!
//! `risk = 100 x (1 - product of (1 - share x 0.5^hours / 100))`
//!
//! So a rule alone never exceeds its share, each further one adds to it, and 100 is not exceeded. An alert that a person has
//! resolved does not count. Nothing is kept for it: it is computed from what the book has, at most 1,000 open alerts and 500
//! closed ones, which are those of the fleet.

use std::collections::BTreeMap;
use std::time::Duration;

use super::book::{ClosedAlert, OpenAlert};
use super::keeper::AlertList;
use super::labels::AlertId;
use crate::clock::Timestamp;
use crate::policy::AlertPolicy;

/// The time in which a share of a closed alert halves.
const HALF_LIFE: Duration = Duration::from_secs(3_600);

/// Shares below this one are no longer a reason.
const SHARE_MIN: f64 = 1.0;

/// The risk of a caller.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Risk {
    pub caller: String,
    /// From 0 to 100.
    pub value: f64,
    /// The highest share first.
    pub reasons: Vec<RiskReason>,
}

/// What a rule adds to the risk of a caller.
#[derive(Clone, Debug, PartialEq)]
pub struct RiskReason {
    pub alert: AlertId,
    pub rule: String,
    /// A line for people.
    pub title: String,
    /// From 0 to 100: what the risk would be without other reasons.
    pub share: f64,
    pub since: Timestamp,
    /// When the alert was closed; None: it is open.
    pub until: Option<Timestamp>,
}

/// The risks of all callers that have one, the highest first.
pub fn risks(policy: &AlertPolicy, list: &AlertList) -> Vec<Risk> {
    let mut callers: BTreeMap<&str, BTreeMap<&str, RiskReason>> = BTreeMap::new();
    let open = list.book.open_alerts().map(|alert| (alert, None));
    let closed = list.closed.iter().filter(|closed| closed.resolved_by.is_none());
    let closed = closed.map(|ClosedAlert { alert, closed_ms, .. }| (alert, Some(*closed_ms)));
    for (alert, closed_ms) in open.chain(closed) {
        let until = closed_ms.map(Timestamp::from_ms);
        let Some((caller, reason)) = reason(policy, (alert, until), list.now) else { continue };
        let reasons = callers.entry(caller).or_default();
        let known = reasons.get(alert.rule.as_str());
        if known.is_none_or(|known| known.share < reason.share) {
            reasons.insert(&alert.rule, reason);
        }
    }
    let risk = |(caller, reasons): (&str, BTreeMap<_, RiskReason>)| {
        let mut reasons: Vec<RiskReason> = reasons.into_values().collect();
        reasons.sort_by(|one, other| other.share.total_cmp(&one.share));
        let safe: f64 = reasons.iter().map(|reason| 1.0 - reason.share / 100.0).product();
        Risk { caller: caller.to_owned(), value: 100.0 * (1.0 - safe), reasons }
    };
    let mut risks: Vec<Risk> = callers.into_iter().map(risk).collect();
    risks.sort_by(|one, other| other.value.total_cmp(&one.value));
    risks
}

/// The caller of an alert, and what it adds to its risk; None if that is nothing.
fn reason<'a>(
    policy: &AlertPolicy,
    (alert, until): (&'a OpenAlert, Option<Timestamp>),
    now: Timestamp,
) -> Option<(&'a str, RiskReason)> {
    let (rule, caller) = (policy.rule(&alert.rule)?, alert.labels.get("caller")?);
    let closed_for = until.map_or(Duration::ZERO, |until| now.since(until));
    let part = 0.5_f64.powf(closed_for.as_secs_f64() / HALF_LIFE.as_secs_f64());
    let share = f64::from(rule.risk) * part;
    let reason = || RiskReason {
        alert: alert.id.clone(),
        rule: alert.rule.clone(),
        title: alert.title(),
        share,
        since: Timestamp::from_ms(alert.opened_ms),
        until,
    };
    (rule.signal.as_str() == alert.signal && SHARE_MIN <= share).then(|| (caller, reason()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::{Book, Firing, Labels};
    use crate::policy::{Source, compile_alerts};

    const HOUR_MS: u64 = 3_600_000;

    fn policy() -> AlertPolicy {
        let text = "alerts:
  denied: { when: denials, above: 5, risk: 50 }
  burst: { when: burst, above: 5, risk: 20 }
  probing: { when: probing, above: 50 }
  quota: { when: threshold }";
        let source = Source { path: "alerts.yaml".to_owned(), text: text.to_owned() };
        compile_alerts(&[source]).unwrap()
    }

    fn alert(policy: &AlertPolicy, rule: &str, caller: &str) -> OpenAlert {
        let labels = Labels::new().with("caller", Some(caller));
        let (id, rule) = (AlertId::new(rule, &labels), policy.rule(rule).unwrap());
        OpenAlert::new(&Firing { id, rule, labels, value: Some(9.0) }, 0)
    }

    /// The risks at an hour, of alerts that were closed at these hours.
    fn at(hour: u64, closed: &[(OpenAlert, u64, Option<&str>)]) -> Vec<(String, f64)> {
        let closed = closed.iter().map(|(alert, hour, by)| ClosedAlert {
            alert: alert.clone(),
            closed_ms: hour * HOUR_MS,
            resolved_by: by.map(str::to_owned),
        });
        let (closed, now) = (closed.collect(), Timestamp::from_ms(hour * HOUR_MS));
        let list = AlertList { book: Book::default(), closed, now, of_fleet: false };
        let rounded = |risk: Risk| (risk.caller, (risk.value * 10.0).round() / 10.0);
        risks(&policy(), &list).into_iter().map(rounded).collect()
    }

    #[test]
    fn shares_are_joined_and_halve_with_each_hour() {
        let policy = policy();
        let of = |rule, caller| (alert(&policy, rule, caller), 1, None);
        let closed = [of("denied", "ann"), of("burst", "ann"), of("probing", "bob")];
        let named = |callers: &[(&str, f64)]| -> Vec<(String, f64)> {
            callers.iter().map(|(caller, value)| ((*caller).to_owned(), *value)).collect()
        };
        // 1 - 0.5 x 0.8.
        assert_eq!(at(1, &closed), named(&[("ann", 60.0), ("bob", 50.0)]));
        // 1 - 0.75 x 0.9.
        assert_eq!(at(2, &closed), named(&[("ann", 32.5), ("bob", 25.0)]));
        assert_eq!(at(12, &closed), []);
    }

    #[test]
    fn the_highest_of_a_rule_counts_and_neither_events_nor_what_a_person_has_resolved() {
        let policy = policy();
        let closed = [
            (alert(&policy, "denied", "ann"), 0, None),
            (alert(&policy, "denied", "ann"), 1, None),
            (alert(&policy, "burst", "ann"), 1, Some("ops")),
            (alert(&policy, "quota", "bob"), 1, None),
        ];
        assert_eq!(at(1, &closed), [("ann".to_owned(), 50.0)]);
    }
}
