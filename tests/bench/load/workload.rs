//! The requests to the servers, and the policies for them.

use std::iter;
use std::net::Ipv4Addr;
use std::rc::Rc;

use bytes::Bytes;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;

use tollgate::api_keys::ApiKeyText;

use crate::support::drive::{CHECK, Questions};
use crate::support::message;
use crate::support::message::Numbered;

/// Limits that no run can exhaust, and that `limit_remaining` (32 bits) can report; and one that is exhausted at once.
/// If the store were unavailable, refusals would show it.
pub const POLICY: &str = "
domain: bench
descriptors:
- key: user
  limits: [{rate: 4_000_000_000/day}]
  on_outage: deny
- key: search
  limits: [4_000_000_000/second, 4_000_000_000/minute, 4_000_000_000/hour, 4_000_000_000/day]
  on_outage: deny
- key: spent
  limits: [{rate: 1/day}]
  on_outage: deny
";

/// The limit of `user` with a schedule, thresholds and idempotency keys.
pub const OVER_TIME_POLICY: &str = "
domain: over-time
schedules: { nights: { hours: '22:00-06:00' }, weekend: { weekdays: [saturday, sunday] } }
idempotency: { key: id }
descriptors:
- key: user
  limits:
  - rate: 4_000_000_000/day
    thresholds: true
    when: [{ during: nights, scale: 80% }, { during: weekend, scale: 90% }]
  on_outage: deny
";

/// The limit of `user`, whose values are callers: usage is counted for each of them.
pub const CALLERS_POLICY: &str = "
domain: callers
caller: { key: user }
descriptors:
- key: user
  limits: [{ name: daily, rate: 4_000_000_000/day }]
  on_outage: deny
";

/// The same with the entries that rules about abuse read.
pub const ABUSE_POLICY: &str = "
domain: abuse
caller: { key: user }
abuse: { address: remote_address, api_key: key_id, identifier: item }
descriptors:
- key: user
  limits: [{ name: daily, rate: 4_000_000_000/day, thresholds: true }]
  on_outage: deny
";

/// API keys with routes and scopes, as the checks of [`message::check`] need them.
pub const API_KEYS_POLICY: &str = "
domain: keys
tiers: [free, premium]
api_keys:
  headers: { caller: x-caller, tier: x-tier }
  routes:
  - { path: '/v1/hotels/{*rest}', methods: [GET], scopes: [hotels:read] }
";

/// The policy of the travel workload, before its limits are raised.
const TRAVEL: &str = include_str!("../../../config/policies/travel.yaml");

/// Number of keys of the Zipf workloads.
const KEYS: u32 = 1_000_000;

/// Number of callers of the half-refused workload with an exhausted limit.
const SPENT_KEYS: u32 = 100;

/// Number of callers of the workload of rules about abuse.
const WATCHED: f64 = 1_000.0;

/// The workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Every request spends of one key.
    OneKey,
    /// A few keys are frequent, most of them rare: the n-th most frequent one n times less than the first.
    Zipf,
    /// The same, and the keys are callers.
    Callers,
    /// A thousand callers ask for items from addresses of their own, with API keys.
    Abuse,
    /// Every request is charged for four windows of a rule.
    FourLimits,
    /// Every other request is refused by an exhausted limit.
    HalfRefused,
    /// Two descriptors, with tiers, priorities and a provider's capacity.
    Travel,
    /// Every request spends of one key of a limit with a schedule and thresholds, and has an idempotency key of its own.
    OverTime,
    /// Every request is a check of the same API key, which is cached.
    ApiKey,
    /// Every request is a check of another API key, which does not exist, from one address.
    UnknownKeys,
    /// The same from many addresses, so that none is limited.
    UnknownKeysSpread,
}

impl Workload {
    /// All, in the order of the tables.
    pub const ALL: [Self; 11] = [
        Self::OneKey,
        Self::Zipf,
        Self::Callers,
        Self::Abuse,
        Self::FourLimits,
        Self::HalfRefused,
        Self::Travel,
        Self::OverTime,
        Self::ApiKey,
        Self::UnknownKeys,
        Self::UnknownKeysSpread,
    ];

