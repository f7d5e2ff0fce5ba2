//! Requests that share a round trip: while a call is in flight, new requests wait in a group, and the next call takes
//! all of them. A single request is sent at once.
//!
//! In a Redis Cluster the keys of a call must have one slot. So a group has one slot there, and groups of several slots
//! are sent together, each as its own call.
//!
//! Each request is packed under the lock when it arrives, so that the bytes for the wire are ready. Requests with the
//! same key share its record in the server. Each is decided separately, all or nothing.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use foldhash::fast::RandomState;
use indexmap::IndexSet;
use smallvec::SmallVec;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::pack::{pack_request, push_long};
use super::reply::{BatchSize, Replies, Reply};
use super::server_clock::{RoundTrip, ServerClock};
use crate::clock::Timestamp;
use crate::policy::Key;
use crate::store::{Batch, INLINE_CAP, StoreError};

/// Maximum number of requests in a group: it occupies the server for a few hundred microseconds.
const GROUP_LEN_MAX: usize = 64;

/// Maximum number of keys in a group, unless its first request alone has more.
const GROUP_KEYS_MAX: usize = 256;

/// Maximum number of waiting requests; with more of them the server would answer none in time.
const REQUESTS_MAX: usize = 2_048;

/// Number of groups at the end of the queue that a request may join.
const JOINED_MAX: usize = 8;

/// How often a group may be redirected: a cluster that moves slots redirects it once or twice.
const MOVES_MAX: u8 = 5;

/// Bytes of the deadlines of a few requests, which need no allocation.
const DEADLINES_LEN: usize = 64;

/// The reply to a request.
type Answer = Result<Reply, StoreError>;

/// Requests that are sent together.
#[derive(Debug)]
pub struct Group {
    /// The slot of all keys; 0 without slots.
    slot: u16,
    /// It is sent to the node to which its slot is moving.
    is_asking: bool,
    /// How often it was redirected.
    moves: u8,
    /// The time of all of them; None for the server's clock.
    fixed_time: Option<Timestamp>,
    keys: IndexSet<Key, RandomState>,
    /// The packed requests, one after the other.
    packed: Vec<u8>,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    /// Its position in the packed bytes.
    place: Range<usize>,
    asked: BatchSize,
    expires: Option<Instant>,
    answer: oneshot::Sender<Answer>,
}

/// A request that joins a group.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    pub batch: &'a Batch,
    /// The slot of all its keys; 0 without slots.
    pub slot: u16,
    /// None for the server's clock.
    pub fixed_time: Option<Timestamp>,
    /// The estimated time by the server's clock.
    pub estimate: Timestamp,
    /// The time from which it must not be decided, because its client has given up; None if it may be decided at any
    /// time.
    pub expires: Option<Instant>,
}

impl Group {
    fn new(asking: &Asking<'_>) -> Self {
        Self {
            slot: asking.slot,
            is_asking: false,
            moves: 0,
            fixed_time: asking.fixed_time,
            keys: IndexSet::default(),
            packed: Vec::new(),
            members: Vec::new(),
        }
    }

    /// How many requests it has.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether ASKING must precede the call, because the keys are moving to the server.
    pub fn is_asking(&self) -> bool {
        self.is_asking
    }

    /// Redirects it: to the node of its slot, or `is_asking`, to the node to which it is moving. False if that happened
    /// too often.
    pub fn moves(&mut self, is_asking: bool) -> bool {
        self.is_asking = is_asking;
        self.moves += 1;
        self.moves <= MOVES_MAX
    }

    /// The time of all requests; None for the server's clock.
    pub fn fixed_time(&self) -> Option<Timestamp> {
        self.fixed_time
    }

