//! The book: open alerts, and notifications that are to be sent. Pure: time is passed in.
//!
//! For a fleet, all sidecars change one book. An alert is open while any of them holds it; the change that opens or closes
//! it also adds its notifications, so they are added once. A sidecar that ends or is killed no longer renews what it
//! holds. A notification stays in the book until it was sent: who takes it has it for a time, then any sidecar may take
//! it again.

mod alert;
mod answers;
mod counts;
mod kept;
mod merging;
mod outage;
mod outbox;
mod people;
mod silence;
mod taking;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::labels::AlertId;
use crate::clock::Timestamp;
use crate::policy::{AlertEscalation, AlertPolicy, AlertSignal};

use outage::{Deed, Outage};
use outbox::Outbox;

pub use alert::{ClosedAlert, Delivery, Firing, Notification, NotificationKind, OpenAlert};
pub use answers::Claimed;
pub use kept::{AlertAnswer, ProviderCount};
pub use silence::Silence;

/// How long a sidecar holds an alert without renewing it.
const HELD: Duration = Duration::from_secs(30);

/// How long an event is open.
const EVENT_OPEN: Duration = Duration::from_secs(24 * 3_600);

/// Maximum number of open alerts. The oldest event makes place for a new alert; without events the new one is dropped,
/// and counted.
const OPEN_MAX: usize = 1_000;

/// Open alerts, and notifications that are to be sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Book {
    open: BTreeMap<AlertId, OpenAlert>,
    outbox: Outbox,
    #[serde(default)]
    silences: Vec<Silence>,
    /// Callers that rules have restricted, until the time is over.
    #[serde(default)]
    answers: Vec<AlertAnswer>,
    /// What providers have counted themselves.
    #[serde(default)]
    counts: Vec<ProviderCount>,
    /// After Redis has lost the book: alerts and silences that had ended in the outage, which no other sidecar may restore, and
    /// until when that is known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    ended: BTreeMap<String, u64>,
    /// Alerts that were not opened because there are too many.
    dropped: u64,
    /// Alerts that were closed by the last change; the keeper takes them to the history.
    #[serde(skip)]
    closed: Vec<ClosedAlert>,
    /// Alerts that were opened by the last change, for their answers.
    #[serde(skip)]
    opened: Vec<AlertId>,
    /// What is noted while it takes the place of the book in Redis.
    #[serde(skip)]
    outage: Option<Outage>,
}

