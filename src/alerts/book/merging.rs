//! Merges the book of an outage of Redis into that of the fleet, when Redis is back.
//!
//! The book of an outage begins as a copy of the last known one, and notes what people and the end of alerts change in it.
//! These changes, and not the copy, are what is merged: so nothing is undone that others have changed meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use super::alert::{ClosedAlert, OpenAlert};
use super::outage::{DEEDS_MAX, Deed, Outage};
use super::silence::Silence;
use super::{Book, HELD, OPEN_MAX};
use crate::clock::Timestamp;

/// How long it is known what had ended, when Redis has lost the book: sidecars come back within minutes.
const ENDS_KNOWN: Duration = Duration::from_secs(3_600);

impl Book {
    /// The book of an outage, after the last known one: its open alerts and silences. What other sidecars hold is theirs to
    /// end: this one can't see whether they still do.
    pub fn of_outage(version: u64, known: &Self) -> Self {
        let mut open = known.open.clone();
        let holders = open.values_mut().filter_map(|alert| alert.holders.as_mut());
        holders.flat_map(BTreeMap::values_mut).for_each(|until_ms| *until_ms = u64::MAX);
        let outage = Outage {
            version,
            open: open.values().map(|alert| (alert.id.clone(), alert.opened_ms)).collect(),
            silences: known.silences.iter().map(|silence| silence.id.clone()).collect(),
            ..Outage::default()
        };
        Self {
            open,
            silences: known.silences.clone(),
            answers: known.answers.clone(),
            counts: known.counts.clone(),
            outage: Some(outage),
            ..Self::default()
        }
    }

    /// Whether it is the book of an outage.
    pub fn is_of_outage(&self) -> bool {
        self.outage.is_some()
    }

    /// Merges the book of an outage, of which nothing is told again, into this one, whose version is passed. Returns how many
    /// of its changes were lost because there were too many.
    pub fn merge(&mut self, mut other: Self, version: u64, now: Timestamp) -> u64 {
        let Some(outage) = other.outage.take() else { return 0 };
        let mut lost = outage.forgotten;
        let until_ms = now.after(HELD).as_ms();
        // Nobody could renew what it holds.
        let holders = self.open.values_mut().filter_map(|alert| alert.holders.as_mut());
        let held = holders.flat_map(BTreeMap::values_mut);
        held.for_each(|until| *until = until_ms.max(*until));
        // Redis has lost the book, or a part of it.
        let is_lost = version < outage.version;
        if is_lost {
            // Answers are not restored: the callers' records, which have their restrictions, are lost too.
            let is_restored = |one: &&Silence| {
                outage.silences.contains(&one.id) && !self.ended.contains_key(&one.id)
            };
            let known: Vec<_> = other.silences.iter().filter(is_restored).cloned().collect();
            lost +=
                known.into_iter().map(|silence| self.restore_silence(silence, now)).sum::<u64>();
            other.counts.iter().for_each(|count| self.add_count(count));
        }
        for deed in &outage.deeds {
            if let Deed::Ended(closed) = deed {
                self.end_again(&outage, (closed, is_lost), &other);
            }
        }
        for (_, mut alert) in std::mem::take(&mut other.open) {
            if let Some(holders) = &mut alert.holders {
                holders.values_mut().for_each(|until| *until = until_ms.min(*until));
            }
            let is_new = !outage.has_begun_with(&alert);
            let is_wanted = is_new || is_lost && !self.ended.contains_key(&opening(&alert));
            self.join(alert, is_wanted, now);
        }
        if is_lost {
            self.note_ends(&outage, now);
        }
        for deed in outage.deeds {
            lost += self.make_again(deed, now);
        }
        self.outbox.adopt(other.outbox);
        self.dropped += other.dropped;
        lost
    }

    /// Continues the book of an outage, which could not be merged, with the one that was begun meanwhile.
    pub fn resume(&mut self, later: Self, now: Timestamp) {
        let Some(of_later) = later.outage.clone() else { return };
        let forgotten = self.merge(later, of_later.version, now);
        self.closed.clear();
        if let Some(outage) = &mut self.outage {
            if !of_later.sidecar.is_empty() {
                outage.sidecar = of_later.sidecar;
            }
            outage.forgotten += forgotten;
            of_later.deeds.into_iter().for_each(|deed| outage.note(deed));
        }
    }

