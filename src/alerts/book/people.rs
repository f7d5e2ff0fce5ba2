//! What people do with alerts: they acknowledge, resolve and silence them, test rules, and send notifications again.

use super::alert::{ClosedAlert, Firing, NotificationKind, OpenAlert, TEST};
use super::outage::Deed;
use super::{Book, Silence};
use crate::alerts::labels::{AlertId, Labels};
use crate::clock::Timestamp;
use crate::policy::{AlertPolicy, AlertRule};

/// Maximum number of silences.
const SILENCES_MAX: usize = 100;

impl Book {
    /// Acknowledges an alert: it is not repeated or escalated. False if it is not open.
    pub fn acknowledge(&mut self, id: &AlertId, (by, now): (&str, Timestamp)) -> bool {
        let alert = self.open.get_mut(id).filter(|alert| alert.resolved_by.is_none());
        let Some(alert) = alert else { return false };
        (alert.acknowledged_by, alert.acknowledged_ms) = (Some(by.to_owned()), now.as_ms());
        let (id, by, at_ms) = (id.clone(), by.to_owned(), now.as_ms());
        self.note(|| Deed::Acknowledged { id, by, at_ms });
        true
    }

    /// Resolves an alert. If it still fires, it stays in the book until it does not, so that it does not open again. False
    /// if it is not open.
    pub fn resolve(
        &mut self,
        policy: &AlertPolicy,
        id: &AlertId,
        (by, now): (&str, Timestamp),
    ) -> bool {
        let by = by.to_owned();
        match self.open.get_mut(id) {
            None => false,
            Some(alert) if alert.resolved_by.is_some() => false,
            Some(alert) if alert.holders.is_none() => self.close(policy, id, (Some(by), now)),
            Some(alert) => {
                alert.resolved_by = Some(by.clone());
                let alert = OpenAlert { resolved_by: None, ..alert.clone() };
                self.tell_end(policy, (&alert, alert.told), now);
                let (closed_ms, resolved_by) = (now.as_ms(), Some(by));
                self.record_closed(ClosedAlert { alert, closed_ms, resolved_by });
                true
            }
        }
    }

    /// Adds a silence; false if there are too many.
    pub fn silence(&mut self, silence: Silence, now: Timestamp) -> bool {
        let has_place = self.add_silence(silence.clone(), now);
        if has_place {
            self.note(|| Deed::Silenced(silence));
        }
        has_place
    }

    pub(super) fn add_silence(&mut self, silence: Silence, now: Timestamp) -> bool {
        self.silences.retain(|known| now.as_ms() < known.until_ms && known.id != silence.id);
        let has_place = self.silences.len() < SILENCES_MAX;
        if has_place {
            self.silences.push(silence);
        }
        has_place
    }

    /// Ends a silence; false if there is none of that id.
    pub fn end_silence(&mut self, id: &str) -> bool {
        let before = self.silences.len();
        self.silences.retain(|silence| silence.id != id);
        let is_ended = self.silences.len() < before;
        if is_ended {
            self.note(|| Deed::SilenceEnded(id.to_owned()));
        }
        is_ended
    }

    /// The silences.
    pub fn silences(&self) -> impl Iterator<Item = &Silence> {
        self.silences.iter()
    }

    /// Adds a test notification for each channel of a rule.
    pub fn test(&mut self, policy: &AlertPolicy, rule: &AlertRule, now: Timestamp) {
        let labels = Labels::new().with(TEST, Some("true"));
        let id = AlertId::new(&rule.name, &labels);
        let alert = OpenAlert::new(&Firing { id, rule, labels, value: None }, now.as_ms());
        self.outbox.notify(policy, NotificationKind::Test, (&alert, now));
    }

    /// Sends a notification again that could not be sent; false if there is none of that id.
    pub fn resend(&mut self, id: &str, now: Timestamp) -> bool {
        self.outbox.resend(id, now)
    }

