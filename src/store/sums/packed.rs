//! Sums as bytes: a file keeps them in two thirds of their text.
//!
//! A row is its name and its sums. A name of six characters of base64 is 36 bits in five bytes; another one comes after its
//! length. A sum is a byte with its letter, whether the number is 1, and whether it is the last one of the row; other
//! numbers follow in groups of seven bits, the lowest first. Any other text is kept as it is.

use std::fmt::Write;

use super::merge::{rows_of, sums_of};

/// The first byte of a text that is no sums.
const TEXT: u8 = 0x7f;

/// Marks the first byte of a name in base64.
const IS_BASE64: u8 = 0x80;

/// The characters of a name in base64, and those beyond the four bits in its first byte.
const NAME_LEN: usize = 6;
const NAME_REST: usize = 4;

/// The bits of a sum's first byte beside its letter, and a number's sign that more bits follow.
const IS_LAST: u8 = 0x80;
const IS_ONE: u8 = 0x40;
const LETTER: u8 = 0x3f;
const HAS_MORE: u8 = 0x80;

const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Sums as bytes.
pub fn pack(text: &str) -> Vec<u8> {
    let mut packed = Vec::with_capacity(text.len() + 1);
    let is_packed = rows_of(text).all(|(name, sums)| pack_row(name, sums, &mut packed).is_some());
    if is_packed && unpack(&packed) == text {
        return packed;
    }
    packed.clear();
    packed.push(TEXT);
    packed.extend_from_slice(text.as_bytes());
    packed
}

/// The text of sums. Bytes that [`pack`] does not make end it.
pub fn unpack(packed: &[u8]) -> String {
    if let [TEXT, text @ ..] = packed {
        return String::from_utf8_lossy(text).into_owned();
    }
    let mut text = String::with_capacity(2 * packed.len());
    let mut rest = packed;
    while !rest.is_empty() {
        if !text.is_empty() {
            text.push(' ');
        }
        if unpack_row(&mut rest, &mut text).is_none() {
            break;
        }
    }
    text
}

fn pack_row(name: &str, sums: &str, packed: &mut Vec<u8>) -> Option<()> {
    match base64(name) {
        Some(bits) => {
            let [.., first, a, b, c, d] = bits.to_be_bytes();
            packed.extend([first | IS_BASE64, a, b, c, d]);
        }
        None => {
            packed.push(u8::try_from(name.len()).ok().filter(|len| *len < TEXT)?);
            packed.extend_from_slice(name.as_bytes());
        }
    }
    let mut sums = sums_of(sums).peekable();
    while let Some((letter, number)) = sums.next() {
        let letter = u8::try_from(letter).ok()?;
        let mut first = index(LETTERS, letter)?;
        if sums.peek().is_none() {
            first |= IS_LAST;
        }
        if number == 1 {
            packed.push(first | IS_ONE);
            continue;
        }
        packed.push(first);
        let mut rest = number;
        while rest >= u64::from(HAS_MORE) {
            packed.push(low_bits(rest) | HAS_MORE);
            rest >>= 7;
        }
        packed.push(low_bits(rest));
    }
    Some(())
}

fn unpack_row(rest: &mut &[u8], text: &mut String) -> Option<()> {
    let first = byte(rest)?;
    if first & IS_BASE64 == 0 {
        let name = take(rest, first.into())?;
        text.push_str(str::from_utf8(name).ok()?);
    } else {
        let mut bits = u64::from(first & !IS_BASE64);
        for byte in take(rest, NAME_REST)? {
            bits = bits << 8 | u64::from(*byte);
        }
        for place in (0..NAME_LEN).rev() {
            let digit = usize::try_from(bits >> (6 * place) & 0x3f).ok()?;
            text.push(char::from(*BASE64.get(digit)?));
        }
    }
    text.push('=');
    loop {
        let first = byte(rest)?;
        let number = if first & IS_ONE == 0 { number(rest)? } else { 1 };
        text.push(char::from(*LETTERS.get(usize::from(first & LETTER))?));
        // A String takes whatever is written.
        let _ = write!(text, "{number}");
        if first & IS_LAST != 0 {
            return Some(());
        }
    }
}

/// The bits of a name in base64.
fn base64(name: &str) -> Option<u64> {
    let digits = name.bytes().map(|byte| index(BASE64, byte));
    let bits =
        digits.into_iter().try_fold(0_u64, |bits, digit| Some(bits << 6 | u64::from(digit?)));
    bits.filter(|_| name.len() == NAME_LEN)
}

fn index(all: &[u8], one: u8) -> Option<u8> {
    u8::try_from(all.iter().position(|known| *known == one)?).ok()
}

fn low_bits(number: u64) -> u8 {
    let [low, ..] = number.to_le_bytes();
    low & !HAS_MORE
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let next = byte(rest)?;
        number |= u64::from(next & !HAS_MORE) << shift;
        if next & HAS_MORE == 0 {
            return Some(number);
        }
    }
    None
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (first, others) = rest.split_first()?;
    *rest = others;
    Some(*first)
}

fn take<'p>(rest: &mut &'p [u8], len: usize) -> Option<&'p [u8]> {
    let (taken, others) = rest.split_at_checked(len)?;
    *rest = others;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sums_are_packed_and_any_text_comes_back() {
        for (text, len) in [
            ("", 0),
            ("=a1", 2),
            ("AbC-_9=a1e1T54000", 11),
            ("AbC-_9=a1e1T54000 r=a300b0", 18),
            ("AbC-_9=a9007199254740992Z18446744073709551615", 25),
            // No sums: the meaning of a name, a number of callers, numbers that a text writes in another way.
            ("=acme|||request|allowed", 24),
            ("15000", 6),
            ("x=", 2),
            ("=a01", 5),
            ("=a1  =a2", 9),
            ("é=a1", 4),
        ] {
            let packed = pack(text);
            assert_eq!((unpack(&packed).as_str(), packed.len()), (text, len), "{packed:?}");
        }
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in ".*", sums in "([A-Za-z0-9_-]{0,8}=([a-zA-Z][0-9]{1,21}){0,3} ?){0,3}") {
            prop_assert_eq!(unpack(&pack(&text)), text);
            prop_assert_eq!(unpack(&pack(&sums)), sums);
        }

        #[test]
        fn no_bytes_are_too_wrong(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            unpack(&bytes);
        }
    }
}
