//! Takes what is due from the outbox: each notification for itself, or those of a group in one message.
//!
//! A message keeps its id and its notifications for all attempts. The next one of its group waits until it was sent or is dead.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::alert::{Delivery, Notification, NotificationKind, OpenAlert};
use super::outbox::Outbox;
use crate::alerts::labels::{AlertId, Labels};
use crate::clock::Timestamp;
use crate::policy::{AlertChannel, AlertGrouping, AlertPolicy};

/// How long a notification is with the sidecar that took it: more than an attempt takes.
const TAKEN: Duration = Duration::from_secs(60);

/// Maximum number of notifications in a message; the others are in the next one.
const MESSAGE_MAX: usize = 100;

/// Maximum number of groups whose last message is known. The oldest is forgotten: its next message may come too soon.
const LAST_MESSAGES_MAX: usize = 1_000;

/// How long the time of a last message is known: the longest interval.
const LAST_MESSAGE_KNOWN: Duration = Duration::from_secs(24 * 3_600);

/// The notifications of a group, by their index in the outbox.
#[derive(Debug, Default)]
struct Group {
    labels: Labels,
    /// The message that is on its way, or that is tried again, and what it has.
    message: Option<String>,
    members: Vec<usize>,
    /// Those that are in no message yet.
    new: Vec<usize>,
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
            let from = taken.len();
            taken.extend(self.take_single((channel, *left), &is_held, now));
            if let Some(grouping) = &channel.grouping {
                let left = (left + from).saturating_sub(taken.len());
                taken.extend(self.take_messages((name, grouping, left), &is_held, now));
            }
        }
        taken
    }

    /// Those that are sent for themselves: of a channel with groups only tests, for which a person waits.
    fn take_single(
        &mut self,
        (channel, left): (&AlertChannel, usize),
        is_held: &impl Fn(&Notification) -> bool,
        now: Timestamp,
    ) -> Vec<Delivery> {
        let mut before = BTreeSet::new();
        let is_single = |one: &&mut Notification| {
            *one.channel == *channel.name
                && (channel.grouping.is_none() || one.kind == NotificationKind::Test)
        };
        let due = self.pending.iter_mut().filter(is_single).filter(|one| {
            let is_first = before.insert(one.alert.id.clone());
            is_first && one.due_ms <= now.as_ms() && !is_held(one)
        });
        let take = |one: &mut Notification| {
            (one.taken, one.due_ms) = (true, now.after(TAKEN).as_ms());
            let (id, channel) = (one.id.clone(), one.channel.clone());
            Delivery { id, channel, notifications: vec![one.clone()], group: None }
        };
        due.take(left).map(take).collect()
    }

    /// The messages of a channel with groups: those that are tried again, and new ones.
    fn take_messages(
        &mut self,
        (channel, grouping, left): (&str, &AlertGrouping, usize),
        is_held: &impl Fn(&Notification) -> bool,
        now: Timestamp,
    ) -> Vec<Delivery> {
        let groups = self.groups((channel, grouping), is_held, now);
        let mut taken = Vec::new();
        // Those of groups with the oldest notifications first.
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(_, group)| group.members.first().or(group.new.first()).copied());
        let (mut spare, mut messages) = (BTreeSet::new(), Vec::new());
        for (id, group) in groups {
            if taken.len() + messages.len() == left {
                break;
            }
            let Group { labels, message, members, new } = group;
            if let Some(message) = message {
                if members.iter().all(|index| self.pending[*index].due_ms <= now.as_ms()) {
                    messages.push((message, labels, members));
                }
            } else if self.is_due((&id, grouping), &new, now) {
                let (members, superseded) = self.latest(&new[..new.len().min(MESSAGE_MAX)]);
                spare.extend(superseded);
                let message = format!("ntf_{id}_{}_{}", now.as_ms(), self.next);
                self.next += 1;
                self.keep_time(id, now);
                messages.push((message, labels, members));
            }
        }
        for (message, labels, members) in messages {
            let take = |index: usize| {
                let one = &mut self.pending[index];
                (one.taken, one.due_ms) = (true, now.after(TAKEN).as_ms());
                one.message = Some(message.clone());
                one.clone()
            };
            let notifications = members.into_iter().map(take).collect();
            let (id, channel) = (message.clone(), channel.to_owned());
            taken.push(Delivery { id, channel, notifications, group: Some(labels) });
        }
        self.pending.retain(|one| !spare.contains(&one.id));
        taken
    }

    /// The groups of a channel. What is held back leaves the message that would be tried again.
    fn groups(
        &mut self,
        (channel, grouping): (&str, &AlertGrouping),
        is_held: &impl Fn(&Notification) -> bool,
        now: Timestamp,
    ) -> BTreeMap<AlertId, Group> {
        let mut groups: BTreeMap<AlertId, Group> = BTreeMap::new();
        let mut waiting = BTreeSet::new();
        for (index, one) in self.pending.iter_mut().enumerate() {
            if one.channel != channel || one.kind == NotificationKind::Test {
                continue;
            }
            let is_alone = one.message.is_none() && one.is_under_way(now);
            if waiting.contains(&one.alert.id) || is_alone {
                waiting.insert(one.alert.id.clone());
                continue;
            }
            if !one.is_under_way(now) && is_held(one) {
                one.message = None;
                waiting.insert(one.alert.id.clone());
                continue;
            }
            let labels = common(&one.alert, grouping);
            let group = groups.entry(AlertId::new(channel, &labels)).or_default();
            group.labels = labels;
            match &one.message {
                Some(message) => {
                    group.message = Some(message.clone());
                    group.members.push(index);
                }
                None => group.new.push(index),
            }
        }
        groups
    }

    /// Whether the first of the new notifications of a group has waited for others, and its last message is long ago.
    fn is_due(
        &self,
        (group, grouping): (&AlertId, &AlertGrouping),
        new: &[usize],
        now: Timestamp,
    ) -> bool {
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
            // One that is sent again is at the end, and may be older.
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

/// What all alerts of a group have in common.
fn common(alert: &OpenAlert, grouping: &AlertGrouping) -> Labels {
    let value = |name: &str| match name {
        "rule" => Some(alert.rule.as_str()),
        "signal" => Some(alert.signal.as_str()),
        "severity" => Some(alert.severity.as_str()),
        label => alert.labels.get(label),
    };
    grouping.by.iter().fold(Labels::new(), |labels, name| labels.with(name, value(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::Firing;
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

    fn policy() -> AlertPolicy {
        let source = Source { path: "alerts.yaml".to_owned(), text: FILE.to_owned() };
        compile_alerts(&[source]).unwrap()
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
        assert!(story.outbox.resend(&dead[1], Timestamp::from_ms(400_000)));
        assert_eq!(story.callers(400), ["bob"]);
    }

    #[test]
    fn messages_and_the_times_of_groups_are_bounded() {
        let mut story = Story::new();
        let callers: Vec<String> = (0..MESSAGE_MAX + 7).map(|n| format!("quota d {n}")).collect();
        story.tell(FIRING, &callers.iter().map(String::as_str).collect::<Vec<_>>(), 0);
        let first = story.take(30).remove(0);
        assert_eq!(first.notifications.len(), MESSAGE_MAX);
        story.outbox.sent(&first.id);
        assert_eq!(story.callers(329).len(), 0);
        assert_eq!(story.take(330)[0].notifications.len(), 7);
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