    /// Removes what is known of a caller, and returns the number of removed alerts and notifications.
    pub fn erase(&mut self, caller: &str) -> u64 {
        let before = self.open.len();
        self.open.retain(|_, alert| alert.labels.get("caller") != Some(caller));
        let removed = before - self.open.len() + self.outbox.erase(caller);
        self.silences.retain(|silence| silence.labels.get("caller") != Some(caller));
        self.answers.retain(|answer| answer.caller != caller);
        if let Some(outage) = &mut self.outage {
            outage.erase(caller);
        }
        u64::try_from(removed).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::Notification;
    use crate::policy::{Source, compile_alerts};

    const FILE: &str = "
channels: { ops: { type: log }, oncall: { type: log } }
alerts:
  down: { when: store_down, notify: [ops], repeat: 10s, escalate: { after: 25s, notify: [oncall] } }";

    fn policy() -> AlertPolicy {
        let source = Source { path: "alerts.yaml".to_owned(), text: FILE.to_owned() };
        compile_alerts(&[source]).unwrap()
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::from_ms(second * 1_000)
    }

    /// What is taken for channels without groups.
    fn taken(
        book: &mut Book,
        (policy, channels): (&AlertPolicy, &[(&str, usize)]),
        second: u64,
    ) -> Vec<Notification> {
        let taken = book.take(policy, channels, at(second));
        taken.into_iter().flat_map(|delivery| delivery.notifications).collect()
    }

    /// A book in which the rule fires or not, each second.
    struct Story {
        policy: AlertPolicy,
        book: Book,
        told: Vec<String>,
    }

    impl Story {
        fn new() -> Self {
            Self { policy: policy(), book: Book::default(), told: Vec::new() }
        }

        fn id() -> AlertId {
            AlertId::new("down", &Labels::new())
        }

        /// The rule fires; its notifications of `ops`, taken and not yet sent.
        fn fire(&mut self, second: u64) -> Vec<Notification> {
            let (rule, labels) = (&self.policy.rules[0], Labels::new());
            let firing = Firing { id: Self::id(), rule, labels, value: None };
            self.book.sync("a", (&self.policy, &[firing]), at(second));
            taken(&mut self.book, (&self.policy, &[("ops", 9)]), second)
        }

        fn seconds(&mut self, seconds: std::ops::Range<u64>, fires: bool) {
            let (rule, labels) = (&self.policy.rules[0], Labels::new());
            let firing = Firing { id: Self::id(), rule, labels, value: None };
            let firing = if fires { vec![firing] } else { Vec::new() };
            for second in seconds {
                self.book.sync("a", (&self.policy, &firing), at(second));
                let channels = [("ops", 9), ("oncall", 9)];
                for one in taken(&mut self.book, (&self.policy, &channels), second) {
                    self.told.push(format!("{second} {} {}", one.channel, one.kind.as_str()));
                    self.book.sent(&one.id);
                }
            }
        }
    }

    #[test]
    fn a_maintenance_window_holds_back_what_an_alert_tells() {
        let mut story = Story::new();
        let window = "maintenance: { w: { hours: 00:01-00:02, alerts: [down] } }";
        let text = format!("{FILE}\n{window}");
        story.policy = compile_alerts(&[Source { path: "alerts.yaml".to_owned(), text }]).unwrap();
        story.seconds(50..55, true);
        story.seconds(55..65, false);
        assert_eq!(story.told, ["50 ops firing", "55 ops resolved"]);
        story.told.clear();
        story.seconds(70..75, true);
        let alert = story.book.open_alerts().next().unwrap();
        assert!(story.book.is_silenced(&story.policy, alert, at(74)));
        story.seconds(75..80, false);
        assert!(story.told.is_empty(), "it fired and resolved in the window: {:?}", story.told);
        story.seconds(110..122, true);
        assert_eq!(story.told, ["120 ops firing"], "it still fires when the window ends");
    }

    #[test]
    fn an_alert_is_repeated_and_escalated_until_it_is_acknowledged() {
        let mut story = Story::new();
        story.seconds(0..32, true);
        let expected = [
            "0 ops firing",
            "10 ops repeated",
            "20 ops repeated",
            "25 oncall escalated",
            "30 ops repeated",
        ];
        assert_eq!(story.told, expected);
        assert!(story.book.acknowledge(&Story::id(), ("eve", at(90))));
        story.seconds(32..90, true);
        assert_eq!(story.told.len(), expected.len());
        story.seconds(90..91, false);
        assert_eq!(story.told[5..], ["90 ops resolved", "90 oncall resolved"]);
        assert!(!story.book.acknowledge(&Story::id(), ("eve", at(90))));
    }

    #[test]
    fn what_is_resolved_opens_again_only_after_it_has_ceased() {
        let mut story = Story::new();
        story.seconds(0..3, true);
        assert!(story.book.resolve(&story.policy, &Story::id(), ("eve", at(3))));
        assert!(!story.book.resolve(&story.policy, &Story::id(), ("eve", at(3))));
        story.seconds(3..90, true);
        assert_eq!(story.told, ["0 ops firing", "3 ops resolved"]);
        assert_eq!(story.book.open_alerts().count(), 0);
        let closed = story.book.take_closed();
        assert_eq!((closed.len(), closed[0].resolved_by.as_deref()), (1, Some("eve")));
        story.seconds(90..91, false);
        story.seconds(91..92, true);
        assert_eq!(story.told[2..], ["91 ops firing"]);
    }

    #[test]
    fn a_silence_holds_back_and_tells_afterwards_what_still_fires() {
        let mut story = Story::new();
        let silence = |id: &str, rule: &str, (from, until)| Silence {
            id: id.to_owned(),
            rule: Some(rule.to_owned()),
            labels: Labels::new(),
            from_ms: from,
            until_ms: until,
            by: "eve".to_owned(),
            comment: String::new(),
        };
        assert!(story.book.silence(silence("other", "up", (0, 90_000)), at(0)));
        assert!(story.book.silence(silence("s", "down", (0, 5_000)), at(0)));
        story.seconds(0..3, true);
        story.seconds(3..4, false);
        assert_eq!(story.told.len(), 0, "it came and went in silence");
        story.seconds(4..8, true);
        assert_eq!(story.told, ["5 ops firing"]);
        assert!(!story.book.end_silence("s") && story.book.end_silence("other"));
        for index in 0..SILENCES_MAX {
            assert!(story.book.silence(silence(&index.to_string(), "a", (0, 9_000_000)), at(8)));
        }
        assert!(!story.book.silence(silence("more", "a", (0, 9_000_000)), at(8)));
    }

    #[test]
    fn the_end_of_an_alert_is_never_told_before_its_begin() {
        let mut story = Story::new();
        let kinds = |taken: Vec<Notification>| taken.iter().map(|one| one.kind).collect::<Vec<_>>();
        let firing = story.fire(0);
        story.book.failed(&firing[0].id, "refused", Some(at(10)));
        story.seconds(1..2, false);
        assert_eq!(story.told.len(), 0);
        let again = taken(&mut story.book, (&story.policy, &[("ops", 9)]), 10);
        assert_eq!(
            (&again[0].id, kinds(again.clone())),
            (&firing[0].id, vec![NotificationKind::Firing])
        );
        assert_eq!(
            taken(&mut story.book, (&story.policy, &[("ops", 9)]), 11).len(),
            0,
            "it is being sent"
        );
        story.book.sent(&firing[0].id);
        assert_eq!(
            kinds(taken(&mut story.book, (&story.policy, &[("ops", 9)]), 11)),
            [NotificationKind::Resolved]
        );
    }

    /// A silence of everything until then.
    fn until(until_ms: u64) -> Silence {
        Silence {
            id: "s".to_owned(),
            rule: None,
            labels: Labels::new(),
            from_ms: 0,
            until_ms,
            by: "eve".to_owned(),
            comment: String::new(),
        }
    }

    #[test]
    fn a_silence_holds_back_what_is_sent_again_and_drops_what_is_over() {
        let mut story = Story::new();
        let firing = story.fire(0);
        story.book.failed(&firing[0].id, "refused", Some(at(1)));
        assert!(story.book.silence(until(5_000), at(1)));
        story.seconds(1..5, true);
        assert_eq!(story.told.len(), 0);
        story.seconds(5..6, true);
        assert_eq!(story.told, ["5 ops firing"]);
    }

    #[test]
    fn the_end_of_an_alert_is_told_at_once_to_receivers_that_may_know_of_it() {
        // It was told, and then silenced.
        let mut story = Story::new();
        story.seconds(0..1, true);
        assert!(story.book.silence(until(60_000), at(1)));
        story.seconds(1..3, true);
        story.seconds(3..4, false);
        assert_eq!(story.told, ["0 ops firing", "3 ops resolved"]);
        // It comes again in the silence, and is told after it.
        story.seconds(4..61, true);
        assert_eq!(story.told[2..], ["60 ops firing"]);
        // Resolved by a person.
        let mut story = Story::new();
        story.seconds(0..1, true);
        assert!(story.book.silence(until(60_000), at(1)));
        assert!(story.book.resolve(&story.policy, &Story::id(), ("eve", at(2))));
        story.seconds(2..70, true);
        assert_eq!(story.told, ["0 ops firing", "2 ops resolved"]);
        // No attempt was made before the silence: the receiver knows nothing, and is told nothing.
        let mut story = Story::new();
        let (rule, labels) = (&story.policy.rules[0], Labels::new());
        let firing = Firing { id: Story::id(), rule, labels, value: None };
        story.book.sync("a", (&story.policy, &[firing]), at(0));
        assert!(story.book.silence(until(60_000), at(0)));
        story.seconds(1..70, false);
        assert_eq!((story.told.len(), story.book.pending()), (0, 0));
        // The answer to an attempt may have been lost.
        let mut story = Story::new();
        let firing = story.fire(0);
        story.book.failed(&firing[0].id, "late", Some(at(9)));
        assert!(story.book.silence(until(60_000), at(1)));
        story.seconds(1..70, false);
        assert_eq!((&*story.told, story.book.pending()), (&["1 ops resolved".to_owned()][..], 0));
        // An attempt is under way: its end is told after it.
        let mut story = Story::new();
        let firing = story.fire(0);
        assert!(story.book.silence(until(60_000), at(1)));
        story.seconds(1..3, false);
        assert_eq!(story.told.len(), 0);
        story.book.sent(&firing[0].id);
        story.seconds(3..70, false);
        assert_eq!((&*story.told, story.book.pending()), (&["3 ops resolved".to_owned()][..], 0));
    }

    #[test]
    fn an_end_that_is_still_to_be_told_outlives_the_next_alert() {
        let mut story = Story::new();
        story.seconds(0..1, true);
        story.book.sync("a", (&story.policy, &[]), at(1));
        assert!(story.book.silence(until(60_000), at(1)));
        let (rule, labels) = (&story.policy.rules[0], Labels::new());
        let firing = Firing { id: Story::id(), rule, labels, value: None };
        story.book.sync("a", (&story.policy, &[firing]), at(2));
        story.seconds(3..4, false);
        assert_eq!(story.told, ["0 ops firing", "3 ops resolved"]);
    }

    #[test]
    fn an_erased_caller_leaves_nothing() {
        let mut story = Story::new();
        let labels = Labels::new().with("caller", Some("ann"));
        let (id, rule) = (AlertId::new("down", &labels), &story.policy.rules[0]);
        story.book.event(&story.policy, &Firing { id, rule, labels, value: None }, at(0));
        assert_eq!((story.book.erase("bob"), story.book.erase("ann")), (0, 2));
        assert!(!story.book.encode().contains("ann"));
    }

    #[test]
    fn a_test_goes_to_each_channel_of_the_rule_and_opens_nothing() {
        let mut story = Story::new();
        story.book.test(&story.policy, &story.policy.rules[0], at(0));
        let taken = taken(&mut story.book, (&story.policy, &[("ops", 9)]), 0).remove(0);
        assert_eq!(
            (taken.kind, taken.alert.title().as_str()),
            (NotificationKind::Test, "a test of the rule `down`")
        );
        assert_eq!(story.book.open_alerts().count(), 0);
    }
}
