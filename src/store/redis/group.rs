//! Requests that share a round trip: while one is under way, those that come wait in a group, and the next
//! takes them all. A lone request is sent at once.
//!
//! Whoever comes packs its request under the lock, so that what goes over the wire stands ready. Requests that meet
//! on one key share its record in the server. Each is decided by itself, all or nothing.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::MutexGuard;

use foldhash::fast::RandomState;
use indexmap::IndexSet;
use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::sync::oneshot;

use super::pack::pack_request;
use super::reply::Asked;
use super::reply::Replies;
use super::reply::Reply;
use crate::clock::Timestamp;
use crate::policy::Key;
use crate::store::Batch;
use crate::store::FEW;
use crate::store::StoreError;

/// Requests of one group: so many take the server a few hundred microseconds, in which it serves nobody else.
const GROUP_LEN_MAX: usize = 64;

/// Keys of one group, unless its first request alone has more.
const GROUP_KEYS_MAX: usize = 256;

/// Groups that may wait; a server that has so much before it answers nobody in time.
const GROUPS_MAX: usize = 32;

/// What a request is told.
type Answer = Result<Reply, StoreError>;

/// Requests that are sent together.
#[derive(Debug)]
pub struct Group {
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
    asked: Asked,
    answer: oneshot::Sender<Answer>,
}

/// What one request brings to a group.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    pub batch: &'a Batch,
    /// None for the server's clock.
    pub given: Option<Timestamp>,
    /// The time by the server's clock, as far as it is known.
    pub estimate: Timestamp,
}

impl Group {
    fn new(given: Option<Timestamp>) -> Self {
        Self { given, keys: IndexSet::default(), packed: Vec::new(), members: Vec::new() }
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

    fn takes(&self, asking: &Asking<'_>) -> bool {
        self.given == asking.given
            && self.members.len() < GROUP_LEN_MAX
            && self.keys.len() + asking.batch.keys.len() <= GROUP_KEYS_MAX
    }

    fn add(&mut self, asking: &Asking<'_>) -> oneshot::Receiver<Answer> {
        let Asking { batch, estimate, .. } = asking;
        // The server counts from 1.
        let indexes: SmallVec<[usize; FEW]> =
            batch.keys.iter().map(|key| self.index(key) + 1).collect();
        let start = self.packed.len();
        pack_request(&mut self.packed, batch, &indexes, *estimate);
        let asked = Asked { charges: batch.charges.len(), gauges: batch.gauges.len() };
        let (answer, told) = oneshot::channel();
        self.members.push(Member { place: start..self.packed.len(), asked, answer });
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

    /// Tells each request what the server replied to it, or why there is no reply.
    pub fn answer(self, bytes: Result<&[u8], StoreError>) {
        let mut replies = bytes.and_then(Replies::read);
        for Member { asked, answer, .. } in self.members {
            let told = match &mut replies {
                Ok(replies) => replies.next(asked),
                Err(error) => Err(error.clone()),
            };
            // Who doesn't wait any more has an answer already.
            let _ = answer.send(told);
        }
    }
}

/// Groups that wait to be sent.
#[derive(Debug, Default)]
pub struct Queue {
    groups: Mutex<VecDeque<Group>>,
    waiting: Notify,
}

impl Queue {
    /// Joins the youngest group that has room.
    ///
    /// # Errors
    /// When there is room in none.
    pub fn join(&self, asking: &Asking<'_>) -> Result<oneshot::Receiver<Answer>, StoreError> {
        let mut groups = self.lock();
        if !groups.back().is_some_and(|group| group.takes(asking)) {
            if GROUPS_MAX <= groups.len() {
                return Err(StoreError::Crowded);
            }
            groups.push_back(Group::new(asking.given));
        }
        let told = groups.back_mut().expect("there is at least the new one").add(asking);
        drop(groups);
        self.waiting.notify_one();
        Ok(told)
    }

    /// The group that has waited longest, once there is one.
    pub async fn next(&self) -> Group {
        loop {
            if let Some(group) = self.take() {
                return group;
            }
            self.waiting.notified().await;
        }
    }

    /// Drops all groups: there is nobody to send them to.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn take(&self) -> Option<Group> {
        let mut groups = self.lock();
        while let Some(mut group) = groups.pop_front() {
            group.forget_the_late();
            if !group.members.is_empty() {
                return Some(group);
            }
        }
        None
    }

    /// Locks the groups. A panic may have left half a request in one: then all are dropped, and who waits is told so.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Group>> {
        self.groups.lock().unwrap_or_else(|poisoned| {
            self.groups.clear_poison();
            let mut groups = poisoned.into_inner();
            groups.clear();
            groups
        })
    }
}
