//! Response headers that describe limits to callers.
//!
//! `RateLimit` and `RateLimit-Policy` follow draft-ietf-httpapi-ratelimit-headers-10; the older names follow its
//! versions up to 06. All times are whole seconds, rounded up: never too early.

use std::fmt;
use std::fmt::Write;
use std::time::Duration;

use crate::engine::{ChargeDecision, ProviderChoice, Reason, RefusalId, Verdict};
use crate::policy::{AnswerSettings, LegacyNames};

use super::protocol::whole_seconds;
use super::status::reported_time;

type Headers = Vec<(String, String)>;

/// Length of most header values, for a single allocation.
const ITEM_LEN: usize = 64;

/// Adds the header sets of the policy.
pub fn push_limits(
    headers: &mut Headers,
    answer: &AnswerSettings,
    tightest: &ChargeDecision<'_>,
    limits: &[&ChargeDecision<'_>],
) {
    let mut push = |name: &str, value: String| headers.push((name.to_owned(), value));
    if answer.ratelimit {
        push("ratelimit-policy", list(limits, policy_item));
        push("ratelimit", list(limits, limit_item));
    }
    let LegacyNames { limit, remaining, reset } = &answer.legacy_names;
    let sets = [
        ([&**limit, remaining, reset], answer.ratelimit_legacy),
        (["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"], answer.x_ratelimit),
    ];
    for ([limit, remaining, reset], _) in sets.into_iter().filter(|(_, wanted)| *wanted) {
        let amount = tightest.quota;
        let policies = if answer.all_limits {
            format!("{amount}, {}", list(limits, quota_policy))
        } else {
            amount.to_string()
        };
        push(limit, policies);
        push(remaining, tightest.remaining().to_string());
        if let Some(time) = reported_time(tightest) {
            push(reset, whole_seconds(time).to_string());
        }
    }
}

/// Adds the limits that would have refused the request if they were enforced, where the policy asks for headers.
pub fn push_unenforced(headers: &mut Headers, answer: &AnswerSettings, verdict: &Verdict<'_>) {
    let has_headers = answer.ratelimit || answer.ratelimit_legacy || answer.x_ratelimit;
    let warning: Vec<&ChargeDecision<'_>> =
        verdict.charges().iter().filter(|charge| has_headers && charge.warns()).collect();
    if has_headers && verdict.warns_of_access() {
        headers.push(("x-access-warning".to_owned(), Reason::NoAccess.name().to_owned()));
    }
    if !warning.is_empty() {
        let name = |value: &mut String, charge: &ChargeDecision<'_>| {
            push_name(value, charge);
            Ok(())
        };
        headers.push(("x-ratelimit-warning".to_owned(), list(&warning, name)));
    }
}

/// Adds `Retry-After`, if waiting helps.
pub fn push_retry_after(headers: &mut Headers, wait: Option<Duration>) {
    if let Some(wait) = wait {
        headers.push(("retry-after".to_owned(), whole_seconds(wait).max(1).to_string()));
    }
}

/// Adds `X-Quota-Warning`, if thresholds were crossed or a grace has begun: each limit with its highest threshold, such
/// as `daily; used=90%`, or with the seconds until its grace ends, such as `daily; grace=3600`.
pub fn push_warnings(headers: &mut Headers, verdict: &Verdict<'_>) {
    let mut value = String::new();
    for (charge, percents) in verdict.crossed().filter(|(charge, _)| charge.is_reported()) {
        let Some(percent) = percents.last() else { continue };
        value.push_str(if value.is_empty() { "" } else { ", " });
        push_token(&mut value, &charge.limit.label);
        write!(value, "; used={percent}%").expect("writing to a String does not fail");
    }
    for (charge, until) in verdict.graces() {
        value.push_str(if value.is_empty() { "" } else { ", " });
        push_token(&mut value, &charge.limit.label);
        let left_s = until.as_ms().saturating_sub(verdict.at.as_ms()) / 1_000;
        write!(value, "; grace={left_s}").expect("writing to a String does not fail");
    }
    if !value.is_empty() {
        headers.push(("x-quota-warning".to_owned(), value));
    }
}

/// Adds `X-Quota-Granted`, if the hits of the request may be taken in part: each limit with the hits that it granted of those that
/// were asked for, as in `users; granted=37; asked=50`.
pub fn push_granted(headers: &mut Headers, verdict: &Verdict<'_>) {
    let mut value = String::new();
    for (charge, granted) in verdict.granted() {
        value.push_str(if value.is_empty() { "" } else { ", " });
        push_token(&mut value, &charge.limit.label);
        write!(value, "; granted={granted}; asked={}", charge.hits.amount())
            .expect("writing to a String does not fail");
    }
    if !value.is_empty() {
        headers.push(("x-quota-granted".to_owned(), value));
    }
}

