//! What schedules, thresholds, graces and idempotency keys add to a decision without a wire: `cargo bench --bench over_time`.
//!
//! The policies take turns, so that other load on the machine affects all of them equally. What counts is CPU time.

// A benchmark's product is what it prints.
#![allow(clippy::print_stdout)]

#[path = "support/mod.rs"]
mod support;

use std::path::Path;
use std::process;

use anyhow::{Result, ensure};
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitResponse;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use futures_util::future::try_join_all;
use prost::Message;
use tollgate::clock::Clock;
use tollgate::engine::Engine;
use tollgate::grpc;

use support::latencies::median;
use support::usage::CpuTimes;
use support::{children, drive, engine, message};

/// Decisions of a turn, turns of each policy after one that warms up, and decisions that are asked for at once.
const DECISIONS: usize = 20_000;
const ROUNDS: usize = 15;
const TOGETHER: usize = 16;

/// Counters that the embedded store has room for: more than all idempotency keys of a run.
const KEYS_MAX: usize = 1_000_000;

/// A policy of one limit.
struct Case {
    name: &'static str,
    /// What the limit has beside its rate.
    limit: &'static str,
    /// What the policy has at its top, and whether requests have idempotency keys.
    top: &'static str,
    has_keys: bool,
}

const SCHEDULES: &str =
    "schedules: { nights: { hours: '22:00-06:00' }, weekend: { weekdays: [saturday, sunday] } }";
const WHEN: &str = "when: [{ during: nights, scale: 80% }, { during: weekend, scale: 90% }]";

/// The first is what the others are compared with.
const CASES: [Case; 7] = [
    Case { name: "none of it", limit: "", top: "", has_keys: false },
    Case { name: "thresholds", limit: ", thresholds: true", top: "", has_keys: false },
    Case { name: "a grace", limit: ", grace: { over: 10%, for: 1h }", top: "", has_keys: false },
    Case { name: "a schedule", limit: "", top: SCHEDULES, has_keys: false },
    Case { name: "idempotency keys", limit: "", top: "idempotency: { key: id }", has_keys: true },
    Case {
        name: "schedule, thresholds",
        limit: ", thresholds: true",
        top: SCHEDULES,
        has_keys: false,
    },
    Case {
        name: "schedule, thresholds, keys",
        limit: ", thresholds: true",
        top: "SCHEDULES\nidempotency: { key: id }",
        has_keys: true,
    },
];

/// What one turn took, in microseconds of CPU time a decision.
#[derive(Clone, Copy, Debug)]
struct Sample {
    own: f64,
    redis: f64,
}

impl Case {
    fn policy(&self) -> String {
        let top = self.top.replace("SCHEDULES", SCHEDULES);
        let when = if top.contains(SCHEDULES) { format!(", {WHEN}") } else { String::new() };
        let limit = format!("{{ rate: 1_000_000_000/day{}{when} }}", self.limit);
        let domain = self.domain();
        format!("domain: {domain}\n{top}\ndescriptors: [{{ key: user, limits: [{limit}] }}]\n")
    }

    /// A domain of its own: the cases share a Redis.
    fn domain(&self) -> String {
        self.name.replace(", ", "-").replace(' ', "-")
    }

    /// The requests of a turn; no idempotency key comes twice.
    fn messages(&self, round: usize) -> Vec<Vec<u8>> {
        let numbers = round * DECISIONS..(round + 1) * DECISIONS;
        let key = |number| if self.has_keys { format!(",id={number}") } else { String::new() };
        numbers
            .map(|number| {
                message::message(&self.domain(), &[&format!("user=alice{}", key(number))])
            })
            .collect()
    }
}

fn main() -> Result<()> {
    println!(
        "{ROUNDS} turns of {DECISIONS} decisions, {TOGETHER} at once; µs of CPU time a decision"
    );
    drive::block_on(async {
        let mut engines = Vec::new();
        for case in &CASES {
            engines.push(engine::in_memory(&case.policy(), &Clock::system(), KEYS_MAX)?);
        }
        measure("embedded", &engines, None).await?;
        let folder = tempfile::tempdir()?;
        on_redis(&folder.path().join("redis.sock")).await
    })
}

async fn on_redis(socket: &Path) -> Result<()> {
    let Ok((running, _)) = children::redis(socket) else {
        println!("there is no redis-server, so nothing is measured on Redis");
        return Ok(());
    };
    let mut engines = Vec::new();
    for case in &CASES {
        engines.push(engine::on_redis(&case.policy(), &Clock::system(), socket).await?);
    }
    measure("on Redis", &engines, Some(running.id())).await
}

/// Measures and prints all cases on one store.
async fn measure(store: &str, engines: &[Engine], redis: Option<u32>) -> Result<()> {
    let mut samples = vec![Vec::new(); CASES.len()];
    for round in 0..=ROUNDS {
        for ((case, engine), samples) in CASES.iter().zip(engines).zip(&mut samples) {
            let sample = turn(engine, &case.messages(round), redis).await?;
            if 0 < round {
                samples.push(sample);
            }
        }
    }
    println!(
        "\n{store:28} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "min", "median", "x none", "Redis", "x none"
    );
    for (case, own) in CASES.iter().zip(&samples) {
        let of = |value: fn(&Sample) -> f64| median(own.iter().map(value));
        let ratio = |value: fn(&Sample) -> f64| {
            median(own.iter().zip(&samples[0]).map(|(own, none)| value(own) / value(none)))
        };
        let min = own.iter().map(|sample| sample.own).fold(f64::INFINITY, f64::min);
        print!("{:28} {min:8.2} {:8.2} {:8.2}", case.name, of(|one| one.own), ratio(|one| one.own));
        match redis {
            Some(_) => println!(" {:8.2} {:8.2}", of(|one| one.redis), ratio(|one| one.redis)),
            None => println!(" {:>8} {:>8}", "-", "-"),
        }
    }
    Ok(())
}

/// One turn of one engine.
async fn turn(engine: &Engine, messages: &[Vec<u8>], redis: Option<u32>) -> Result<Sample> {
    let times = || -> Result<_> {
        Ok((CpuTimes::of(process::id())?, redis.map(CpuTimes::of).transpose()?))
    };
    let (own, server) = times()?;
    for messages in messages.chunks(TOGETHER) {
        let asked = messages.iter().map(|message| grpc::answer_bytes(engine, message));
        let answers = try_join_all(asked).await?;
        if let Some(answer) = answers.last() {
            let code = RateLimitResponse::decode(answer.as_slice())?.overall_code();
            ensure!(code == Code::Ok, "{code:?}");
        }
    }
    let (own_after, server_after) = times()?;
    let each = |time: std::time::Duration| time.as_secs_f64() * 1e6 / messages.len() as f64;
    let redis = server_after.zip(server).map_or(0.0, |(after, before)| each(after.since(&before)));
    Ok(Sample { own: each(own_after.since(&own)), redis })
}
