//! Notifications that are to be sent, and those that could not be sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::alert::{Notification, NotificationKind, OpenAlert};
use crate::alerts::labels::AlertId;
use crate::clock::Timestamp;
use crate::policy::{AlertChannel, AlertPolicy, AlertSeverity};

/// Maximum number of notifications of one channel that are to be sent; older ones are kept as dead.
pub(super) const PENDING_MAX: usize = 500;

/// Maximum number of all notifications that are to be sent: the book is written as a whole.
const PENDING_OF_ALL_MAX: usize = 2_000;

/// Maximum number of notifications that could not be sent; the oldest is dropped.
const DEAD_MAX: usize = 200;

/// Notifications.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outbox {
    pub(super) pending: VecDeque<Notification>,
    dead: VecDeque<Notification>,
    /// The number of the next notification.
    pub(super) next: u64,
    /// When the last message of a group was made, by channel and group, until its interval is over.
    #[serde(default)]
    pub(super) last_messages: BTreeMap<AlertId, u64>,
    /// By channel, notifications that are dead because too many were to be sent, until they are told.
    #[serde(skip)]
    unsent: BTreeMap<String, u64>,
    /// Groups wait for nothing more.
    #[serde(skip)]
    pub(super) is_ending: bool,
}

impl Outbox {
    /// Adds the notifications of an alert.
    pub fn notify(
        &mut self,
        policy: &AlertPolicy,
        kind: NotificationKind,
        (alert, now): (&OpenAlert, Timestamp),
    ) {
        if kind == NotificationKind::Resolved {
            self.withdraw_untold(policy, (&alert.id, now));
        }
        for channel in channels(policy, kind, alert) {
            self.add(kind, channel, (alert, now));
        }
    }

    /// Removes what waits of an alert that is over, for channels that will not be told of its end: those of groups that are
    /// told of no end, and those that were removed and may come back.
    fn withdraw_untold(&mut self, policy: &AlertPolicy, (id, now): (&AlertId, Timestamp)) {
        let is_untold = |one: &Notification| match policy.channel(&one.channel) {
            None => true,
            Some(channel) => {
                !channel.resolved && channel.grouping.is_some() && one.message.is_none()
            }
        };
        self.pending.retain(|one| {
            let waits = one.alert.id == *id && one.is_grouped() && !one.is_under_way(now);
            !(waits && one.kind != NotificationKind::Resolved && is_untold(one))
        });
    }

    /// Leaves what waits for removed channels dead. Returns how many of each, and whether attempts are under way, after which
    /// more may wait.
    pub fn remove_channels(
        &mut self,
        removed: &BTreeSet<Arc<str>>,
        now: Timestamp,
    ) -> (BTreeMap<String, u64>, bool) {
        let mut buried = BTreeMap::new();
        let is_of_removed = |one: &Notification| removed.contains(one.channel.as_str());
        let waits = |one: &Notification| is_of_removed(one) && !one.is_under_way(now);
        while let Some(index) = self.pending.iter().position(waits) {
            *buried.entry(self.pending[index].channel.clone()).or_default() += 1;
            self.bury(Some(index), "its channel was removed");
        }
        (buried, self.pending.iter().any(is_of_removed))
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
                self.add(NotificationKind::Resolved, channel, (alert, now));
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
        for channel in channels.iter().filter_map(|name| policy.channel(name)) {
            self.add(NotificationKind::Escalated, channel, (&*alert, now));
        }
        alert.escalated_to = channels.iter().map(|name| name.to_string()).collect();
    }

