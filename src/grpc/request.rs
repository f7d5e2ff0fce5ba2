//! Reads a gRPC message as a request, which borrows every text from it.

use super::wire::Fields;
use super::wire::WireError;
use crate::engine::Descriptor;
use crate::engine::Override;
use crate::engine::Request;
use crate::engine::RequestError;
use crate::engine::protocol;

/// Why bytes are no request.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the message can't be read: {0}")]
    Wire(#[from] WireError),
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// What the message in `bytes`, a `RateLimitRequest`, asks.
///
/// # Errors
/// When it is no such message, or can't be decided: nothing or too much in it, or a unit that the
/// protocol doesn't have.
pub fn read(bytes: &[u8]) -> Result<Request<'_>, ReadError> {
    let mut domain = "";
    let mut hits_addend = 0;
    // The request's hits may stand after the descriptors that they are for.
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        match field.tag {
            1 => domain = field.text()?,
            3 => hits_addend = field.u32()?,
            _ => {}
        }
    }
    let mut descriptors = Vec::new();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        if field.tag == 2 {
            let message = DescriptorMessage::read(field.fields()?)?;
            descriptors.push(message.descriptor(descriptors.len(), hits_addend)?);
        }
    }
    Ok(Request::try_new(domain, descriptors)?)
}

/// A `RateLimitDescriptor`.
#[derive(Default)]
struct DescriptorMessage<'a> {
    entries: Vec<(&'a str, &'a str)>,
    limit: Option<OverrideMessage>,
    hits_addend: Option<u64>,
    is_negative_hits: bool,
}

/// A `RateLimitOverride`.
#[derive(Clone, Copy, Default)]
struct OverrideMessage {
    requests_per_unit: u32,
    unit: i32,
}

impl<'a> DescriptorMessage<'a> {
    fn read(mut fields: Fields<'a>) -> Result<Self, WireError> {
        let mut message = Self::default();
        while let Some(field) = fields.next()? {
            match field.tag {
                1 => message.entries.push(read_entry(field.fields()?)?),
                // Protobuf merges a message that comes twice.
                2 => message.limit.get_or_insert_default().merge(field.fields()?)?,
                3 => merge_number(message.hits_addend.get_or_insert_default(), field.fields()?)?,
                4 => message.is_negative_hits = field.u64()? != 0,
                _ => {}
            }
        }
        Ok(message)
    }

    fn descriptor(
        self,
        index: usize,
        hits_of_request: u32,
    ) -> Result<Descriptor<'a>, RequestError> {
        Ok(Descriptor {
            entries: self.entries,
            hits: protocol::hits(self.hits_addend, hits_of_request, self.is_negative_hits),
            limit: self.limit.map(|limit| limit.limit(index)).transpose()?,
        })
    }
}

impl OverrideMessage {
    fn merge(&mut self, mut fields: Fields<'_>) -> Result<(), WireError> {
        while let Some(field) = fields.next()? {
            match field.tag {
                1 => self.requests_per_unit = field.u32()?,
                2 => self.unit = field.u32()?.cast_signed(),
                _ => {}
            }
        }
        Ok(())
    }

    fn limit(self, index: usize) -> Result<Override, RequestError> {
        match protocol::override_unit(self.unit) {
            Some(unit) => Ok(Override { amount: u64::from(self.requests_per_unit), unit }),
            None => Err(RequestError::UnknownUnit { index, unit: self.unit.to_string() }),
        }
    }
}

