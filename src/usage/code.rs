//! Encodes rows of usage for a store of sums: a series and its counts as text, and a short name for the series.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::engine::Reason;

use super::counts::Counts;
use super::series::{Outcome, Series, Subject};

/// Characters of a series' name in a store: 36 bits of its hash. Among a thousand series, two share a name with a
/// probability of 1 in 100,000.
const REF_LEN: usize = 6;

/// 64 characters of six bits each. None of them is a separator.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Separates the parts of a series.
const SEPARATOR: char = '|';

/// The name of a series in a store.
pub type SeriesRef = String;

/// The short name of a series' text. It is the same in every process.
pub fn series_ref(text: &str) -> SeriesRef {
    let hash = Sha256::digest(text.as_bytes());
    let bits = hash.iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let digit = |place: usize| usize::try_from(bits >> (6 * place) & 63).unwrap_or_default();
    (0..REF_LEN).map(|place| char::from(ALPHABET[digit(place)])).collect()
}

/// A series as text.
pub fn write_series(series: Series<&str>) -> String {
    let optional =
        |name: Option<&str>| name.map_or_else(String::new, |name| format!("={}", escaped(name)));
    let subject = match series.subject {
        Subject::Request => "request".to_owned(),
        Subject::NoLimit => "no_limit".to_owned(),
        Subject::Limit(limit) => format!("={}", escaped(limit)),
        Subject::Spend { currency, kind } => format!("${currency}={}", escaped(kind)),
    };
    let outcome = match series.outcome {
        Outcome::Allowed => "allowed",
        Outcome::Refused(reason) => reason.name(),
        Outcome::RefusedElsewhere => "refused_elsewhere",
        Outcome::Error => "error",
    };
    let names = [series.domain, series.tier, series.provider].map(optional);
    [&names[0], &names[1], &names[2], &*subject, outcome].join("|")
}

/// The series in a text; None if it is invalid.
pub fn read_series(text: &str) -> Option<Series<Box<str>>> {
    let parts = split(text);
    let [domain, tier, provider, subject, outcome] = &*parts else { return None };
    let optional = |part: &str| part.strip_prefix('=').map(Box::from);
    let reason = |name: &str| Reason::ALL.iter().find(|reason| reason.name() == name);
    Some(Series {
        domain: optional(domain),
        tier: optional(tier),
        provider: optional(provider),
        subject: match &**subject {
            "request" => Subject::Request,
            "no_limit" => Subject::NoLimit,
            name => match name.strip_prefix('$').and_then(|spend| spend.split_once('=')) {
                Some((currency, kind)) => {
                    Subject::Spend { currency: currency.into(), kind: kind.into() }
                }
                None => Subject::Limit(optional(name)?),
            },
        },
        outcome: match &**outcome {
            "allowed" => Outcome::Allowed,
            "refused_elsewhere" => Outcome::RefusedElsewhere,
            "error" => Outcome::Error,
            name => Outcome::Refused(*reason(name)?),
        },
    })
}

/// Writes counts as text; times are relative to the start of the minute, hour or day. Requests come first, also if there are
/// none: the store reads a caller's activity there.
pub fn write_counts(text: &mut String, counts: &Counts, start: Timestamp) {
    let sums = [
        ('a', counts.requests),
        ('b', counts.shadow_refused),
        ('c', counts.fallback),
        ('d', counts.waited),
        ('e', counts.hits_spent),
        ('f', counts.hits_refused),
        ('g', counts.hits_shadow_refused),
        ('h', counts.hits_given_back),
        ('T', counts.last_at.since(start).as_secs()),
    ];
    for (letter, sum) in sums.into_iter().filter(|(letter, sum)| *letter == 'a' || *sum != 0) {
        // A String takes whatever is written.
        let _ = write!(text, "{letter}{sum}");
    }
}

