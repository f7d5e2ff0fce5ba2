//! Notifications that are to be sent, and those that could not be sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::alert::{Notification, NotificationKind, OpenAlert};
use crate::alerts::labels::AlertId;
use crate::clock::Timestamp;
use crate::policy::{AlertChannel, AlertPolicy, AlertSeverity};

/// How long a notification is with the sidecar that took it: more than an attempt takes.
const TAKEN: Duration = Duration::from_secs(60);

/// Maximum number of notifications of one channel that are to be sent; older ones are kept as dead.
const PENDING_MAX: usize = 500;

/// Maximum number of all notifications that are to be sent: the book is written as a whole.
const PENDING_OF_ALL_MAX: usize = 2_000;

/// Maximum number of notifications that could not be sent; the oldest is dropped.
const DEAD_MAX: usize = 200;

/// Notifications.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outbox {
    pending: VecDeque<Notification>,
    dead: VecDeque<Notification>,
    /// The number of the next notification.
    next: u64,
    /// By channel, notifications that are dead because too many were to be sent, until they are told.
    #[serde(skip)]
    unsent: BTreeMap<String, u64>,
}

impl Outbox {
    /// Adds the notifications of an alert.
    pub fn notify(
        &mut self,
        policy: &AlertPolicy,
        kind: NotificationKind,
        (alert, now): (&OpenAlert, Timestamp),
    ) {
        for channel in channels(policy, kind, alert) {
            self.add(kind, &channel.name, (alert, now));
        }
    }

    /// Adds the notifications of the end of an alert that is held back: for receivers that may know of it. What is still to be
    /// told of it is withdrawn.
    pub fn end_held_back(&mut self, policy: &AlertPolicy, (alert, now): (&OpenAlert, Timestamp)) {
        let is_unknown = |one: &&Notification| {
            let opens = match one.kind {
                NotificationKind::Firing => true,
                NotificationKind::Escalated => !alert.notify.contains(&one.channel),
                _ => false,
            };
            one.alert.id == alert.id && opens && !one.may_be_known()
        };
        let unknown = self.pending.iter().filter(is_unknown).map(|one| one.channel.clone());
        let unknown: BTreeSet<String> = unknown.collect();
        self.withdraw(&alert.id, now);
        for channel in channels(policy, NotificationKind::Resolved, alert) {
            if !unknown.contains(&*channel.name) {
                self.add(NotificationKind::Resolved, &channel.name, (alert, now));
            }
        }
    }

    /// Adds the notifications of an alert, and notes that it was told.
    pub fn tell(
        &mut self,
        policy: &AlertPolicy,
        kind: NotificationKind,
        (alert, now): (&mut OpenAlert, Timestamp),
    ) {
        self.notify(policy, kind, (&*alert, now));
        (alert.told, alert.told_ms) = (true, now.as_ms());
    }

    /// Adds the notifications of an escalation.
    pub fn escalate(
        &mut self,
        policy: &AlertPolicy,
        channels: &[Arc<str>],
        (alert, now): (&mut OpenAlert, Timestamp),
    ) {
        for channel in channels.iter().filter(|name| policy.channel(name).is_some()) {
            self.add(NotificationKind::Escalated, channel, (&*alert, now));
        }
        alert.escalated_to = channels.iter().map(|name| name.to_string()).collect();
    }

    /// Adds a notification.
    fn add(
        &mut self,
        kind: NotificationKind,
        channel: &str,
        (alert, now): (&OpenAlert, Timestamp),
    ) {
        let (number, id) = (self.next, &alert.id);
        self.next += 1;
        self.pending.push_back(Notification {
            id: format!("ntf_{id}_{}_{number}", now.as_ms()),
            kind,
            channel: channel.to_owned(),
            alert: alert.clone(),
            at_ms: now.as_ms(),
            attempts: 0,
            due_ms: now.as_ms(),
            error: None,
            taken: false,
        });
        let of_channel = self.pending.iter().filter(|one| one.channel == channel).count();
        let oldest = match () {
            () if PENDING_MAX < of_channel => {
                self.pending.iter().position(|one| one.channel == channel)
            }
            () if PENDING_OF_ALL_MAX < self.pending.len() => Some(0),
            () => return,
        };
        if let Some(channel) = oldest.map(|index| self.pending[index].channel.clone()) {
            *self.unsent.entry(channel).or_default() += 1;
        }
        self.bury(oldest, "too many notifications are to be sent");
    }

