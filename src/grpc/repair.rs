//! Decodes messages whose texts are not UTF-8.
//!
//! Protobuf requires UTF-8, and a decoder rejects other texts. But Envoy copies values of its clients into messages, so
//! by rejecting them, a client that sends such a byte would bypass every limit. Nearly all messages are decoded as they
//! are. Otherwise the message is parsed, all of its texts are escaped (`engine/text.rs`), and it is decoded again.

use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use prost::{DecodeError, Message};

use crate::engine::text;

/// The type of a field that may contain texts.
#[derive(Clone, Copy)]
enum Holds {
    Text,
    Message(Fields),
}

/// The fields of a message that may contain texts, by number.
type Fields = &'static [(u64, Holds)];

/// The fields of `RateLimitRequest`: its domain, and the keys and values of its descriptors' entries.
const REQUEST: Fields = &[(1, Holds::Text), (2, Holds::Message(DESCRIPTOR))];
const DESCRIPTOR: Fields = &[(1, Holds::Message(ENTRY))];
const ENTRY: Fields = &[(1, Holds::Text), (2, Holds::Text)];

/// The wire types of protobuf.
const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const COUNTED: u64 = 2;
const FOUR_BYTES: u64 = 5;

/// The bits of a tag with the wire type.
const TYPE_BITS: u32 = 3;

/// Decodes a message, and returns by how many bytes the escapes lengthen it.
///
/// # Errors
/// If the bytes are not a message, regardless of its texts.
pub fn decode(bytes: &[u8]) -> Result<(RateLimitRequest, usize), DecodeError> {
    if text::holds_mark(bytes) {
        return decode_repaired(bytes).unwrap_or_else(|| plain(bytes));
    }
    match RateLimitRequest::decode(bytes) {
        Ok(message) => Ok((message, 0)),
        Err(error) => decode_repaired(bytes).unwrap_or(Err(error)),
    }
}

fn plain(bytes: &[u8]) -> Result<(RateLimitRequest, usize), DecodeError> {
    RateLimitRequest::decode(bytes).map(|message| (message, 0))
}

/// None if the bytes are not a message.
fn decode_repaired(bytes: &[u8]) -> Option<Result<(RateLimitRequest, usize), DecodeError>> {
    let mut repaired = Vec::with_capacity(bytes.len() * 2);
    repair(bytes, REQUEST, &mut repaired)?;
    let longer = repaired.len().saturating_sub(bytes.len());
    Some(RateLimitRequest::decode(repaired.as_slice()).map(|message| (message, longer)))
}

/// Writes a message with its texts escaped; None if the bytes are not a message.
fn repair(bytes: &[u8], fields: Fields, out: &mut Vec<u8>) -> Option<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let field = rest;
        let tag = varint(&mut rest)?;
        let (number, wire_type) = (tag >> TYPE_BITS, tag & ((1 << TYPE_BITS) - 1));
        let len = match wire_type {
            VARINT => varint(&mut rest).map(|_| 0)?,
            EIGHT_BYTES => 8,
            FOUR_BYTES => 4,
            COUNTED => usize::try_from(varint(&mut rest)?).ok()?,
            // No message of the service has groups.
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(len)?;
        rest = after;
        let holds = fields.iter().find(|(known, _)| (*known, COUNTED) == (number, wire_type));
        match holds {
            None => out.extend_from_slice(&field[..field.len() - rest.len()]),
            Some((_, Holds::Text)) => push(tag, text::escaped(content).as_bytes(), out),
            Some((_, Holds::Message(fields))) => {
                let mut inner = Vec::with_capacity(content.len() * 2);
                repair(content, fields, &mut inner)?;
                push(tag, &inner, out);
            }
        }
    }
    Some(())
}

fn push(tag: u64, content: &[u8], out: &mut Vec<u8>) {
    push_varint(tag, out);
    push_varint(u64::try_from(content.len()).unwrap_or(u64::MAX), out);
    out.extend_from_slice(content);
}

