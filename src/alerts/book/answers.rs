//! The answers of rules: callers that are restricted for a time because an alert about them was opened.
//!
//! A caller is claimed in the change that opens the alert, so that one sidecar of a fleet answers, and once. At most
//! [`ANSWERS_MAX`] callers are restricted at a time, so that a wrong rule does not restrict everybody.

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
    /// Answers that are not given because there are too many.
    pub dropped: usize,
}

impl Book {
    /// Claims the answers of alerts that this change has opened. A caller that is restricted already, or was until a person has
    /// ended it, is not restricted again before the time is over. What is silenced has no answer.
    pub fn claim_answers(&mut self, policy: &AlertPolicy, now: Timestamp) -> Claimed {
        let mut claimed = Claimed::default();
        for id in std::mem::take(&mut self.opened) {
            let Some(alert) = self.open.get(&id) else { continue };
            let Some(answer) = policy.rule(&alert.rule).and_then(|rule| rule.answer.as_ref())
            else {
                continue;
            };
            let Some(caller) = alert.labels.get("caller") else { continue };
            if self.is_silenced(policy, alert, now) {
                continue;
            }
            let answer = AlertAnswer {
                alert: id,
                rule: alert.rule.clone(),
                caller: caller.to_owned(),
                domain: alert.labels.get("domain").map(str::to_owned),
                tier: answer.tier.to_string(),
                until_ms: now.after(answer.length).as_ms(),
            };
            self.answers.retain(|one| now.as_ms() < one.until_ms);
            if self.answers.iter().any(|one| one.caller == answer.caller) {
                continue;
            }
            if ANSWERS_MAX <= self.answers.len() {
                claimed.dropped += 1;
                continue;
            }
            self.answers.push(answer.clone());
            self.note(|| Deed::Answered(answer.clone()));
            claimed.answers.push(answer);
        }
        claimed
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

    /// The callers that are restricted, and the number of those that are not, after what fires at a minute.
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
        (claimed.answers.into_iter().map(|one| one.caller).collect(), claimed.dropped)
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
        let (callers, dropped) = claim(&mut book, &many, 0);
        assert_eq!((callers.len(), dropped), (ANSWERS_MAX, 100 - ANSWERS_MAX));
        assert_eq!(claim(&mut book, &many, 1), (Vec::new(), 0), "they are told once");
        let id = book.answers[0].alert.clone();
        let now = Timestamp::from_ms(MINUTE_MS);
        assert_eq!(book.answer_to(&id, now).map(|one| one.tier.as_str()), Some("restricted"));
        assert_eq!(book.answer_to(&id, now.after(Duration::from_secs(3_600))), None);
        book.release_answer(&id);
        assert_eq!(book.answers.len(), ANSWERS_MAX - 1);
    }
}