    /// Adds an alert that was closed to those that the keeper takes.
    pub(super) fn record_closed(&mut self, closed: ClosedAlert) {
        self.note(|| Deed::Ended(Box::new(closed.clone())));
        self.closed.push(closed);
    }

    /// Notes a change in an outage.
    pub(super) fn note(&mut self, deed: impl FnOnce() -> Deed) {
        if let Some(outage) = &mut self.outage {
            outage.note(deed());
        }
    }

    /// Ends an alert that has ended in an outage.
    fn end_again(
        &mut self,
        outage: &Outage,
        (closed, is_lost): (&ClosedAlert, bool),
        other: &Self,
    ) {
        let ClosedAlert { alert: ended, resolved_by, closed_ms } = closed;
        let is_of_person = resolved_by.is_some();
        let is_same = |alert: &&mut OpenAlert| match is_of_person {
            true => alert.resolved_by.is_none() && alert.opened_ms <= *closed_ms,
            false => alert.opened_ms == ended.opened_ms,
        };
        let Some(alert) = self.open.get_mut(&ended.id).filter(is_same) else {
            // Others have ended what the outage began with.
            if is_lost || !outage.has_begun_with(ended) {
                self.closed.push(closed.clone());
            }
            return;
        };
        let is_over = match &mut alert.holders {
            None => true,
            Some(_) if is_of_person => {
                alert.resolved_by.clone_from(resolved_by);
                false
            }
            Some(holders) => {
                holders.remove(&outage.sidecar);
                if !holders.is_empty() {
                    // It fires on a sidecar that did not see the outage, and its end was told.
                    alert.told = false;
                    return;
                }
                true
            }
        };
        if is_over {
            self.open.remove(&ended.id);
        }
        self.closed.push(closed.clone());
        if !other.outbox.tells_end(&ended.id) {
            // Its end was told: what is still to be told of it would come after.
            self.outbox.withdraw_before(&ended.id, *closed_ms);
        }
    }

    /// Notes what has ended in an outage after which the book was lost, so that no other sidecar restores it.
    fn note_ends(&mut self, outage: &Outage, now: Timestamp) {
        let until_ms = now.after(ENDS_KNOWN).as_ms();
        for deed in &outage.deeds {
            let ended = match deed {
                Deed::SilenceEnded(id) => id.clone(),
                Deed::Ended(closed) => opening(&closed.alert),
                _ => continue,
            };
            if self.ended.len() < DEEDS_MAX {
                self.ended.insert(ended, until_ms);
            }
        }
    }

    /// Takes over an open alert: a new one if `is_wanted`, else what was told of it.
    fn join(&mut self, alert: OpenAlert, is_wanted: bool, now: Timestamp) {
        if let Some(known) = self.open.get_mut(&alert.id) {
            known.told |= alert.told;
            known.told_ms = known.told_ms.max(alert.told_ms);
            if known.escalated_to.is_empty() {
                known.escalated_to = alert.escalated_to;
            }
        } else if is_wanted {
            if self.open.len() < OPEN_MAX || self.end_oldest_event(now) {
                self.open.insert(alert.id.clone(), alert);
            } else {
                self.dropped += 1;
            }
        }
    }

    /// Makes a change of a person again, if no later one has been made. Returns the number of changes that have no place.
    fn make_again(&mut self, deed: Deed, now: Timestamp) -> u64 {
        match deed {
            Deed::Ended(_) => {}
            Deed::Acknowledged { id, by, at_ms } => {
                let is_before = |alert: &&mut OpenAlert| {
                    alert.opened_ms <= at_ms && alert.acknowledged_ms <= at_ms
                };
                if let Some(alert) = self.open.get_mut(&id).filter(is_before) {
                    (alert.acknowledged_by, alert.acknowledged_ms) = (Some(by), at_ms);
                }
            }
            Deed::Silenced(silence) => return self.restore_silence(silence, now),
            Deed::SilenceEnded(id) => self.silences.retain(|silence| silence.id != id),
            Deed::Sent(id) => self.outbox.sent(&id),
            Deed::Answered(answer) => self.add_answer(answer),
            Deed::Released(id) => self.remove_answer(&id),
            Deed::Counted(count) => self.add_count(&count),
        }
        0
    }

    /// Adds a silence that has not ended; the number of those that have no place.
    fn restore_silence(&mut self, silence: Silence, now: Timestamp) -> u64 {
        u64::from(now.as_ms() < silence.until_ms && !self.add_silence(silence, now))
    }
}

