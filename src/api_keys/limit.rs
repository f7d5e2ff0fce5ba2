//! A limit of an API key of its own.

use std::sync::Arc;

use super::list::items;
use crate::policy::{Flaws, Rate, currency_of};

/// Maximum number of limits of an API key: all of them are charged in one step, and share one record of the store.
pub const LIMITS_MAX: usize = 8;

/// A limit of an API key, which its requests are charged for when it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyLimit {
    pub rate: Rate,
    /// As it was written, such as `100/minute`.
    pub text: Box<str>,
    /// Its name in answers.
    pub label: Arc<str>,
}

impl ApiKeyLimit {
    /// Parses a limit.
    ///
    /// # Errors
    /// A clause that names the text.
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let rate = Rate::parse(text)?;
        if currency_of(text).is_some() {
            return Err(format!(
                "invalid limit `{text}`; a limit of an API key counts requests, such as 5000/total"
            ));
        }
        Ok(Self { rate, text: text.into(), label: format!("api_key {text}").into() })
    }
}

/// The limits of the texts. Two limits of one window would share a counter.
pub fn limits(flaws: &mut Flaws, texts: &[String]) -> Vec<ApiKeyLimit> {
    flaws.note_if(LIMITS_MAX < texts.len(), &["limits"], || {
        format!("too many limits: {}; at most {LIMITS_MAX} are allowed", texts.len())
    });
    let limits = items(flaws, &["limits"], texts, ApiKeyLimit::parse);
    for (index, limit) in limits.iter().enumerate() {
        let of_window = |other: &&ApiKeyLimit| other.rate.window == limit.rate.window;
        if let Some(other) = limits[..index].iter().find(of_window) {
            flaws.note_if(true, &["limits"], || {
                format!(
                    "`{}` and `{}` have the same window; keep one of them",
                    other.text, limit.text
                )
            });
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(texts: &[&str], expected: &[&str]) {
        let mut flaws = Flaws::default();
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        let limits = limits(&mut flaws, &texts);
        let found: Vec<String> = flaws.0.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{texts:?}");
        if expected.is_empty() {
            let shown: Vec<&str> = limits.iter().map(|limit| &*limit.text).collect();
            assert_eq!(shown, texts.iter().map(|text| text.trim()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn limits_are_rates_of_requests_each_with_a_window_of_its_own() {
        check(&[], &[]);
        check(&[" 100/minute", "1_000/day", "10000/month", "5000/total", "0/15m"], &[]);
        check(&["100"], &["limits.0: invalid rate `100`; use AMOUNT/WINDOW, such as 10/second"]);
        check(
            &["1/day", "-1/hour", ""],
            &[
                "limits.1: invalid amount `-1`; use a whole number from 0 to 1000000000000000, or money such as 0.35 EUR",
                "limits.2: invalid rate ``; use AMOUNT/WINDOW, such as 10/second",
            ],
        );
        check(
            &["10 EUR/day"],
            &[
                "limits.0: invalid limit `10 EUR/day`; a limit of an API key counts requests, such as 5000/total",
            ],
        );
        check(
            &["60/minute", "9/day", "90/60s"],
            &["limits: `60/minute` and `90/60s` have the same window; keep one of them"],
        );
        let many: Vec<String> = (1..=9).map(|hours| format!("1/{hours}h")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check(&many, &["limits: too many limits: 9; at most 8 are allowed"]);
        check(&many[..8], &[]);
    }
}
