//! The fields of the forms that change a caller.

use axum::http::StatusCode;
use serde::Deserialize;

use super::failure::Failure;

/// The fields of all forms.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ChangeForm {
    pub name: String,
    pub tier: String,
    pub domain: String,
    pub limit: String,
    pub amount: String,
    pub until: String,
    pub id: String,
    /// `yes` once the effect has been shown.
    pub confirmed: String,
}

impl ChangeForm {
    /// The fields to send again, when the effect is confirmed.
    pub fn fields(&self) -> [(&'static str, &str); 7] {
        [
            ("name", &self.name),
            ("tier", &self.tier),
            ("domain", &self.domain),
            ("limit", &self.limit),
            ("amount", &self.amount),
            ("until", &self.until),
            ("id", &self.id),
        ]
    }

    /// The amount.
    ///
    /// # Errors
    /// If it is not a whole number.
    pub fn amount(&self) -> Result<u64, Failure> {
        self.amount.trim().parse().map_err(|_| {
            let reason = format!("the amount `{}` is not a whole number", self.amount);
            Failure::new(StatusCode::BAD_REQUEST, reason)
        })
    }

    /// When it ends; None if never.
    pub fn until(&self) -> Option<String> {
        Some(self.until.trim().to_owned()).filter(|until| !until.is_empty())
    }
}
