//! Parses `RateLimitRequest` from JSON, in protobuf's JSON mapping, and borrows from the text.
//!
//! Names are in camelCase or as in the `.proto` file, numbers may be in quotes, and units are names or numbers; null
//! means absent. An unknown field is an error, because a misspelt one would otherwise silently change the request.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Display;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, de};

use crate::answer::protocol;
use crate::engine::{BroughtLimits, Descriptor, Override, Request, RequestError, text};

/// `envoy.service.ratelimit.v3.RateLimitRequest`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimitRequest<'a> {
    #[serde(borrow)]
    domain: Option<Text<'a>>,
    #[serde(borrow)]
    descriptors: Option<Vec<RateLimitDescriptor<'a>>>,
    #[serde(alias = "hitsAddend")]
    hits_addend: Option<Whole<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RateLimitDescriptor<'a> {
    #[serde(borrow)]
    entries: Option<Vec<Entry<'a>>>,
    #[serde(borrow)]
    limit: Option<RateLimitOverride<'a>>,
    #[serde(alias = "hitsAddend")]
    hits_addend: Option<Whole<u64>>,
    #[serde(alias = "isNegativeHits")]
    is_negative_hits: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<'a> {
    #[serde(borrow)]
    key: Option<Text<'a>>,
    #[serde(borrow)]
    value: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RateLimitOverride<'a> {
    #[serde(alias = "requestsPerUnit")]
    requests_per_unit: Option<Whole<u32>>,
    #[serde(borrow)]
    unit: Option<UnitWord<'a>>,
}

/// A text, borrowed unless it has escapes. It may have any bytes, as in the gRPC encoding.
#[derive(Debug)]
struct Text<'a>(Cow<'a, str>);

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a unit must be a name or a number")]
enum UnitWord<'a> {
    Number(i32),
    #[serde(borrow)]
    Name(Text<'a>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(TextVisitor).map(Text)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E: de::Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(text::escaped(bytes))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(text::escaped(bytes).into_owned().into())
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        self.visit_borrowed_bytes(text.as_bytes())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        self.visit_bytes(text.as_bytes())
    }
}

/// A whole number, with or without quotes.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Numeral", bound(deserialize = "T: std::str::FromStr<Err: Display>"))]
struct Whole<T>(T);

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a whole number, bare or in quotes")]
enum Numeral {
    Unsigned(u64),
    Float(f64),
    Quoted(String),
}

impl<T: std::str::FromStr<Err: Display>> TryFrom<Numeral> for Whole<T> {
    type Error = String;

    fn try_from(numeral: Numeral) -> Result<Self, String> {
        let digits = match numeral {
            Numeral::Unsigned(number) => number.to_string(),
            // 1.0 and 1e3 are whole and print as such; 1.5 prints with its fraction and is refused.
            Numeral::Float(number) => number.to_string(),
            Numeral::Quoted(digits) => digits,
        };
        digits.parse().map(Self).map_err(|error| format!("{digits:?} does not fit: {error}"))
    }
}

impl<'a> RateLimitRequest<'a> {
    /// The message in a JSON text.
    ///
    /// # Errors
    /// If the text is not JSON, or not such a message; the error has the line and the column.
    pub fn parse(json: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }

    /// The request of the message.
    ///
    /// # Errors
    /// If it is invalid: empty, too large, or with a unit that is not in the protocol.
    pub fn read(&self) -> Result<Request<'_>, RequestError> {
        let hits_of_request = self.hits_addend.as_ref().map_or(0, |hits| hits.0);
        let descriptors = self.descriptors.iter().flatten().enumerate();
        let descriptors = descriptors
            .map(|(index, descriptor)| descriptor.read(index, hits_of_request))
            .collect::<Result<Vec<_>, _>>()?;
        Request::try_new(plain(self.domain.as_ref()), descriptors)
    }
}

