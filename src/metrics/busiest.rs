//! The busiest of many texts, within a bound: a space-saving sketch.
//!
//! The first texts each get a place with a value. Further ones are counted by a sketch of as many candidates as memory
//! allows: a new text takes the place of the candidate with the lowest count, which it inherits as its possible error. A
//! candidate that certainly occurred more than twice as often as the text in the weakest place takes that place, with
//! a new value. So texts that occur once or twice, however many, replace nothing. From time to time all counts are
//! halved, so that what was busy long ago gives way.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

/// Candidates for each place.
const CANDIDATES_PER_PLACE: usize = 3;

/// Counts are halved after so many texts for each place.
const TEXTS_PER_PLACE: usize = 1_000;

/// A candidate needs more than this multiple of the count in the weakest place.
const ADVANTAGE: u64 = 2;

/// The values of the busiest texts.
#[derive(Debug)]
pub struct Busiest<T> {
    places_max: usize,
    index: HashMap<Arc<str>, Slot, RandomState>,
    places: Vec<Place<T>>,
    /// Not above the lowest count of a place.
    weakest: u64,
    candidates: Vec<Candidate>,
    /// The counts of the candidates, side by side to find the lowest one fast.
    counts: Vec<u64>,
    /// Texts since counts were halved.
    seen: usize,
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    Place(usize),
    Candidate(usize),
}

#[derive(Debug)]
struct Place<T> {
    text: Arc<str>,
    count: u64,
    value: T,
}

#[derive(Debug)]
struct Candidate {
    text: Arc<str>,
    /// The part of its count that may belong to others.
    error: u64,
}

impl<T: Default> Busiest<T> {
    /// No texts yet; at most `places_max` have values.
    pub fn new(places_max: usize) -> Self {
        Self {
            places_max,
            index: HashMap::default(),
            places: Vec::new(),
            weakest: 0,
            candidates: Vec::new(),
            counts: Vec::new(),
            seen: 0,
        }
    }

    /// Counts a text. Its value; None if it is not one of the busiest.
    pub fn count(&mut self, text: &str) -> Option<&mut T> {
        self.age();
        let place = match self.index.get(text).copied() {
            Some(Slot::Place(place)) => {
                self.places[place].count += 1;
                Some(place)
            }
            Some(Slot::Candidate(candidate)) => {
                self.counts[candidate] += 1;
                self.promote(candidate)
            }
            None if self.places.len() < self.places_max => {
                let text: Arc<str> = text.into();
                self.index.insert(text.clone(), Slot::Place(self.places.len()));
                self.places.push(Place { text, count: 1, value: T::default() });
                Some(self.places.len() - 1)
            }
            None => {
                self.nominate(text);
                None
            }
        };
        place.map(|place| &mut self.places[place].value)
    }

    /// The busiest texts with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.places.iter().map(|place| (&*place.text, &place.value))
    }

    /// Makes a text a candidate, in the place of the one with the lowest count if there are enough.
    fn nominate(&mut self, text: &str) {
        let text: Arc<str> = text.into();
        if self.candidates.len() < self.places_max.saturating_mul(CANDIDATES_PER_PLACE) {
            self.index.insert(text.clone(), Slot::Candidate(self.candidates.len()));
            self.candidates.push(Candidate { text, error: 0 });
            self.counts.push(1);
            return;
        }
        let lowest = self.counts.iter().min().copied();
        let found = lowest.and_then(|lowest| self.counts.iter().position(|one| *one == lowest));
        let (Some(error), Some(candidate)) = (lowest, found) else { return };
        self.index.remove(&self.candidates[candidate].text);
        self.index.insert(text.clone(), Slot::Candidate(candidate));
        self.candidates[candidate] = Candidate { text, error };
        self.counts[candidate] = error + 1;
    }

    /// Gives a candidate the weakest place if it certainly has the advantage. Its place.
    fn promote(&mut self, candidate: usize) -> Option<usize> {
        let certain = self.counts[candidate] - self.candidates[candidate].error;
        let wins = |weakest: u64| ADVANTAGE * weakest.max(1) < certain;
        if !wins(self.weakest) {
            return None;
        }
        let places = self.places.iter().enumerate();
        let (place, weakest) =
            places.map(|(index, place)| (index, place.count)).min_by_key(|(_, count)| *count)?;
        self.weakest = weakest;
        if !wins(weakest) {
            return None;
        }
        let loser = Candidate { text: self.places[place].text.clone(), error: 0 };
        let winner = std::mem::replace(&mut self.candidates[candidate], loser);
        self.places[place] =
            Place { text: winner.text, count: self.counts[candidate], value: T::default() };
        self.counts[candidate] = weakest;
        self.index.insert(self.places[place].text.clone(), Slot::Place(place));
        self.index.insert(self.candidates[candidate].text.clone(), Slot::Candidate(candidate));
        Some(place)
    }

    /// Halves all counts when it is time.
    fn age(&mut self) {
        self.seen += 1;
        if self.seen <= self.places_max.saturating_mul(TEXTS_PER_PLACE) {
            return;
        }
        self.seen = 0;
        self.weakest /= 2;
        self.places.iter_mut().for_each(|place| place.count /= 2);
        for (count, candidate) in self.counts.iter_mut().zip(&mut self.candidates) {
            // So the certain part is halved too, rounded down.
            let certain = (*count - candidate.error) / 2;
            candidate.error /= 2;
            *count = candidate.error + certain;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(busiest: &Busiest<u64>) -> Vec<&str> {
        let mut texts: Vec<&str> = busiest.iter().map(|(text, _)| text).collect();
        texts.sort_unstable();
        texts
    }

    fn count(busiest: &mut Busiest<u64>, text: &str) {
        if let Some(value) = busiest.count(text) {
            *value += 1;
        }
    }

    #[test]
    fn the_first_texts_have_places_at_once() {
        let mut busiest = Busiest::new(2);
        for text in ["a", "b", "a", "c", "c"] {
            count(&mut busiest, text);
        }
        assert_eq!(busiest.iter().collect::<Vec<_>>(), [("a", &2), ("b", &1)]);
    }

    #[test]
    fn texts_that_occur_twice_replace_nothing_however_many() {
        let mut busiest = Busiest::new(10);
        (0..10).for_each(|number| count(&mut busiest, &format!("early {number}")));
        let before: Vec<String> = texts(&busiest).iter().map(|one| (*one).to_owned()).collect();
        for number in 0..100_000 {
            count(&mut busiest, &number.to_string());
            count(&mut busiest, &number.to_string());
        }
        assert_eq!(texts(&busiest), before);
        assert!(busiest.index.len() <= 10 * (1 + CANDIDATES_PER_PLACE));
    }

    #[test]
    fn a_text_that_becomes_busy_gets_a_place_amid_an_attack_and_later_gives_it_up() {
        let mut busiest = Busiest::new(2);
        ["a", "b"].iter().for_each(|text| count(&mut busiest, text));
        for number in 0..200 {
            count(&mut busiest, "busy");
            (0..3).for_each(|part| count(&mut busiest, &format!("{number} {part}")));
        }
        assert!(texts(&busiest).contains(&"busy"), "{:?}", texts(&busiest));
        for _ in 0..30 * TEXTS_PER_PLACE {
            count(&mut busiest, "new");
            count(&mut busiest, "other");
        }
        assert_eq!(texts(&busiest), ["new", "other"]);
    }

    #[test]
    fn without_places_nothing_has_a_value() {
        let mut busiest: Busiest<u64> = Busiest::new(0);
        assert!((0..9).all(|_| busiest.count("a").is_none()));
        assert!(busiest.index.is_empty());
    }
}