impl Book {
    /// Opens, renews and closes alerts, after what fires on one sidecar now.
    pub fn sync(
        &mut self,
        sidecar: &str,
        (policy, firing): (&AlertPolicy, &[Firing<'_>]),
        now: Timestamp,
    ) {
        if let Some(outage) = &mut self.outage {
            sidecar.clone_into(&mut outage.sidecar);
        }
        let until_ms = now.after(HELD).as_ms();
        // Renewed when half of the time is over, so that most changes write nothing.
        let renewed_ms = now.after(HELD / 2).as_ms();
        for one in firing {
            if let Some(open) = self.open.get_mut(&one.id) {
                let held = open.holders.get_or_insert_default();
                if held.get(sidecar).is_none_or(|until| *until < renewed_ms) {
                    held.insert(sidecar.to_owned(), until_ms);
                }
                continue;
            }
            let holders = Some(BTreeMap::from([(sidecar.to_owned(), until_ms)]));
            self.open((policy, one), |alert| alert.holders = holders, now);
        }
        let firing: BTreeSet<&AlertId> = firing.iter().map(|one| &one.id).collect();
        let ended = |alert: &mut OpenAlert| match &mut alert.holders {
            Some(holders) => {
                holders.retain(|holder, until| {
                    now.as_ms() < *until && (holder != sidecar || firing.contains(&alert.id))
                });
                holders.is_empty()
            }
            None => alert.expires_ms.is_some_and(|end| end <= now.as_ms()),
        };
        let ended: Vec<AlertId> = self
            .open
            .values_mut()
            .filter_map(|alert| ended(alert).then(|| alert.id.clone()))
            .collect();
        for id in ended {
            self.close(policy, &id, (None, now));
        }
        self.silences.retain(|silence| now.as_ms() < silence.until_ms);
        self.ended.retain(|_, until_ms| now.as_ms() < *until_ms);
        self.tell_again((policy, sidecar), now);
    }

    /// Tells what is due of open alerts: what a silence no longer holds back, repetitions, escalations. Only of
    /// those that the sidecar holds: after an outage, it may have told them without Redis.
    fn tell_again(&mut self, (policy, sidecar): (&AlertPolicy, &str), now: Timestamp) {
        let silences = &self.silences;
        for alert in self.open.values_mut() {
            let is_silenced = silences.iter().any(|silence| silence.covers(alert, now));
            let is_silenced = is_silenced || held_back(policy, alert, now);
            let is_held = |holders: &BTreeMap<String, u64>| holders.contains_key(sidecar);
            let is_held = alert.holders.as_ref().is_some_and(is_held);
            if is_silenced || !is_held || alert.resolved_by.is_some() {
                continue;
            }
            if !alert.told {
                self.outbox.tell(policy, NotificationKind::Firing, (alert, now));
                continue;
            }
            let Some(rule) = policy.rule(&alert.rule).filter(|_| alert.acknowledged_by.is_none())
            else {
                continue;
            };
            let age = |since_ms| now.since(Timestamp::from_ms(since_ms));
            let is_due = |after: &AlertEscalation| after.after <= age(alert.opened_ms);
            if let Some(escalation) =
                rule.escalate.as_ref().filter(|_| alert.escalated_to.is_empty())
                && is_due(escalation)
            {
                self.outbox.escalate(policy, &escalation.notify, (alert, now));
            } else if rule.repeat.is_some_and(|repeat| repeat <= age(alert.told_ms)) {
                self.outbox.tell(policy, NotificationKind::Repeated, (alert, now));
            }
        }
    }

    /// Opens an alert for an event. An open one for the same event is replaced: it is a new one, such as that of the next
    /// window.
    pub fn event(&mut self, policy: &AlertPolicy, firing: &Firing<'_>, now: Timestamp) {
        if let Some(alert) = self.open.remove(&firing.id) {
            self.record_closed(ClosedAlert { alert, closed_ms: now.as_ms(), resolved_by: None });
        }
        let expires_ms = Some(now.after(EVENT_OPEN).as_ms());
        self.open((policy, firing), |alert| alert.expires_ms = expires_ms, now);
    }

    fn open(
        &mut self,
        (policy, firing): (&AlertPolicy, &Firing<'_>),
        set: impl FnOnce(&mut OpenAlert),
        now: Timestamp,
    ) {
        if OPEN_MAX <= self.open.len() && !self.end_oldest_event(now) {
            self.dropped += 1;
            return;
        }
        let mut alert = OpenAlert::new(firing, now.as_ms());
        set(&mut alert);
        if !self.is_silenced(policy, &alert, now) {
            self.outbox.tell(policy, NotificationKind::Firing, (&mut alert, now));
        }
        if firing.rule.answer.is_some() {
            self.opened.push(firing.id.clone());
        }
        self.open.insert(firing.id.clone(), alert);
    }

    /// Ends the event that is open for longest, without a notification; false if none is open.
    fn end_oldest_event(&mut self, now: Timestamp) -> bool {
        let events = self.open.values().filter(|alert| alert.holders.is_none());
        let oldest = events.min_by_key(|alert| alert.opened_ms).map(|alert| alert.id.clone());
        let Some(alert) = oldest.and_then(|id| self.open.remove(&id)) else { return false };
        self.record_closed(ClosedAlert { alert, closed_ms: now.as_ms(), resolved_by: None });
        true
    }

    /// Closes an alert; false if it is not open.
    pub fn close(
        &mut self,
        policy: &AlertPolicy,
        id: &AlertId,
        (resolved_by, now): (Option<String>, Timestamp),
    ) -> bool {
        let Some(alert) = self.open.remove(id) else { return false };
        if alert.resolved_by.is_some() {
            // It has been told, and is in the history.
            return true;
        }
        let is_event = alert.signal == AlertSignal::Threshold.as_str();
        let is_told = alert.told && (!is_event || resolved_by.is_some());
        self.tell_end(policy, (&alert, is_told), now);
        self.record_closed(ClosedAlert { alert, closed_ms: now.as_ms(), resolved_by });
        true
    }

    /// Tells that an alert is over, if it was told. That is not held back: a receiver that knows of an alert, such as one that
    /// keeps an incident open, is told of its end.
    fn tell_end(
        &mut self,
        policy: &AlertPolicy,
        (alert, is_told): (&OpenAlert, bool),
        now: Timestamp,
    ) {
        match (self.is_silenced(policy, alert, now), is_told) {
            (false, true) => {
                self.outbox.notify(policy, NotificationKind::Resolved, (alert, now));
            }
            (false, false) => {}
            (true, true) => self.outbox.end_held_back(policy, (alert, now)),
            // After the silence they would be told of what is over.
            (true, false) => self.outbox.withdraw(&alert.id, now),
        }
    }

    /// What is due and no silence or maintenance window holds back, at most so many messages of each of the channels, which the
    /// caller now has for a time.
    pub fn take(
        &mut self,
        policy: &AlertPolicy,
        channels: &[(&str, usize)],
        now: Timestamp,
    ) -> Vec<Delivery> {
        let silences = &self.silences;
        let is_held = |one: &Notification| {
            !matches!(one.kind, NotificationKind::Test | NotificationKind::Resolved)
                && (silences.iter().any(|silence| silence.covers(&one.alert, now))
                    || held_back(policy, &one.alert, now))
        };
        self.outbox.take((policy, channels), is_held, now)
    }

    /// Sends groups at once from now on, because this book ends with the process.
    pub fn end_waits(&mut self) {
        self.outbox.end_waits();
    }

    /// Removes what was sent: a notification, or a message of several.
    pub fn sent(&mut self, id: &str) {
        if !self.outbox.has(id) {
            self.note(|| Deed::Sent(id.to_owned()));
        }
        self.outbox.sent(id);
    }

    /// Notes a failed attempt: the notification is due again at `next`. None: it was the last attempt.
    pub fn failed(&mut self, id: &str, error: &str, next: Option<Timestamp>) {
        self.outbox.failed(id, error, next);
    }

    /// Open alerts.
    pub fn open_alerts(&self) -> impl Iterator<Item = &OpenAlert> {
        self.open.values().filter(|alert| alert.resolved_by.is_none())
    }

    /// Whether a silence or a maintenance window holds back the notifications of an alert now.
    pub fn is_silenced(&self, policy: &AlertPolicy, alert: &OpenAlert, now: Timestamp) -> bool {
        self.silences.iter().any(|silence| silence.covers(alert, now))
            || held_back(policy, alert, now)
    }

    /// Notifications that could not be sent.
    pub fn dead(&self) -> impl Iterator<Item = &Notification> {
        self.outbox.dead()
    }

    /// Number of notifications that are to be sent.
    pub fn pending(&self) -> usize {
        self.outbox.pending()
    }

    /// Alerts that were not opened, because too many are open.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes the numbers of notifications, by channel, that are dead because too many were to be sent.
    pub fn take_unsent(&mut self) -> BTreeMap<String, u64> {
        self.outbox.take_unsent()
    }

    /// Leaves what waits for removed channels dead. Returns how many of each, and whether attempts are under way, after which
    /// more may wait.
    pub fn remove_channels(
        &mut self,
        removed: &BTreeSet<Arc<str>>,
        now: Timestamp,
    ) -> (BTreeMap<String, u64>, bool) {
        self.outbox.remove_channels(removed, now)
    }

    /// Takes the alerts that were closed.
    pub fn take_closed(&mut self) -> Vec<ClosedAlert> {
        std::mem::take(&mut self.closed)
    }

    /// The book as a text.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers can be written as JSON")
    }

    /// The book of a text; None if it is none, such as that of another version.
    pub fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// Whether a maintenance window holds back the notifications of an alert now.
fn held_back(policy: &AlertPolicy, alert: &OpenAlert, now: Timestamp) -> bool {
    let label = |name: &str| alert.labels.get(name);
    policy.maintenance.iter().any(|window| window.covers(&alert.rule, label, now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::labels::Labels;
    use crate::policy::{Source, compile_alerts};

    const FILE: &str = "
channels: { ops: { type: log }, errors: { type: log, severity: error }, quiet: { type: log, resolved: false } }
alerts:
  down: { when: store_down, severity: critical }
  quota: { when: threshold }";

    fn policy() -> AlertPolicy {
        let source = Source { path: "alerts.yaml".to_owned(), text: FILE.to_owned() };
        compile_alerts(&[source]).unwrap()
    }

    fn firing<'p>(policy: &'p AlertPolicy, rule: &str, labels: Labels) -> Firing<'p> {
        let id = AlertId::new(rule, &labels);
        Firing { id, rule: policy.rule(rule).unwrap(), labels, value: None }
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::from_ms(second * 1_000)
    }

    /// The channels and kinds of the notifications that are due.
    fn taken(book: &mut Book, second: u64) -> Vec<String> {
        let channels = [("ops", 100), ("errors", 100), ("quiet", 100)];
        let taken = taken_of(book.take(&policy(), &channels, at(second)));
        let mut shown: Vec<_> =
            taken.iter().map(|one| format!("{} {:?}", one.channel, one.kind)).collect();
        shown.sort();
        taken.iter().for_each(|one| book.sent(&one.id));
        shown
    }

    /// The notifications of channels without groups.
    fn taken_of(deliveries: Vec<Delivery>) -> Vec<Notification> {
        deliveries.into_iter().flat_map(|delivery| delivery.notifications).collect()
    }

    #[test]
    fn an_alert_is_open_while_any_sidecar_holds_it_and_is_told_once() {
        let policy = policy();
        let down = [firing(&policy, "down", Labels::new())];
        let mut book = Book::default();
        for sidecar in ["a", "b", "c"] {
            book.sync(sidecar, (&policy, &down), at(0));
        }
        assert_eq!(taken(&mut book, 0), ["errors Firing", "ops Firing", "quiet Firing"]);
        book.sync("a", (&policy, &[]), at(1));
        book.sync("b", (&policy, &[]), at(2));
        assert_eq!((book.open.len(), taken(&mut book, 2).len()), (1, 0));
        book.sync("c", (&policy, &[]), at(3));
        assert_eq!(taken(&mut book, 3), ["errors Resolved", "ops Resolved"]);
        let closed = book.take_closed();
        assert_eq!((closed[0].closed_ms, closed[0].resolved_by.as_deref()), (3_000, None));
    }

    #[test]
    fn what_a_killed_sidecar_held_is_closed_by_another() {
        let policy = policy();
        let down = [firing(&policy, "down", Labels::new())];
        let mut book = Book::default();
        book.sync("a", (&policy, &down), at(0));
        book.sync("b", (&policy, &[]), at(29));
        assert_eq!(book.open.len(), 1);
        book.sync("b", (&policy, &[]), at(30));
        assert_eq!(book.open.len(), 0);
    }

    #[test]
    fn what_holds_is_renewed_and_most_changes_change_nothing() {
        let policy = policy();
        let down = [firing(&policy, "down", Labels::new())];
        let mut book = Book::default();
        book.sync("a", (&policy, &down), at(0));
        let before = book.clone();
        book.sync("a", (&policy, &down), at(14));
        assert_eq!(book, before);
        for second in 15..200 {
            book.sync("a", (&policy, &down), at(second));
        }
        assert_eq!(book.open.len(), 1);
        assert_eq!(taken(&mut book, 200).len(), 3, "of the first time");
    }

    #[test]
    fn each_event_is_told_once_and_expires_quietly() {
        let policy = policy();
        let labels = || Labels::new().with("caller", Some("ann")).with("percent", Some("80"));
        let quota = firing(&policy, "quota", labels());
        let mut book = Book::default();
        book.event(&policy, &quota, at(0));
        book.sync("a", (&policy, &[]), at(1));
        assert_eq!(taken(&mut book, 1), ["ops Firing", "quiet Firing"]);
        book.event(&policy, &quota, at(60));
        assert_eq!(taken(&mut book, 60).len(), 2, "of the next window");
        assert_eq!((book.open.len(), book.take_closed().len()), (1, 1));
        book.sync("a", (&policy, &[]), at(60 + 24 * 3_600));
        assert_eq!((book.open.len(), taken(&mut book, 90_000).len()), (0, 0));
    }

    #[test]
    fn the_number_of_open_alerts_and_notifications_is_bounded() {
        let policy = policy();
        let mut book = Book::default();
        let of_caller = |rule, caller: usize| {
            firing(&policy, rule, Labels::new().with("caller", Some(&caller.to_string())))
        };
        for caller in 0..2 * OPEN_MAX {
            book.event(&policy, &of_caller("quota", caller), at(caller as u64));
        }
        assert_eq!(
            (book.open.len(), book.dropped, book.take_closed().len()),
            (OPEN_MAX, 0, OPEN_MAX)
        );
        assert!(book.pending() <= 2 * OPEN_MAX);
        assert!(
            book.open_alerts().all(|alert| OPEN_MAX as u64 * 1_000 <= alert.opened_ms),
            "the newest"
        );
        let down: Vec<_> = (0..OPEN_MAX + 1).map(|number| of_caller("down", number)).collect();
        book.sync("a", (&policy, &down), at(2_000));
        let rules: BTreeSet<&str> = book.open_alerts().map(|alert| alert.rule.as_str()).collect();
        assert_eq!((rules, book.open.len(), book.dropped), (BTreeSet::from(["down"]), OPEN_MAX, 1));
    }

    #[test]
    fn a_book_survives_its_text() {
        let policy = policy();
        let mut book = Book::default();
        book.sync("a", (&policy, &[firing(&policy, "down", Labels::new())]), at(5));
        assert_eq!(Book::decode(&book.encode()), Some(book));
        assert_eq!(Book::decode("{"), None);
    }
}
