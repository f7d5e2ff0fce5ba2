//! The traffic of a month, and an independent count of what comes of it.

use std::collections::BTreeMap;

/// The first of March 2030, a Friday.
pub const START: &str = "2030-03-01T00:00:00Z";
pub const DAYS: u32 = 31;

/// The hours of a day with requests.
pub const HOURS: [u32; 2] = [9, 18];

/// Weekday of the first day, from Monday, 0.
const FIRST_WEEKDAY: u32 = 4;
const SATURDAY: u32 = 5;

/// The amounts of a day and of the month, by tier.
const TIERS: [(&str, u64, u64); 3] =
    [("free", 3, 40), ("premium", 8, 300), ("enterprise", 60, 5_000)];
/// Hits of a day at the provider `near`. No own limit of a caller is reached within an hour after a refusal there: a sidecar that keeps
/// a refusal tells the limits of that time.
const NEAR: u64 = 40;

/// Prices in millionths.
const PRICES: [(&str, &str, u64); 4] = [
    ("near", "search", 1_200),
    ("far", "search", 900),
    ("near", "booking", 350_000),
    ("far", "booking", 410_000),
];

/// The policy with these limits and prices.
pub fn policy() -> String {
    let [(_, free, free_month), (_, premium, premium_month), (_, large, large_month)] = TIERS;
    let price = |(provider, op, micros): (&str, &str, u64)| {
        let price = format!("0.{micros:06} EUR");
        format!("- {{ when: {{ provider: {provider}, op: {op} }}, price: {price} }}\n")
    };
    let prices: String = PRICES.into_iter().map(price).collect();
    format!(
        "
domain: gate
tiers: [free, premium, enterprise]
caller: {{ key: user, tier: {{ key: tier, default: free }} }}
budget: {{ month: 100 EUR }}
prices:
{prices}
defaults: {{ algorithm: calendar }}
descriptors:
- key: user
  limits:
  - {{ name: daily, by_tier: {{ free: {free}/day, premium: {premium}/day, enterprise: {large}/day }} }}
  - {{ name: monthly, by_tier: {{ free: {free_month}/month, premium: {premium_month}/month, enterprise: {large_month}/month }} }}
- {{ key: provider, value: near, limits: [{{ name: near, rate: {NEAR}/day }}] }}
"
    )
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub day: u32,
    pub hour: u32,
    pub caller: usize,
    pub provider: &'static str,
    pub op: &'static str,
}

/// The callers: their names and tiers.
pub const CALLERS: [(&str, usize); 8] = [
    ("fay", 0),
    ("flo", 0),
    ("fox", 0),
    ("pam", 1),
    ("pat", 1),
    ("pia", 1),
    ("eve", 2),
    ("eli", 2),
];

impl Request {
    pub fn name(self) -> &'static str {
        CALLERS[self.caller].0
    }

    pub fn tier(self) -> &'static str {
        TIERS[CALLERS[self.caller].1].0
    }

    fn price(self) -> u64 {
        let mut prices = PRICES.iter();
        let price = prices.find(|(provider, op, _)| (*provider, *op) == (self.provider, self.op));
        price.map_or(0, |(_, _, micros)| *micros)
    }
}

/// The requests of an hour: fewer on the weekend and in the evening, and more of some callers as the month goes on.
pub fn requests(day: u32, hour: u32) -> Vec<Request> {
    let is_weekend = SATURDAY <= (FIRST_WEEKDAY + day) % 7;
    let mut requests = Vec::new();
    for (caller, (_, tier)) in CALLERS.iter().enumerate() {
        let number = u32::try_from(caller).unwrap();
        let busy = [2, 6, 14][*tier] + if number % 3 == 1 { day / 8 } else { 0 };
        let count = match (is_weekend, hour) {
            (true, _) => busy / 3,
            (false, 18) => busy / 2,
            (false, _) => busy,
        };
        for index in 0..count {
            // Different on each day, and the same in each run.
            let drawn = (day * 31 + hour * 7 + number * 13 + index * 17) % 10;
            let provider = if drawn < 6 { "near" } else { "far" };
            let op = if drawn == 1 || drawn == 7 { "booking" } else { "search" };
            requests.push(Request { day, hour, caller, provider, op });
        }
    }
    requests
}

