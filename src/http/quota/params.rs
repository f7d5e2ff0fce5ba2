//! What the operations on quotas read.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::mark;
use crate::engine::Reading;
use crate::http::change::check_name;
use crate::http::problem::Problem;
use crate::limit::AMOUNT_MAX;
use crate::policy::{Domain, PolicySet, RuleValue};

/// Values that a problem names.
const VALUES_MAX: usize = 32;

/// The query of a quota.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaParams {
    /// Only limits of this domain; absent: of all domains whose policy names callers.
    domain: Option<String>,
    /// More entries after the caller's, as `key=value,key=value` or as a JSON list of objects with one key each: the limits of a
    /// request with these entries.
    #[serde(default)]
    entries: String,
    /// Also the limits of the rules below that have a value, such as those of all kinds of resources.
    #[serde(default)]
    below: bool,
}

/// The body of an operation on a quota.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "QuotaHits")]
pub struct HitsForm {
    /// The domain; may be absent if only one has a policy that names callers.
    domain: Option<String>,
    /// How many hits.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_000_u64))]
    pub hits: u64,
    /// More entries after the caller's, in order, as a request has them in one descriptor.
    #[serde(default)]
    entries: Vec<BTreeMap<String, String>>,
}

/// The body of a charge.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "QuotaCharge")]
pub struct ConsumeForm {
    /// The domain; may be absent if only one has a policy that names callers.
    domain: Option<String>,
    /// How many hits.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_000_u64))]
    pub hits: u64,
    /// More entries after the caller's, in order, as a request has them in one descriptor.
    #[serde(default)]
    entries: Vec<BTreeMap<String, String>>,
    /// What to do if a limit does not have all hits; as for a request if absent.
    pub mode: Option<ConsumeMode>,
}

/// What to do if a limit does not have all hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "QuotaChargeMode")]
pub enum ConsumeMode {
    /// Take none, also of limits that are `partial`.
    AllOrNone,
    /// Take as many as all limits have, also of those that are not `partial`.
    BestEffort,
    /// Take none in any case, and tell whether all would be taken.
    CheckOnly,
    /// Take all of them all the same.
    AdjustOnly,
}

/// The body of a reset.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "QuotaReset")]
pub struct ResetForm {
    /// The domain; may be absent if only one has a policy that names callers.
    pub domain: Option<String>,
    /// More entries after the caller's, in order: the limits of a request with these entries are reset.
    #[serde(default)]
    pub entries: Vec<BTreeMap<String, String>>,
}

/// The body of a recalculation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "QuotaCount")]
pub struct CountForm {
    /// The domain; may be absent if only one has a policy that names callers.
    domain: Option<String>,
    /// More entries after the caller's, in order, as a request has them in one descriptor.
    #[serde(default)]
    entries: Vec<BTreeMap<String, String>>,
    /// The name of the limit; may be absent if only one of them never resets.
    pub limit: Option<String>,
    /// The true number.
    #[schemars(range(max = 1_000_000_000_000_000_u64))]
    pub counted: u64,
    /// The `mark` of the quota as it was read before the counting began. Absent: the number is that of now.
    mark: Option<String>,
}

/// A caller and more entries of its descriptor, in one domain or several, as they are asked for. Its requests are those of a
/// [`super::Target`], which also knows the tiers that the caller last had.
#[derive(Clone, Debug)]
pub struct AskedTarget {
    caller: String,
    domain: Option<String>,
    entries: Vec<(String, String)>,
    /// With the rules below.
    below: bool,
}

/// The hits of a body that doesn't say them.
pub fn one() -> u64 {
    1
}

impl QuotaParams {
    /// Of a domain, or of all, and more entries.
    pub fn new(domain: Option<String>, entries: String, below: bool) -> Self {
        Self { domain, entries, below }
    }

    /// What is asked about.
    pub fn target(self, caller: String) -> Result<AskedTarget, Problem> {
        check_name(&caller)?;
        if self.entries.starts_with('[') {
            let entries: Vec<_> = serde_json::from_str(&self.entries)
                .map_err(|error| invalid(format!("`entries`: {error}")))?;
            let target = target(caller, self.domain, &entries)?;
            return Ok(AskedTarget { below: self.below, ..target });
        }
        let entry = |text: &str| {
            let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
            pair.map(|(key, value)| (key.to_owned(), value.to_owned()))
        };
        let texts = self.entries.split(',').filter(|text| !text.is_empty());
        let entries: Option<Vec<_>> = texts.map(entry).collect();
        let entries = entries.ok_or_else(|| invalid("`entries` is `key=value,key=value`"))?;
        Ok(AskedTarget { below: self.below, ..AskedTarget::new(caller, self.domain, entries) })
    }
}

/// Checks that a policy has the domain of a request, if it has one.
pub fn check_domain(policies: &PolicySet, domain: Option<&str>) -> Result<(), Problem> {
    match domain.filter(|domain| policies.domain(domain).is_none()) {
        Some(unknown) => Err(wrong_resource(format!("no policy has the domain `{unknown}`"))),
        None => Ok(()),
    }
}

/// Checks that a body asks for some hits, and not for more than any limit has.
pub fn check_hits(hits: u64) -> Result<(), Problem> {
    match hits {
        0 => Err(invalid("`hits` is at least 1")),
        1..=AMOUNT_MAX => Ok(()),
        _ => Err(invalid(format!("`hits` is at most {AMOUNT_MAX}"))),
    }
}

