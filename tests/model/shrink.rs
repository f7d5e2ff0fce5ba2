//! Shortens a history in which the model differs from an engine, and shows it.

use std::fmt::Write;

use super::stage::{Difference, Event, Opening, Shared, Stage};
use super::world::{AskPart, Rule};
use super::yaml;

/// Histories that are tried.
const TRIES_MAX: usize = 600;

/// A history that has ended with a difference.
pub struct Failed<'s> {
    pub opening: Opening,
    pub events: Vec<Event>,
    pub shared: Shared<'s>,
    pub sidecars: usize,
    pub difference: Difference,
    tries: usize,
}

impl<'s> Failed<'s> {
    pub fn new(
        (opening, events): (Opening, Vec<Event>),
        (shared, sidecars): (Shared<'s>, usize),
        difference: Difference,
    ) -> Self {
        Self { opening, events, shared, sidecars, difference, tries: 0 }
    }

    /// Leaves out all that isn't needed for a difference.
    pub async fn shrink(&mut self) {
        let (opening, events) = (self.opening.clone(), self.events.clone());
        let shared = self.shared;
        self.shared = Shared::Nothing;
        if !self.try_instead(&opening, &events).await {
            self.shared = shared;
        }
        let mut size = self.events.len().div_ceil(2);
        while 0 < size {
            let mut at = 0;
            while at < self.events.len() {
                let mut events = self.events.clone();
                events.drain(at..(at + size).min(events.len()));
                if !self.try_instead(&self.opening.clone(), &events).await {
                    at += size;
                }
            }
            size /= 2;
        }
        self.leave_out_limits().await;
    }

    /// Leaves out limits of all policies.
    async fn leave_out_limits(&mut self) {
        let mut at = 0;
        loop {
            let (mut opening, mut events) = (self.opening.clone(), self.events.clone());
            match remove_limit(&mut opening.world.rules, &mut at.clone()) {
                None => break,
                Some(false) => {
                    at += 1;
                    continue;
                }
                Some(true) => {}
            }
            for event in &mut events {
                if let Event::Policy(world) = event {
                    remove_limit(&mut world.rules, &mut at.clone());
                }
            }
            if !self.try_instead(&opening, &events).await {
                at += 1;
            }
        }
    }

    /// Whether there is a difference in another history too; that one is kept then.
    async fn try_instead(&mut self, opening: &Opening, events: &[Event]) -> bool {
        let tries_max = match self.shared {
            Shared::Nothing => TRIES_MAX,
            Shared::Redis(_) | Shared::Cluster(_) => TRIES_MAX / 6,
        };
        if tries_max <= self.tries {
            return false;
        }
        self.tries += 1;
        self.shared.clear().await;
        let mut stage = Stage::new(opening, self.shared, self.sidecars).await;
        for (index, event) in events.iter().enumerate() {
            if let Err(difference) = stage.play(event).await {
                self.difference = difference;
                self.opening = opening.clone();
                self.events = events[..=index].to_vec();
                return true;
            }
        }
        false
    }

    /// The history as a reader can follow it.
    pub fn text(&self) -> String {
        let Opening { world, people, now_ms, .. } = &self.opening;
        let mut text = format!("# policy.yaml\n{}", yaml::policy(world));
        write!(text, "\n# callers.yaml\n{}\nat {now_ms}\n", yaml::directory(people)).unwrap();
        for event in &self.events {
            let line = match event {
                Event::Policy(world) => format!("# policy.yaml\n{}", yaml::policy(world)),
                Event::People(people) => format!("# callers.yaml\n{}", yaml::directory(people)),
                Event::Gift { at_ms, giving, .. } => {
                    format!("+{}: {giving:?}", at_ms - now_ms)
                }
                Event::Ask { at_ms, sidecar, ask } => {
                    let parts: Vec<String> = ask.parts.iter().map(show).collect();
                    let shown = yaml::instant(*at_ms);
                    let after_ms = at_ms - now_ms;
                    format!("+{after_ms} ({shown}, sidecar {sidecar}): {}", parts.join("; "))
                }
            };
            writeln!(text, "{line}").unwrap();
        }
        format!("{text}{}", self.difference.0)
    }
}

/// Removes the limit that so many stand before, unless its rule needs one; None if there are not as many.
fn remove_limit(rules: &mut [Rule], before: &mut usize) -> Option<bool> {
    for rule in rules {
        if *before < rule.limits.len() {
            let may_go = 1 < rule.limits.len()
                || !rule.cascade && rule.capacity.is_none() && rule.holding_ms.is_none();
            if may_go {
                rule.limits.remove(*before);
            }
            return Some(may_go);
        }
        *before -= rule.limits.len();
        let below = remove_limit(&mut rule.below, before);
        if below.is_some() {
            return below;
        }
    }
    None
}

/// A descriptor as the history shows it.
fn show(part: &AskPart) -> String {
    let entries: Vec<String> =
        part.entries.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{} for {}", entries.join(","), part.hits)
}
