//! The set of all domains in force.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::domain::Domain;
use super::overlay::Overlay;
use crate::policy::problem::Problem;

/// The hash of an empty set: the first digits of SHA-256 of an empty text.
pub(in crate::policy) const EMPTY_HASH: &str = "e3b0c44298fc1c14";

/// The source of a set, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `files` or `xds`.
    pub source: &'static str,
    /// The source's own version of the set; None if it has none.
    pub version: Option<String>,
}

/// All domains in force.
#[derive(Debug)]
pub struct PolicySet {
    domains: HashMap<Box<str>, Domain, RandomState>,
    /// The domain that checks API keys, if exactly one does.
    api_key_domain: Option<Box<str>>,
    warnings: Vec<Problem>,
    hash: String,
    /// Empty without overlays.
    overlays: Vec<Overlay>,
    /// None for a set that was not loaded.
    origin: Option<Origin>,
    /// Whether it stands for a set that is still to come.
    is_pending: bool,
}

impl PolicySet {
    /// A set of domains with its warnings and the hash of its contents.
    pub(in crate::policy) fn new(
        domains: impl Iterator<Item = Domain>,
        warnings: Vec<Problem>,
        hash: String,
    ) -> Self {
        let domains: HashMap<Box<str>, Domain, RandomState> =
            domains.map(|domain| (domain.name.as_str().into(), domain)).collect();
        let mut checking = domains.iter().filter(|(_, domain)| domain.api_keys.is_some());
        let api_key_domain = match (checking.next(), checking.next()) {
            (Some((name, _)), None) => Some(name.clone()),
            _ => None,
        };
        let (overlays, origin) = (Vec::new(), None);
        Self { domains, api_key_domain, warnings, hash, overlays, origin, is_pending: false }
    }

    /// A set without domains: every request passes.
    pub fn empty() -> Self {
        Self::new(std::iter::empty(), Vec::new(), EMPTY_HASH.to_owned())
    }

    /// The set until the first one is loaded: no request can be decided.
    pub fn pending() -> Self {
        Self { is_pending: true, ..Self::empty() }
    }

    /// The same set, from this source.
    pub fn from_origin(self, origin: Origin) -> Self {
        Self { origin: Some(origin), ..self }
    }

    /// The same set, which has these overlays.
    pub(in crate::policy) fn with_overlays(self, overlays: Vec<Overlay>) -> Self {
        Self { overlays, ..self }
    }

    /// Its overlays, in the order of their files.
    pub fn overlays(&self) -> &[Overlay] {
        &self.overlays
    }

    /// The overlay of a file.
    pub fn overlay(&self, file: &str) -> Option<&Overlay> {
        self.overlays.iter().find(|overlay| &*overlay.file == file)
    }

    /// The source of the set.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Whether it stands for a set that is still to come.
    pub fn is_pending(&self) -> bool {
        self.is_pending
    }

    /// The policy of a domain.
    pub fn domain(&self, name: &str) -> Option<&Domain> {
        self.domains.get(name)
    }

    /// The domain that checks the API keys of a request: the named one, or else the only one that checks any.
    pub fn api_key_domain(&self, name: Option<&str>) -> Option<&Domain> {
        let domain = self.domain(name.or(self.api_key_domain.as_deref())?)?;
        domain.api_keys.is_some().then_some(domain)
    }

    /// Every domain, by name.
    pub fn domains(&self) -> Vec<&Domain> {
        let mut domains: Vec<&Domain> = self.domains.values().collect();
        domains.sort_unstable_by_key(|domain| domain.name.as_str());
        domains
    }

    /// Warnings: parts without effect.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Distinguishes sets that decide differently, from any files.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}
