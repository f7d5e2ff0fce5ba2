//! The answers of rules: callers that are restricted for a time because an alert about them was opened.
//!
//! A caller is claimed in the change that opens the alert, so that one sidecar of a fleet answers, and once. At most
//! [`ANSWERS_MAX`] callers are restricted at a time, so that a wrong rule does not restrict everybody. The answers of others wait for a
//! place, as long as their alerts are open.

use super::Book;
use super::kept::AlertAnswer;
use super::outage::Deed;
use crate::alerts::labels::AlertId;
use crate::clock::Timestamp;
use crate::policy::AlertPolicy;

/// Maximum number of callers that rules restrict at a time.
pub const ANSWERS_MAX: usize = 20;

/// The answers to give.
#[derive(Debug, Default)]
pub struct Claimed {
    pub answers: Vec<AlertAnswer>,
    /// Answers of alerts that this change has opened, which now wait for a place.
    pub delayed: usize,
}

impl Book {
    /// Claims the answers of alerts that this change has opened, and of those that have waited for a place, the oldest first. A
    /// caller that is restricted already, or was until a person has ended it, is not restricted again before the time is over.
    /// What is silenced has no answer.
    pub fn claim_answers(&mut self, policy: &AlertPolicy, now: Timestamp) -> Claimed {
        let mut claimed = Claimed::default();
        self.answers.retain(|one| now.as_ms() < one.until_ms);
        let mut waiting = Vec::new();
        let has_answer = |rule: &str| policy.rule(rule).is_some_and(|rule| rule.answer.is_some());
        for alert in self.open.values_mut() {
            // A sidecar whose files don't have the answer leaves it to others.
            if !alert.answer_waits || !has_answer(&alert.rule) {
                continue;
            }
            alert.answer_waits = false;
            waiting.push((alert.opened_ms, alert.id.clone()));
        }
        waiting.sort();
        let opened = std::mem::take(&mut self.opened);
        let old = waiting.into_iter().map(|(_, id)| (id, false));
        for (id, is_new) in old.chain(opened.into_iter().map(|id| (id, true))) {
            let Some(answer) = self.wanted_answer(policy, &id, now) else { continue };
            if ANSWERS_MAX <= self.answers.len() {
                claimed.delayed += usize::from(is_new);
                self.open.entry(id).and_modify(|alert| alert.answer_waits = true);
                continue;
            }
            self.answers.push(answer.clone());
            self.note(|| Deed::Answered(answer.clone()));
            claimed.answers.push(answer);
        }
        claimed
    }

    /// The answer that an alert should have now; None if it has none.
    fn wanted_answer(
        &self,
        policy: &AlertPolicy,
        id: &AlertId,
        now: Timestamp,
    ) -> Option<AlertAnswer> {
        let alert = self.open.get(id).filter(|alert| alert.resolved_by.is_none())?;
        let answer = policy.rule(&alert.rule)?.answer.as_ref()?;
        let caller = alert.labels.get("caller")?;
        let is_answered = self.answers.iter().any(|one| one.caller == caller);
        if is_answered || self.is_silenced(policy, alert, now) {
            return None;
        }
        Some(AlertAnswer {
            alert: id.clone(),
            rule: alert.rule.clone(),
            caller: caller.to_owned(),
            domain: alert.labels.get("domain").map(str::to_owned),
            tier: answer.tier.to_string(),
            until_ms: now.after(answer.length).as_ms(),
        })
    }

    /// The numbers of answers that hold, and of those that wait for a place.
    pub fn answer_counts(&self, now: Timestamp) -> (usize, usize) {
        let holding = self.answers.iter().filter(|one| now.as_ms() < one.until_ms).count();
        (holding, self.open.values().filter(|alert| alert.answer_waits).count())
    }

    /// Forgets an answer that could not be given.
    pub fn release_answer(&mut self, id: &AlertId) {
        self.remove_answer(id);
        self.note(|| Deed::Released(id.clone()));
    }

    /// Takes over an answer that was given. It may be one more than the maximum.
    pub(super) fn add_answer(&mut self, answer: AlertAnswer) {
        if self.answers.iter().all(|known| known.alert != answer.alert) {
            self.answers.push(answer);
        }
    }

    pub(super) fn remove_answer(&mut self, id: &AlertId) {
        self.answers.retain(|one| one.alert != *id);
    }

