//! The forms of overrides: an amount, or the amount of another tier, instead of the policy's; until a time, if it has one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bonus_form::{parse_until, show_time};
use super::flaw::{LABEL_LEN_MAX, check_text, too_much};
use crate::limit::AMOUNT_MAX;
use crate::policy::model::{CallerOverride, OverrideAmount};

/// What replaces the policy's amount of a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "an override must be an amount, or an object with an `amount` or a `tier`, such as {\"amount\": 500, \"until\": \"2026-12-31\"}"
)]
#[schemars(rename = "Override")]
pub enum OverrideForm {
    Amount(u64),
    Until(OverrideUntilForm),
}

/// An amount, or the amount of a tier, until a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OverrideUntil")]
pub struct OverrideUntilForm {
    /// The amount; instead of `tier`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<u64>,
    /// The tier whose amount applies, for this limit alone; instead of `amount`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// A date (until its end in UTC) or a time: 2026-12-31 or 2026-12-31T12:00:00Z. If absent, it never ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl OverrideForm {
    /// The override of the form.
    ///
    /// # Errors
    /// All problems, each with the field that it is of, if it is of one.
    pub fn check(&self) -> Result<CallerOverride, Vec<(Option<&'static str>, String)>> {
        let form = match self {
            Self::Amount(amount) if AMOUNT_MAX < *amount => {
                return Err(vec![(None, too_much(*amount))]);
            }
            Self::Amount(amount) => {
                return Ok(CallerOverride { amount: OverrideAmount::Hits(*amount), until: None });
            }
            Self::Until(form) => form,
        };
        let mut flaws = Vec::new();
        let amount = match (form.amount, &form.tier) {
            (Some(amount), None) if amount <= AMOUNT_MAX => Some(OverrideAmount::Hits(amount)),
            (Some(amount), None) => {
                flaws.push((Some("amount"), too_much(amount)));
                None
            }
            (None, Some(tier)) => match check_text(tier, "the tier", LABEL_LEN_MAX) {
                Ok(()) => Some(OverrideAmount::Tier(tier.clone())),
                Err(message) => {
                    flaws.push((Some("tier"), message));
                    None
                }
            },
            (None, None) | (Some(_), Some(_)) => {
                flaws.push((None, "an override has either an `amount` or a `tier`".to_owned()));
                None
            }
        };
        let until = form.until.as_deref().map(parse_until).transpose();
        match (amount, until) {
            (Some(amount), Ok(until)) => Ok(CallerOverride { amount, until }),
            (_, Err(message)) => {
                flaws.push((Some("until"), message));
                Err(flaws)
            }
            (None, Ok(_)) => Err(flaws),
        }
    }
}

impl From<&CallerOverride> for OverrideForm {
    fn from(known: &CallerOverride) -> Self {
        let until = known.until.map(show_time);
        let form = match &known.amount {
            OverrideAmount::Hits(amount) if until.is_none() => return Self::Amount(*amount),
            OverrideAmount::Hits(amount) => {
                OverrideUntilForm { amount: Some(*amount), tier: None, until }
            }
            OverrideAmount::Tier(tier) => {
                OverrideUntilForm { amount: None, tier: Some(tier.clone()), until }
            }
        };
        Self::Until(form)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(json: Value) -> OverrideForm {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn an_override_survives_being_written_and_read() {
        for json in [
            json!(500),
            json!({ "amount": 0, "until": "2027-01-01T00:00:00Z" }),
            json!({ "tier": "premium" }),
            json!({ "tier": "premium", "until": "2027-01-01T00:00:00Z" }),
        ] {
            let known = read(json.clone()).check().unwrap();
            assert_eq!(serde_json::to_value(OverrideForm::from(&known)).unwrap(), json);
        }
        // Without an end, the short form is enough.
        let short = OverrideForm::from(&read(json!({ "amount": 5 })).check().unwrap());
        assert_eq!(short, OverrideForm::Amount(5));
    }

    #[test]
    fn an_invalid_override_is_told_with_its_fields() {
        let check = |json: Value, expected: &[Option<&str>]| {
            let flaws = read(json.clone()).check().unwrap_err();
            let fields: Vec<_> = flaws.iter().map(|(field, _)| *field).collect();
            assert_eq!(fields, expected, "{json}");
        };
        check(json!(AMOUNT_MAX + 1), &[None]);
        check(json!({}), &[None]);
        check(json!({ "amount": 1, "tier": "a" }), &[None]);
        check(json!({ "amount": u64::MAX, "until": "soon" }), &[Some("amount"), Some("until")]);
        check(json!({ "tier": "" }), &[Some("tier")]);
        for wrong in [json!("many"), json!(-1), json!({ "amuont": 1 })] {
            let error = serde_json::from_value::<OverrideForm>(wrong).unwrap_err().to_string();
            assert!(error.contains("an override must be an amount"), "{error}");
        }
    }
}
