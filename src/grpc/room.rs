//! The memory budget of requests that are not answered at once, over all connections.
//!
//! A request that has come whole and is decided at once takes none. One that stays takes what it may cost of memory: for
//! itself, for its headers, and for its message as long as it says that it will be. When there is none left, the
//! one is sent away that has owed for longest: whose message isn't whole, or whose answer isn't read. If none owes,
//! it is the one that has lingered for longest, as those do that a policy holds and those that wait for their turn; and
//! only if there is none either, the one that came last. The connection gives it that owes most (`departures.rs`), and
//! each may always hold a little. So many messages that are sent by halves cost others nothing.
//!
//! hyper runs a request as a stream that knows nothing of its place. So the place goes with the stream's
//! task-local state, where who answers it finds it.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::task::Waker;

use futures_util::FutureExt;
use futures_util::task::AtomicWaker;
use tonic::Status;

use super::departures::Departures;
use super::departures::Ticket;
use super::departures::Why;
use crate::metrics::Metrics;
use crate::metrics::Shed;

/// Bytes for all of them: some 8,000 requests of Envoy that wait, or 250 of the largest.
const HELD_MAX: u64 = 64 * 1024 * 1024;

/// How far above those who were sent away and have not gone yet may take it before a large message that isn't whole goes
/// itself, which frees its memory at once; and before any that isn't whole does. So large ones can't keep small ones out.
const HELD_BY_LARGE_MAX: u64 = HELD_MAX / 8 * 9;
const HELD_BY_ANY_MAX: u64 = HELD_MAX / 8 * 11;

/// What each connection may hold all the same: a machine without CPU lets those who were sent away go late, and that is not
/// the fault of who asks for little. All connections together may hold as much as [`HELD_MAX`] by it.
const CONNECTION_SHARE: u64 = 64 * 1024;

/// A request that costs more is large: ten times as much as one of Envoy.
const LARGE: u64 = 96 * 1024;

/// Bytes of a request without its message: the stream, its task and the buffer into which it is read.
const REQUEST_COST: u64 = 8 * 1024;

/// Bytes of a call that may go on without an end, such as a watch of health or reflection: what may come of
/// it unread is a stream's window.
const ENDLESS_COST: u64 = 64 * 1024;

tokio::task_local! {
    static PLACE: Arc<Place>;
}

/// What requests hold that are not answered at once. A copy is the same room.
#[derive(Clone, Debug)]
pub struct Room {
    metrics: Arc<Metrics>,
    /// What is held by those who were sent away.
    leaving: Arc<AtomicU64>,
    departures: Arc<Mutex<Departures<Arc<Place>>>>,
    connections: Arc<AtomicU64>,
    /// Which connection this is the room of, and what its requests hold.
    connection: u64,
    held: Arc<AtomicU64>,
}

/// The place of one request. Its connection's task alone moves it on; others may only send it away.
#[derive(Debug)]
pub struct Place {
    room: Arc<Room>,
    cost: AtomicU64,
    phase: AtomicU8,
    is_taken: AtomicBool,
    waiter: Mutex<Waiter>,
    waker: AtomicWaker,
}

/// What is known of a request that stays.
#[derive(Debug, Default)]
struct Waiter {
    ticket: Option<Ticket>,
    /// What it held when it was sent away.
    sent_away: Option<u64>,
}

/// Nobody has begun with it.
const NEW: u8 = 0;
/// Its message isn't whole yet.
const ARRIVING: u8 = 1;
/// It is up to us.
const WHOLE: u8 = 2;
/// Its client is to read the answer.
const ANSWERED: u8 = 3;

impl Room {
    /// Room that nobody has taken yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            leaving: Arc::default(),
            departures: Arc::default(),
            connections: Arc::default(),
            connection: 0,
            held: Arc::default(),
        }
    }

    /// The same room for the requests of another connection.
    pub fn of_connection(&self) -> Self {
        let connection = 1 + self.connections.fetch_add(1, Relaxed);
        Self { connection, held: Arc::default(), ..self.clone() }
    }

    /// What is counted of it.
    #[cfg(test)]
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Counts a request that nobody decided.
    pub fn shed(&self, why: Shed) {
        self.metrics.shed.shed(why);
    }

    /// Sends requests away until the others have room; false if there is nobody left to send.
    fn make_room(&self) -> bool {
        let held = &self.metrics.shed.held;
        while HELD_MAX < held.get().saturating_sub(self.leaving.load(Relaxed)) {
            let first = lock(&self.departures).pop();
            let Some((why, place)) = first else { return false };
            place.send_away(match why {
                Why::Owes => Shed::Slow,
                Why::Lingers => Shed::Crowded,
            });
        }
        true
    }
}

