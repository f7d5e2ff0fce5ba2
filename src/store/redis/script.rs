//! The scripts that charge a batch, and the command that calls them.
//!
//! `charge.lua` says what their arguments mean; this file packs them. Numbers travel as little-endian bytes,
//! because the server then reads a whole charge with one call. A batch without gauges and special charges is
//! sent to a script without the functions for them, which each call would make anew: that is a tenth of
//! what it costs.

use std::sync::LazyLock;

use ::redis::Cmd;
use ::redis::Script;

use crate::clock::Timestamp;
use crate::limit::AMOUNT_MAX;
use crate::limit::Algorithm;
use crate::limit::COUNT_MAX;
use crate::limit::Hits;
use crate::limit::Limit;
use crate::limit::Overdraft;
use crate::policy::Mode;
use crate::store::Batch;
use crate::store::Charge;
use crate::store::Gauge;

/// The script for batches without gauges and special charges.
static PLAIN: LazyLock<Source> = LazyLock::new(|| {
    Source::new(concat!(include_str!("charge.lua"), "local special\n", include_str!("decide.lua")))
});

/// The script for all others.
static SPECIAL: LazyLock<Source> = LazyLock::new(|| {
    let parts = concat!(
        include_str!("charge.lua"),
        include_str!("special.lua"),
        include_str!("decide.lua")
    );
    Source::new(parts)
});

/// A script, with the hash by which the server knows it.
struct Source {
    text: &'static str,
    script: Script,
}

impl Source {
    fn new(text: &'static str) -> Self {
        Self { text, script: Script::new(text) }
    }

    fn load(&self) -> Cmd {
        let mut command = Cmd::new();
        command.arg("SCRIPT").arg("LOAD").arg(self.text);
        command
    }
}

/// Bytes of a packed charge without its tag.
const CHARGE_LEN: usize = 42;

/// How many modes there are: the byte of a mode tells in multiples of it whether a charge is special.
const MODES: u8 = 4;

/// The commands that tell the server the scripts.
pub fn loads() -> [Cmd; 2] {
    [PLAIN.load(), SPECIAL.load()]
}

/// The command that charges `batch` at `given`, or by the server's clock, which is about `estimate`.
pub fn command(batch: &Batch, given: Option<Timestamp>, estimate: Timestamp) -> Cmd {
    let is_plain = batch.gauges.is_empty() && batch.charges.iter().all(Charge::is_plain);
    let source = if is_plain { &PLAIN } else { &SPECIAL };
    let mut command = Cmd::new();
    command.arg("EVALSHA").arg(source.script.get_hash()).arg(batch.keys.len());
    for key in &batch.keys {
        command.arg(key.as_str());
    }
    match given {
        Some(at) => command.arg(at.as_ms()),
        None => command.arg(""),
    };
    command.arg(pack_gauges(&batch.gauges));
    for (index, group) in batch.groups().enumerate() {
        for charge in group {
            command.arg(pack(charge, index + 1, estimate));
        }
    }
    command
}

/// A charge as bytes: `<I2I2Bi8I7I7I7I7Bc0` in the words of Lua's `struct`, and what is special about it.
fn pack(charge: &Charge, group: usize, estimate: Timestamp) -> Vec<u8> {
    let tag = charge.limit.tag().as_bytes();
    let mut bytes = Vec::with_capacity(CHARGE_LEN + tag.len());
    push_short(&mut bytes, charge.key_index + 1);
    push_short(&mut bytes, group);
    let special = if charge.is_plain() { 0 } else { special_code(charge) };
    bytes.push(special * MODES + mode_code(charge.mode));
    bytes.extend(signed(charge.hits).to_le_bytes());
    push_long(&mut bytes, charge.limit.capacity());
    for number in shape(&charge.limit, estimate) {
        push_long(&mut bytes, number);
    }
    push_text(&mut bytes, tag);
    if special != 0 {
        pack_special(&mut bytes, charge);
    }
    bytes
}

/// What only a charge has that is not plain: `<I7BB`, then `<I2B` and `I7`s for each gauge that presses,
/// then `<I7I7Bc0` for each bonus.
fn pack_special(bytes: &mut Vec<u8>, charge: &Charge) {
    let open = &charge.open;
    push_long(bytes, open.hits.min(charge.limit.capacity()));
    bytes.push(byte(open.pressed.len()));
    bytes.push(byte(charge.bonuses.len()));
    for pressed in &open.pressed {
        push_short(bytes, pressed.gauge + 1);
        bytes.push(byte(pressed.hits.len()));
        pressed.hits.iter().for_each(|hits| push_long(bytes, (*hits).min(AMOUNT_MAX)));
    }
    for bonus in &charge.bonuses {
        push_long(bytes, bonus.amount.min(AMOUNT_MAX));
        push_long(bytes, bonus.until.as_ms());
        push_text(bytes, bonus.id.as_bytes());
    }
}

/// Gauges as bytes: `<I2B` for each, and `<I2BI7I7` for each of its marks. None take none.
fn pack_gauges(gauges: &[Gauge]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for gauge in gauges {
        push_short(&mut bytes, gauge.key_index + 1);
        bytes.push(byte(gauge.marks.len()));
        for mark in &gauge.marks {
            push_short(&mut bytes, mark.charge + 1);
            bytes.push(mark.level);
            push_long(&mut bytes, mark.rise.min(COUNT_MAX));
            push_long(&mut bytes, mark.fall.min(COUNT_MAX));
        }
    }
    bytes
}

/// What the limit's algorithm needs beside its capacity, as the script's legend lists it.
fn shape(limit: &Limit, estimate: Timestamp) -> [u64; 3] {
    match limit.algorithm() {
        Algorithm::Sliding(sliding) => [sliding.window_ms(), sliding.slot_ms(), 0],
        Algorithm::Fixed(fixed) => [fixed.window_ms(), 0, 0],
        Algorithm::Bucket(bucket) => [bucket.paid_per_ms(), bucket.window_ms(), 0],
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

/// Overdraft is a matter of spending: what gives back, be it nothing, always fits.
fn special_code(charge: &Charge) -> u8 {
    match (charge.hits, charge.limit.overdraft()) {
        (Hits::GiveBack(_), _) | (_, Overdraft::None) => 1,
        (_, Overdraft::Allow) => 2,
        (_, Overdraft::Clip) => 3,
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

fn push_short(bytes: &mut Vec<u8>, number: usize) {
    let number = u16::try_from(number).expect("a request's charges are bounded by its descriptors");
    bytes.extend(number.to_le_bytes());
}

/// Seven bytes hold every number that the limits' arithmetic is exact for.
fn push_long(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend(&number.to_le_bytes()[..7]);
}

/// A tag is a window or a zone's name; the ids of bonuses are as short.
fn push_text(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.push(byte(text.len()));
    bytes.extend(text);
}

fn byte(len: usize) -> u8 {
    u8::try_from(len).expect("whoever builds a batch bounds what a charge has")
}