    /// The name in the tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::OneKey => "one key",
            Self::Zipf => "zipf",
            Self::Callers => "callers",
            Self::Abuse => "abuse",
            Self::FourLimits => "four limits",
            Self::HalfRefused => "half refused",
            Self::Travel => "travel",
            Self::OverTime => "over time",
            Self::ApiKey => "api key",
            Self::UnknownKeys => "unknown api keys",
            Self::UnknownKeysSpread => "unknown api keys, spread",
        }
    }

    /// The workload that it is compared with: the same without a schedule, thresholds and keys; or with a good API key.
    pub fn base(self) -> Option<Self> {
        match self {
            Self::OverTime => Some(Self::OneKey),
            Self::UnknownKeys | Self::UnknownKeysSpread => Some(Self::ApiKey),
            _ => None,
        }
    }

    /// Whether its requests have API keys.
    pub fn has_api_keys(self) -> bool {
        matches!(self, Self::ApiKey | Self::UnknownKeys | Self::UnknownKeysSpread)
    }

    /// Whether other servers have such rules too.
    pub fn is_common(self) -> bool {
        !matches!(self, Self::Callers | Self::Abuse | Self::Travel | Self::OverTime)
            && !self.has_api_keys()
    }

    /// The requests of one run, the same for every server, except for its API key. If a limit is exhausted, the answer is
    /// `refusal`.
    pub fn questions(
        self,
        requests: usize,
        round: usize,
        (refusal, api_key): (Code, &str),
    ) -> Rc<dyn Questions> {
        match self {
            Self::OneKey => Turns::passing(&[hot()]),
            Self::Zipf => Rc::new(Drawn::new("bench", requests, round)),
            Self::Callers => Rc::new(Drawn::new("callers", requests, round)),
            Self::Abuse => Turns::passing(&watched(requests, round)),
            Self::FourLimits => Turns::passing(&[message::frame("bench", &["search=all"])]),
            Self::HalfRefused => {
                let spent = spent().into_iter().map(|frame| (frame, refusal));
                Rc::new(Turns(spent.flat_map(|refused| [(hot(), Code::Ok), refused]).collect()))
            }
            Self::Travel => Turns::passing(&travellers()),
            Self::OverTime => Rc::new(Fresh::new(requests, round)),
            Self::ApiKey => {
                let check = message::check(api_key, Ipv4Addr::new(192, 0, 2, 7));
                Rc::new(Checks { frames: vec![check], expected: Code::Ok })
            }
            Self::UnknownKeys | Self::UnknownKeysSpread => {
                let frames = (0..requests).map(|number| {
                    let spread = if self == Self::UnknownKeysSpread { number } else { 0 };
                    unknown_key(requests * round + spread)
                });
                Rc::new(Checks { frames: frames.collect(), expected: refusal })
            }
        }
    }

    /// The requests before the first run, with any answer.
    pub fn preparation(self) -> Vec<Bytes> {
        if self == Self::HalfRefused { spent() } else { Vec::new() }
    }
}

/// The request of the hot-key workload.
pub fn hot() -> Bytes {
    message::frame("bench", &["user=alice"])
}

/// The travel policy with amounts that no run can exhaust.
pub fn travel_policy() -> String {
    let mut policy = String::new();
    let mut rest = TRAVEL;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number) = rest.split_at(at);
        let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        let (digits, after) = number.split_at(end);
        policy.push_str(before);
        policy.push_str(if is_rate(after) { "4_000_000_000" } else { digits });
        rest = after;
    }
    policy.push_str(rest);
    policy
}

/// Whether a number is the amount of a rate, by the text after it.
fn is_rate(after: &str) -> bool {
    ["/second", "/minute", "/hour", "/day"].iter().any(|unit| after.starts_with(unit))
}

fn spent() -> Vec<Bytes> {
    let numbered = Numbered::new("bench", "spent=user-");
    (0..SPENT_KEYS).map(|number| numbered.frame(number)).collect()
}