impl Place {
    /// The place of a new request.
    pub fn new(room: Arc<Room>) -> Arc<Self> {
        Arc::new(Self {
            room,
            cost: AtomicU64::new(REQUEST_COST),
            phase: AtomicU8::new(NEW),
            is_taken: AtomicBool::new(false),
            waiter: Mutex::default(),
            waker: AtomicWaker::new(),
        })
    }

    /// That of the stream that asks.
    pub fn here() -> Arc<Self> {
        PLACE.with(Arc::clone)
    }

    /// The stream of the request, which finds its place [`Place::here`].
    pub fn around<F: Future>(self: Arc<Self>, stream: F) -> impl Future<Output = F::Output> {
        PLACE.scope(self, stream)
    }

    /// The room that it is in.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Nobody has begun with the request.
    pub fn is_new(&self) -> bool {
        self.phase.load(Relaxed) == NEW
    }

    /// Its turn has come. To say so again changes nothing.
    pub fn begins(&self) {
        if !self.is_new() {
            return;
        }
        self.phase.store(ARRIVING, Relaxed);
        if self.is_taken.load(Relaxed) {
            // It lingers no more.
            self.put_back(&mut lock(&self.waiter));
        }
    }

    /// The request has turned out to cost so many bytes more.
    pub fn grow(self: &Arc<Self>, len: usize) {
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        self.cost.fetch_add(len, Relaxed);
        if self.is_taken.load(Relaxed) {
            let waiter = lock(&self.waiter);
            if let Some(ticket) = waiter.ticket {
                lock(&self.room.departures).grow(ticket, len);
            }
            drop(waiter);
            self.take(len);
        }
    }

    /// The call may go on without an end.
    pub fn is_endless(&self) {
        self.cost.fetch_add(ENDLESS_COST, Relaxed);
    }

    /// All of the message has come.
    pub fn is_whole(&self) {
        self.phase.store(WHOLE, Relaxed);
    }

    /// Whether all of the message has come, and the request may have been decided.
    pub fn has_come(&self) -> bool {
        self.phase.load(Relaxed) == WHOLE
    }

    /// The answer is there.
    pub fn is_answered(&self) {
        self.phase.store(ANSWERED, Relaxed);
    }

    /// The request is not done yet, and its stream is woken when it has to go. True: its answer isn't read, and
    /// there is nothing more to say.
    pub fn stays(self: &Arc<Self>, waker: &Waker) -> bool {
        self.waker.register(waker);
        let phase = self.phase.load(Relaxed);
        let why = match phase {
            NEW => Some(Why::Lingers),
            WHOLE => None,
            _ => Some(Why::Owes),
        };
        let mut waiter = lock(&self.waiter);
        if waiter.sent_away.is_some() {
            return phase == ANSWERED;
        }
        match (waiter.ticket.map(|ticket| ticket.why), why) {
            (Some(Why::Owes), None) => self.put_back(&mut waiter),
            (Some(Why::Lingers), Some(Why::Owes)) => {
                self.put_back(&mut waiter);
                self.draw(&mut waiter, Why::Owes);
            }
            (None, Some(why)) => self.draw(&mut waiter, why),
            _ => {}
        }
        drop(waiter);
        if !self.is_taken.swap(true, Relaxed) {
            self.take(self.cost.load(Relaxed));
        }
        false
    }

    /// The request has waited for longer than a store takes.
    pub fn lingers(self: &Arc<Self>) {
        let mut waiter = lock(&self.waiter);
        if waiter.ticket.is_none() && waiter.sent_away.is_none() {
            self.draw(&mut waiter, Why::Lingers);
        }
    }

    /// Whether it has to go.
    pub fn is_sent_away(&self) -> bool {
        // Nobody sends away who has taken nothing.
        self.is_taken.load(Relaxed) && lock(&self.waiter).sent_away.is_some()
    }

    /// What a future answers; None if the request has to go before that. The stream is woken then.
    pub fn unless_sent_away<T>(
        &self,
        mut future: impl Future<Output = T> + Unpin,
    ) -> impl Future<Output = Option<T>> + Unpin {
        poll_fn(move |cx| match self.is_sent_away() {
            true => Poll::Ready(None),
            false => future.poll_unpin(cx).map(Some),
        })
    }