    /// Notifications that are due and not held back, at most so many of each channel, which the caller now has for a time.
    /// Those of one alert and channel keep their order: the next one waits until the one before was sent or is dead.
    pub fn take(
        &mut self,
        channels: &[(&str, usize)],
        is_held: impl Fn(&Notification) -> bool,
        now: Timestamp,
    ) -> Vec<Notification> {
        let mut left: BTreeMap<&str, usize> = channels.iter().copied().collect();
        let (mut before, mut due) = (BTreeSet::new(), Vec::new());
        for (index, one) in self.pending.iter().enumerate() {
            let is_first = before.insert((one.channel.as_str(), &one.alert.id));
            if !is_first || now.as_ms() < one.due_ms || is_held(one) {
                continue;
            }
            if let Some(left) = left.get_mut(one.channel.as_str()).filter(|left| 0 < **left) {
                *left -= 1;
                due.push(index);
            }
        }
        let take = |index: usize| {
            let one = &mut self.pending[index];
            (one.taken, one.due_ms) = (true, now.after(TAKEN).as_ms());
            one.clone()
        };
        due.into_iter().map(take).collect()
    }

    /// Removes the notifications of an alert that is over, but for those that tell of its end, and attempts that are under
    /// way.
    pub fn withdraw(&mut self, id: &AlertId, now: Timestamp) {
        let stays = |one: &Notification| {
            one.alert.id != *id || one.kind == NotificationKind::Resolved || one.is_under_way(now)
        };
        self.pending.retain(stays);
    }

    /// Removes a notification that was sent.
    pub fn sent(&mut self, id: &str) {
        self.pending.retain(|one| one.id != id);
    }

    /// Notes a failed attempt; without a next one, the notification is dead.
    pub fn failed(&mut self, id: &str, error: &str, next: Option<Timestamp>) {
        let Some(index) = self.pending.iter().position(|one| one.id == id) else { return };
        self.pending[index].attempts += 1;
        self.pending[index].taken = false;
        match next {
            Some(next) => {
                self.pending[index].due_ms = next.as_ms();
                self.pending[index].error = Some(error.to_owned());
            }
            None => self.bury(Some(index), error),
        }
    }

    /// Takes over the notifications of another one.
    pub fn adopt(&mut self, other: Self) {
        let is_new = |one: &Notification, known: &VecDeque<Notification>| {
            known.iter().all(|known| known.id != one.id)
        };
        let new: Vec<_> =
            other.pending.into_iter().filter(|one| is_new(one, &self.pending)).collect();
        self.pending.extend(new);
        self.dead.extend(other.dead);
        let spare = self.dead.len().saturating_sub(DEAD_MAX);
        self.dead.drain(..spare);
    }

    /// Sends a notification again that could not be sent; false if there is none of that id.
    pub fn resend(&mut self, id: &str, now: Timestamp) -> bool {
        let found = self.dead.iter().position(|one| one.id == id);
        let Some(mut one) = found.and_then(|index| self.dead.remove(index)) else { return false };
        (one.attempts, one.due_ms) = (0, now.as_ms());
        self.pending.push_back(one);
        true
    }

    /// Removes the notifications about a caller, and returns their number.
    pub fn erase(&mut self, caller: &str) -> usize {
        let before = self.pending.len() + self.dead.len();
        let is_other = |one: &Notification| one.alert.labels.get("caller") != Some(caller);
        self.pending.retain(is_other);
        self.dead.retain(is_other);
        before - self.pending.len() - self.dead.len()
    }

    /// Notifications that could not be sent.
    pub fn dead(&self) -> impl Iterator<Item = &Notification> {
        self.dead.iter()
    }

    /// Takes the numbers of those, by channel, that are dead because too many were to be sent.
    pub fn take_unsent(&mut self) -> BTreeMap<String, u64> {
        mem::take(&mut self.unsent)
    }

    /// Number of notifications that are to be sent.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    fn bury(&mut self, index: Option<usize>, error: &str) {
        let Some(mut one) = index.and_then(|index| self.pending.remove(index)) else { return };
        one.error = Some(error.to_owned());
        self.dead.push_back(one);
        if DEAD_MAX < self.dead.len() {
            self.dead.pop_front();
        }
    }
}

