//! Takes what is due from the outbox: each notification for itself, or those of a group in one message.
//!
//! A message keeps its id and its notifications for all attempts. The next one of its group waits until it was sent or is dead.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::alert::{Delivery, Notification, OpenAlert};
use super::outbox::{Outbox, PENDING_MAX};
use crate::alerts::labels::{AlertId, Labels};
use crate::clock::Timestamp;
use crate::policy::{AlertChannel, AlertGrouping, AlertPolicy};

/// How long a notification is with the sidecar that took it: more than an attempt takes.
const TAKEN: Duration = Duration::from_secs(60);

/// Maximum number of notifications in a message: all that may wait for a channel, so that none waits for the next one. A message
/// shows the worst of them, and counts all.
const MESSAGE_MAX: usize = PENDING_MAX;

/// Maximum number of groups whose last message is known. The oldest is forgotten: its next message may come too soon.
const LAST_MESSAGES_MAX: usize = 1_000;

/// How long the time of a last message is known: the longest interval.
const LAST_MESSAGE_KNOWN: Duration = Duration::from_secs(24 * 3_600);

/// What waits for a channel and may be taken, by its index in the outbox.
#[derive(Debug, Default)]
struct Waiting {
    /// Those that are sent for themselves.
    single: Vec<usize>,
    /// The messages that are on their way or tried again, and what they have.
    messages: BTreeMap<String, Vec<usize>>,
    /// Those that are in no message yet, by group.
    groups: BTreeMap<AlertId, Vec<usize>>,
    /// The groups that have a message.
    busy: BTreeSet<AlertId>,
}

/// With what a notification is sent.
#[derive(Clone, Debug, PartialEq)]
enum Place {
    Alone(usize),
    Message(String),
    Group(AlertId),
}

impl Outbox {
    /// What is due and not held back, at most so many messages of each channel, which the caller now has for a time. What is
    /// told of one alert to a channel keeps its order: the next waits until the one before was sent or is dead.
    pub fn take(
        &mut self,
        (policy, channels): (&AlertPolicy, &[(&str, usize)]),
        is_held: impl Fn(&Notification) -> bool,
        now: Timestamp,
    ) -> Vec<Delivery> {
        let mut taken = Vec::new();
        for (name, left) in channels {
            let channel = policy.channel(name).filter(|_| !self.pending.is_empty());
            let Some(channel) = channel else { continue };
            taken.extend(self.take_of_channel((channel, *left), &is_held, now));
        }
        taken
    }