impl RateLimitDescriptor<'_> {
    fn read(&self, index: usize, hits_of_request: u32) -> Result<Descriptor<'_>, RequestError> {
        let own_hits = self.hits_addend.as_ref().map(|hits| hits.0);
        let gives_back = self.is_negative_hits.unwrap_or_default();
        let entries = self.entries.iter().flatten();
        Ok(Descriptor {
            entries: entries
                .map(|entry| (plain(entry.key.as_ref()), plain(entry.value.as_ref())))
                .collect(),
            hits: protocol::hits(own_hits, hits_of_request, gives_back),
            hits_source: protocol::hits_source(own_hits),
            limit: self.limit.as_ref().map(|limit| limit.read(index)).transpose()?,
        })
    }
}

impl RateLimitOverride<'_> {
    fn read(&self, index: usize) -> Result<BroughtLimits<'static>, RequestError> {
        let (unit, name) = match &self.unit {
            None => (None, "0".to_owned()),
            Some(UnitWord::Number(number)) => {
                (protocol::override_unit(*number), number.to_string())
            }
            Some(UnitWord::Name(Text(name))) => {
                (protocol::override_unit_named(name), name.to_string())
            }
        };
        let amount = u64::from(self.requests_per_unit.as_ref().map_or(0, |amount| amount.0));
        let unit = unit.ok_or(RequestError::UnknownUnit { index, unit: name })?;
        Ok(BroughtLimits::Override(Override { amount, unit }))
    }
}