/// Callers of each tier, at two providers. Free callers send no requests that they have no access to.
fn travellers() -> Vec<Bytes> {
    let ask = |(tier, provider)| {
        let caller = format!("user_id=one-of-{tier},request_type=search,tier={tier}");
        let provider = format!("provider={provider},endpoint=search");
        message::frame("travel", &[&caller, &provider])
    };
    let asked = [
        ("free", "hotelbeds"),
        ("premium", "amadeus"),
        ("enterprise", "hotelbeds"),
        ("premium", "hotelbeds"),
    ];
    asked.into_iter().map(ask).collect()
}

/// Requests of callers that rules about abuse follow.
fn watched(requests: usize, round: usize) -> Vec<Bytes> {
    let callers = randoms(round as u64);
    let items = randoms(u64::MAX - round as u64);
    let frames = callers.zip(items).take(requests).map(|(caller, item)| {
        let (caller, item) = ((caller * WATCHED).floor(), (item * 1e6).floor());
        // Four callers have one address.
        let address = (caller / 4.0).floor();
        let entries = format!(
            "user=user-{caller},remote_address=10.{address}.0.1,key_id=k-{caller},item={item}"
        );
        message::frame("abuse", &[&entries])
    });
    frames.collect()
}

/// Requests in turns.
struct Turns(Vec<(Bytes, Code)>);

impl Turns {
    fn passing(frames: &[Bytes]) -> Rc<dyn Questions> {
        Rc::new(Self(frames.iter().map(|frame| (frame.clone(), Code::Ok)).collect()))
    }
}

impl Questions for Turns {
    fn question(&self, number: usize) -> (Bytes, Code) {
        self.0[number % self.0.len()].clone()
    }
}

/// The check of an API key that does not exist, from one of many addresses.
fn unknown_key(address: usize) -> Bytes {
    let text = ApiKeyText::random("tg").expect("the system has randomness");
    let bits = u32::try_from(address).expect("no run asks that often");
    message::check(text.expose(), Ipv4Addr::from_bits(bits))
}

/// Checks of API keys, in turns.
struct Checks {
    frames: Vec<Bytes>,
    expected: Code,
}

impl Questions for Checks {
    fn question(&self, number: usize) -> (Bytes, Code) {
        (self.frames[number % self.frames.len()].clone(), self.expected)
    }

    fn method(&self) -> &'static str {
        CHECK
    }

    fn code(&self, answer: &[u8]) -> Option<Code> {
        message::check_code(answer)
    }
}

/// Requests with an idempotency key of their own.
struct Fresh {
    frames: Numbered,
    first: usize,
}

impl Fresh {
    fn new(requests: usize, round: usize) -> Self {
        let frames = Numbered::new("over-time", "user=alice,id=");
        Self { frames, first: requests * round }
    }
}

impl Questions for Fresh {
    fn question(&self, number: usize) -> (Bytes, Code) {
        let number = u32::try_from(self.first + number).expect("no run asks that often");
        (self.frames.frame(number), Code::Ok)
    }
}

/// Requests for keys that were drawn before the run.
struct Drawn {
    frames: Numbered,
    tokens: Vec<u32>,
}

impl Drawn {
    /// The same keys for the same round, for every server.
    fn new(domain: &str, requests: usize, round: usize) -> Self {
        let weights = (1..=KEYS).map(|rank| 1.0 / f64::from(rank));
        let sums: Vec<f64> = weights
            .scan(0.0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            })
            .collect();
        let total = sums.last().copied().unwrap_or_default();
        let draw = |random: f64| sums.partition_point(|sum| *sum < random * total);
        let numbers = randoms(round as u64).map(draw).take(requests);
        let numbers = numbers.map(|number| u32::try_from(number).expect("one of KEYS"));
        Self { frames: Numbered::new(domain, "user=user-"), tokens: numbers.collect() }
    }
}

impl Questions for Drawn {
    fn question(&self, number: usize) -> (Bytes, Code) {
        (self.frames.frame(self.tokens[number]), Code::Ok)
    }
}

/// Random numbers from 0 to 1, by SplitMix64: the same for the same seed on every machine.
fn randoms(seed: u64) -> impl Iterator<Item = f64> {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = seed.wrapping_mul(STEP);
    iter::repeat_with(move || {
        state = state.wrapping_add(STEP);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    })
}