/// The channels that are notified of an alert. Of its end, also those to which it was escalated.
fn channels<'p>(
    policy: &'p AlertPolicy,
    kind: NotificationKind,
    alert: &OpenAlert,
) -> Vec<&'p AlertChannel> {
    let channel = |name: &String| policy.channel(name);
    let mut channels: Vec<_> = alert.notify.iter().filter_map(channel).collect();
    channels.retain(|channel| is_wanted(channel, kind, alert));
    if kind == NotificationKind::Resolved {
        let escalated = alert.escalated_to.iter().filter_map(channel);
        for channel in escalated.filter(|channel| channel.resolved) {
            if channels.iter().all(|known| known.name != channel.name) {
                channels.push(channel);
            }
        }
    }
    channels
}

/// Whether a channel is notified.
fn is_wanted(channel: &AlertChannel, kind: NotificationKind, alert: &OpenAlert) -> bool {
    let severity = AlertSeverity::parse(&alert.severity);
    let is_severe = severity.is_none_or(|severity| channel.severity <= severity);
    is_severe && (kind != NotificationKind::Resolved || channel.resolved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::Firing;
    use crate::alerts::labels::{AlertId, Labels};
    use crate::policy::{Source, compile_alerts};

    fn outbox(notifications: usize) -> Outbox {
        let text = "channels: { ops: { type: log }, other: { type: log } }\nalerts: { a: { when: store_down, notify: [ops] } }";
        let source = Source { path: "alerts.yaml".to_owned(), text: text.to_owned() };
        let policy = compile_alerts(&[source]).unwrap();
        let mut outbox = Outbox::default();
        for number in 0..notifications {
            let labels = Labels::new().with("caller", Some(&number.to_string()));
            let (id, rule) = (AlertId::new("a", &labels), &policy.rules[0]);
            let alert = OpenAlert::new(&Firing { id, rule, labels, value: None }, 0);
            outbox.notify(&policy, NotificationKind::Firing, (&alert, Timestamp::from_ms(0)));
        }
        outbox
    }

    fn take(outbox: &mut Outbox, channel: (&str, usize), ms: u64) -> Vec<Notification> {
        outbox.take(&[channel], |_| false, Timestamp::from_ms(ms))
    }

    #[test]
    fn what_was_taken_and_not_sent_is_taken_again() {
        let mut outbox = outbox(1);
        let mut taken = |ms| take(&mut outbox, ("ops", 4), ms);
        let first = taken(0);
        assert_eq!((first.len(), taken(59_999).len()), (1, 0));
        assert_eq!(taken(60_000)[0].id, first[0].id, "the receiver recognizes it");
        outbox.sent(&first[0].id);
        assert_eq!(outbox.pending(), 0);
    }

    #[test]
    fn a_channel_takes_as_many_as_it_can_and_no_other_ones() {
        let mut outbox = outbox(5);
        assert_eq!(take(&mut outbox, ("other", 4), 0).len(), 0);
        assert_eq!(take(&mut outbox, ("ops", 3), 0).len(), 3);
        assert_eq!(take(&mut outbox, ("ops", 3), 0).len(), 2);
    }

    #[test]
    fn what_failed_is_due_again_and_dead_in_the_end() {
        let mut outbox = outbox(1);
        let id = take(&mut outbox, ("ops", 1), 0).remove(0).id;
        outbox.failed(&id, "refused", Some(Timestamp::from_ms(500)));
        let again = take(&mut outbox, ("ops", 1), 500).remove(0);
        assert_eq!((again.attempts, again.error.as_deref()), (1, Some("refused")));
        outbox.failed(&id, "gone", None);
        let dead: Vec<_> = outbox.dead().map(|one| (one.attempts, one.error.as_deref())).collect();
        assert_eq!((dead, outbox.pending()), (vec![(2, Some("gone"))], 0));
    }

    #[test]
    fn both_lists_are_bounded() {
        let mut outbox = outbox(PENDING_MAX + 2 * DEAD_MAX);
        assert_eq!(outbox.take_unsent(), BTreeMap::from([("ops".to_owned(), 2 * DEAD_MAX as u64)]));
        assert_eq!((outbox.pending.len(), outbox.dead.len()), (PENDING_MAX, DEAD_MAX));
    }
}