    /// The keys of all requests, each once.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Key> {
        self.keys.iter()
    }

    /// The packed requests.
    pub fn requests(&self) -> impl Iterator<Item = &[u8]> {
        self.members.iter().map(|member| &self.packed[member.place.clone()])
    }

    /// Packs the deadlines of the requests by the server's clock: the earliest of all, and then each. Empty if there
    /// are none, or the server's clock is unknown.
    pub fn deadlines(&self, clock: &ServerClock) -> SmallVec<[u8; DEADLINES_LEN]> {
        let mut bytes = SmallVec::new();
        let earliest = self.members.iter().filter_map(|member| member.expires).min();
        if let Some(earliest) = earliest.and_then(|earliest| clock.at(earliest)) {
            let all = self.members.iter().map(|member| clock.at(member.expires?));
            for deadline in std::iter::once(Some(earliest)).chain(all) {
                push_long(&mut bytes, deadline.unwrap_or(Timestamp::MAX).as_ms());
            }
        }
        bytes
    }

    fn takes(&self, asking: &Asking<'_>) -> bool {
        (self.slot, self.fixed_time) == (asking.slot, asking.fixed_time)
            && !self.is_asking
            && self.members.len() < GROUP_LEN_MAX
            && self.keys.len() + asking.batch.keys.len() <= GROUP_KEYS_MAX
    }

    fn add(&mut self, asking: &Asking<'_>) -> oneshot::Receiver<Answer> {
        let Asking { batch, estimate, expires, .. } = asking;
        // Lua indexes start at 1.
        let indexes: SmallVec<[usize; INLINE_CAP]> =
            batch.keys.iter().map(|key| self.index(key) + 1).collect();
        let start = self.packed.len();
        pack_request(&mut self.packed, batch, &indexes, *estimate);
        let asked = BatchSize::of(batch);
        let (answer, receiver) = oneshot::channel();
        let place = start..self.packed.len();
        self.members.push(Member { place, asked, expires: *expires, answer });
        receiver
    }

    fn index(&mut self, key: &Key) -> usize {
        match self.keys.get_index_of(key) {
            Some(index) => index,
            None => self.keys.insert_full(key.clone()).0,
        }
    }

    /// Drops requests whose callers have given up: they were answered without the store, and must not be charged.
    fn forget_the_late(&mut self) {
        self.members.retain(|member| !member.answer.is_closed());
    }

    /// Gives each request its reply, after the server's clock was updated.
    pub fn answer(self, bytes: &[u8], (clock, trip): (&ServerClock, RoundTrip)) {
        let mut replies = match Replies::read(bytes) {
            Ok(replies) => replies,
            Err(error) => return self.fail(&error),
        };
        if self.fixed_time.is_none() {
            clock.learn(replies.at(), trip);
        }
        for Member { asked, answer, .. } in self.members {
            let outcome = replies.next(asked);
            match &outcome {
                Ok(Reply::Late(at)) if !answer.is_closed() => clock.learn_anew(*at, trip),
                _ => {}
            }
            // A request that has given up already has an answer.
            let _ = answer.send(outcome);
        }
    }

    /// Gives each request the reason that there is no reply.
    pub fn fail(self, error: &StoreError) {
        for Member { answer, .. } in self.members {
            let _ = answer.send(Err(error.clone()));
        }
    }
}

/// Groups that wait to be sent.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    came: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    groups: VecDeque<Group>,
    /// Of all groups.
    requests: usize,
}

impl Queue {
    /// Adds a request to one of the youngest groups with space.
    ///
    /// # Errors
    /// If too many requests wait.
    pub fn join(&self, asking: &Asking<'_>) -> Result<oneshot::Receiver<Answer>, StoreError> {
        let mut waiting = self.lock();
        if REQUESTS_MAX <= waiting.requests {
            return Err(StoreError::Crowded);
        }
        waiting.requests += 1;
        let mut young = waiting.groups.iter_mut().rev().take(JOINED_MAX);
        let receiver = match young.find(|group| group.takes(asking)) {
            Some(group) => group.add(asking),
            None => {
                let mut group = Group::new(asking);
                let receiver = group.add(asking);
                waiting.groups.push_back(group);
                receiver
            }
        };
        drop(waiting);
        self.came.notify_one();
        Ok(receiver)
    }

    /// Puts a redirected group first.
    pub fn put_first(&self, group: Group) {
        let mut waiting = self.lock();
        waiting.requests += group.len();
        waiting.groups.push_front(group);
        drop(waiting);
        self.came.notify_one();
    }

    /// The groups that have waited longest, as many as are sent together, when there are any.
    pub async fn next(&self) -> Vec<Group> {
        loop {
            let groups = self.take();
            if !groups.is_empty() {
                return groups;
            }
            self.came.notified().await;
        }
    }

    /// Drops all groups: there is no connection.
    pub fn clear(&self) {
        *self.lock() = Waiting::default();
    }

    fn take(&self) -> Vec<Group> {
        let mut waiting = self.lock();
        let (mut taken, mut requests) = (Vec::new(), 0);
        while let Some(mut group) = waiting.groups.pop_front() {
            if requests != 0 && GROUP_LEN_MAX < requests + group.len() {
                waiting.groups.push_front(group);
                break;
            }
            waiting.requests -= group.len();
            group.forget_the_late();
            requests += group.len();
            if group.len() != 0 {
                taken.push(group);
            }
        }
        taken
    }

    /// Locks the queue. A panic may have left half a request in a group: then all are dropped, and their requests fail.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(|poisoned| {
            self.waiting.clear_poison();
            let mut waiting = poisoned.into_inner();
            *waiting = Waiting::default();
            waiting
        })
    }
}