impl ConsumeForm {
    /// What is asked about.
    pub fn target(&self, caller: String) -> Result<AskedTarget, Problem> {
        check_hits(self.hits)?;
        target(caller, self.domain.clone(), &self.entries)
    }
}

impl HitsForm {
    /// What is asked about.
    pub fn target(&self, caller: String) -> Result<AskedTarget, Problem> {
        check_hits(self.hits)?;
        target(caller, self.domain.clone(), &self.entries)
    }
}

impl CountForm {
    /// What is asked about.
    pub fn target(&self, caller: String) -> Result<AskedTarget, Problem> {
        if AMOUNT_MAX < self.counted {
            return Err(invalid(format!("`counted` is at most {AMOUNT_MAX}")));
        }
        target(caller, self.domain.clone(), &self.entries)
    }

    /// What was in use when the counting began; None for now.
    pub fn reading(&self) -> Result<Option<Reading>, Problem> {
        let Some(mark) = &self.mark else { return Ok(None) };
        let reading = mark::read(mark);
        let detail = || format!("invalid `mark` `{mark}`; send that of the quota as it was read");
        reading.map(Some).ok_or_else(|| invalid(detail()))
    }
}

impl ResetForm {
    /// What is asked about.
    pub fn target(&self, caller: String) -> Result<AskedTarget, Problem> {
        target(caller, self.domain.clone(), &self.entries)
    }
}

/// A caller, and the entries of a body after the caller's own.
pub fn target(
    caller: String,
    domain: Option<String>,
    entries: &[BTreeMap<String, String>],
) -> Result<AskedTarget, Problem> {
    check_name(&caller)?;
    if entries.iter().any(|entry| entry.len() != 1) {
        return Err(invalid("each of `entries` is an object with one key: {\"key\": \"value\"}"));
    }
    let entries = entries.iter().flatten().map(|(key, value)| (key.clone(), value.clone()));
    Ok(AskedTarget::new(caller, domain, entries.collect()))
}

impl AskedTarget {
    fn new(caller: String, domain: Option<String>, entries: Vec<(String, String)>) -> Self {
        Self { caller, domain, entries, below: false }
    }

    /// The domains whose requests say the tier by an entry, while this target has none.
    pub fn domains_without_tier<'p>(&self, policies: &'p PolicySet) -> Vec<&'p Domain> {
        let lacks_tier = |domain: &&Domain| {
            let classes = &domain.classes;
            let has_entry = |key: &str| self.entries.iter().any(|(name, _)| name == key);
            let reads_entry = classes.tier_key.as_deref().is_some_and(|key| !has_entry(key));
            classes.caller_key.is_some() && reads_entry && self.means(&domain.name)
        };
        policies.domains().into_iter().filter(lacks_tier).collect()
    }

    /// Whether a domain is meant.
    pub fn means(&self, domain: &str) -> bool {
        self.domain.as_deref().is_none_or(|meant| meant == domain)
    }

    /// The entries of its descriptor in a domain; None if the domain names no callers.
    pub fn path<'t>(&'t self, domain: &'t Domain) -> Option<Vec<(&'t str, &'t str)>> {
        let key = domain.classes.caller_key.as_deref()?;
        let mut entries = vec![(key, self.caller.as_str())];
        entries.extend(self.entries.iter().map(|(key, value)| (&**key, &**value)));
        Some(entries)
    }

    /// A problem: a domain has rules for other values of an entry, or for other entries. None if it has a rule for all of them.
    pub fn unknown_entry(&self, domain: &Domain) -> Option<Problem> {
        let entries = self.path(domain)?;
        let path = domain.path(&entries);
        let walk = domain.walk(&path);
        let above = walk.steps().last().filter(|_| walk.end().is_none())?;
        let (key, value) = path.get(walk.steps().len())?;
        let values = above.rules().iter().filter(|rule| rule.key == *key);
        let values = values.filter_map(|rule| match &rule.value {
            RuleValue::Exact(value) => Some(value.as_str()),
            _ => None,
        });
        let values: Vec<&str> = values.take(VALUES_MAX).collect();
        Some(wrong_resource(match values.as_slice() {
            [] => format!("no rule has an entry `{key}` there"),
            values => format!("no rule has the {key} `{value}`; there are {}", values.join(", ")),
        }))
    }

    /// A problem: the caller meets no limit in these domains, mostly because no rule has one of the entries.
    pub fn unmet<'d>(&self, domains: impl IntoIterator<Item = &'d Domain>) -> Problem {
        let unknown = domains.into_iter().find_map(|domain| self.unknown_entry(domain));
        unknown.unwrap_or_else(|| self.without_limits())
    }

    /// A problem: the caller meets no limit.
    pub fn without_limits(&self) -> Problem {
        not_found(format!(
            "no limit applies to the caller `{}` with the given `entries`",
            self.caller
        ))
    }

    /// The entries after the caller's.
    pub fn entries(&self) -> &[(String, String)] {
        &self.entries
    }

    /// The only domain that is meant; None for all.
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// Whether the limits of the rules below are meant too.
    pub fn is_below(&self) -> bool {
        self.below
    }

    /// The caller's name.
    pub fn caller(&self) -> &str {
        &self.caller
    }
}

pub fn not_found(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, detail).coded("QUOTA_NOT_FOUND")
}

pub fn wrong_resource(detail: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).coded("INVALID_RESOURCE_TYPE")
}

pub fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}
