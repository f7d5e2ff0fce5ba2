//! Messages of the protocol as bytes, with gRPC's frame.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::address::Address as AnyAddress;
use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress};
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{
    HttpRequest, Peer, Request as HttpAttributes,
};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest, CheckResponse};
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
    framed(&message(domain, descriptors))
}

/// The frame of a check of an API key, as Envoy sends it for a request with a few headers.
pub fn check(api_key: &str, address: Ipv4Addr) -> Bytes {
    let address = address.to_string();
    let headers = [
        (":authority", "hotels.example.com"),
        (":method", "GET"),
        (":path", "/v1/hotels/4711?adults=2"),
        (":scheme", "https"),
        ("accept", "application/json"),
        ("user-agent", "booking/3.2"),
        ("x-api-key", api_key),
        ("x-forwarded-for", &address),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "7f8e1c0a-5d51-4b8e-9d5f-0f3c2a1b9e77"),
    ];
    let text = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let http = HttpRequest {
        method: "GET".to_owned(),
        path: "/v1/hotels/4711?adults=2".to_owned(),
        headers: headers.map(text).into(),
        ..HttpRequest::default()
    };
    let socket = SocketAddress { address: address.clone(), ..SocketAddress::default() };
    let address = Address { address: Some(AnyAddress::SocketAddress(socket)) };
    let context = AttributeContext {
        source: Some(Peer { address: Some(address), ..Peer::default() }),
        request: Some(HttpAttributes { http: Some(http), ..HttpAttributes::default() }),
        ..AttributeContext::default()
    };
    framed(&CheckRequest { attributes: Some(context) }.encode_to_vec())
}

/// Whether a check of an API key was passed, as a code, from the frame of its answer.
pub fn check_code(frame: &[u8]) -> Option<Code> {
    let answer = CheckResponse::decode(frame.get(FRAME_HEAD_LEN..)?).ok()?;
    Some(if answer.status?.code == 0 { Code::Ok } else { Code::OverLimit })
}

fn framed(bytes: &[u8]) -> Bytes {
    let length = u32::try_from(bytes.len()).expect("a request of a few bytes");
    [&[0], length.to_be_bytes().as_slice(), bytes].concat().into()
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
