//! The order of eviction when the memory budget is exhausted: the oldest request of the connection with the largest
//! reservations.
//!
//! A connection never loses requests for the reservations of another. So however many incomplete messages some clients
//! send, other clients have the time to send a message in two pieces.

use std::collections::BTreeMap;

/// Requests that may be evicted.
#[derive(Debug)]
pub struct EvictionOrder<P> {
    last_number: u64,
    on_clients: Shares<P>,
    on_server: Shares<P>,
}

/// Requests by connection.
type Shares<P> = BTreeMap<u64, Share<P>>;

/// Requests of one connection.
#[derive(Debug)]
struct Share<P> {
    held: u64,
    /// By number, oldest first, with the bytes that they hold.
    reservations: BTreeMap<u64, (u64, P)>,
}

/// The position of a request in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    pub waiting_on: WaitingOn,
    connection: u64,
    number: u64,
}

/// The cause of a wait. Requests that wait for their clients are evicted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitingOn {
    /// Its message is incomplete, or its answer is unread.
    Client,
    /// It waits for its turn, or a policy holds it.
    Server,
}

impl<P> Default for EvictionOrder<P> {
    fn default() -> Self {
        Self { last_number: 0, on_clients: Shares::new(), on_server: Shares::new() }
    }
}

impl<P> EvictionOrder<P> {
    /// Appends a request of a connection that holds `held` bytes.
    pub fn add(
        &mut self,
        waiting_on: WaitingOn,
        connection: u64,
        (held, reservation): (u64, P),
    ) -> QueueEntry {
        self.last_number += 1;
        let number = self.last_number;
        let empty = || Share { held: 0, reservations: BTreeMap::new() };
        let share = self.shares(waiting_on).entry(connection).or_insert_with(empty);
        share.held += held;
        share.reservations.insert(number, (held, reservation));
        QueueEntry { waiting_on, connection, number }
    }

    /// Adds `len` bytes to a request.
    pub fn grow(&mut self, entry: QueueEntry, len: u64) {
        let Some(share) = self.shares(entry.waiting_on).get_mut(&entry.connection) else { return };
        if let Some((held, _)) = share.reservations.get_mut(&entry.number) {
            *held += len;
            share.held += len;
        }
    }

    /// Removes a request, if present.
    pub fn remove(&mut self, entry: QueueEntry) -> Option<P> {
        let shares = self.shares(entry.waiting_on);
        let share = shares.get_mut(&entry.connection)?;
        let (held, reservation) = share.reservations.remove(&entry.number)?;
        share.held = share.held.saturating_sub(held);
        if share.reservations.is_empty() {
            shares.remove(&entry.connection);
        }
        Some(reservation)
    }

    /// Removes the request to evict next.
    pub fn pop(&mut self) -> Option<(WaitingOn, P)> {
        [WaitingOn::Client, WaitingOn::Server].into_iter().find_map(|waiting_on| {
            // At most one share per connection.
            let (connection, share) =
                self.shares(waiting_on).iter().max_by_key(|(_, share)| share.held)?;
            let (number, _) = share.reservations.first_key_value()?;
            let entry = QueueEntry { waiting_on, connection: *connection, number: *number };
            Some((waiting_on, self.remove(entry)?))
        })
    }

    fn shares(&mut self, waiting_on: WaitingOn) -> &mut Shares<P> {
        match waiting_on {
            WaitingOn::Client => &mut self.on_clients,
            WaitingOn::Server => &mut self.on_server,
        }
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.on_clients.is_empty() && self.on_server.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_that_holds_most_loses_its_oldest_request() {
        let mut eviction_order = EvictionOrder::default();
        eviction_order.add(WaitingOn::Server, 3, (900, "waits"));
        eviction_order.add(WaitingOn::Client, 1, (10, "small"));
        eviction_order.add(WaitingOn::Client, 2, (300, "first"));
        let grows = eviction_order.add(WaitingOn::Client, 2, (300, "second"));
        eviction_order.add(WaitingOn::Client, 3, (400, "third"));
        let gone = eviction_order.add(WaitingOn::Client, 3, (400, "gone"));
        assert_eq!(eviction_order.remove(gone), Some("gone"));
        assert_eq!(eviction_order.remove(gone), None);
        eviction_order.grow(gone, 1_000);
        let mut next = || {
            eviction_order
                .pop()
                .map(|(waiting_on, reservation)| (waiting_on == WaitingOn::Client, reservation))
        };
        assert_eq!(next(), Some((true, "first")));
        assert_eq!(next(), Some((true, "third")));
        eviction_order.grow(grows, 1);
        let order = std::iter::from_fn(|| eviction_order.pop().map(|(_, reservation)| reservation));
        assert_eq!(order.collect::<Vec<_>>(), ["second", "small", "waits"]);
        assert!(eviction_order.is_empty());
    }
}
