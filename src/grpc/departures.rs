//! The order of eviction when the memory budget is used up: the oldest request of the connection that owes most.
//!
//! What one connection owes is no reason to send another one's request away. So however fast a few clients bring
//! messages by halves, a message of somebody else that comes in two pieces has the time to come.

use std::collections::BTreeMap;

/// Who may be sent away.
#[derive(Debug)]
pub struct Departures<P> {
    last_number: u64,
    owing: Shares<P>,
    lingering: Shares<P>,
}

/// By connection.
type Shares<P> = BTreeMap<u64, Share<P>>;

/// Requests of one connection.
#[derive(Debug)]
struct Share<P> {
    held: u64,
    /// By number, with what they hold: the first came first.
    places: BTreeMap<u64, (u64, P)>,
}

/// Finds a request among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub why: Why,
    connection: u64,
    number: u64,
}

/// Why a request may be sent away. Those that owe go before those that linger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Owes,
    Lingers,
}

impl<P> Default for Departures<P> {
    fn default() -> Self {
        Self { last_number: 0, owing: Shares::new(), lingering: Shares::new() }
    }
}

impl<P> Departures<P> {
    /// Adds a request of a connection that holds so much, after all others of its kind there.
    pub fn add(&mut self, why: Why, connection: u64, (held, place): (u64, P)) -> Ticket {
        self.last_number += 1;
        let number = self.last_number;
        let empty = || Share { held: 0, places: BTreeMap::new() };
        let share = self.shares(why).entry(connection).or_insert_with(empty);
        share.held += held;
        share.places.insert(number, (held, place));
        Ticket { why, connection, number }
    }

    /// One of them holds so much more.
    pub fn grow(&mut self, ticket: Ticket, len: u64) {
        let Some(share) = self.shares(ticket.why).get_mut(&ticket.connection) else { return };
        if let Some((held, _)) = share.places.get_mut(&ticket.number) {
            *held += len;
            share.held += len;
        }
    }

    /// One of them, if it is there, may not be sent away any more.
    pub fn remove(&mut self, ticket: Ticket) -> Option<P> {
        let shares = self.shares(ticket.why);
        let share = shares.get_mut(&ticket.connection)?;
        let (held, place) = share.places.remove(&ticket.number)?;
        share.held = share.held.saturating_sub(held);
        if share.places.is_empty() {
            shares.remove(&ticket.connection);
        }
        Some(place)
    }

    /// Takes out who is to go first.
    pub fn pop(&mut self) -> Option<(Why, P)> {
        [Why::Owes, Why::Lingers].into_iter().find_map(|why| {
            // As many as connections at most.
            let (connection, share) =
                self.shares(why).iter().max_by_key(|(_, share)| share.held)?;
            let (number, _) = share.places.first_key_value()?;
            let ticket = Ticket { why, connection: *connection, number: *number };
            Some((why, self.remove(ticket)?))
        })
    }

    fn shares(&mut self, why: Why) -> &mut Shares<P> {
        match why {
            Why::Owes => &mut self.owing,
            Why::Lingers => &mut self.lingering,
        }
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.owing.is_empty() && self.lingering.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_that_owes_most_gives_its_oldest() {
        let mut departures = Departures::default();
        departures.add(Why::Lingers, 3, (900, "lingers"));
        departures.add(Why::Owes, 1, (10, "small"));
        departures.add(Why::Owes, 2, (300, "first"));
        let grows = departures.add(Why::Owes, 2, (300, "second"));
        departures.add(Why::Owes, 3, (400, "third"));
        let gone = departures.add(Why::Owes, 3, (400, "gone"));
        assert_eq!(departures.remove(gone), Some("gone"));
        assert_eq!(departures.remove(gone), None);
        departures.grow(gone, 1_000);
        let mut next = || departures.pop().map(|(why, place)| (why == Why::Owes, place));
        assert_eq!(next(), Some((true, "first")));
        assert_eq!(next(), Some((true, "third")));
        departures.grow(grows, 1);
        let order = std::iter::from_fn(|| departures.pop().map(|(_, place)| place));
        assert_eq!(order.collect::<Vec<_>>(), ["second", "small", "lingers"]);
        assert!(departures.is_empty());
    }
}
