//! The script that charges a batch, and the command that calls it.
//!
//! `charge.lua` says what its arguments mean; this file packs them. Numbers travel as little-endian bytes,
//! because the server then reads a whole charge with one call.

use std::sync::LazyLock;

use ::redis::Cmd;
use ::redis::Script;

use crate::clock::Timestamp;
use crate::limit::Algorithm;
use crate::limit::Hits;
use crate::limit::Limit;
use crate::policy::Mode;
use crate::store::Batch;
use crate::store::Charge;

const SOURCE: &str = include_str!("charge.lua");

/// The script, with the hash by which the server knows it.
static CHARGE: LazyLock<Script> = LazyLock::new(|| Script::new(SOURCE));

/// Bytes of a packed charge without its tag.
const CHARGE_LEN: usize = 42;

/// The command that tells the server the script.
pub fn load() -> Cmd {
    let mut command = Cmd::new();
    command.arg("SCRIPT").arg("LOAD").arg(SOURCE);
    command
}

/// The command that charges `batch` at `given`, or by the server's clock, which is about `estimate`.
pub fn command(batch: &Batch, given: Option<Timestamp>, estimate: Timestamp) -> Cmd {
    let mut command = Cmd::new();
    command.arg("EVALSHA").arg(CHARGE.get_hash()).arg(batch.keys.len());
    for key in &batch.keys {
        command.arg(key.as_str());
    }
    match given {
        Some(at) => command.arg(at.as_ms()),
        None => command.arg(""),
    };
    for (index, group) in batch.groups().enumerate() {
        for charge in group {
            command.arg(pack(charge, index + 1, estimate));
        }
    }
    command
}

/// A charge as bytes: `<I2I2Bi8I7I7I7I7Bc0` in the words of Lua's `struct`.
fn pack(charge: &Charge, group: usize, estimate: Timestamp) -> Vec<u8> {
    let tag = charge.limit.tag().as_bytes();
    let mut bytes = Vec::with_capacity(CHARGE_LEN + tag.len());
    bytes.extend(short(charge.key_index + 1));
    bytes.extend(short(group));
    bytes.push(mode_code(charge.mode));
    bytes.extend(signed(charge.hits).to_le_bytes());
    push_long(&mut bytes, charge.limit.capacity());
    for number in shape(&charge.limit, estimate) {
        push_long(&mut bytes, number);
    }
    bytes.push(u8::try_from(tag.len()).expect("a tag is a window or a zone's name"));
    bytes.extend(tag);
    bytes
}

/// What the limit's algorithm needs beside its capacity, as the script's legend lists it.
fn shape(limit: &Limit, estimate: Timestamp) -> [u64; 3] {
    match limit.algorithm() {
        Algorithm::Sliding(sliding) => [sliding.window_ms(), sliding.slot_ms(), 0],
        Algorithm::Fixed(fixed) => [fixed.window_ms(), 0, 0],
        Algorithm::Bucket(bucket) => [bucket.amount(), bucket.window_ms(), 0],
        Algorithm::Calendar(calendar) => {
            let end = calendar.end_after(estimate);
            [calendar.start_of(estimate).as_ms(), end.as_ms(), calendar.end_after(end).as_ms()]
        }
        Algorithm::Total => [0, 0, 0],
    }
}

fn mode_code(mode: Mode) -> u8 {
    match mode {
        Mode::Enforce => 0,
        Mode::Quota => 1,
        Mode::Shadow => 2,
    }
}

/// Hits to spend, or below zero those to give back.
fn signed(hits: Hits) -> i64 {
    let amount = i64::try_from(hits.amount()).expect("hits are cut to AMOUNT_MAX + 1");
    match hits {
        Hits::Spend(_) => amount,
        Hits::GiveBack(_) => -amount,
    }
}

fn short(number: usize) -> [u8; 2] {
    u16::try_from(number).expect("a request's charges are bounded by its descriptors").to_le_bytes()
}

/// Seven bytes hold every number that the limits' arithmetic is exact for.
fn push_long(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend(&number.to_le_bytes()[..7]);
}
