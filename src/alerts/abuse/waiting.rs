//! Requests that wait to be counted, by caller.
//!
//! Rules count the requests of a caller together, in the order of time: so each rule finds the caller once, however many requests it
//! has sent. Records of a thread come in order, but those of another one up to a drain later. So requests wait a little.

use std::hash::BuildHasher;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use ipnet::IpNet;

use crate::clock::Timestamp;
use crate::engine::{Code, DecisionRecord, DomainNames};
use crate::policy::{AlertPolicy, AlertSignal};

/// How long a request waits for earlier ones.
const WAIT: Duration = Duration::from_millis(200);

/// A clock that is so much behind what was seen was set back, and is followed.
const SET_BACK: Duration = Duration::from_secs(5);

/// Time between two counts, unless there are too many.
const INTERVAL: Duration = Duration::from_millis(500);

/// Maximum number of requests, callers and origins that wait; if there are more, the requests are counted as they are.
const WAITING_MAX: usize = 65_536;

/// What the rules of a policy count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    /// Refused requests.
    refusals: bool,
    /// All requests.
    requests: bool,
}

/// Requests by caller.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Indexes of callers.
    table: HashTable<u32>,
    hasher: RandomState,
    callers: Vec<Caller>,
    /// Each with the index of its caller.
    requests: Vec<(u32, SeenRequest)>,
    origins: Vec<(u32, Origin)>,
    /// The time of the latest one: the clock of records may be the store's.
    latest: Timestamp,
    /// When they were counted last.
    counted: Timestamp,
}

#[derive(Debug)]
struct Caller {
    id: CallerId,
    /// Number of its requests.
    requests: usize,
    /// The index of its last origin.
    origin: Option<usize>,
}

/// A caller of a domain.
#[derive(Clone, Debug)]
struct CallerId {
    names: Arc<DomainNames>,
    name: Option<CompactString>,
}

/// Finds a caller. The names of a domain are at one place while a caller holds them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct CallerKey<'a> {
    names: *const DomainNames,
    name: Option<&'a CompactString>,
}

/// The requests of a caller that are counted now.
#[derive(Clone, Copy, Debug)]
pub struct CallerRequests<'a> {
    pub domain: &'a str,
    /// The names of tiers, by their numbers.
    pub tiers: &'a [Box<str>],
    pub caller: Option<&'a CompactString>,
    /// In the order of time.
    pub requests: &'a [SeenRequest],
    /// From where it has sent requests.
    pub origins: &'a [Origin],
}

/// What is counted of a request.
#[derive(Clone, Copy, Debug)]
pub struct SeenRequest {
    pub at: Timestamp,
    tier: u32,
    pub identifier: Option<u64>,
    pub is_refused: bool,
    /// False if it was counted before, such as one that settles a reservation.
    pub is_request: bool,
}

/// From where a caller has sent requests, and when it did so last.
#[derive(Clone, Debug)]
pub struct Origin {
    pub network: IpNet,
    pub api_key: Option<CompactString>,
    pub at: Timestamp,
    tier: u32,
}

impl Counted {
    /// What the rules of a policy count.
    pub fn of(policy: &AlertPolicy) -> Self {
        Self {
            refusals: policy.follows(AlertSignal::Denials),
            requests: policy.follows(AlertSignal::Burst),
        }
    }
}

impl Waiting {
    /// Takes the request of a record, if a rule counts it.
    pub fn add(&mut self, counted: Counted, record: &DecisionRecord) {
        let Some((names, tier)) = record.class() else { return };
        let observed = &record.observed;
        let request = SeenRequest {
            at: record.at,
            tier,
            identifier: observed.identifier.filter(|_| record.is_request),
            is_refused: record.code == Code::OverLimit,
            is_request: record.is_request,
        };
        let is_counted = counted.requests && request.is_request
            || counted.refusals && request.is_refused
            || request.identifier.is_some();
        let network = observed.network.filter(|_| record.is_request);
        if !is_counted && network.is_none() {
            return;
        }
        let caller = self.caller(names, record.caller.as_ref());
        if is_counted {
            self.push(caller, request);
        }
        if let Some(network) = network {
            self.add_origin(caller, (network, observed.api_key.as_ref()), (record.at, tier));
        }
    }