/// Sums of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub requests: u64,
    pub allowed: u64,
    pub refused: u64,
    /// Of a limit: refused by others only.
    pub elsewhere: u64,
    pub micros: u64,
}

/// By the names of a group.
pub type Groups = BTreeMap<Vec<String>, Sums>;

/// What was counted of requests.
#[derive(Debug, Default)]
pub struct Truth {
    used: BTreeMap<(usize, &'static str, u32), u64>,
    near: BTreeMap<u32, u64>,
    /// Each request, with the limits that it met, and those of them that refused it.
    log: Vec<(Request, Vec<(&'static str, bool)>)>,
}

impl Truth {
    /// Decides a request, all or nothing. Returns whether it passes.
    pub fn decide(&mut self, request: Request) -> bool {
        let (_, daily, monthly) = TIERS[CALLERS[request.caller].1];
        let key = |limit, day| (request.caller, limit, day);
        let used = |key| self.used.get(&key).copied().unwrap_or_default();
        let mut met = vec![
            ("daily", daily <= used(key("daily", request.day))),
            ("monthly", monthly <= used(key("monthly", 0))),
        ];
        if request.provider == "near" {
            met.push(("near", NEAR <= self.near.get(&request.day).copied().unwrap_or_default()));
        }
        let passes = met.iter().all(|(_, refuses)| !refuses);
        if passes {
            *self.used.entry(key("daily", request.day)).or_default() += 1;
            *self.used.entry(key("monthly", 0)).or_default() += 1;
            if request.provider == "near" {
                *self.near.entry(request.day).or_default() += 1;
            }
        }
        self.log.push((request, met));
        passes
    }

    /// How many requests there were.
    pub fn count(&self) -> u64 {
        u64::try_from(self.log.len()).unwrap()
    }

    /// Sums of requests by the names that `group` gives them.
    pub fn requests(&self, group: impl Fn(Request, bool) -> Vec<String>) -> Groups {
        let mut groups = Groups::new();
        for (request, met) in &self.log {
            let passes = met.iter().all(|(_, refuses)| !refuses);
            let sums = groups.entry(group(*request, passes)).or_default();
            sums.requests += 1;
            sums.allowed += u64::from(passes);
            sums.refused += u64::from(!passes);
            sums.micros += if passes { request.price() } else { 0 };
        }
        groups
    }

    /// Sums of limits by the names that `group` gives them.
    pub fn limits(&self, group: impl Fn(Request, &str) -> Vec<String>) -> Groups {
        let mut groups = Groups::new();
        for (request, met) in &self.log {
            let passes = met.iter().all(|(_, refuses)| !refuses);
            for (limit, refuses) in met {
                let sums = groups.entry(group(*request, limit)).or_default();
                sums.requests += 1;
                sums.allowed += u64::from(passes);
                sums.refused += u64::from(*refuses);
                sums.elsewhere += u64::from(!passes && !refuses);
            }
        }
        groups
    }

    /// The hits that a caller has spent of its month.
    pub fn spent(&self, caller: usize) -> u64 {
        self.used.get(&(caller, "monthly", 0)).copied().unwrap_or_default()
    }

    /// The mean of the hits that a caller has spent in the seven days before a day.
    pub fn average(&self, caller: usize, day: u32) -> f64 {
        let of_day = |day| self.used.get(&(caller, "daily", day)).copied().unwrap_or_default();
        let sum: u64 = (day - 7..day).map(of_day).sum();
        f64::from(u32::try_from(sum).unwrap()) / 7.0
    }
}