    /// Adds a notification.
    fn add(
        &mut self,
        kind: NotificationKind,
        channel: &AlertChannel,
        (alert, now): (&OpenAlert, Timestamp),
    ) {
        let is_grouped = channel.grouping.is_some() && kind != NotificationKind::Test;
        let channel = &*channel.name;
        let (kind, due_ms) = match is_grouped {
            true => self.supersede(kind, (channel, &alert.id), now),
            false => (kind, now.as_ms()),
        };
        let (number, id) = (self.next, &alert.id);
        self.next += 1;
        self.pending.push_back(Notification {
            id: format!("ntf_{id}_{}_{number}", now.as_ms()),
            kind,
            channel: channel.to_owned(),
            alert: alert.clone(),
            at_ms: now.as_ms(),
            attempts: 0,
            due_ms,
            error: None,
            taken: false,
            message: None,
            again: false,
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

    /// Removes what a new notification of a group makes needless, so that an alert that comes and goes has at most two: an end
    /// that is still to be told, and what came after it. Returns the kind of the new one, and since when it waits.
    fn supersede(
        &mut self,
        kind: NotificationKind,
        (channel, alert): (&str, &AlertId),
        now: Timestamp,
    ) -> (NotificationKind, u64) {
        let (mut new, mut due_ms) = (kind, now.as_ms());
        let is_waiting = |one: &Notification| {
            let is_free = one.message.is_none() && !one.is_under_way(now) && !one.again;
            one.channel == channel && one.alert.id == *alert && is_free
        };
        while let Some(index) = self.pending.iter().rposition(is_waiting) {
            match (self.pending[index].kind, kind) {
                (NotificationKind::Test, _) => break,
                (NotificationKind::Resolved, kind) if kind != NotificationKind::Resolved => break,
                // Its receiver does not know of it yet.
                (NotificationKind::Firing, kind) if kind != NotificationKind::Resolved => {
                    new = NotificationKind::Firing;
                }
                _ => {}
            }
            due_ms = self.pending.remove(index).map_or(due_ms, |one| due_ms.min(one.due_ms));
        }
        (new, due_ms)
    }

    /// Removes the notifications of an alert that is over, but for those that tell of its end, and attempts that are under
    /// way.
    pub fn withdraw(&mut self, id: &AlertId, now: Timestamp) {
        let stays = |one: &Notification| {
            one.alert.id != *id || one.kind == NotificationKind::Resolved || one.is_under_way(now)
        };
        self.pending.retain(stays);
    }

    /// Removes the notifications of an alert of before its end, which was told.
    pub fn withdraw_before(&mut self, id: &AlertId, end_ms: u64) {
        self.pending.retain(|one| one.alert.id != *id || end_ms < one.at_ms);
    }

    /// Whether the end of an alert is still to be told.
    pub fn tells_end(&self, id: &AlertId) -> bool {
        let is_end = |one: &Notification| one.kind == NotificationKind::Resolved;
        self.pending.iter().any(|one| one.alert.id == *id && is_end(one))
    }

    /// Whether it has a notification or message of this id.
    pub fn has(&self, id: &str) -> bool {
        self.pending.iter().any(|one| is_of(one, id))
    }

    /// Removes what was sent: a notification, or those of a message.
    pub fn sent(&mut self, id: &str) {
        self.pending.retain(|one| !is_of(one, id));
    }

    /// Notes a failed attempt at a notification, or at those of a message; without a next one, they are dead.
    pub fn failed(&mut self, id: &str, error: &str, next: Option<Timestamp>) {
        for one in self.pending.iter_mut().filter(|one| is_of(one, id)) {
            (one.attempts, one.taken) = (one.attempts + 1, false);
            if let Some(next) = next {
                (one.due_ms, one.error) = (next.as_ms(), Some(error.to_owned()));
            }
        }
        while next.is_none()
            && let Some(index) = self.pending.iter().position(|one| is_of(one, id))
        {
            self.bury(Some(index), error);
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
        for (group, at_ms) in other.last_messages {
            let known = self.last_messages.entry(group).or_default();
            *known = at_ms.max(*known);
        }
        self.dead.extend(other.dead);
        let spare = self.dead.len().saturating_sub(DEAD_MAX);
        self.dead.drain(..spare);
    }

    /// Sends a notification again that could not be sent; false if there is none of that id.
    pub fn resend(&mut self, id: &str, now: Timestamp) -> bool {
        let found = self.dead.iter().position(|one| one.id == id);
        let Some(mut one) = found.and_then(|index| self.dead.remove(index)) else { return false };
        (one.attempts, one.due_ms, one.message, one.again) = (0, now.as_ms(), None, true);
        // Before what was told of its alert since then.
        self.pending.push_front(one);
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

    /// Sends groups at once from now on: what waits would be lost.
    pub fn end_waits(&mut self) {
        self.is_ending = true;
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

/// Whether a notification has this id, or is part of the message that has it.
fn is_of(one: &Notification, id: &str) -> bool {
    one.id == id || one.message.as_deref() == Some(id)
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

    #[test]
    fn what_waits_for_a_removed_channel_is_dead() {
        let mut outbox = outbox(3);
        (outbox.pending[0].taken, outbox.pending[0].due_ms) = (true, 60_000);
        let removed = |name: &str| BTreeSet::from([Arc::from(name)]);
        let at = Timestamp::from_ms;
        assert_eq!(outbox.remove_channels(&removed("other"), at(1)), (BTreeMap::new(), false));
        let count = |count| BTreeMap::from([("ops".to_owned(), count)]);
        assert_eq!(outbox.remove_channels(&removed("ops"), at(1)), (count(2), true));
        assert_eq!(outbox.remove_channels(&removed("ops"), at(60_000)), (count(1), false));
        assert_eq!((outbox.pending.len(), outbox.dead.len()), (0, 3));
        assert_eq!(outbox.dead[0].error.as_deref(), Some("its channel was removed"));
    }

    #[test]
    fn both_lists_are_bounded() {
        let mut outbox = outbox(PENDING_MAX + 2 * DEAD_MAX);
        assert_eq!(outbox.take_unsent(), BTreeMap::from([("ops".to_owned(), 2 * DEAD_MAX as u64)]));
        assert_eq!((outbox.pending.len(), outbox.dead.len()), (PENDING_MAX, DEAD_MAX));
    }
}
