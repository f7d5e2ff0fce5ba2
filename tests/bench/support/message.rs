//! Messages of the protocol as bytes, with gRPC's frame.

use anyhow::{Context, Result};
use bytes::Bytes;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use prost::Message;

/// The frame's header: whether the message is compressed, and its length in four bytes.
pub const FRAME_HEAD_LEN: usize = 5;

/// The tag of the first field of an answer, which is the code.
const CODE_TAG: u8 = 0x08;

/// The position of the digits of a numbered message.
const DIGITS: &str = "0000000";

/// A message without its frame, from descriptors written as `key=value,key=value`.
pub fn message(domain: &str, descriptors: &[&str]) -> Vec<u8> {
    let entry = |text: &str| {
        let (key, value) = text.split_once('=').expect("an entry is key=value");
        Entry { key: key.to_owned(), value: value.to_owned() }
    };
    let descriptor = |text: &&str| RateLimitDescriptor {
        entries: text.split(',').map(entry).collect(),
        ..RateLimitDescriptor::default()
    };
    RateLimitRequest {
        domain: domain.to_owned(),
        descriptors: descriptors.iter().map(descriptor).collect(),
        hits_addend: 0,
    }
    .encode_to_vec()
}

/// A message with its frame.
pub fn frame(domain: &str, descriptors: &[&str]) -> Bytes {
    let bytes = message(domain, descriptors);
    let length = u32::try_from(bytes.len()).expect("a request of a few bytes");
    [&[0], length.to_be_bytes().as_slice(), &bytes].concat().into()
}

/// A frame for each of ten million keys, which differ in seven digits.
#[derive(Clone, Debug)]
pub struct Numbered {
    frame: Bytes,
    digits_at: usize,
}

impl Numbered {
    /// From a descriptor that ends with a number.
    pub fn new(domain: &str, descriptor: &str) -> Self {
        let frame = frame(domain, &[&format!("{descriptor}{DIGITS}")]);
        let window = frame.windows(DIGITS.len()).position(|window| window == DIGITS.as_bytes());
        Self { digits_at: window.expect("the digits are in the message"), frame }
    }

    /// The frame with this number.
    pub fn frame(&self, number: u32) -> Bytes {
        let mut frame = self.frame.to_vec();
        let digits = &mut frame[self.digits_at..self.digits_at + DIGITS.len()];
        let mut rest = number;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        frame.into()
    }
}

/// The code of an answer, from the first bytes of its frame: every server writes it first.
pub fn code(start: &[u8]) -> Option<Code> {
    let [CODE_TAG, code, ..] = *start.get(FRAME_HEAD_LEN..)? else { return None };
    Code::try_from(i32::from(code)).ok()
}

/// The complete answer.
pub fn answer(frame: &[u8]) -> Result<RateLimitResponse> {
    let message = frame.get(FRAME_HEAD_LEN..).context("an answer without a frame")?;
    Ok(RateLimitResponse::decode(message)?)
}