    /// The answer to an alert, if its time is not over.
    pub fn answer_to(&self, id: &AlertId, now: Timestamp) -> Option<&AlertAnswer> {
        let is_given = |one: &&AlertAnswer| one.alert == *id && now.as_ms() < one.until_ms;
        self.answers.iter().find(is_given)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::alerts::{Firing, Labels};
    use crate::policy::{Source, compile_alerts};

    const MINUTE_MS: u64 = 60_000;

    fn policy() -> AlertPolicy {
        let text = "alerts:
  denied: { when: denials, above: 5, answer: { tier: restricted, for: 1h } }
  burst: { when: burst, above: 5 }
maintenance:
  night: { dates: 1970-01-02 }";
        let source = Source { path: "alerts.yaml".to_owned(), text: text.to_owned() };
        compile_alerts(&[source]).unwrap()
    }

    /// The callers that are restricted, and the number of those that begin to wait for a place, after what fires at a minute.
    fn claim(book: &mut Book, firing: &[(&str, String)], minute: u64) -> (Vec<String>, usize) {
        let policy = policy();
        let firing: Vec<Firing<'_>> = firing
            .iter()
            .map(|(rule, caller)| {
                let labels = Labels::new().with("domain", Some("d")).with("caller", Some(caller));
                let (id, rule) = (AlertId::new(rule, &labels), policy.rule(rule).unwrap());
                Firing { id, rule, labels, value: Some(9.0) }
            })
            .collect();
        let now = Timestamp::from_ms(minute * MINUTE_MS);
        book.sync("a", (&policy, &firing), now);
        let claimed = book.claim_answers(&policy, now);
        (claimed.answers.into_iter().map(|one| one.caller).collect(), claimed.delayed)
    }

    #[test]
    fn a_caller_is_restricted_once_until_the_time_is_over() {
        let (mut book, ann) = (Book::default(), || ("denied", "ann".to_owned()));
        let named = |names: &[&str]| (names.iter().map(ToString::to_string).collect(), 0);
        let burst = ("burst", "bob".to_owned());
        assert_eq!(claim(&mut book, &[ann(), burst], 0), named(&["ann"]), "one rule has no answer");
        assert_eq!(claim(&mut book, &[ann()], 1), named(&[]), "it is open");
        assert_eq!(claim(&mut book, &[], 2), named(&[]));
        assert_eq!(claim(&mut book, &[ann()], 3), named(&[]), "another alert, but answered");
        assert_eq!(claim(&mut book, &[], 60), named(&[]));
        assert_eq!(claim(&mut book, &[ann()], 61), named(&["ann"]));
        assert_eq!(Book::decode(&book.encode()).unwrap().answers, book.answers);
        book.erase("ann");
        assert!(book.answers.is_empty());
        // In a maintenance window.
        assert_eq!(claim(&mut book, &[("denied", "eve".to_owned())], 24 * 60 + 5), named(&[]));
    }

    #[test]
    fn few_callers_are_restricted_at_a_time() {
        let mut book = Book::default();
        let many: Vec<_> = (0..100).map(|one| ("denied", format!("user {one}"))).collect();
        let (callers, delayed) = claim(&mut book, &many, 0);
        assert_eq!((callers.len(), delayed), (ANSWERS_MAX, 100 - ANSWERS_MAX));
        assert_eq!(claim(&mut book, &many, 1), (Vec::new(), 0), "they are told once");
        let id = book.answers[0].alert.clone();
        let now = Timestamp::from_ms(MINUTE_MS);
        assert_eq!(book.answer_to(&id, now).map(|one| one.tier.as_str()), Some("restricted"));
        assert_eq!(book.answer_to(&id, now.after(Duration::from_secs(3_600))), None);
        assert_eq!(book.answer_counts(now), (ANSWERS_MAX, 100 - ANSWERS_MAX));
        book.release_answer(&id);
        assert_eq!(book.answers.len(), ANSWERS_MAX - 1);
    }

    #[test]
    fn an_answer_waits_for_a_place_while_its_alert_fires() {
        let callers = |names: std::ops::Range<u32>| {
            names.map(|one| ("denied", format!("user {one:02}"))).collect::<Vec<_>>()
        };
        let named = |names: std::ops::Range<u32>| {
            (names.map(|one| format!("user {one:02}")).collect::<Vec<_>>(), 0)
        };
        let sorted = |(mut callers, delayed): (Vec<String>, usize)| {
            callers.sort();
            (callers, delayed)
        };
        let mut book = Book::default();
        assert_eq!(sorted(claim(&mut book, &callers(0..20), 0)), named(0..20));
        assert_eq!(claim(&mut book, &callers(0..30), 5), (Vec::new(), 10));
        // It is known to all sidecars, and after a restart.
        let mut book = Book::decode(&book.encode()).unwrap();
        assert_eq!(claim(&mut book, &callers(0..40), 10), (Vec::new(), 10));
        // Five of those that have waited longest no longer fire.
        assert_eq!(claim(&mut book, &callers(25..40), 15), (Vec::new(), 0));
        assert_eq!(book.answer_counts(Timestamp::from_ms(15 * MINUTE_MS)), (ANSWERS_MAX, 15));
        // A sidecar without the rule changes nothing.
        let now = Timestamp::from_ms(15 * MINUTE_MS);
        book.claim_answers(&AlertPolicy::default(), now);
        assert_eq!(book.answer_counts(now), (ANSWERS_MAX, 15));
        // The places are free.
        assert_eq!(sorted(claim(&mut book, &callers(25..40), 60)), named(25..40));
        assert_eq!(claim(&mut book, &callers(25..40), 61), (Vec::new(), 0));
    }

    #[test]
    fn those_that_have_waited_longest_come_first() {
        let mut book = Book::default();
        let all: Vec<_> = (0..23).map(|one| ("denied", format!("user {one:02}"))).collect();
        for (minute, count) in [20, 22, 23].into_iter().enumerate() {
            claim(&mut book, &all[..count], minute as u64);
        }
        let first = book.answers[0].alert.clone();
        book.release_answer(&first);
        let (given, _) = claim(&mut book, &all, 3);
        assert!(given == ["user 20"] || given == ["user 21"], "{given:?}");
    }
}
