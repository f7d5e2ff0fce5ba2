//! Decodes and encodes the service's messages, also if their texts are not UTF-8.

use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use prost::Message;
use prost::bytes::Buf;
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::memory_budget::Reservation;
use super::repair;

/// Bytes of the buffers of a call. Most messages have less; a longer one makes them grow. With the 8 KiB that tonic takes
/// they are the largest allocations of a decision.
const BUFFER_LEN: usize = 512;

/// Bytes of a message of which tonic sends the beginning while it encodes the rest: more than any has.
const YIELD_LEN: usize = 32 * 1024;

/// The buffers of a call.
fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER_LEN, YIELD_LEN)
}

/// The codec of `ShouldRateLimit`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Codec;

impl tonic::codec::Codec for Codec {
    type Encode = RateLimitResponse;
    type Decode = RateLimitRequest;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Codec {
    type Item = RateLimitResponse;
    type Error = Status;

    fn encode(&mut self, item: RateLimitResponse, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(to).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

impl Decoder for Codec {
    type Item = RateLimitRequest;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<RateLimitRequest>, Status> {
        // tonic passes the message in one piece, so nothing is copied.
        let (len, bytes) = (from.remaining(), from.chunk());
        let decoded = repair::decode(&bytes[..len.min(bytes.len())]);
        from.advance(len);
        match decoded {
            Ok((message, 0)) => Ok(Some(message)),
            Ok((message, longer)) => {
                Reservation::here().grow(longer);
                Ok(Some(message))
            }
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}
