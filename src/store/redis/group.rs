//! Requests that share a round trip: while one is under way, those that come wait in a group, and the next
//! takes them all. A lone request is sent at once.
//!
//! In a Redis Cluster the keys of a call have one slot. So a group is of one slot there, and groups of several slots go
//! together, each as a call of its own.
//!
//! Whoever comes packs its request under the lock, so that what goes over the wire stands ready. Requests that meet
//! on one key share its record in the server. Each is decided by itself, all or nothing.

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

/// Requests of one group: so many take the server a few hundred microseconds, in which it serves nobody else.
const GROUP_LEN_MAX: usize = 64;

/// Keys of one group, unless its first request alone has more.
const GROUP_KEYS_MAX: usize = 256;

/// Requests that may wait; a server that has so many before it answers nobody in time.
const REQUESTS_MAX: usize = 2_048;

/// Groups at the end that a request may join.
const JOINED_MAX: usize = 8;

/// How often a group may be sent elsewhere: a cluster that moves slots sends it on once or twice.
const MOVES_MAX: u8 = 5;

/// Bytes of the deadlines of a few requests, which take no allocation.
const DEADLINES_LEN: usize = 64;

/// What a request is told.
type Answer = Result<Reply, StoreError>;

/// Requests that are sent together.
#[derive(Debug)]
pub struct Group {
    /// Of all keys; 0 where there are no slots.
    slot: u16,
    /// It is sent to where its slot moves to.
    is_asking: bool,
    /// How often it was sent elsewhere.
    moves: u8,
    /// The time of all of them; None for the server's clock.
    given: Option<Timestamp>,
    keys: IndexSet<Key, RandomState>,
    /// The requests as they are packed, one after the other.
    packed: Vec<u8>,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    /// Where it stands in what is packed.
    place: Range<usize>,
    asked: BatchSize,
    expires: Option<Instant>,
    answer: oneshot::Sender<Answer>,
}

/// What one request brings to a group.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    pub batch: &'a Batch,
    /// Of all its keys; 0 where there are no slots.
    pub slot: u16,
    /// None for the server's clock.
    pub given: Option<Timestamp>,
    /// The time by the server's clock, as far as it is known.
    pub estimate: Timestamp,
    /// From when on it is not to be decided, because nobody waits for the answer any more; None for one that may be
    /// decided at any time.
    pub expires: Option<Instant>,
}

impl Group {
    fn new(asking: &Asking<'_>) -> Self {
        Self {
            slot: asking.slot,
            is_asking: false,
            moves: 0,
            given: asking.given,
            keys: IndexSet::default(),
            packed: Vec::new(),
            members: Vec::new(),
        }
    }

    /// How many requests it has.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether the server has to be told that it is asked for keys that only move to it.
    pub fn is_asking(&self) -> bool {
        self.is_asking
    }

    /// Has it be sent elsewhere: to where its slot is, or `is_asking`, where it moves to. False if it was too often.
    pub fn moves(&mut self, is_asking: bool) -> bool {
        self.is_asking = is_asking;
        self.moves += 1;
        self.moves <= MOVES_MAX
    }

    /// The time of all requests; None for the server's clock.
    pub fn given(&self) -> Option<Timestamp> {
        self.given
    }

    /// The keys of all requests, each once.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Key> {
        self.keys.iter()
    }

    /// The requests as they are packed.
    pub fn requests(&self) -> impl Iterator<Item = &[u8]> {
        self.members.iter().map(|member| &self.packed[member.place.clone()])
    }

    /// Packs until when the server may decide the requests, by its clock: the earliest of all, and then each. Nothing if
    /// it may at any time, or its clock is not known.
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
        (self.slot, self.given) == (asking.slot, asking.given)
            && !self.is_asking
            && self.members.len() < GROUP_LEN_MAX
            && self.keys.len() + asking.batch.keys.len() <= GROUP_KEYS_MAX
    }

    fn add(&mut self, asking: &Asking<'_>) -> oneshot::Receiver<Answer> {
        let Asking { batch, estimate, expires, .. } = asking;
        // The server counts from 1.
        let indexes: SmallVec<[usize; INLINE_CAP]> =
            batch.keys.iter().map(|key| self.index(key) + 1).collect();
        let start = self.packed.len();
        pack_request(&mut self.packed, batch, &indexes, *estimate);
        let asked = BatchSize::of(batch);
        let (answer, told) = oneshot::channel();
        let place = start..self.packed.len();
        self.members.push(Member { place, asked, expires: *expires, answer });
        told
    }

    fn index(&mut self, key: &Key) -> usize {
        match self.keys.get_index_of(key) {
            Some(index) => index,
            None => self.keys.insert_full(key.clone()).0,
        }
    }

    /// Drops the requests that nobody waits for any more: they were answered without the store, and nothing is
    /// to be charged for them.
    fn forget_the_late(&mut self) {
        self.members.retain(|member| !member.answer.is_closed());
    }

    /// Tells each request what the server replied to it, once the server's clock is known by that.
    pub fn answer(self, bytes: &[u8], (clock, trip): (&ServerClock, RoundTrip)) {
        let mut replies = match Replies::read(bytes) {
            Ok(replies) => replies,
            Err(error) => return self.fail(&error),
        };
        if self.given.is_none() {
            clock.learn(replies.at(), trip);
        }
        for Member { asked, answer, .. } in self.members {
            let told = replies.next(asked);
            match &told {
                Ok(Reply::Late(at)) if !answer.is_closed() => clock.learn_anew(*at, trip),
                _ => {}
            }
            // Who doesn't wait any more has an answer already.
            let _ = answer.send(told);
        }
    }

    /// Tells each request why there is no reply.
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
    /// Joins one of the youngest groups that has room.
    ///
    /// # Errors
    /// When too many wait.
    pub fn join(&self, asking: &Asking<'_>) -> Result<oneshot::Receiver<Answer>, StoreError> {
        let mut waiting = self.lock();
        if REQUESTS_MAX <= waiting.requests {
            return Err(StoreError::Crowded);
        }
        waiting.requests += 1;
        let mut young = waiting.groups.iter_mut().rev().take(JOINED_MAX);
        let told = match young.find(|group| group.takes(asking)) {
            Some(group) => group.add(asking),
            None => {
                let mut group = Group::new(asking);
                let told = group.add(asking);
                waiting.groups.push_back(group);
                told
            }
        };
        drop(waiting);
        self.came.notify_one();
        Ok(told)
    }

    /// Has a group that was sent elsewhere go next.
    pub fn put_first(&self, group: Group) {
        let mut waiting = self.lock();
        waiting.requests += group.len();
        waiting.groups.push_front(group);
        drop(waiting);
        self.came.notify_one();
    }

    /// The groups that have waited longest, as many as go together, once there are any.
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

    /// Locks what waits. A panic may have left half a request in a group: then all are dropped, and who waits is told so.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(|poisoned| {
            self.waiting.clear_poison();
            let mut waiting = poisoned.into_inner();
            *waiting = Waiting::default();
            waiting
        })
    }
}