fn read_entry(mut fields: Fields<'_>) -> Result<(&str, &str), WireError> {
    let (mut key, mut value) = ("", "");
    while let Some(field) = fields.next()? {
        match field.tag {
            1 => key = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
    }
    Ok((key, value))
}

/// Reads a `UInt64Value`.
fn merge_number(number: &mut u64, mut fields: Fields<'_>) -> Result<(), WireError> {
    while let Some(field) = fields.next()? {
        if field.tag == 1 {
            *number = field.u64()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
    use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
    use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride;
    use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
    use envoy_types::pb::google::protobuf::UInt64Value;
    use proptest::collection::vec;
    use proptest::prelude::Strategy;
    use proptest::prelude::any;
    use proptest::prelude::prop;
    use proptest::proptest;
    use prost::Message;

    use super::*;
    use crate::engine::DESCRIPTORS_MAX;
    use crate::limit::Hits;
    use crate::policy::Unit;

    fn message(descriptors: Vec<RateLimitDescriptor>) -> RateLimitRequest {
        RateLimitRequest { domain: "shop".to_owned(), descriptors, hits_addend: 0 }
    }

    fn bringing(requests_per_unit: u32, unit: i32) -> RateLimitRequest {
        let limit = Some(RateLimitOverride { requests_per_unit, unit });
        message(vec![
            RateLimitDescriptor::default(),
            RateLimitDescriptor { limit, ..RateLimitDescriptor::default() },
        ])
    }

    #[test]
    fn texts_are_borrowed_in_order() {
        let entry = |key: &str, value: &str| Entry { key: key.into(), value: value.into() };
        let bytes = message(vec![RateLimitDescriptor {
            entries: vec![entry("user", "alice"), entry("op", "")],
            ..RateLimitDescriptor::default()
        }])
        .encode_to_vec();
        let request = read(&bytes).unwrap();
        assert_eq!(request.domain(), "shop");
        assert_eq!(request.descriptors()[0].entries, [("user", "alice"), ("op", "")]);
        assert_eq!(request.descriptors()[0].limit, None);
        let (_, value) = request.descriptors()[0].entries[0];
        assert!(bytes.as_ptr_range().contains(&value.as_ptr()));
    }

    #[test]
    fn hits_come_from_the_descriptor_else_from_the_request() {
        let check = |own: Option<u64>, of_request, is_negative_hits, expected| {
            let hits_addend = own.map(|value| UInt64Value { value });
            let descriptor =
                RateLimitDescriptor { hits_addend, is_negative_hits, ..Default::default() };
            let message = RateLimitRequest { hits_addend: of_request, ..message(vec![descriptor]) };
            let bytes = message.encode_to_vec();
            assert_eq!(read(&bytes).unwrap().descriptors()[0].hits, expected);
        };
        check(None, 0, false, Hits::Spend(1));
        check(None, 9, false, Hits::Spend(9));
        check(Some(0), 9, false, Hits::Spend(0));
        check(Some(u64::MAX), 0, false, Hits::Spend(u64::MAX));
        check(Some(2), 9, true, Hits::GiveBack(2));
    }

    #[test]
    fn a_limit_of_its_own_has_one_of_the_protocols_units() {
        let bytes = bringing(42, 3).encode_to_vec();
        let limit = read(&bytes).unwrap().descriptors()[1].limit;
        assert_eq!(limit, Some(Override { amount: 42, unit: Unit::Hour }));

        let check = |unit, text: &str| {
            assert_eq!(read(&bringing(1, unit).encode_to_vec()).unwrap_err().to_string(), text);
        };
        check(0, "descriptor 1 brings a limit of unknown unit 0");
        check(7, "descriptor 1 brings a limit of unknown unit 7");
        check(-5, "descriptor 1 brings a limit of unknown unit -5");
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        let check = |message: &RateLimitRequest, error: RequestError| {
            let refused = read(&message.encode_to_vec()).unwrap_err();
            assert_eq!(refused.to_string(), error.to_string());
        };
        check(&RateLimitRequest::default(), RequestError::EmptyDomain);
        check(&message(Vec::new()), RequestError::NoDescriptors);
        let count = DESCRIPTORS_MAX + 1;
        check(
            &message(vec![RateLimitDescriptor::default(); count]),
            RequestError::TooManyDescriptors { count },
        );
    }

    /// What generated code reads of the same bytes; None if they are no message.
    fn generated(bytes: &[u8]) -> Option<Result<String, RequestError>> {
        let message = RateLimitRequest::decode(bytes).ok()?;
        let descriptors = message.descriptors.iter().enumerate().map(|(index, descriptor)| {
            let entries = descriptor.entries.iter();
            let own_hits = descriptor.hits_addend.map(|hits| hits.value);
            let limit = descriptor.limit.map(|limit| {
                let RateLimitOverride { requests_per_unit, unit } = limit;
                OverrideMessage { requests_per_unit, unit }.limit(index)
            });
            let gives_back = descriptor.is_negative_hits;
            Ok(Descriptor {
                entries: entries.map(|entry| (entry.key.as_str(), entry.value.as_str())).collect(),
                hits: protocol::hits(own_hits, message.hits_addend, gives_back),
                limit: limit.transpose()?,
            })
        });
        let request = descriptors
            .collect::<Result<Vec<_>, _>>()
            .and_then(|descriptors| Request::try_new(&message.domain, descriptors));
        Some(request.map(|request| format!("{request:?}")))
    }

    #[track_caller]
    fn agree(bytes: &[u8]) {
        match (read(bytes), generated(bytes)) {
            (Ok(request), Some(Ok(expected))) => assert_eq!(format!("{request:?}"), expected),
            (Err(ReadError::Request(error)), Some(Err(expected))) => assert_eq!(error, expected),
            (Err(_), None) => {}
            (read, expected) => panic!("{bytes:?}: {read:?}, but {expected:?}"),
        }
    }

    #[test]
    fn what_comes_twice_or_late_or_is_unknown_is_read_as_generated_code_does() {
        let descriptor =
            |fields: &[u8]| [&[18, u8::try_from(fields.len()).unwrap()], fields].concat();
        let check = |parts: &[&[u8]]| agree(&[b"\x0a\x01d", parts.concat().as_slice()].concat());
        // The request's hits after the descriptor, and again.
        check(&[&descriptor(&[]), &[24, 9], &[24, 7]]);
        // A domain again, and fields that nobody knows: a number, bytes, fixed ones and a group.
        check(&[b"\x0a\x01e", &[80, 1, 82, 1, 0, 85, 0, 0, 0, 0, 81, 0, 0, 0, 0, 0, 0, 0, 0]]);
        check(&[&descriptor(&[83, 80, 1, 84])]);
        check(&[&descriptor(&[83, 80, 1])]);
        check(&[&[84]]);
        // A limit and own hits in two parts each.
        check(&[&descriptor(&[18, 2, 8, 5, 18, 2, 16, 2])]);
        check(&[&descriptor(&[26, 2, 8, 5, 26, 0])]);
        check(&[&descriptor(&[26, 0])]);
        // A negative unit, numbers of more than 32 bits, and an entry whose key comes twice.
        check(&[&descriptor(&[18, 13, 8, 5, 16, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1])]);
        check(&[&descriptor(&[]), &[24, 255, 255, 255, 255, 31]]);
        check(&[&descriptor(&[10, 9, 10, 1, b'k', 10, 1, b'l', 18, 1, b'v', 32, 2])]);
        // Known fields of other types, a text that is none, and ends that come early.
        check(&[&[16, 1]]);
        check(&[&[26, 1, 1]]);
        check(&[&descriptor(&[10, 3, 10, 1, 255])]);
        check(&[&descriptor(&[10, 3, 10, 2, b'k'])]);
        check(&[&[18, 200]]);
    }

    fn any_message() -> impl Strategy<Value = RateLimitRequest> {
        let entry = ("[a-c]{0,3}", ".{0,8}").prop_map(|(key, value)| Entry { key, value });
        let limit = (any::<u32>(), -1..8)
            .prop_map(|(requests_per_unit, unit)| RateLimitOverride { requests_per_unit, unit });
        let hits = any::<u64>().prop_map(|value| UInt64Value { value });
        let limit = proptest::option::weighted(0.2, limit);
        let hits = proptest::option::weighted(0.2, hits);
        let descriptor = (vec(entry, 0..7), limit, hits, any::<bool>());
        let descriptor = descriptor.prop_map(|(entries, limit, hits_addend, is_negative_hits)| {
            RateLimitDescriptor { entries, limit, hits_addend, is_negative_hits }
        });
        ("[a-c]{0,2}", vec(descriptor, 0..4), any::<u32>()).prop_map(
            |(domain, descriptors, hits_addend)| RateLimitRequest {
                domain,
                descriptors,
                hits_addend,
            },
        )
    }

    proptest! {
        #[test]
        fn messages_are_read_as_generated_code_does(message in any_message()) {
            agree(&message.encode_to_vec());
        }

        #[test]
        fn damaged_messages_are_read_as_generated_code_does(
            message in any_message(),
            (at, byte, cut) in (any::<prop::sample::Index>(), any::<u8>(), any::<bool>()),
        ) {
            let mut bytes = message.encode_to_vec();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
                bytes.truncate(if cut { at } else { bytes.len() });
                agree(&bytes);
            }
        }

        #[test]
        fn any_bytes_are_read_as_generated_code_does(bytes in vec(any::<u8>(), 0..64)) {
            agree(&bytes);
        }
    }
}