/// The name of one opening of an alert.
fn opening(alert: &OpenAlert) -> String {
    format!("{}@{}", alert.id, alert.opened_ms)
}

#[cfg(test)]
mod tests {
    use super::super::kept::{AlertAnswer, ProviderCount};
    use super::*;
    use crate::alerts::{AlertId, Firing, Labels, Notification};
    use crate::policy::{AlertPolicy, Source, compile_alerts};

    const FILE: &str = "
channels: { ops: { type: log }, oncall: { type: log } }
alerts:
  down: { when: store_down, notify: [ops], escalate: { after: 100s, notify: [oncall] } }
  quota: { when: threshold, notify: [ops] }";

    /// The book of a fleet, and what its sidecars tell.
    struct Fleet {
        policy: AlertPolicy,
        shared: Book,
        version: u64,
        told: Vec<String>,
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::from_ms(second * 1_000)
    }

    fn silence(id: &str, until: u64) -> Silence {
        Silence {
            id: id.to_owned(),
            rule: Some("other".to_owned()),
            labels: Labels::new().with("caller", Some("ann")),
            from_ms: 0,
            until_ms: until * 1_000,
            by: "eve".to_owned(),
            comment: String::new(),
        }
    }

    fn id(rule: &str) -> AlertId {
        AlertId::new(rule, &Labels::new())
    }

    impl Fleet {
        fn new() -> Self {
            let source = Source { path: "alerts.yaml".to_owned(), text: FILE.to_owned() };
            let policy = compile_alerts(&[source]).unwrap();
            Self { policy, shared: Book::default(), version: 7, told: Vec::new() }
        }