/// The counts in a text. Unknown parts are ignored.
pub fn read_counts(text: &str, start: Timestamp) -> Counts {
    let mut counts = Counts { last_at: start, ..Counts::default() };
    let mut rest = text.as_bytes();
    while let [letter, digits @ ..] = rest {
        let len = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        // A number beyond the maximum is no sum.
        let sum = digits[..len].iter().try_fold(0_u64, |sum, digit| {
            sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        });
        let sum = sum.unwrap_or_default();
        rest = &digits[len..];
        let field = match letter {
            b'a' => &mut counts.requests,
            b'b' => &mut counts.shadow_refused,
            b'c' => &mut counts.fallback,
            b'd' => &mut counts.waited,
            b'e' => &mut counts.hits_spent,
            b'f' => &mut counts.hits_refused,
            b'g' => &mut counts.hits_shadow_refused,
            b'h' => &mut counts.hits_given_back,
            b'T' => {
                let ms = start.as_ms().saturating_add(1_000_u64.saturating_mul(sum));
                counts.last_at = Timestamp::from_ms(ms);
                continue;
            }
            _ => continue,
        };
        *field = sum;
    }
    counts
}

fn escaped(name: &str) -> String {
    name.replace('\\', r"\\").replace(SEPARATOR, r"\|")
}

/// The parts between separators, unescaped.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let literal = match character {
            '\\' => characters.next(),
            SEPARATOR => {
                parts.push(String::new());
                continue;
            }
            other => Some(other),
        };
        if let Some(part) = parts.last_mut() {
            part.extend(literal);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_read_as_it_was_written() {
        let check = |series: Series<&str>, expected: &str| {
            let text = write_series(series);
            assert_eq!(text, expected);
            let read = read_series(&text).unwrap();
            assert_eq!(read.borrowed(), series);
        };
        let request = Series {
            domain: Some("shop"),
            tier: None,
            provider: Some(""),
            subject: Subject::Request,
            outcome: Outcome::Allowed,
        };
        check(request, "=shop||=|request|allowed");
        let limit = Series {
            tier: Some("a=b"),
            subject: Subject::Limit(r"x|y\z"),
            outcome: Outcome::RefusedElsewhere,
            ..request
        };
        check(limit, r"=shop|=a=b|=|=x\|y\\z|refused_elsewhere");
        let spend =
            Series { subject: Subject::Spend { currency: "EUR", kind: "a=b|c" }, ..request };
        check(spend, r"=shop||=|$EUR=a=b\|c|allowed");
        for reason in Reason::ALL {
            let text = write_series(Series {
                subject: Subject::NoLimit,
                outcome: Outcome::Refused(reason),
                ..request
            });
            assert_eq!(read_series(&text).unwrap().outcome, Outcome::Refused(reason));
        }
        for wrong in
            ["", "a|b", "||||", "|||request|maybe", "|||limit|allowed", r"|||request|allowed|\"]
        {
            assert_eq!(read_series(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn counts_are_read_as_they_were_written() {
        let start = Timestamp::from_ms(86_400_000);
        let counts = Counts {
            requests: 12,
            fallback: 1,
            hits_spent: 9_007_199_254_740_992,
            hits_given_back: 7,
            last_at: Timestamp::from_ms(86_400_000 + 3_000),
            ..Counts::default()
        };
        let mut text = String::new();
        write_counts(&mut text, &counts, start);
        assert_eq!(text, "a12c1e9007199254740992h7T3");
        assert_eq!(read_counts(&text, start), counts);
        let settled = Counts { requests: 0, fallback: 0, ..counts };
        let mut text = String::new();
        write_counts(&mut text, &settled, start);
        assert_eq!(text, "a0e9007199254740992h7T3");
        assert_eq!(read_counts("zé5a", start), Counts { last_at: start, ..Counts::default() });
        assert_eq!(read_counts("a99999999999999999999", start).requests, 0);
    }

    #[test]
    fn a_name_separates_nothing_and_stays_the_same() {
        assert_eq!(series_ref("=shop||=|request|allowed"), series_ref("=shop||=|request|allowed"));
        assert_ne!(series_ref("a"), series_ref("b"));
        assert_eq!(series_ref("a").len(), REF_LEN);
    }
}