    /// Gives back what it holds.
    pub fn leave(&self) {
        if !self.is_taken.swap(false, Relaxed) {
            return;
        }
        let mut waiter = lock(&self.waiter);
        self.put_back(&mut waiter);
        let left = waiter.sent_away.unwrap_or_default();
        let cost = self.cost.load(Relaxed);
        self.room.held.fetch_sub(cost, Relaxed);
        self.room.metrics.shed.held.dec_by(cost);
        self.room.leaving.fetch_sub(left, Relaxed);
    }

    fn take(self: &Arc<Self>, len: u64) {
        let of_connection = len + self.room.held.fetch_add(len, Relaxed);
        let before = self.room.metrics.shed.held.inc_by(len);
        if before + len <= HELD_MAX {
            return;
        }
        let has_room = self.room.make_room();
        let cost = self.cost.load(Relaxed);
        let held_max = if LARGE < cost { HELD_BY_LARGE_MAX } else { HELD_BY_ANY_MAX };
        let phase = self.phase.load(Relaxed);
        let is_crowded = || held_max < self.room.metrics.shed.held.get();
        if !has_room {
            self.send_away(Shed::Crowded);
        } else if phase != WHOLE && CONNECTION_SHARE < of_connection && is_crowded() {
            self.send_away(if phase == NEW { Shed::Crowded } else { Shed::Slow });
        }
    }

    fn send_away(&self, why: Shed) {
        let mut waiter = lock(&self.waiter);
        // It may have gone by itself meanwhile.
        if !self.is_taken.load(Relaxed) || waiter.sent_away.is_some() {
            return;
        }
        self.put_back(&mut waiter);
        let held = self.cost.load(Relaxed);
        waiter.sent_away = Some(held);
        self.room.leaving.fetch_add(held, Relaxed);
        drop(waiter);
        self.room.shed(why);
        self.waker.wake();
    }

    /// Draws a ticket, the last of its kind.
    fn draw(self: &Arc<Self>, waiter: &mut Waiter, why: Why) {
        let asks = (self.cost.load(Relaxed), self.clone());
        let ticket = lock(&self.room.departures).add(why, self.room.connection, asks);
        waiter.ticket = Some(ticket);
    }

    fn put_back(&self, waiter: &mut Waiter) {
        if let Some(ticket) = waiter.ticket.take() {
            lock(&self.room.departures).remove(ticket);
        }
    }
}

/// What is answered to a request that is sent away.
pub fn no_room() -> Status {
    Status::resource_exhausted("there is no room for more requests that wait")
}