        fn firing<'p>(policy: &'p AlertPolicy, rule: &str) -> Firing<'p> {
            let (id, rule) = (id(rule), policy.rule(rule).unwrap());
            Firing { id, rule, labels: Labels::new(), value: None }
        }

        /// A sidecar on which `down` fires or not sees the book of the fleet, or its own.
        fn tick(
            &mut self,
            (sidecar, own): (&str, Option<&mut Book>),
            fires: bool,
            second: u64,
        ) -> Vec<Notification> {
            let firing = Self::firing(&self.policy, "down");
            let firing = if fires { vec![firing] } else { Vec::new() };
            let book = own.unwrap_or(&mut self.shared);
            book.sync(sidecar, (&self.policy, &firing), at(second));
            let taken = book.take(&self.policy, &[("ops", 9), ("oncall", 9)], at(second));
            let taken: Vec<_> = taken.into_iter().flat_map(|one| one.notifications).collect();
            for one in &taken {
                self.told.push(format!("{sidecar} {second} {}", one.kind.as_str()));
            }
            taken
        }

        fn tick_and_send(&mut self, own: (&str, Option<&mut Book>), fires: bool, second: u64) {
            let (sidecar, mut own) = own;
            let taken = self.tick((sidecar, own.as_deref_mut()), fires, second);
            let book = own.unwrap_or(&mut self.shared);
            taken.iter().for_each(|one| book.sent(&one.id));
        }

        fn begin(&self) -> Book {
            Book::of_outage(self.version, &self.shared)
        }

        fn merge(&mut self, own: Book, second: u64) {
            assert_eq!(self.shared.merge(own, self.version, at(second)), 0);
        }

        fn closed(&mut self) -> Vec<(u64, Option<String>)> {
            let closed = self.shared.take_closed().into_iter();
            closed.map(|closed| (closed.closed_ms / 1_000, closed.resolved_by)).collect()
        }
    }

    #[test]
    fn an_end_that_was_told_in_an_outage_is_not_told_again() {
        let mut fleet = Fleet::new();
        fleet.tick_and_send(("a", None), true, 0);
        let mut own = fleet.begin();
        fleet.tick_and_send(("a", Some(&mut own)), true, 40);
        fleet.tick_and_send(("a", Some(&mut own)), false, 41);
        fleet.merge(own, 60);
        fleet.tick_and_send(("a", None), false, 60);
        fleet.tick_and_send(("b", None), false, 200);
        assert_eq!(fleet.told, ["a 0 firing", "a 41 resolved"]);
        assert_eq!(fleet.closed(), [(41, None)]);
        assert_eq!(fleet.shared.open_alerts().count(), 0);
    }

    #[test]
    fn the_end_of_what_another_sidecar_may_hold_is_told_after_the_outage_and_once() {
        let mut fleet = Fleet::new();
        fleet.tick_and_send(("a", None), true, 0);
        fleet.tick_and_send(("b", None), true, 0);
        let (mut of_a, mut of_b) = (fleet.begin(), fleet.begin());
        for second in 1..90 {
            fleet.tick_and_send(("a", Some(&mut of_a)), second < 50, second);
            fleet.tick_and_send(("b", Some(&mut of_b)), second < 60, second);
        }
        assert_eq!(fleet.told, ["a 0 firing"]);
        fleet.merge(of_a, 90);
        fleet.tick_and_send(("a", None), false, 90);
        assert_eq!(fleet.told.len(), 1, "b may hold it");
        fleet.merge(of_b, 91);
        fleet.tick_and_send(("b", None), false, 91);
        assert_eq!(fleet.told, ["a 0 firing", "b 91 resolved"]);
    }

    #[test]
    fn what_fires_throughout_a_long_outage_stays_open_and_is_escalated_once() {
        let mut fleet = Fleet::new();
        fleet.tick_and_send(("b", None), true, 0);
        let (mut of_a, mut of_b) = (fleet.begin(), fleet.begin());
        for second in 1..200 {
            fleet.tick_and_send(("a", Some(&mut of_a)), false, second);
            fleet.tick_and_send(("b", Some(&mut of_b)), true, second);
        }
        fleet.merge(of_a, 200);
        fleet.tick_and_send(("a", None), false, 200);
        fleet.merge(of_b, 201);
        fleet.tick_and_send(("b", None), true, 201);
        assert_eq!(fleet.told, ["b 0 firing", "b 100 escalated"]);
        // A sidecar that is gone holds nothing for long.
        fleet.tick_and_send(("a", None), false, 260);
        assert_eq!(fleet.told.len(), 4, "both channels are told of the end: {:?}", fleet.told);
    }

    #[test]
    fn what_people_do_in_an_outage_is_merged() {
        let mut fleet = Fleet::new();
        let quota = Fleet::firing(&fleet.policy, "quota");
        fleet.shared.event(&fleet.policy, &quota, at(0));
        fleet.tick_and_send(("a", None), true, 0);
        assert!(fleet.shared.silence(silence("old", 900), at(0)));
        let (mut own, unused) = (fleet.begin(), fleet.begin());
        assert!(own.acknowledge(&id("down"), ("eve", at(10))));
        assert!(own.resolve(&fleet.policy, &id("quota"), ("eve", at(11))));
        assert!(own.silence(silence("new", 900), at(12)) && own.end_silence("old"));
        assert!(own.silence(silence("short", 20), at(12)));
        fleet.tick_and_send(("a", Some(&mut own)), true, 13);
        let told = fleet.told.len();
        fleet.merge(own, 60);
        fleet.merge(unused, 61);
        fleet.tick_and_send(("a", None), true, 61);
        let open: Vec<_> = fleet.shared.open_alerts().collect();
        assert_eq!((open.len(), open[0].acknowledged_by.as_deref()), (1, Some("eve")));
        let silences: Vec<_> = fleet.shared.silences().map(|one| &*one.id).collect();
        assert_eq!(silences, ["new"]);
        assert_eq!(fleet.told.len(), told, "the end of the event was told: {:?}", fleet.told);
        assert_eq!(fleet.closed(), [(11, Some("eve".to_owned()))]);
    }

    #[test]
    fn answers_and_counts_of_an_outage_are_merged() {
        let mut fleet = Fleet::new();
        let answer = |caller: &str| AlertAnswer {
            alert: AlertId::new("denied", &Labels::new().with("caller", Some(caller))),
            rule: "denied".to_owned(),
            caller: caller.to_owned(),
            domain: None,
            tier: "restricted".to_owned(),
            until_ms: 900_000,
        };
        let count = |start_ms, hits| {
            let (domain, provider) = ("d".to_owned(), "near".to_owned());
            ProviderCount { domain, provider, start_ms, hits }
        };
        for caller in ["ann", "bob", "eve"] {
            fleet.shared.add_answer(answer(caller));
        }
        fleet.shared.note_count(&count(7, 1));
        let mut own = fleet.begin();
        own.release_answer(&answer("ann").alert);
        own.add_answer(answer("joe"));
        own.note(|| Deed::Answered(answer("joe")));
        own.note_count(&count(8, 2));
        // Others have done this meanwhile.
        fleet.shared.erase("bob");
        fleet.shared.note_count(&count(7, 3));
        let lost = own.clone();
        fleet.merge(own, 60);
        let callers = |book: &Book| -> Vec<String> {
            book.answers.iter().map(|one| one.caller.clone()).collect()
        };
        assert_eq!(callers(&fleet.shared), ["eve", "joe"]);
        assert_eq!(fleet.shared.counts(), [count(7, 3), count(8, 2)]);
        // Redis has lost the book.
        (fleet.shared, fleet.version) = (Book::default(), 0);
        fleet.merge(lost, 61);
        assert_eq!(callers(&fleet.shared), ["joe"], "the others are restricted no more");
        assert_eq!(fleet.shared.counts(), [count(7, 1), count(8, 2)]);
    }

    #[test]
    fn what_a_person_resolves_in_an_outage_stays_resolved_while_it_fires() {
        let mut fleet = Fleet::new();
        fleet.tick_and_send(("b", None), true, 0);
        let (mut of_a, mut of_b) = (fleet.begin(), fleet.begin());
        assert!(of_a.resolve(&fleet.policy, &id("down"), ("eve", at(5))));
        fleet.tick_and_send(("a", Some(&mut of_a)), false, 6);
        fleet.tick_and_send(("b", Some(&mut of_b)), true, 50);
        fleet.merge(of_b, 60);
        fleet.tick_and_send(("b", None), true, 60);
        fleet.merge(of_a, 61);
        fleet.tick_and_send(("a", None), false, 61);
        fleet.tick_and_send(("b", None), true, 62);
        assert_eq!(fleet.told, ["b 0 firing", "a 6 resolved"]);
        assert_eq!(fleet.shared.open_alerts().count(), 0);
        assert_eq!(fleet.closed(), [(5, Some("eve".to_owned()))]);
    }

    #[test]
    fn the_later_action_wins() {
        let mut fleet = Fleet::new();
        fleet.tick_and_send(("b", None), true, 0);
        let (mut first, mut second) = (fleet.begin(), fleet.begin());
        assert!(first.acknowledge(&id("down"), ("early", at(10))));
        assert!(second.acknowledge(&id("down"), ("late", at(20))));
        fleet.merge(second, 60);
        fleet.merge(first, 61);
        let by = |fleet: &Fleet| fleet.shared.open[&id("down")].acknowledged_by.clone();
        assert_eq!(by(&fleet).as_deref(), Some("late"));
        // Others have resolved it, and it fires anew.
        let mut own = fleet.begin();
        assert!(own.acknowledge(&id("down"), ("nobody", at(62))));
        fleet.tick_and_send(("b", None), false, 63);
        fleet.tick_and_send(("b", None), true, 64);
        fleet.merge(own, 65);
        assert_eq!(by(&fleet), None, "it was another alert");
    }

    #[test]
    fn what_others_have_ended_meanwhile_is_not_opened_again() {
        let mut fleet = Fleet::new();
        fleet.tick_and_send(("b", None), true, 0);
        assert!(fleet.shared.silence(silence("old", 900), at(0)));
        let own = fleet.begin();
        fleet.tick_and_send(("b", None), false, 1);
        assert!(fleet.shared.end_silence("old"));
        fleet.merge(own, 2);
        assert_eq!((fleet.shared.open.len(), fleet.shared.silences.len()), (0, 0));
        assert_eq!(fleet.closed().len(), 1);
    }

    #[test]
    fn an_alert_whose_end_was_told_is_told_anew_if_it_fires_on_another_sidecar() {
        let mut fleet = Fleet::new();
        fleet.tick_and_send(("a", None), true, 0);
        let mut own = fleet.begin();
        fleet.tick_and_send(("b", None), true, 5);
        fleet.tick_and_send(("a", Some(&mut own)), false, 6);
        fleet.merge(own, 7);
        fleet.tick_and_send(("b", None), true, 8);
        assert_eq!(fleet.told, ["a 0 firing", "a 6 resolved", "b 8 firing"]);
    }

    #[test]
    fn what_redis_has_lost_is_restored_without_being_told_again() {
        let mut fleet = Fleet::new();
        fleet.tick_and_send(("a", None), true, 0);
        assert!(fleet.shared.silence(silence("old", 900), at(0)));
        assert!(fleet.shared.silence(silence("ended", 900), at(0)));
        let (mut own, other) = (fleet.begin(), fleet.begin());
        assert!(own.acknowledge(&id("down"), ("eve", at(10))) && own.end_silence("ended"));
        (fleet.shared, fleet.version) = (Book::default(), 0);
        fleet.merge(own, 20);
        fleet.version = 1;
        fleet.tick_and_send(("a", None), true, 20);
        assert_eq!(fleet.told, ["a 0 firing"]);
        let open = fleet.shared.open_alerts().next().unwrap();
        assert_eq!(open.acknowledged_by.as_deref(), Some("eve"));
        assert_eq!(open.holders.as_ref().unwrap()["a"], 50_000);
        assert_eq!(fleet.shared.silences.len(), 1);
        let before = fleet.shared.open.clone();
        fleet.merge(other, 20);
        assert_eq!((&fleet.shared.open, fleet.shared.silences.len()), (&before, 1));
    }

    #[test]
    fn what_redis_has_lost_after_it_ended_is_restored_by_no_sidecar() {
        let mut fleet = Fleet::new();
        fleet.tick_and_send(("a", None), true, 0);
        let (mut of_a, of_b) = (fleet.begin(), fleet.begin());
        fleet.tick_and_send(("a", Some(&mut of_a)), false, 5);
        (fleet.shared, fleet.version) = (Book::default(), 0);
        fleet.merge(of_a, 20);
        fleet.shared = Book::decode(&fleet.shared.encode()).unwrap();
        fleet.merge(of_b, 21);
        fleet.tick_and_send(("b", None), false, 100);
        assert_eq!(fleet.told, ["a 0 firing", "a 5 resolved"]);
        fleet.tick_and_send(("b", None), false, 4_000);
        assert!(!fleet.shared.encode().contains("\"ended\""));
    }

    #[test]
    fn what_was_sent_when_the_outage_began_is_not_sent_again() {
        let mut fleet = Fleet::new();
        let taken = fleet.tick(("a", None), true, 0);
        let mut own = fleet.begin();
        own.sent(&taken[0].id);
        fleet.merge(own, 10);
        assert_eq!(fleet.shared.pending(), 0);
        // What was told of an end ends what is still to be told of the begin.
        let mut fleet = Fleet::new();
        fleet.tick(("a", None), true, 0);
        let mut own = fleet.begin();
        fleet.tick_and_send(("a", Some(&mut own)), false, 5);
        fleet.merge(own, 10);
        assert_eq!((fleet.shared.pending(), fleet.shared.open.len()), (0, 0));
    }

    #[test]
    fn a_merge_that_failed_is_made_with_what_came_meanwhile() {
        let mut fleet = Fleet::new();
        fleet.tick_and_send(("a", None), true, 0);
        let mut own = fleet.begin();
        assert!(own.acknowledge(&id("down"), ("eve", at(5))));
        let mut later = fleet.begin();
        assert!(later.silence(silence("new", 900), at(6)));
        fleet.tick_and_send(("a", Some(&mut later)), false, 7);
        own.resume(later, at(8));
        assert_eq!((own.open.len(), own.silences.len(), own.closed.len()), (0, 1, 0));
        fleet.merge(own.clone(), 9);
        assert_eq!((fleet.shared.open.len(), fleet.shared.silences.len()), (0, 1));
        assert_eq!(fleet.told, ["a 0 firing", "a 7 resolved"]);
        // The first attempt has succeeded, but its answer was lost.
        let before = Book { closed: Vec::new(), ..fleet.shared.clone() };
        fleet.closed();
        fleet.merge(own, 10);
        fleet.closed();
        assert_eq!(fleet.shared, before);
    }

    #[test]
    fn what_is_noted_is_bounded_and_erased() {
        let mut book = Fleet::new().begin();
        for index in 0..DEEDS_MAX {
            assert!(book.silence(silence(&index.to_string(), 900), at(0)));
            assert!(book.end_silence(&index.to_string()));
        }
        assert!(book.silence(silence("last", 900), at(0)));
        book.erase("ann");
        let outage = book.outage.as_ref().unwrap();
        assert_eq!(outage.forgotten, DEEDS_MAX as u64 + 1);
        assert!(outage.deeds.iter().all(|deed| matches!(deed, Deed::SilenceEnded(_))));
        assert_eq!(Fleet::new().shared.merge(book, 7, at(1)), DEEDS_MAX as u64 + 1);
    }
}
