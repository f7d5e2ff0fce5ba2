//! The fields of the forms of API keys.

use std::time::Duration;

use axum::http::StatusCode;
use serde::Deserialize;

use crate::api_keys::{ApiKeyForm, ApiKeyRecord, TimesForm};
use crate::http::dashboard::failure::Failure;

/// The fields of all forms.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct KeyFields {
    pub id: String,
    /// The revision that the visitor has seen.
    pub revision: String,
    pub domain: String,
    pub caller: String,
    pub name: String,
    pub scopes: String,
    pub tier: String,
    pub expires_at: String,
    pub addresses: String,
    pub origins: String,
    pub limits: String,
    pub timezone: String,
    pub months: String,
    pub weekdays: String,
    pub hours: String,
    pub dates: String,
    pub except: String,
    /// Seconds.
    pub overlap: String,
    /// `yes` once the effect has been shown.
    pub confirmed: String,
}

impl KeyFields {
    /// The fields of an API key as it is.
    pub fn of(record: &ApiKeyRecord) -> Self {
        let form = ApiKeyForm::from(&record.key);
        let when = form.when.unwrap_or_default();
        let list = |items: &[String]| items.join(", ");
        Self {
            id: record.id.to_string(),
            revision: record.revision.to_string(),
            caller: form.caller,
            name: form.name,
            scopes: list(&form.scopes),
            tier: form.tier.unwrap_or_default(),
            expires_at: form.expires_at.unwrap_or_default(),
            addresses: list(&form.addresses),
            origins: list(&form.origins),
            limits: list(&form.limits),
            timezone: when.timezone.unwrap_or_default(),
            months: list(&when.months),
            weekdays: list(&when.weekdays),
            hours: list(&when.hours),
            dates: list(&when.dates),
            except: list(&when.except),
            ..Self::default()
        }
    }

    /// The form of the API, without the caller.
    pub fn form(&self, disabled: bool) -> ApiKeyForm {
        let when = TimesForm {
            timezone: some(&self.timezone),
            months: list(&self.months),
            weekdays: list(&self.weekdays),
            hours: list(&self.hours),
            dates: list(&self.dates),
            except: list(&self.except),
        };
        ApiKeyForm {
            caller: self.caller.trim().to_owned(),
            name: self.name.trim().to_owned(),
            scopes: list(&self.scopes),
            tier: some(&self.tier),
            expires_at: some(&self.expires_at),
            addresses: list(&self.addresses),
            origins: list(&self.origins),
            limits: list(&self.limits),
            when: (when != TimesForm::default()).then_some(when),
            disabled,
        }
    }

    /// The domain, if one is named.
    pub fn domain(&self) -> Option<&str> {
        Some(self.domain.trim()).filter(|domain| !domain.is_empty())
    }

    /// The revision that the visitor has seen.
    ///
    /// # Errors
    /// If it is missing.
    pub fn revision(&self) -> Result<u64, Failure> {
        let wrong = |_| Failure::new(StatusCode::BAD_REQUEST, "the form has no revision");
        self.revision.parse().map_err(wrong)
    }

    /// How long the earlier text stays valid.
    ///
    /// # Errors
    /// If it is not a number of seconds.
    pub fn overlap(&self) -> Result<Duration, Failure> {
        let wrong = |_| Failure::new(StatusCode::BAD_REQUEST, "the overlap is not a whole number");
        self.overlap.trim().parse().map(Duration::from_secs).map_err(wrong)
    }

    /// The fields to send again, when the effect is confirmed.
    pub fn sent_again(&self) -> [(&'static str, &str); 18] {
        [
            ("id", &self.id),
            ("revision", &self.revision),
            ("domain", &self.domain),
            ("caller", &self.caller),
            ("name", &self.name),
            ("scopes", &self.scopes),
            ("tier", &self.tier),
            ("expires_at", &self.expires_at),
            ("addresses", &self.addresses),
            ("origins", &self.origins),
            ("limits", &self.limits),
            ("timezone", &self.timezone),
            ("months", &self.months),
            ("weekdays", &self.weekdays),
            ("hours", &self.hours),
            ("dates", &self.dates),
            ("except", &self.except),
            ("overlap", &self.overlap),
        ]
    }
}

/// The items of a list, which commas, spaces or lines separate.
fn list(text: &str) -> Vec<String> {
    let items = text.split(|one: char| one == ',' || one.is_whitespace());
    items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn some(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_key_in_fields_is_the_same_api_key() {
        let form: ApiKeyForm = serde_json::from_value(serde_json::json!({
            "caller": "acme", "name": "booking, all", "scopes": ["hotels:read", "hotels:book"],
            "tier": "premium", "expires_at": "2028-01-01T00:00:00Z",
            "addresses": ["192.0.2.7", "2001:db8::/32"], "origins": ["https://app.example.com"],
            "when": { "timezone": "Asia/Tokyo", "weekdays": ["monday-friday"], "hours": ["09:00-18:00"],
                      "months": ["december"], "dates": ["2026-12-24..2027-01-06"], "except": ["12-25"] },
            "limits": ["100/minute", "5000/total"],
        }))
        .unwrap();
        let record = ApiKeyRecord {
            id: "key_1".into(),
            key: form.check().unwrap(),
            secrets: Vec::new(),
            created_at: crate::clock::Timestamp::default(),
            revision: 7,
        };
        let fields = KeyFields::of(&record);
        assert_eq!(fields.form(false), form);
        assert_eq!(fields.revision().ok(), Some(7));
        assert_eq!(
            KeyFields::default().form(true),
            ApiKeyForm { disabled: true, ..ApiKeyForm::default() }
        );
        assert_eq!(list(" a,b\r\nc  d,, "), ["a", "b", "c", "d"]);
    }
}