/// Locks what is whole wherever a panic struck: nothing here panics between two steps. Of a place and its room the
/// place comes first.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUARTER: usize = 16 * 1024 * 1024;

    fn room() -> Arc<Room> {
        Arc::new(Room::new(Arc::new(Metrics::new())))
    }

    /// A request that stays, of a quarter of the room and a little.
    fn large(room: &Arc<Room>, set: impl Fn(&Arc<Place>)) -> Arc<Place> {
        let place = Place::new(room.clone());
        place.begins();
        place.grow(QUARTER);
        set(&place);
        assert!(!place.stays(Waker::noop()));
        place
    }

    fn arriving(_: &Arc<Place>) {}

    fn whole(place: &Arc<Place>) {
        place.is_whole();
    }

    #[track_caller]
    fn check(places: &[&Arc<Place>], sent_away: &[bool]) {
        let told: Vec<bool> = places.iter().map(|place| place.is_sent_away()).collect();
        assert_eq!(told, sent_away);
    }

    #[test]
    fn who_has_owed_for_longest_makes_room() {
        let room = room();
        let first = large(&room, whole);
        let second = large(&room, arriving);
        let third = large(&room, |place| place.is_answered());
        let fourth = large(&room, whole);
        let all = [&first, &second, &third, &fourth];
        check(&all, &[false, true, false, false]);
        assert!(!second.stays(Waker::noop()), "it has not been told");
        second.leave();
        let fifth = large(&room, whole);
        check(&all, &[false, false, true, false]);
        assert!(third.stays(Waker::noop()), "nobody would hear it");
        third.leave();
        let _more = large(&room, whole);
        check(&[&first, &fourth, &fifth], &[false; 3]);
    }

    #[test]
    fn who_has_lingered_makes_room_if_none_owes() {
        let room = room();
        let places: Vec<_> = (0..3).map(|_| large(&room, whole)).collect();
        places[1].lingers();
        places[2].lingers();
        let last = large(&room, whole);
        check(&[&places[0], &places[1], &places[2], &last], &[false, true, false, false]);
    }

    #[test]
    fn who_waits_for_a_turn_makes_room_after_those_who_owe() {
        let room = room();
        let first = Place::new(room.clone());
        first.grow(QUARTER);
        assert!(!first.stays(Waker::noop()));
        let owes = large(&room, arriving);
        let decided = large(&room, whole);
        let _fourth = large(&room, whole);
        check(&[&first, &owes, &decided], &[false, true, false]);
        owes.leave();
        let _fifth = large(&room, whole);
        check(&[&first, &decided], &[true, false]);
    }

    #[test]
    fn who_is_whole_owes_nothing_and_does_not_linger_though_it_waited_for_its_turn() {
        let room = room();
        let first = Place::new(room.clone());
        first.grow(QUARTER);
        assert!(!first.stays(Waker::noop()));
        first.begins();
        first.is_whole();
        assert!(!first.stays(Waker::noop()));
        // Each time that its stream is polled.
        first.begins();
        assert!(!first.stays(Waker::noop()));
        let owes = large(&room, arriving);
        let _third = large(&room, whole);
        let _fourth = large(&room, whole);
        check(&[&first, &owes], &[false, true]);
        owes.leave();
        let last = large(&room, whole);
        check(&[&first, &last], &[false, true]);
    }

    #[test]
    fn the_last_goes_if_there_is_nobody_else() {
        let room = room();
        let places: Vec<_> = (0..3).map(|_| large(&room, whole)).collect();
        let last = large(&room, whole);
        check(&[&places[0], &places[1], &places[2], &last], &[false, false, false, true]);
        last.leave();
        check(&[&large(&room, whole)], &[true]);
    }

    #[test]
    fn those_who_are_slow_to_leave_hold_up_new_ones() {
        let room = room();
        let places: Vec<_> = (0..5).map(|_| large(&room, arriving)).collect();
        let all: Vec<&Arc<Place>> = places.iter().collect();
        check(&all, &[true, true, false, false, true]);
    }

    /// A request of a usual size on a connection of its own, whose message isn't whole.
    fn small(room: &Room) -> Arc<Place> {
        let place = Place::new(Arc::new(room.of_connection()));
        place.begins();
        assert!(!place.stays(Waker::noop()));
        place
    }

    #[test]
    fn who_owes_little_stays_however_many_come_that_owe_much() {
        let room = room();
        let small = small(&room);
        for _ in 0..100 {
            let other = Arc::new(room.of_connection());
            let place = large(&other, arriving);
            if place.is_sent_away() {
                place.leave();
            }
        }
        check(&[&small], &[false]);
        small.is_whole();
        assert!(!small.stays(Waker::noop()));
        check(&[&small], &[false]);
    }

    #[test]
    fn who_asks_for_little_has_room_though_all_of_it_is_taken_by_those_who_are_slow_to_leave() {
        let room = room();
        let others: Vec<_> = (0..6)
            .map(|_| {
                let other = Place::new(Arc::new(room.of_connection()));
                assert!(!other.stays(Waker::noop()));
                other.grow(QUARTER);
                other
            })
            .collect();
        assert!(HELD_BY_ANY_MAX < room.metrics.shed.held.get());
        let little = small(&room);
        check(&[&little], &[false]);
        // Not for more than a little.
        little.grow(usize::try_from(CONNECTION_SHARE).unwrap());
        check(&[&little], &[true]);
        drop(others);
    }

    #[test]
    fn large_messages_that_are_slow_to_leave_do_not_keep_small_ones_out() {
        let room = room();
        let _large: Vec<_> = (0..5).map(|_| large(&room, arriving)).collect();
        let small = Place::new(room);
        small.begins();
        assert!(!small.stays(Waker::noop()));
        check(&[&small], &[false]);
    }

    #[test]
    fn who_leaves_gives_all_back_and_is_not_remembered() {
        let room = room();
        for set in [arriving, whole] {
            let place = large(&room, set);
            place.grow(7);
            place.lingers();
            place.leave();
            place.leave();
        }
        large(&room, arriving).leave();
        let places: Vec<_> = (0..9).map(|_| large(&room, arriving)).collect();
        places.iter().for_each(|place| place.leave());
        assert_eq!(room.metrics.shed.held.get(), 0);
        assert_eq!(room.leaving.load(Relaxed), 0);
        assert!(lock(&room.departures).is_empty());
        assert_eq!(room.held.load(Relaxed), 0);
    }

    #[test]
    fn who_does_not_stay_takes_nothing() {
        let room = room();
        let place = Place::new(room.clone());
        place.grow(QUARTER);
        place.is_whole();
        place.leave();
        assert_eq!(room.metrics.shed.held.get(), 0);
    }
}