    /// Whether it is time to count.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let is_full = WAITING_MAX <= self.len();
        let now = self.present(now);
        is_full || INTERVAL <= now.since(self.counted) || SET_BACK <= self.counted.since(now)
    }

    /// The later one of this time and that of the latest request, unless a clock was set back.
    fn present(&self, now: Timestamp) -> Timestamp {
        if SET_BACK <= self.latest.since(now) { now } else { now.max(self.latest) }
    }

    /// Passes on, caller by caller, the requests that have waited.
    pub fn count(&mut self, now: Timestamp, mut count: impl FnMut(&CallerRequests<'_>)) {
        let now = self.present(now);
        let taken = mem::take(self);
        (self.latest, self.counted) = (now, now);
        let until = now.before(WAIT);
        let waiting = taken.requests.iter().filter(|(_, one)| until < one.at).count();
        let takes_all = WAITING_MAX / 2 <= waiting || now < taken.latest;
        taken.each(|caller, requests, origins| {
            let ready = match takes_all {
                true => requests.len(),
                false => requests.partition_point(|request| request.at <= until),
            };
            let (ready, rest) = requests.split_at(ready);
            count(&caller.requests(ready, origins));
            if !rest.is_empty() {
                self.put_back(caller, rest, &[]);
            }
        });
    }

    /// Forgets callers.
    pub fn erase(&mut self, is_erased: &dyn Fn(&str) -> bool) {
        let taken = mem::take(self);
        (self.latest, self.counted) = (taken.latest, taken.counted);
        taken.each(|caller, requests, origins| {
            if !caller.name.as_deref().is_some_and(is_erased) {
                self.put_back(caller, requests, origins);
            }
        });
    }

    fn len(&self) -> usize {
        self.requests.len() + self.callers.len() + self.origins.len()
    }

    fn put_back(
        &mut self,
        CallerId { names, name }: &CallerId,
        requests: &[SeenRequest],
        origins: &[Origin],
    ) {
        let caller = self.caller(names, name.as_ref());
        requests.iter().for_each(|request| self.push(caller, *request));
        for Origin { network, api_key, at, tier } in origins {
            self.add_origin(caller, (*network, api_key.as_ref()), (*at, *tier));
        }
    }

    fn push(&mut self, caller: u32, request: SeenRequest) {
        self.latest = self.latest.max(request.at);
        self.callers[index(caller)].requests += 1;
        self.requests.push((caller, request));
    }

    /// The index of a caller.
    fn caller(&mut self, names: &Arc<DomainNames>, name: Option<&CompactString>) -> u32 {
        let Self { table, hasher, callers, .. } = self;
        let key = CallerKey { names: Arc::as_ptr(names), name };
        let hash = hasher.hash_one(key);
        if let Some(caller) = table.find(hash, |caller| callers[index(*caller)].id.key() == key) {
            return *caller;
        }
        let caller = u32::try_from(callers.len()).unwrap_or(u32::MAX);
        let id = CallerId { names: names.clone(), name: name.cloned() };
        callers.push(Caller { id, requests: 0, origin: None });
        table.insert_unique(hash, caller, |caller| {
            hasher.hash_one(callers[index(*caller)].id.key())
        });
        caller
    }

    fn add_origin(
        &mut self,
        caller: u32,
        (network, api_key): (IpNet, Option<&CompactString>),
        (at, tier): (Timestamp, u32),
    ) {
        self.latest = self.latest.max(at);
        let last = &mut self.callers[index(caller)].origin;
        if let Some((_, origin)) = last.and_then(|last| self.origins.get_mut(last))
            && origin.network == network
            && origin.api_key.as_ref() == api_key
            && origin.tier == tier
        {
            origin.at = origin.at.max(at);
            return;
        }
        *last = Some(self.origins.len());
        self.origins.push((caller, Origin { network, api_key: api_key.cloned(), at, tier }));
    }

    /// Passes on each caller with its requests, in the order of time, and its origins.
    fn each(mut self, mut one: impl FnMut(&CallerId, &[SeenRequest], &[Origin])) {
        let mut requests: Vec<SeenRequest> = self.requests.iter().map(|(_, one)| *one).collect();
        // Where the next request of each caller belongs.
        let mut next: Vec<usize> = Vec::with_capacity(self.callers.len());
        let mut end = 0;
        for caller in &self.callers {
            next.push(end);
            end += caller.requests;
        }
        for (caller, request) in self.requests {
            let next = &mut next[index(caller)];
            requests[*next] = request;
            *next += 1;
        }
        self.origins.sort_by_key(|(caller, _)| *caller);
        let (of, origins): (Vec<u32>, Vec<Origin>) = self.origins.into_iter().unzip();
        let mut first = 0;
        for ((number, caller), end) in (0..).zip(&self.callers).zip(next) {
            let requests = &mut requests[end - caller.requests..end];
            requests.sort_by_key(|request| request.at);
            let last = first + of[first..].partition_point(|caller| *caller == number);
            one(&caller.id, requests, &origins[first..last]);
            first = last;
        }
    }
}

