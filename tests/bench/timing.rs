//! Whether the time of an answer tells anything of an API key: `cargo bench --bench timing`.
//!
//! As dudect does it (Reparaz, Balasch, Verbauwhede: "Dude, is my code constant time?", 2017): classes of API keys are asked in
//! random order, one at a time on one connection, and Welch's t-test compares the times of each with those of unknown ones. Times
//! above a percentile are cut off, for a hundred percentiles, and the largest |t| counts. Below 4.5 nothing is found.

// A benchmark's product is its output.
#![allow(clippy::print_stdout)]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use crc::{CRC_32_ISO_HDLC, Crc};
use tollgate::api_keys::ApiKeyText;

use support::children::{self, Running, TOLLGATE};
use support::drive::{self, CHECK, Client};
use support::message;

const POLICY: &str = "
domain: keys
tiers: [free, premium]
api_keys:
  headers: { caller: x-caller, tier: x-tier }
  unknown_keys: 4_000_000_000/minute
  routes:
  - { path: '/v1/hotels/{*rest}', methods: [GET], scopes: [hotels:read] }
";

/// API keys of each class. They are asked in turn, so that caches of the processor help none of them more.
const KEYS: usize = 100;

/// Answers of each class, and those before them that are not counted.
const ANSWERS: usize = 60_000;
const WARM_UP: usize = 2_000;

/// Percentiles at which times are cut off.
const CROPS: u32 = 100;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Digits of the checksum.
const CHECKSUM_LEN: usize = 6;

/// What is asked.
const CLASSES: [&str; 6] =
    ["unknown", "unknown, too", "wrong in its last digit", "disabled", "wrong checksum", "right"];

/// The code of an answer to a right API key.
const RIGHT: usize = 5;

fn main() -> Result<()> {
    drive::block_on(async {
        for with_redis in [false, true] {
            measure(with_redis).await?;
        }
        Ok(())
    })
}

async fn measure(with_redis: bool) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (policies, peppers) = (folder.path().join("policies"), folder.path().join("peppers"));
    fs::create_dir(&policies)?;
    fs::write(policies.join("keys.yaml"), POLICY)?;
    fs::write(&peppers, "the pepper of a benchmark, which protects nothing")?;
    let mut command = children::tollgate(Path::new(TOLLGATE), &policies);
    command.arg("--api-key-pepper-file").arg(&peppers);
    let socket = folder.path().join("redis.sock");
    let _redis = match with_redis {
        true => {
            command.args(["--store-deadline", "1s", "--redis-url"]);
            command.arg(format!("unix://{}", socket.display()));
            Some(children::redis(&socket)?)
        }
        false => None,
    };
    let mut server = Running::start(&mut command)?;
    let grpc = server.address("gRPC")?;
    let http = server.address("HTTP")?;
    let frames = frames(&http)?;
    let mut client = Client::connect_for(&grpc, CHECK).await?;
    let times = times(&mut client, &frames).await?;
    println!(
        "\n{} answers of each class, {}",
        ANSWERS,
        if with_redis { "Redis, all cached" } else { "embedded" }
    );
    println!(
        "{:<26}{:>12}{:>12}{:>16}{:>8}",
        "API key", "median ns", "mean ns*", "less unknown*", "max |t|"
    );
    for (class, own) in CLASSES.iter().zip(&times) {
        let cut = percentile(&times, 0.9);
        let (mean, base) = (Moments::of(own, cut), Moments::of(&times[0], cut));
        println!(
            "{class:<26}{:>12}{:>12.0}{:>10.0} ± {:<3.0}{:>8.1}",
            median(own),
            mean.mean,
            mean.mean - base.mean,
            // 95 %.
            1.96 * (mean.error() + base.error()).sqrt(),
            t_max(own, &times[0], &times),
        );
    }
    println!("* without the slowest tenth of all");
    Ok(())
}