/// Adds `X-Refusal-Id`.
pub fn push_refusal_id(headers: &mut Headers, id: RefusalId) {
    headers.push(("x-refusal-id".to_owned(), id.to_string()));
}

/// Adds the content type of a JSON problem (RFC 9457).
pub fn push_problem(headers: &mut Headers) {
    headers.push(("content-type".to_owned(), "application/problem+json".to_owned()));
}

/// Adds the header with the chosen provider, for the upstream, if the policy names one.
pub fn push_chosen(headers: &mut Headers, choices: &[ProviderChoice<'_>]) {
    for ProviderChoice { choice, chosen, .. } in choices {
        if let Some(name) = &choice.header {
            headers.push((name.to_string(), (*chosen).to_owned()));
        }
    }
}

/// Appends one limit to a header value.
type Item = fn(&mut String, &ChargeDecision<'_>) -> fmt::Result;

fn list(limits: &[&ChargeDecision<'_>], item: Item) -> String {
    let mut value = String::with_capacity(limits.len() * ITEM_LEN);
    for (index, charge) in limits.iter().enumerate() {
        value.push_str(if index == 0 { "" } else { ", " });
        item(&mut value, charge).expect("writing to a String does not fail");
    }
    value
}

/// `"daily";q=1000;w=86400`: the quota and its window.
fn policy_item(value: &mut String, charge: &ChargeDecision<'_>) -> fmt::Result {
    push_name(value, charge);
    write!(value, ";q={}", charge.quota)?;
    window_s(charge).map_or(Ok(()), |window_s| write!(value, ";w={window_s}"))
}

/// `"daily";r=12;t=3600`: the remaining hits, and the seconds until the reset.
fn limit_item(value: &mut String, charge: &ChargeDecision<'_>) -> fmt::Result {
    push_name(value, charge);
    write!(value, ";r={}", charge.remaining())?;
    reported_time(charge).map_or(Ok(()), |time| write!(value, ";t={}", whole_seconds(time)))
}

/// `1000;w=86400`: the same in the older format.
fn quota_policy(value: &mut String, charge: &ChargeDecision<'_>) -> fmt::Result {
    write!(value, "{}", charge.quota)?;
    window_s(charge).map_or(Ok(()), |window_s| write!(value, ";w={window_s}"))
}

/// Adds the name of a limit as a string of structured fields (RFC 9651): printable ASCII only.
fn push_name(value: &mut String, charge: &ChargeDecision<'_>) {
    push_string(value, &charge.limit.label);
}

/// Adds a name without quotes if it is a token of structured fields, else as a string.
fn push_token(value: &mut String, text: &str) {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
    let begins = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '*');
    match begins && text.bytes().all(is_token) {
        true => value.push_str(text),
        false => push_string(value, text),
    }
}

/// Other characters are percent-encoded as in URLs, so that different names stay different: `t\u{e4}glich` is
/// `t%C3%A4glich`. A `%` is encoded only if it would be read as an escape.
fn push_string(value: &mut String, text: &str) {
    let is_escape = |rest: &str| {
        rest.as_bytes().get(1..3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    value.push('"');
    for (at, character) in text.char_indices() {
        match character {
            '"' | '\\' => value.extend(['\\', character]),
            '%' if is_escape(&text[at..]) => value.push_str("%25"),
            ' '..='~' => value.push(character),
            _ => {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    write!(value, "%{byte:02X}").expect("writing to a String does not fail");
                }
            }
        }
    }
    value.push('"');
}

/// The window in seconds; None for a total and for windows that are not whole seconds.
fn window_s(charge: &ChargeDecision<'_>) -> Option<u64> {
    let window_ms = charge.limit.window.nominal_ms()?;
    window_ms.is_multiple_of(1_000).then_some(window_ms / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_printable_ascii_and_stay_different() {
        let check = |name: &str, expected: &str| {
            let mut value = String::new();
            push_string(&mut value, name);
            assert_eq!(value, expected);
        };
        check("daily", r#""daily""#);
        check(r#"a "b" \"#, r#""a \"b\" \\""#);
        check("50% off", r#""50% off""#);
        check("t\u{e4}glich", r#""t%C3%A4glich""#);
        check("t%C3%A4glich", r#""t%25C3%25A4glich""#);
        check("\u{65e5}", r#""%E6%97%A5""#);
        check("\u{6708}", r#""%E6%9C%88""#);
        check("%", r#""%""#);
    }
}