impl CallerId {
    fn key(&self) -> CallerKey<'_> {
        CallerKey { names: Arc::as_ptr(&self.names), name: self.name.as_ref() }
    }

    fn requests<'a>(
        &'a self,
        requests: &'a [SeenRequest],
        origins: &'a [Origin],
    ) -> CallerRequests<'a> {
        CallerRequests {
            domain: &self.names.domain,
            tiers: &self.names.tiers,
            caller: self.name.as_ref(),
            requests,
            origins,
        }
    }
}

impl CallerRequests<'_> {
    /// Those in a tier.
    pub fn of_tier(&self, name: &str) -> (Vec<SeenRequest>, Vec<Origin>) {
        let is_meant = |tier: u32| self.tiers.get(index(tier)).is_some_and(|one| **one == *name);
        let requests = self.requests.iter().filter(|request| is_meant(request.tier)).copied();
        let origins = self.origins.iter().filter(|origin| is_meant(origin.tier)).cloned();
        (requests.collect(), origins.collect())
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
impl SeenRequest {
    /// A request that passed, so many milliseconds after the epoch.
    pub fn at(at_ms: u64, identifier: Option<u64>) -> Self {
        let at = Timestamp::from_ms(at_ms);
        Self { at, tier: 0, identifier, is_refused: false, is_request: true }
    }
}

#[cfg(test)]
impl<'a> CallerRequests<'a> {
    /// Requests of a caller in the domain `d`.
    pub fn of(caller: &'a CompactString, requests: &'a [SeenRequest]) -> Self {
        Self { domain: "d", tiers: &[], caller: Some(caller), requests, origins: &[] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::engine::Sink;
    use crate::engine::testing::{Bench, START};
    use crate::metrics::Counter;
    use crate::policy::{Source, compile_alerts};

    const POLICY: &str = "
domain: d
caller: { key: user, tier: { key: tier } }
abuse: { address: remote_address, api_key: key_id, identifier: hotel_id }
tiers: [free, paid]
descriptors: [{ key: user, limits: [3/day] }]";

    const RULES: &str = "
alerts:
  a: { when: burst, above: 5 }
  b: { when: denials, above: 5 }
  c: { when: probing, above: 50 }
  d: { when: address_callers, above: 20 }
  e: { when: api_key_addresses, above: 20 }";

    /// A time after the start.
    fn later(ms: u64) -> Timestamp {
        START.after(Duration::from_millis(ms))
    }

    /// Those that are counted at a time: the caller, the times of its requests after the start, and its origins.
    fn counted(waiting: &mut Waiting, at_ms: u64) -> Vec<(String, Vec<u64>, Vec<String>)> {
        let mut all = Vec::new();
        waiting.count(later(at_ms), |requests| {
            let times = requests.requests.iter().map(|one| one.at.as_ms() - START.as_ms());
            let origins = requests.origins.iter().map(|origin| origin.network.to_string());
            let caller = requests.caller.map(ToString::to_string).unwrap_or_default();
            all.push((caller, times.collect(), origins.collect()));
        });
        all
    }

    /// What waits of requests, each with its caller, milliseconds after the start, and address.
    async fn waiting(asked: &[(&str, u64, &str)]) -> Waiting {
        let policy =
            compile_alerts(&[Source { path: "alerts.yaml".to_owned(), text: RULES.to_owned() }])
                .unwrap();
        let mut bench = Bench::timed(Clock::manual(START));
        let sink = Arc::new(Sink::new(Counter::default()));
        sink.observe(policy.entries());
        bench.engine = bench.engine.with_sink(sink.clone());
        bench.put_in_force(POLICY);
        let mut waiting = Waiting::default();
        for (index, (caller, at_ms, address)) in asked.iter().enumerate() {
            // A caller may have several tiers.
            let tier = ["free", "paid"][index % 2];
            let entries = format!("user={caller},tier={tier},remote_address={address},hotel_id=7");
            bench.ask_for(&[&entries]).await;
            sink.drain(&mut Vec::new(), &mut |records| {
                let mut record = records[0].clone();
                record.at = later(*at_ms);
                waiting.add(Counted::of(&policy), &record);
            });
        }
        waiting
    }

    #[tokio::test]
    async fn requests_are_counted_by_caller_in_the_order_of_time() {
        let asked = [
            ("ann", 30, "192.0.2.1"),
            ("bob", 10, "192.0.2.2"),
            ("ann", 20, "192.0.2.1"),
            ("ann", 40, "192.0.2.3"),
        ];
        let mut waiting = waiting(&asked).await;
        let mut paid = Vec::new();
        mem::take(&mut waiting).each(|caller, requests, origins| {
            paid.push(caller.requests(requests, origins).of_tier("paid").0.len());
            waiting.put_back(caller, requests, origins);
        });
        assert_eq!(paid, [1, 1]);
        let seen = counted(&mut waiting, 1_000);
        let address = |number: u32| format!("192.0.2.{number}/32");
        assert_eq!(
            seen,
            [
                ("ann".to_owned(), vec![20, 30, 40], vec![address(1), address(3)]),
                ("bob".to_owned(), vec![10], vec![address(2)]),
            ]
        );
        assert_eq!(counted(&mut waiting, 2_000), []);
    }

    #[tokio::test]
    async fn a_request_waits_for_earlier_ones_and_is_counted_once() {
        let mut waiting = waiting(&[("ann", 0, "192.0.2.1"), ("ann", 300, "192.0.2.1")]).await;
        let times = |waiting: &mut Waiting, at_ms| -> Vec<u64> {
            counted(waiting, at_ms).into_iter().flat_map(|(_, times, _)| times).collect()
        };
        assert_eq!(times(&mut waiting, 0), [0], "the last one says what time it is");
        assert!(!waiting.is_due(later(400)));
        assert!(times(&mut waiting, 400).is_empty());
        assert_eq!(times(&mut waiting, 600), [300]);
        assert!(times(&mut waiting, 2_000).is_empty());
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_is_followed() {
        let mut waiting = waiting(&[("ann", 60_000, "192.0.2.1")]).await;
        let late = waiting.callers[0].id.clone();
        counted(&mut waiting, 70_000);
        waiting.put_back(&late, &[SeenRequest::at(later(30_000).as_ms(), None)], &[]);
        assert!(waiting.is_due(later(30_100)));
        let seen = counted(&mut waiting, 30_100);
        assert_eq!(seen.len(), 1, "all that waits is counted");
        assert!(!waiting.is_due(later(30_400)) && waiting.is_due(later(30_600)));
    }

    #[tokio::test]
    async fn few_wait_and_an_erased_caller_is_forgotten() {
        let mut waiting = waiting(&[("ann", 0, "192.0.2.1"), ("bob", 0, "192.0.2.1")]).await;
        waiting.erase(&|name| name == "ann");
        let bob = waiting.callers[0].id.clone();
        let requests = [SeenRequest::at(START.as_ms(), None)].repeat(WAITING_MAX);
        waiting.put_back(&bob, &requests, &[]);
        assert!(waiting.is_due(later(0)));
        let seen = counted(&mut waiting, 0);
        assert_eq!(
            seen.iter().map(|(name, times, _)| (name.as_str(), times.len())).collect::<Vec<_>>(),
            [("bob", WAITING_MAX + 1)]
        );
        assert_eq!(waiting.len(), 0, "so many do not wait");
    }
}