/// The messages of each class.
fn frames(http: &str) -> Result<Vec<Vec<Bytes>>> {
    let mut texts: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut add = |class: usize, text: String| texts.entry(class).or_default().push(text);
    let program = Path::new(TOLLGATE);
    for index in 0..KEYS {
        let create = ["create", "acme", "--scope", "hotels:read"];
        let right = children::keys(program, http, &create)?;
        let disabled = children::keys(program, http, &create)?;
        let text = |made: &serde_json::Value, name: &str| {
            made[name].as_str().map(str::to_owned).context("no API key")
        };
        children::keys(program, http, &["disable", &text(&disabled, "id")?])?;
        let right = text(&right, "api_key")?;
        add(0, random()?);
        add(1, random()?);
        add(2, wrong_in_its_last_digit(&right, index));
        add(3, text(&disabled, "api_key")?);
        let mut mistyped = random()?;
        let last = if mistyped.ends_with('0') { "1" } else { "0" };
        mistyped.replace_range(mistyped.len() - 1.., last);
        add(4, mistyped);
        add(RIGHT, right);
    }
    let frame = |text: &String| message::check(text, Ipv4Addr::new(192, 0, 2, 7));
    Ok(texts.into_values().map(|texts| texts.iter().map(frame).collect()).collect())
}

fn random() -> Result<String> {
    Ok(ApiKeyText::random("tg")?.expose().to_owned())
}

/// A right API key with another last digit before its checksum, and the checksum for that.
fn wrong_in_its_last_digit(right: &str, index: usize) -> String {
    let (body, _) = right.split_at(right.len() - CHECKSUM_LEN);
    let (start, last) = body.split_at(body.len() - 1);
    let at = ALPHABET.iter().position(|digit| last.as_bytes() == [*digit]).unwrap_or_default();
    let other = ALPHABET[(at + 1 + index % (ALPHABET.len() - 1)) % ALPHABET.len()];
    let body = format!("{start}{}", char::from(other));
    let mut rest = Crc::<u32>::new(&CRC_32_ISO_HDLC).checksum(body.as_bytes());
    let mut digits = [0; CHECKSUM_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    body + &digits.map(char::from).iter().collect::<String>()
}

/// The times of the answers of each class in nanoseconds.
async fn times(client: &mut Client, frames: &[Vec<Bytes>]) -> Result<Vec<Vec<u64>>> {
    let mut times = vec![Vec::with_capacity(ANSWERS); frames.len()];
    let mut order: Vec<usize> = (0..frames.len()).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..WARM_UP + ANSWERS {
        // Each class once, in an order of its own (xorshift).
        for left in (1..order.len()).rev() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let other = usize::try_from(state % (left as u64 + 1))?;
            order.swap(left, other);
        }
        for class in &order {
            let frame = frames[*class][number % KEYS].clone();
            let start = Instant::now();
            let answer = client.send(frame).await?;
            let time = start.elapsed();
            if WARM_UP <= number {
                times[*class].push(u64::try_from(time.as_nanos())?);
            } else {
                let is_right = message::check_code(&answer).map(|code| code as i32) == Some(1);
                ensure!(is_right == (*class == RIGHT), "{}: {answer:?}", CLASSES[*class]);
            }
        }
    }
    Ok(times)
}

/// Number, mean and variance of times below a bound.
struct Moments {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Moments {
    fn of(times: &[u64], below: u64) -> Self {
        let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for time in times.iter().filter(|time| **time <= below) {
            let time = *time as f64;
            count += 1.0;
            let delta = time - mean;
            mean += delta / count;
            squares += delta * (time - mean);
        }
        Self { count, mean, variance: squares / (count - 1.0) }
    }

    /// The square of the standard error.
    fn error(&self) -> f64 {
        self.variance / self.count
    }
}

/// The largest |t| of Welch's test, over all bounds.
fn t_max(one: &[u64], other: &[u64], all: &[Vec<u64>]) -> f64 {
    let crops =
        (1..=CROPS).map(|crop| 1.0 - 0.5_f64.powf(10.0 * f64::from(crop) / f64::from(CROPS)));
    let bounds = percentiles(all, crops.chain([1.0]));
    let t = bounds.into_iter().map(|bound| {
        let (one, other) = (Moments::of(one, bound), Moments::of(other, bound));
        let error = (one.error() + other.error()).sqrt();
        let t = ((one.mean - other.mean) / error).abs();
        if one.count < 1_000.0 || other.count < 1_000.0 || t.is_nan() { 0.0 } else { t }
    });
    t.fold(0.0, f64::max)
}

fn percentile(all: &[Vec<u64>], part: f64) -> u64 {
    percentiles(all, [part].into_iter())[0]
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a length")]
fn percentiles(all: &[Vec<u64>], parts: impl Iterator<Item = f64>) -> Vec<u64> {
    let mut sorted: Vec<u64> = all.iter().flatten().copied().collect();
    sorted.sort_unstable();
    let at = |part: f64| sorted[((sorted.len() - 1) as f64 * part) as usize];
    parts.map(at).collect()
}

fn median(times: &[u64]) -> u64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}
