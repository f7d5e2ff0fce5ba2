//! Converts a gRPC message to a request, which borrows all texts from it.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;

use crate::answer::protocol;
use crate::engine::{BroughtLimits, Descriptor, Override, Request, RequestError};

/// The request of the message.
///
/// # Errors
/// If it is invalid: empty, too large, or with a unit that is not in the protocol.
pub fn read(message: &RateLimitRequest) -> Result<Request<'_>, RequestError> {
    let descriptors = message.descriptors.iter().enumerate();
    let descriptors = descriptors
        .map(|(index, descriptor)| read_descriptor(index, descriptor, message.hits_addend))
        .collect::<Result<Vec<_>, _>>()?;
    Request::try_new(&message.domain, descriptors)
}

fn read_descriptor(
    index: usize,
    descriptor: &RateLimitDescriptor,
    hits_of_request: u32,
) -> Result<Descriptor<'_>, RequestError> {
    let entries = descriptor.entries.iter();
    let own_hits = descriptor.hits_addend.map(|hits| hits.value);
    Ok(Descriptor {
        entries: entries.map(|entry| (entry.key.as_str(), entry.value.as_str())).collect(),
        hits: protocol::hits(own_hits, hits_of_request, descriptor.is_negative_hits),
        hits_source: protocol::hits_source(own_hits),
        limit: descriptor.limit.map(|limit| read_override(index, limit)).transpose()?,
    })
}

fn read_override(
    index: usize,
    limit: RateLimitOverride,
) -> Result<BroughtLimits<'static>, RequestError> {
    match protocol::override_unit(limit.unit) {
        Some(unit) => {
            let amount = u64::from(limit.requests_per_unit);
            Ok(BroughtLimits::Override(Override { amount, unit }))
        }
        None => Err(RequestError::UnknownUnit { index, unit: limit.unit.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
    use envoy_types::pb::google::protobuf::UInt64Value;
    use proptest::prelude::any;
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
        let message = message(vec![RateLimitDescriptor {
            entries: vec![entry("user", "alice"), entry("op", "")],
            ..RateLimitDescriptor::default()
        }]);
        let request = read(&message).unwrap();
        assert_eq!(request.domain(), "shop");
        assert_eq!(request.descriptors()[0].entries, [("user", "alice"), ("op", "")]);
        assert_eq!(request.descriptors()[0].limit, None);
        let (_, value) = request.descriptors()[0].entries[0];
        assert_eq!(value.as_ptr(), message.descriptors[0].entries[0].value.as_ptr());
    }

    #[test]
    fn hits_come_from_the_descriptor_else_from_the_request() {
        let check = |own: Option<u64>, of_request, is_negative_hits, expected| {
            let hits_addend = own.map(|value| UInt64Value { value });
            let descriptor =
                RateLimitDescriptor { hits_addend, is_negative_hits, ..Default::default() };
            let message = RateLimitRequest { hits_addend: of_request, ..message(vec![descriptor]) };
            assert_eq!(read(&message).unwrap().descriptors()[0].hits, expected);
        };
        check(None, 0, false, Hits::Spend(1));
        check(None, 9, false, Hits::Spend(9));
        check(Some(0), 9, false, Hits::Spend(0));
        check(Some(u64::MAX), 0, false, Hits::Spend(u64::MAX));
        check(Some(2), 9, true, Hits::GiveBack(2));
    }

    #[test]
    fn a_limit_of_its_own_has_one_of_the_protocols_units() {
        let message = bringing(42, 3);
        let limit = read(&message).unwrap().descriptors()[1].limit;
        assert_eq!(limit, Some(BroughtLimits::Override(Override { amount: 42, unit: Unit::Hour })));

        let check = |unit, text: &str| {
            assert_eq!(read(&bringing(1, unit)).unwrap_err().to_string(), text);
        };
        check(0, "descriptor 1 brings a limit of unknown unit 0");
        check(7, "descriptor 1 brings a limit of unknown unit 7");
        check(-5, "descriptor 1 brings a limit of unknown unit -5");
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        let check = |message: &RateLimitRequest, error| {
            assert_eq!(read(message).unwrap_err(), error);
        };
        check(&RateLimitRequest::default(), RequestError::EmptyDomain);
        check(&message(Vec::new()), RequestError::NoDescriptors);
        let count = DESCRIPTORS_MAX + 1;
        check(
            &message(vec![RateLimitDescriptor::default(); count]),
            RequestError::TooManyDescriptors { count },
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            if let Ok(message) = RateLimitRequest::decode(bytes.as_slice()) {
                let _ = read(&message).map(|request| request.descriptors().len());
            }
        }
    }
}
