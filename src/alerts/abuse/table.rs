//! A day of traffic with planted abuse: what the rules over requests find and miss, as the page says.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::random::Random;
use crate::alerts::{Conditions, Intake};
use crate::clock::{Clock, Timestamp};
use crate::engine::Sink;
use crate::engine::testing::{Bench, START};
use crate::metrics::Counter;
use crate::policy::{AlertPolicy, Source, compile_alerts};

const POLICY: &str = "
domain: d
caller: { key: user }
abuse: { address: remote_address, api_key: key_id, identifier: hotel_id }
descriptors: [{ key: user, limits: [1000000/day] }]";

const RULES: [(&str, &str); 6] = [
    ("a", "{ when: address_callers, above: 20 }"),
    ("b", "{ when: address_api_keys, above: 12 }"),
    ("c", "{ when: caller_addresses, above: 10 }"),
    ("d", "{ when: api_key_addresses, above: 10 }"),
    ("e", "{ when: burst, above: 30 }"),
    ("f", "{ when: probing, above: 50 }"),
];

const HOUR_MS: u64 = 3_600_000;
const HOURS: u64 = 8;

/// Hotels that callers ask for: few, so that many of them are asked for.
const HOTELS: u64 = 2_000;

/// A request, and when it is made.
#[derive(Debug)]
struct Made {
    at_ms: u64,
    caller: String,
    address: String,
    api_key: String,
    hotel: u64,
}

/// Requests of all callers.
struct Traffic {
    random: Random,
    made: Vec<Made>,
}

impl Traffic {
    fn below(&mut self, end: u64) -> u64 {
        self.random.below(end)
    }

    fn make(&mut self, at_ms: u64, (caller, address): (&str, &str), hotel: u64) {
        let (caller, address) = (caller.to_owned(), address.to_owned());
        let api_key = format!("key_{caller}");
        self.made.push(Made { at_ms, caller, address, api_key, hotel });
    }

    /// A caller that asks for hotels at random, some 4 times a minute, from what `address` says for each time.
    fn usual(&mut self, caller: &str, address: impl Fn(u64) -> String) {
        let mut at = self.below(20_000);
        while at < HOURS * HOUR_MS {
            let hotel = self.below(HOTELS);
            self.make(at, (caller, &address(at)), hotel);
            at += 500 + self.below(29_000);
        }
    }

    /// 32 usual callers, of several kinds.
    fn all_usual(&mut self) {
        for index in 0..8 {
            self.usual(&format!("home{index}"), |_| format!("192.0.2.{index}"));
        }
        // An office behind one address.
        for index in 0..12 {
            self.usual(&format!("office{index}"), |_| "198.51.100.1".to_owned());
        }
        // Phones whose address changes every 5 minutes, and clients whose addresses of IPv6 are of one network.
        for index in 0..4 {
            self.usual(&format!("phone{index}"), |at| {
                format!("203.0.113.{}", (at / 300_000 + index * 7) % 60)
            });
            self.usual(&format!("v6{index}"), |at| {
                format!("2001:db8:0:{index}::{:x}", at % 60_000)
            });
        }
        for index in 0..2 {
            // Pages of 10 requests at once, and a client that reads its own 60 bookings in order every 5 minutes.
            for minute in 0..HOURS * 60 {
                let at = minute * 60_000 + self.below(50_000);
                for part in 0..10 {
                    let hotel = self.below(HOTELS);
                    self.make(at + part * 3, (&format!("page{index}"), "192.0.2.70"), hotel);
                }
                if minute % 5 == 0 {
                    for own in 0..60 {
                        let hotel = 7_000 + index * 500 + own;
                        self.make(at + own * 200, (&format!("sync{index}"), "192.0.2.80"), hotel);
                    }
                }
            }
        }
    }

