//! What a policy file may say of choices: which of several names is the best one for a request.

use std::collections::BTreeMap;
use std::ops::Range;

use schemars::JsonSchema;

use super::Named;
use crate::policy::yaml::Spanned;

/// The largest weight of a choice.
pub const WEIGHT_MAX: u64 = 1_000;

/// An entry that stands for the best of several values.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ChoiceFile {
    /// The entry's key.
    #[schemars(required)]
    pub key: Option<Spanned<String>>,
    /// The entry's value that leaves the choice to Tollgate, such as any.
    #[schemars(required)]
    pub value: Option<Spanned<String>>,
    /// What there is to choose from, two to sixteen names; of equally good ones the first is chosen.
    #[schemars(required, with = "Option<BTreeMap<String, CandidateFile>>")]
    pub among: Option<Spanned<Named<CandidateFile>>>,
    /// What counts how much; all the same if absent.
    pub weights: Option<Spanned<WeightsFile>>,
    /// The key of an entry of the request that tells latencies in milliseconds, such as a=120,b=85. It is no
    /// part of a descriptor's path.
    pub latency_key: Option<Spanned<String>>,
    /// The header that carries the chosen name to the upstream. Envoy appends it: strip it from what
    /// callers send.
    pub header: Option<Spanned<String>>,
    /// Where it stands.
    #[schemars(skip)]
    pub span: Range<usize>,
}

/// A name to choose.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CandidateFile {
    /// What a request costs there, in any unit that all share, such as 12, 0.35 or 12.50 EUR.
    pub price: Option<Spanned<String>>,
    /// How long it takes to answer until something else is known, such as 120ms.
    pub latency: Option<Spanned<String>>,
}

/// What counts how much; 0 leaves it out, and 1 is what is absent.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct WeightsFile {
    /// Free capacity.
    pub capacity: Option<Spanned<u64>>,
    /// Short latency.
    pub latency: Option<Spanned<u64>>,
    /// Low price.
    pub price: Option<Spanned<u64>>,
}
