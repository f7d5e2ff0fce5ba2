//! The types of `prices` in a policy file.

use std::collections::BTreeMap;

use super::Named;
use super::map::map;
use super::readers::{number, text, texts};
use crate::limit::AMOUNT_MAX;
use crate::policy::yaml::Spanned;

map! {
    /// What may be spent by the prices. It decides nothing: `/v1/costs` compares it with the projected spend.
    pub struct BudgetFile in "`budget`";

    /// In a day of UTC, such as 200 EUR.
    day: Spanned<String> = text;
    /// In a calendar month of UTC.
    month: Spanned<String> = text;
}

map! {
    /// A price of requests at a provider. The first line that matches the request applies.
    pub struct PriceFile in "a price" requires ["price"] at span;

    /// Entries that the request must have, in any of its descriptors, such as provider and endpoint. If absent, every request
    /// matches.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    when: Named<Spanned<String>> = texts;
    /// The price, with up to six digits after the point, such as 0.0125 EUR.
    #[schemars(required)]
    price: Spanned<String> = text;
    /// Charged per N hits, rounded up; flat if absent.
    per: Spanned<u64> = number::<AMOUNT_MAX>;
}