    fn take_of_channel(
        &mut self,
        (channel, left): (&AlertChannel, usize),
        is_held: &impl Fn(&Notification) -> bool,
        now: Timestamp,
    ) -> Vec<Delivery> {
        let Waiting { single, messages, groups, busy } = self.waiting(channel, is_held, now);
        let single = single.into_iter().map(|index| (None, vec![index]));
        let messages = messages.into_iter().map(|(id, members)| (Some(id), members));
        let is_due = |members: &[usize]| {
            members.iter().all(|index| self.pending[*index].due_ms <= now.as_ms())
        };
        let due = single.chain(messages).filter(|(_, members)| is_due(members));
        let mut taken: Vec<_> = due.take(left).collect();
        // Those of groups with the oldest notifications first.
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(_, new)| new.first().copied());
        let mut spare = BTreeSet::new();
        for (id, new) in groups.into_iter().filter(|(id, _)| !busy.contains(id)) {
            let Some(grouping) = channel.grouping.as_ref().filter(|_| taken.len() < left) else {
                break;
            };
            if self.is_due((&id, grouping), &new, now) {
                let (members, superseded) = self.latest(&new[..new.len().min(MESSAGE_MAX)]);
                spare.extend(superseded);
                let message = format!("ntf_{id}_{}_{}", now.as_ms(), self.next);
                self.next += 1;
                self.keep_time(id, now);
                taken.push((Some(message), members));
            }
        }
        let taken =
            taken.into_iter().map(|(message, members)| self.hand((channel, message), members, now));
        let taken = taken.collect();
        self.pending.retain(|one| !spare.contains(&one.id));
        taken
    }

    /// Hands out a notification, or those of a message.
    fn hand(
        &mut self,
        (channel, message): (&AlertChannel, Option<String>),
        members: Vec<usize>,
        now: Timestamp,
    ) -> Delivery {
        let hand = |index: usize| {
            let one = &mut self.pending[index];
            (one.taken, one.due_ms) = (true, now.after(TAKEN).as_ms());
            one.message.clone_from(&message);
            one.clone()
        };
        let notifications: Vec<_> = members.into_iter().map(hand).collect();
        let grouping = channel.grouping.as_ref();
        let grouping = grouping.filter(|_| notifications.iter().all(Notification::is_of_alert));
        let alerts: Vec<_> = notifications.iter().map(|one| &one.alert).collect();
        let group = grouping.map(|grouping| common(&alerts, grouping));
        let id = message.unwrap_or_else(|| notifications[0].id.clone());
        Delivery { id, channel: channel.name.to_string(), notifications, group }
    }

    /// What waits for a channel. What is held back leaves the message that would be tried again; else a message keeps what it
    /// has, also if the groups are other ones meanwhile.
    fn waiting(
        &mut self,
        channel: &AlertChannel,
        is_held: &impl Fn(&Notification) -> bool,
        now: Timestamp,
    ) -> Waiting {
        let mut waiting = Waiting::default();
        let mut first: BTreeMap<AlertId, Place> = BTreeMap::new();
        let of_channel = |one: &Notification| *one.channel == *channel.name;
        let pending = self.pending.iter_mut().enumerate().filter(|(_, one)| of_channel(one));
        for (index, one) in pending {
            let is_under_way = one.is_under_way(now);
            let is_held = !is_under_way && is_held(one);
            if is_held {
                one.message = None;
            }
            let grouping = channel.grouping.as_ref().filter(|_| one.is_grouped());
            let group = grouping.map(|by| AlertId::new(&channel.name, &common(&[&one.alert], by)));
            let place = match (&one.message, group) {
                (Some(message), group) => {
                    waiting.busy.extend(group);
                    Place::Message(message.clone())
                }
                (None, Some(group)) if !is_held && !is_under_way => Place::Group(group),
                (None, _) => Place::Alone(index),
            };
            let first = first.entry(one.alert.id.clone()).or_insert_with(|| place.clone());
            let is_next = *first == place && !is_held;
            match place {
                Place::Message(message) => waiting.messages.entry(message).or_default().push(index),
                Place::Group(group) if is_next => {
                    waiting.groups.entry(group).or_default().push(index);
                }
                Place::Alone(_) if is_next => waiting.single.push(index),
                _ => {}
            }
        }
        waiting
    }

    /// Whether the first of the new notifications of a group has waited for others, and its last message is long ago.
    fn is_due(
        &self,
        (group, grouping): (&AlertId, &AlertGrouping),
        new: &[usize],
        now: Timestamp,
    ) -> bool {
        if self.is_ending {
            return true;
        }
        let is_over = |since_ms: u64, time| time <= now.since(Timestamp::from_ms(since_ms));
        let waits_since = |index: &usize| {
            let one = &self.pending[*index];
            one.due_ms.min(one.at_ms)
        };
        let first_ms = new.iter().map(waits_since).min();
        first_ms.is_some_and(|first_ms| is_over(first_ms, grouping.wait))
            && self.last_messages.get(group).is_none_or(|at_ms| is_over(*at_ms, grouping.interval))
    }

    /// The last notification of each alert, and the ids of the others: a message has the latest state.
    fn latest(&self, new: &[usize]) -> (Vec<usize>, Vec<String>) {
        let mut last: BTreeMap<&AlertId, usize> = BTreeMap::new();
        for index in new {
            let last = last.entry(&self.pending[*index].alert.id).or_insert(*index);
            // One of another book is at the end, and may be older.
            if self.pending[*last].at_ms <= self.pending[*index].at_ms {
                *last = *index;
            }
        }
        let is_last = |index: &usize| last.get(&self.pending[*index].alert.id) == Some(index);
        let (members, others): (Vec<usize>, Vec<usize>) = new.iter().copied().partition(is_last);
        (members, others.into_iter().map(|index| self.pending[index].id.clone()).collect())
    }

    /// Keeps when the last message of a group was made.
    fn keep_time(&mut self, group: AlertId, now: Timestamp) {
        let is_known = |at_ms: u64| now.since(Timestamp::from_ms(at_ms)) < LAST_MESSAGE_KNOWN;
        self.last_messages.retain(|_, at_ms| is_known(*at_ms));
        self.last_messages.insert(group, now.as_ms());
        if LAST_MESSAGES_MAX < self.last_messages.len() {
            let oldest = self.last_messages.iter().min_by_key(|(_, at_ms)| **at_ms);
            let oldest = oldest.map(|(group, _)| group.clone());
            oldest.and_then(|group| self.last_messages.remove(&group));
        }
    }
}