/// Reads a varint: seven bits per byte, the lowest first. None if it is incomplete.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn push_varint(mut number: u64, out: &mut Vec<u8>) {
    while 0x80 <= number {
        out.push(0x80 | u8::try_from(number & 0x7f).unwrap_or_default());
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
    use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{
        Entry, RateLimitOverride,
    };
    use envoy_types::pb::google::protobuf::UInt64Value;
    use proptest::prelude::any;
    use proptest::proptest;

    use super::*;

    /// A message with all fields and these texts.
    fn message(domain: &str, key: &str, value: &str) -> RateLimitRequest {
        let descriptor = RateLimitDescriptor {
            entries: vec![Entry { key: key.to_owned(), value: value.to_owned() }; 2],
            limit: Some(RateLimitOverride { requests_per_unit: 300, unit: 3 }),
            hits_addend: Some(UInt64Value { value: u64::MAX }),
            is_negative_hits: true,
        };
        let descriptors = vec![descriptor, RateLimitDescriptor::default()];
        RateLimitRequest { domain: domain.to_owned(), descriptors, hits_addend: u32::MAX }
    }

    /// The message with bytes in place of texts of the same length.
    fn bytes(texts: [&[u8]; 3]) -> Vec<u8> {
        let places = [b'D', b'K', b'V'];
        let [domain, key, value] = [0, 1, 2]
            .map(|index| String::from_utf8(vec![places[index]; texts[index].len()]).unwrap());
        let mut bytes = message(&domain, &key, &value).encode_to_vec();
        for (place, text) in places.into_iter().zip(texts) {
            let runs = bytes.windows(text.len()).enumerate();
            let runs = runs.filter(|(_, run)| run.iter().all(|byte| *byte == place));
            for start in runs.map(|(start, _)| start).collect::<Vec<_>>() {
                bytes[start..][..text.len()].copy_from_slice(text);
            }
        }
        bytes
    }

    #[track_caller]
    fn check(texts: [&[u8]; 3]) {
        let (decoded, longer) = decode(&bytes(texts)).unwrap();
        let [domain, key, value] = texts.map(|text| text::escaped(text).into_owned());
        assert_eq!(decoded, message(&domain, &key, &value));
        assert_eq!(longer, decoded.encoded_len() - bytes(texts).len());
    }

    #[test]
    fn texts_of_any_bytes_are_read_and_all_else_stays() {
        check([b"shop", b"user", b"alice"]);
        check([b"sh\xffp", b"user", b"alice"]);
        check([b"shop", b"us\xff\xfe", b"alice"]);
        check([b"shop", b"user", b"k\xff"]);
        check([b"shop", b"user", &[0xff; 200]]);
        check([b"shop", b"user", "\u{10ffff}ff".as_bytes()]);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for bytes in [
            b"\x0a".as_slice(),
            b"\x0a\x05\xff",
            b"\xff\xff",
            b"\x0b",
            b"\x08\x01",
            b"\x12\x03\x0a\x05\xff",
        ] {
            assert!(decode(bytes).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_texts_are_read(
            domain in proptest::collection::vec(any::<u8>(), 1..20),
            key in proptest::collection::vec(any::<u8>(), 1..20),
            value in proptest::collection::vec(any::<u8>(), 1..200),
        ) {
            let mut message = Vec::new();
            let mut entry = Vec::new();
            push(0x0a, &key, &mut entry);
            push(0x12, &value, &mut entry);
            let mut descriptor = Vec::new();
            push(0x0a, &entry, &mut descriptor);
            push(0x0a, &domain, &mut message);
            push(0x12, &descriptor, &mut message);
            let (decoded, _) = decode(&message).unwrap();
            let entry = &decoded.descriptors[0].entries[0];
            assert_eq!(decoded.domain, text::escaped(&domain));
            assert_eq!(entry.key, text::escaped(&key));
            assert_eq!(entry.value, text::escaped(&value));
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_message_is_decoded_as_protobuf_does_wherever_it_can(
            bytes in proptest::collection::vec(proptest::sample::select(vec![0x0a_u8, 0x12, 0x18, 0x00, 0x01, 0x02, 0x04, b'a', 0x1a]), 0..64),
        ) {
            if let Ok(message) = RateLimitRequest::decode(bytes.as_slice()) {
                assert_eq!(decode(&bytes).unwrap().0, message);
                let mut repaired = Vec::new();
                if repair(&bytes, REQUEST, &mut repaired).is_some() {
                    assert_eq!(repaired, bytes);
                }
            }
        }
    }
}