fn plain<'a>(text: Option<&'a Text<'_>>) -> &'a str {
    text.map_or("", |text| &text.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Hits;
    use crate::policy::Unit;

    fn check_hits(request: &str, expected: Hits) {
        let message = RateLimitRequest::parse(request.as_bytes()).unwrap();
        assert_eq!(message.read().unwrap().descriptors()[0].hits, expected, "{request}");
    }

    fn check_limit(limit: &str, expected: Result<(u64, Unit), &str>) {
        let json = format!(r#"{{"domain":"d","descriptors":[{{"limit":{limit}}}]}}"#);
        let message = RateLimitRequest::parse(json.as_bytes()).unwrap();
        let found = message.read().map(|request| request.descriptors()[0].limit.unwrap());
        let found = found.map(|limit| match limit {
            BroughtLimits::Override(limit) => (limit.amount, limit.unit),
            BroughtLimits::OfApiKey(..) => panic!("a message has no API key"),
        });
        assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(str::to_owned));
    }

    fn check_error(json: &str, expected: &str) {
        let error = match RateLimitRequest::parse(json.as_bytes()) {
            Ok(message) => message.read().unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(expected), "{json}: {error}");
    }

    #[test]
    fn texts_are_read_in_order_and_borrowed() {
        let json = r#"{"domain": "shop", "descriptors": [{"entries":
            [{"key": "user", "value": "al\u0069ce"}, {"key": "op"}]}, {"entries": null}]}"#;
        let message = RateLimitRequest::parse(json.as_bytes()).unwrap();
        let request = message.read().unwrap();
        assert_eq!(request.domain(), "shop");
        assert!(json.as_bytes().as_ptr_range().contains(&request.domain().as_ptr()));
        assert_eq!(request.descriptors()[0].entries, [("user", "alice"), ("op", "")]);
        assert_eq!(request.descriptors()[1].entries, []);
    }

    #[test]
    fn texts_may_hold_any_bytes() {
        let check = |value: &[u8], expected: &[u8]| {
            let start = br#"{"domain":"d","descriptors":[{"entries":[{"key":"k","value":""#;
            let json = [start, value, br#""}]}]}"#].concat();
            let message = RateLimitRequest::parse(&json).unwrap();
            let request = message.read().unwrap();
            assert_eq!(request.descriptors()[0].entries[0].1, text::escaped(expected));
        };
        check(b"k\xff", b"k\xff");
        check(b"\\n\xff", b"\n\xff");
        check(b"\\udbff\\udfff", "\u{10ffff}".as_bytes());
        check("\u{10ffff}".as_bytes(), "\u{10ffff}".as_bytes());
        check(b"\\ud800", b"\xed\xa0\x80");
    }

    #[test]
    fn hits_are_read_in_every_spelling() {
        let of_request = |hits: &str| format!(r#"{{"domain":"d","descriptors":[{{}}],{hits}}}"#);
        let own = |hits: &str| format!(r#"{{"domain":"d","descriptors":[{{{hits}}}]}}"#);
        check_hits(&own(""), Hits::Spend(1));
        check_hits(&of_request(r#""hitsAddend":0"#), Hits::Spend(1));
        check_hits(&of_request(r#""hitsAddend":5"#), Hits::Spend(5));
        check_hits(&of_request(r#""hits_addend":"5""#), Hits::Spend(5));
        check_hits(&of_request(r#""hits_addend":null"#), Hits::Spend(1));
        check_hits(&own(r#""hitsAddend":"0""#), Hits::Spend(0));
        check_hits(&own(r#""hits_addend":2.0"#), Hits::Spend(2));
        check_hits(&own(r#""hits_addend":1e3"#), Hits::Spend(1000));
        check_hits(&own(r#""hitsAddend":18446744073709551615"#), Hits::Spend(u64::MAX));
        check_hits(&own(r#""hitsAddend":4,"isNegativeHits":true"#), Hits::GiveBack(4));
        check_hits(&own(r#""is_negative_hits":true"#), Hits::GiveBack(1));
    }

    #[test]
    fn a_limit_of_its_own_is_read_by_name_or_number() {
        check_limit(r#"{"requestsPerUnit":42,"unit":"HOUR"}"#, Ok((42, Unit::Hour)));
        check_limit(r#"{"requests_per_unit":"42","unit":3}"#, Ok((42, Unit::Hour)));
        check_limit(r#"{"unit":"YEAR"}"#, Ok((0, Unit::Year)));
        let unknown = "descriptor 0 brings a limit of unknown unit ";
        check_limit(r#"{"unit":"FORTNIGHT"}"#, Err(&format!("{unknown}FORTNIGHT")));
        check_limit(r#"{"unit":7}"#, Err(&format!("{unknown}7")));
        check_limit("{}", Err(&format!("{unknown}0")));
    }

    #[test]
    fn what_is_wrong_is_said() {
        check_error("", "EOF while parsing a value at line 1 column 0");
        check_error("}", "expected value at line 1 column 1");
        check_error("[]", "invalid length 0, expected struct RateLimitRequest");
        check_error("{}", "the domain is empty");
        check_error(r#"{"domain":"d"}"#, "the request has no descriptors");
        check_error(r#"{"domian":"d"}"#, "unknown field `domian`, expected one of `domain`");
        check_error(r#"{"domain":"d","domain":"e"}"#, "duplicate field `domain`");
        check_error(r#"{"hitsAddend":1,"hits_addend":2}"#, "duplicate field `hits_addend`");
        check_error(r#"{"domain":5}"#, "invalid type: integer `5`, expected a string");
        check_error(r#"{"hitsAddend":-1}"#, r#""-1" does not fit: invalid digit"#);
        check_error(r#"{"hitsAddend":1.5}"#, r#""1.5" does not fit: invalid digit"#);
        check_error(r#"{"hitsAddend":4294967296}"#, "number too large");
        check_error(r#"{"hitsAddend":[]}"#, "expected a whole number");
        check_error(
            r#"{"descriptors":[{"limit":{"unit":[]}}]}"#,
            "a unit must be a name or a number",
        );
        check_error(r#"{"descriptors":[null]}"#, "invalid type: null");
        check_error("\"\u{fffd}", "EOF");
        check_error(r#"{"domain":"d"} x"#, "trailing characters");
    }
}