/// What alerts have in common of what their group is made by.
fn common(alerts: &[&OpenAlert], grouping: &AlertGrouping) -> Labels {
    let shared = |name: &str| {
        let mut values = alerts.iter().map(|alert| value(alert, name));
        let first = values.next().flatten();
        first.filter(|_| values.all(|value| value == first))
    };
    grouping.by.iter().fold(Labels::new(), |labels, name| labels.with(name, shared(name)))
}

/// What an alert has of what groups are made by.
fn value<'a>(alert: &'a OpenAlert, name: &str) -> Option<&'a str> {
    match name {
        "rule" => Some(&alert.rule),
        "signal" => Some(&alert.signal),
        "severity" => Some(&alert.severity),
        label => alert.labels.get(label),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::{Firing, NotificationKind};
    use crate::policy::{Source, compile_alerts};

    const FILE: &str = "
channels:
  chat: { type: webhook, url: 'https://a.example', group_by: [rule, domain], group_wait: 30s, group_interval: 5m }
  ops: { type: log }
  other: { type: log }
alerts:
  plain: { when: store_down, notify: [ops] }
  quota: { when: threshold, notify: [chat] }
  down: { when: store_down, notify: [chat] }";

    const GROUPING: &str = ", group_by: [rule, domain], group_wait: 30s, group_interval: 5m";

    fn policy() -> AlertPolicy {
        edited(&[])
    }

    /// The policy of the file, with other texts in place of some.
    fn edited(edits: &[(&str, &str)]) -> AlertPolicy {
        let text = edits.iter().fold(FILE.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
        compile_alerts(&[Source { path: "alerts.yaml".to_owned(), text }]).unwrap()
    }

    struct Story {
        policy: AlertPolicy,
        outbox: Outbox,
        held: Vec<&'static str>,
    }

    impl Story {
        fn new() -> Self {
            Self { policy: policy(), outbox: Outbox::default(), held: Vec::new() }
        }

        /// Adds notifications of alerts: `rule domain caller`.
        fn tell(&mut self, kind: NotificationKind, alerts: &[&str], second: u64) {
            for text in alerts {
                let [rule, domain, caller] = text.split(' ').collect::<Vec<_>>()[..] else {
                    panic!("{text}")
                };
                let labels =
                    Labels::new().with("domain", Some(domain)).with("caller", Some(caller));
                let (id, rule) = (AlertId::new(rule, &labels), self.policy.rule(rule).unwrap());
                let now = Timestamp::from_ms(second * 1_000);
                let alert = OpenAlert::new(&Firing { id, rule, labels, value: None }, now.as_ms());
                self.outbox.notify(&self.policy, kind, (&alert, now));
            }
        }

        /// Notifications of a channel that groups nothing.
        fn of_plain(notifications: usize) -> Self {
            let mut story = Self::new();
            for number in 0..notifications {
                story.tell(FIRING, &[&*format!("plain d {number}")], 0);
            }
            story
        }

        fn plain(&mut self, channel: (&str, usize), ms: u64) -> Vec<Delivery> {
            self.outbox.take((&self.policy, &[channel]), |_| false, Timestamp::from_ms(ms))
        }

        fn take(&mut self, second: u64) -> Vec<Delivery> {
            let held = self.held.clone();
            let is_held = |one: &Notification| {
                one.alert.labels.get("caller").is_some_and(|caller| held.contains(&caller))
            };
            let now = Timestamp::from_ms(second * 1_000);
            self.outbox.take((&self.policy, &[("chat", 9)]), is_held, now)
        }

        /// The callers of the messages that are due; a resolved one in brackets.
        fn callers(&mut self, second: u64) -> Vec<String> {
            self.take(second).iter().map(shown).collect()
        }
    }

    fn shown(delivery: &Delivery) -> String {
        let shown = |one: &Notification| {
            let caller = one.alert.labels.get("caller").unwrap_or_default().to_owned();
            if one.kind == NotificationKind::Resolved { format!("({caller})") } else { caller }
        };
        delivery.notifications.iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    const FIRING: NotificationKind = NotificationKind::Firing;
    const RESOLVED: NotificationKind = NotificationKind::Resolved;

    #[test]
    fn what_was_taken_and_not_sent_is_taken_again() {
        let mut story = Story::of_plain(1);
        let first = story.plain(("ops", 4), 0);
        assert_eq!((first.len(), story.plain(("ops", 4), 59_999).len()), (1, 0));
        let again = story.plain(("ops", 4), 60_000);
        assert_eq!(again[0].id, first[0].id, "the receiver recognizes it");
        story.outbox.sent(&first[0].id);
        assert_eq!(story.outbox.pending(), 0);
    }

    #[test]
    fn a_channel_takes_as_many_as_it_can_and_no_other_ones() {
        let mut story = Story::of_plain(5);
        assert_eq!(story.plain(("other", 4), 0).len(), 0);
        assert_eq!(story.plain(("ops", 3), 0).len(), 3);
        assert_eq!(story.plain(("ops", 3), 0).len(), 2);
    }

    #[test]
    fn what_failed_is_due_again_and_dead_in_the_end() {
        let mut story = Story::of_plain(1);
        let id = story.plain(("ops", 1), 0).remove(0).id;
        story.outbox.failed(&id, "refused", Some(Timestamp::from_ms(500)));
        let again = story.plain(("ops", 1), 500).remove(0);
        assert_eq!(
            (again.attempts(), again.notifications[0].error.as_deref()),
            (1, Some("refused"))
        );
        story.outbox.failed(&id, "gone", None);
        let dead = story.outbox.dead().map(|one| (one.attempts, one.error.as_deref()));
        assert_eq!(dead.collect::<Vec<_>>(), [(2, Some("gone"))]);
        assert_eq!(story.outbox.pending(), 0);
    }

    #[test]
    fn a_group_waits_for_others_and_then_for_its_interval() {
        let mut story = Story::new();
        story.tell(FIRING, &["quota travel ann", "quota travel bob", "quota food eve"], 0);
        story.tell(FIRING, &["quota travel cid", "down travel x"], 20);
        assert_eq!(story.callers(29).len(), 0);
        let taken = story.take(30);
        assert_eq!(taken.iter().map(shown).collect::<Vec<_>>(), ["ann bob cid", "eve"]);
        let labels = Labels::new().with("rule", Some("quota")).with("domain", Some("travel"));
        assert_eq!(taken[0].group, Some(labels));
        story.outbox.sent(&taken[0].id);
        assert_eq!(story.outbox.pending(), 2);
        assert_eq!(story.callers(50), ["x"], "30 seconds after its first one");
        story.tell(FIRING, &["quota travel dan"], 60);
        assert_eq!(story.callers(329), ["eve", "x"], "of a sidecar that has not answered");
        assert_eq!(story.callers(330), ["dan"], "5 minutes after the last message of the group");
    }

    #[test]
    fn a_message_is_the_same_at_each_attempt_and_the_next_one_waits() {
        let mut story = Story::new();
        story.tell(FIRING, &["quota d ann", "quota d bob"], 0);
        let first = story.take(30).remove(0);
        story.outbox.failed(&first.id, "refused", Some(Timestamp::from_ms(900_000)));
        story.tell(RESOLVED, &["quota d ann"], 40);
        assert_eq!(story.callers(800).len(), 0);
        let again = story.take(900).remove(0);
        assert_eq!((&again.id, shown(&again).as_str()), (&first.id, "ann bob"));
        assert_eq!((again.attempts(), first.attempts()), (1, 0));
        story.outbox.sent(&again.id);
        assert_eq!(story.callers(900), ["(ann)"]);
    }

    #[test]
    fn a_message_has_the_latest_state_of_each_alert() {
        let mut story = Story::new();
        story.tell(FIRING, &["quota d ann", "quota d bob"], 0);
        story.tell(RESOLVED, &["quota d ann"], 10);
        assert_eq!(story.callers(30), ["bob (ann)"]);
        assert_eq!(story.outbox.pending(), 2, "what is superseded is gone");
    }

    #[test]
    fn an_alert_that_comes_and_goes_fills_no_group_and_delays_none() {
        let mut story = Story::new();
        story.tell(FIRING, &["quota d ann"], 0);
        for second in 1..20 {
            let kind = if second % 2 == 0 { FIRING } else { RESOLVED };
            story.tell(kind, &["quota d ann"], second);
            assert!(story.outbox.pending() <= 2);
        }
        assert_eq!(story.callers(29).len(), 0);
        let first = story.take(30).remove(0);
        assert_eq!(shown(&first), "(ann)");
        story.outbox.sent(&first.id);
        story.tell(FIRING, &["quota d ann"], 40);
        story.tell(NotificationKind::Repeated, &["quota d ann"], 50);
        story.tell(RESOLVED, &["quota d bob"], 50);
        let kinds: Vec<_> = story.outbox.pending.iter().map(|one| one.kind).collect();
        assert_eq!(kinds, [FIRING, RESOLVED], "the receiver has not been told that it fires");
    }

    #[test]
    fn what_is_held_back_is_in_no_message() {
        let mut story = Story::new();
        story.tell(FIRING, &["quota d ann", "quota d bob"], 0);
        story.held = vec!["ann"];
        let first = story.take(30).remove(0);
        assert_eq!(shown(&first), "bob");
        story.outbox.failed(&first.id, "refused", Some(Timestamp::from_ms(40_000)));
        story.held = vec!["ann", "bob"];
        assert_eq!(story.callers(40).len(), 0, "it left the message");
        story.held.clear();
        assert_eq!(story.callers(330), ["ann bob"]);
    }

    #[test]
    fn a_dead_message_leaves_its_notifications_dead_and_one_may_be_sent_again() {
        let mut story = Story::new();
        story.tell(FIRING, &["quota d ann", "quota d bob"], 0);
        let first = story.take(30).remove(0);
        story.outbox.failed(&first.id, "gone", None);
        let dead: Vec<_> = story.outbox.dead().map(|one| one.id.clone()).collect();
        assert_eq!((dead.len(), story.outbox.pending()), (2, 0));
        story.tell(RESOLVED, &["quota d bob", "quota d cid"], 31);
        assert!(story.outbox.resend(&dead[1], Timestamp::from_ms(40_000)));
        let again = story.take(40);
        assert_eq!(again.iter().map(shown).collect::<Vec<_>>(), ["bob"], "at once");
        assert!(again[0].group.is_some(), "as a message of the channel");
        story.outbox.sent(&again[0].id);
        assert_eq!(story.callers(329).len(), 0);
        assert_eq!(story.callers(330), ["(bob) (cid)"]);
    }

    #[test]
    fn a_message_keeps_what_it_has_when_groups_are_edited() {
        for grouping in [", group_by: [caller], group_wait: 1s", ", group_by: []", ""] {
            let mut story = Story::new();
            story.tell(FIRING, &["quota d ann", "quota d bob", "quota d cid"], 0);
            let first = story.take(30).remove(0);
            story.outbox.failed(&first.id, "refused", Some(Timestamp::from_ms(40_000)));
            story.policy = edited(&[(GROUPING, grouping)]);
            story.tell(RESOLVED, &["quota d ann"], 31);
            let again = story.take(40);
            let again: Vec<_> = again.iter().map(|one| (one.id.as_str(), shown(one))).collect();
            assert_eq!(again, [(first.id.as_str(), "ann bob cid".to_owned())], "{grouping}");
            story.outbox.sent(&first.id);
            assert_eq!(story.callers(900), ["(ann)"], "{grouping}");
        }
    }

    #[test]
    fn the_order_of_an_alert_holds_across_groups() {
        let by_severity = |severity: &str| {
            let grouping = ", group_by: [severity], group_wait: 1s, group_interval: 15s";
            let rule = format!("when: threshold, severity: {severity}");
            edited(&[(GROUPING, grouping), ("when: threshold", &rule)])
        };
        let mut story = Story { policy: by_severity("warning"), ..Story::new() };
        story.tell(FIRING, &["quota d ann"], 0);
        let first = story.take(1).remove(0);
        story.outbox.sent(&first.id);
        story.tell(RESOLVED, &["quota d ann"], 5);
        story.policy = by_severity("critical");
        story.tell(FIRING, &["quota d ann", "quota d bob"], 6);
        assert_eq!(story.callers(15), ["bob"], "the resolved one of ann waits for its interval");
        let resolved = story.take(16).remove(0);
        assert_eq!(shown(&resolved), "(ann)");
        assert_eq!(story.callers(40).len(), 0);
        story.outbox.sent(&resolved.id);
        assert_eq!(story.callers(75), ["bob"], "of a sidecar that has not answered");
        story.outbox.pending.retain(|one| one.message.is_none());
        assert_eq!(story.callers(75), ["ann"]);
    }

    #[test]
    fn what_fires_and_resolves_while_it_waits_is_not_told_to_a_channel_of_no_ends() {
        let mut story = Story::new();
        story.policy = edited(&[(GROUPING, &format!("{GROUPING}, resolved: false"))]);
        story.tell(FIRING, &["quota d ann", "quota d bob"], 0);
        story.tell(RESOLVED, &["quota d ann"], 10);
        let first = story.take(30).remove(0);
        assert_eq!(shown(&first), "bob");
        story.outbox.failed(&first.id, "refused", Some(Timestamp::from_ms(40_000)));
        story.tell(RESOLVED, &["quota d bob"], 35);
        assert_eq!(story.callers(40), ["bob"], "a message keeps what it has");
    }

    #[test]
    fn what_is_over_does_not_wait_for_a_channel_that_comes_back() {
        let mut story = Story::new();
        story.tell(FIRING, &["quota d ann", "quota d bob"], 0);
        story.policy = edited(&[("chat: {", "chat2: {"), ("[chat]", "[chat2]")]);
        story.tell(RESOLVED, &["quota d ann"], 10);
        story.policy = policy();
        assert_eq!(story.callers(30), ["bob"]);
    }

    #[test]
    fn at_the_end_of_a_book_groups_wait_for_nothing() {
        let mut story = Story::new();
        story.tell(FIRING, &["quota d ann", "quota d bob"], 0);
        assert_eq!(story.take(1).len(), 0);
        story.outbox.end_waits();
        let first = story.take(1).remove(0);
        story.outbox.sent(&first.id);
        assert_eq!((first.notifications.len(), story.outbox.pending()), (2, 0));
    }

    #[test]
    fn messages_and_the_times_of_groups_are_bounded() {
        let mut story = Story::new();
        let callers: Vec<String> = (0..MESSAGE_MAX + 7).map(|n| format!("quota d {n}")).collect();
        story.tell(FIRING, &callers.iter().map(String::as_str).collect::<Vec<_>>(), 0);
        let first = story.take(30).remove(0);
        assert_eq!(first.notifications.len(), MESSAGE_MAX, "none waits for the next message");
        story.outbox.sent(&first.id);
        assert_eq!((story.callers(330).len(), story.outbox.pending()), (0, 0));
        for number in 0..LAST_MESSAGES_MAX as u64 + 9 {
            let id = AlertId::new("a", &Labels::new().with("n", Some(&number.to_string())));
            story.outbox.keep_time(id, Timestamp::from_ms(1_000_000 + number));
        }
        assert_eq!(story.outbox.last_messages.len(), LAST_MESSAGES_MAX);
    }

    #[test]
    fn a_test_does_not_wait() {
        let mut story = Story::new();
        story.tell(NotificationKind::Test, &["quota d ann"], 0);
        let taken = story.take(0);
        assert_eq!((taken.len(), taken[0].group.as_ref()), (1, None));
    }
}