    /// What is planted, in an hour of its own each. Returns the row and the subject of each.
    fn plant(&mut self) -> Vec<(&'static str, Vec<String>)> {
        let mut rows = Vec::new();
        for minute in 0..40 {
            let at = HOUR_MS + minute * 7_000;
            self.make(at, (&format!("victim{minute}"), "192.0.2.200"), minute * 50);
        }
        rows.push(("40 callers in 5 minutes from one address", vec!["192.0.2.200".to_owned()]));
        for one in 0..40 {
            let at = 2 * HOUR_MS + one * 7_000;
            self.make(at, ("farm", "192.0.2.201"), one * 50);
            self.made.last_mut().unwrap().api_key = format!("key_farm{}", one % 15);
        }
        rows.push(("15 API keys of one caller from one address", vec!["192.0.2.201".to_owned()]));
        for one in 0..60 {
            let at = 3 * HOUR_MS + one * 5_000;
            self.make(at, ("stolen", &format!("198.18.{}.1", one % 30)), one * 30);
        }
        rows.push((
            "an API key that is used from 30 networks",
            vec!["stolen".to_owned(), "key_stolen".to_owned()],
        ));
        for one in 0..60 {
            self.make(4 * HOUR_MS + one * 8, ("burst", "192.0.2.203"), one * 30);
        }
        rows.push(("60 requests within half a second", vec!["burst".to_owned()]));
        for one in 0..200 {
            self.make(5 * HOUR_MS + one * 2_000, ("walker", "192.0.2.204"), 10_000 + one);
        }
        rows.push(("identifiers one after the other, one in 2 s", vec!["walker".to_owned()]));
        for one in 0..400 {
            // Half of them are others; the gaps are 1 to 5; four ranges at once.
            let (range, step) = (one % 4, one / 4);
            let hotel = match step % 2 {
                0 => 40_000 + range * 5_000 - step * 3 / 2 - self.below(2),
                _ => self.below(HOTELS),
            };
            self.make(6 * HOUR_MS + one * 1_000, ("workers", "192.0.2.205"), hotel);
        }
        let workers = "four ranges at once, downwards, with gaps and among others";
        rows.push((workers, vec!["workers".to_owned()]));
        for one in 0..100 {
            self.make(HOUR_MS / 2 + one * 30_000, ("slow", "192.0.2.206"), 60_000 + one);
        }
        rows.push(("identifiers one after the other, one in 30 s", vec!["slow".to_owned()]));
        let mut range: Vec<u64> = (80_000..80_500).collect();
        for one in 0..500 {
            let left = self.below(range.len() as u64);
            let hotel = range.swap_remove(usize::try_from(left).unwrap());
            self.make(7 * HOUR_MS + one * 1_000, ("shuffled", "192.0.2.207"), hotel);
        }
        rows.push(("all identifiers of a range, in random order", vec!["shuffled".to_owned()]));
        rows
    }
}

/// What each rule says of whom.
async fn alarms(mut made: Vec<Made>, policy: &AlertPolicy) -> BTreeSet<(String, String)> {
    made.sort_by_key(|one| one.at_ms);
    let mut bench = Bench::timed(Clock::manual(START));
    let sink = Arc::new(Sink::new(Counter::default()));
    sink.observe(policy.entries());
    bench.engine = bench.engine.with_sink(sink.clone());
    bench.put_in_force(POLICY);
    let (intake, mut conditions) = (Intake::default(), Conditions::default());
    let (mut alarms, mut at_ms) = (BTreeSet::new(), 0);
    let mut look = |now: Timestamp| {
        for rule in &policy.rules {
            conditions.see(rule, intake.seen(rule, now), now);
        }
        for firing in conditions.firing(policy) {
            let about = ["caller", "address", "api_key"].map(|name| firing.labels.get(name));
            let about = about.into_iter().flatten().next().unwrap_or_default();
            alarms.insert((firing.rule.name.to_string(), about.to_owned()));
        }
    };
    for one in made {
        // Rules are evaluated while time passes.
        while at_ms < one.at_ms {
            let step = (one.at_ms - at_ms).min(10_000 - at_ms % 10_000);
            at_ms += step;
            bench.clock.advance(Duration::from_millis(step));
            if at_ms.is_multiple_of(10_000) {
                sink.drain(&mut Vec::new(), &mut |records| intake.add(policy, records));
                look(bench.engine.now());
            }
        }
        let Made { caller, address, api_key, hotel, .. } = one;
        let ask =
            format!("user={caller},remote_address={address},key_id={api_key},hotel_id={hotel}");
        bench.ask_for(&[&ask]).await;
    }
    alarms
}

#[tokio::test]
async fn the_table_of_planted_requests_is_what_was_found() {
    let rules: String = RULES.iter().map(|(name, rule)| format!("\n  {name}: {rule}")).collect();
    let source = Source { path: "alerts.yaml".to_owned(), text: format!("alerts:{rules}") };
    let policy = compile_alerts(&[source]).unwrap();
    let mut traffic = Traffic { random: Random(17), made: Vec::new() };
    traffic.all_usual();
    let planted = traffic.plant();
    let alarms = alarms(traffic.made, &policy).await;
    let mut rows = Vec::new();
    for (what, about) in &planted {
        let mut row = format!("| {what} |");
        for (rule, _) in RULES {
            let found = alarms.iter().any(|(name, of)| name == rule && about.contains(of));
            row.push_str(if found { " found |" } else { " - |" });
        }
        rows.push(row);
    }
    let mut row = "| false alarms, of 32 usual callers in 8 hours |".to_owned();
    for (rule, _) in RULES {
        let is_planted = |of: &String| planted.iter().any(|(_, about)| about.contains(of));
        let others = alarms.iter().filter(|(name, of)| name == rule && !is_planted(of));
        row.push_str(&format!(" {} |", others.count()));
    }
    rows.push(row);
    let page = include_str!("../../../config/alerts.md");
    for row in &rows {
        assert!(page.contains(row), "config/alerts.md does not have:\n{}", rows.join("\n"));
    }
}
