//! A request in Envoy's terms, independent of the protocol.

use std::net::IpAddr;
use std::time::Duration;

use crate::api_keys::ApiKeyLimit;
use crate::limit::Hits;
use crate::policy::{ReservationAction, Unit};

/// Maximum number of descriptors in one request. Envoy sends one for each entry of a route's `rate_limits`.
pub const DESCRIPTORS_MAX: usize = 128;

/// Maximum number of entries in one descriptor: the maximum depth of a policy's tree that a request can reach.
pub const ENTRIES_MAX: usize = 32;

/// A request for a decision.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    domain: &'a str,
    descriptors: Vec<Descriptor<'a>>,
    taking: Taking,
    reservation: Option<Box<AskedReservation<'a>>>,
    last_tier: Option<&'a str>,
    is_counted_later: bool,
    address: Option<IpAddr>,
    store_wait_max: Option<Duration>,
}

/// Whether a request gets what is left of its limits if that is less than it asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Taking {
    /// Of those that are `partial`.
    #[default]
    AsLimitsSay,
    /// All hits, or none.
    Whole,
    /// Of all but those with a cost.
    InPart,
}

/// What a request asks of reservations that does not say it by entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedReservation<'a> {
    pub action: ReservationAction,
    pub id: &'a str,
    /// How long hits are held; as the policy says if None.
    pub ttl: Option<Duration>,
}

/// A descriptor of the request.
#[derive(Clone, Debug)]
pub struct Descriptor<'a> {
    /// Keys and values, in order.
    pub entries: Vec<(&'a str, &'a str)>,
    pub hits: Hits,
    /// The source of the hits.
    pub hits_source: HitsSource,
    /// The limits that the request brings along, instead of the policy's.
    pub limit: Option<BroughtLimits<'a>>,
}

/// The limits that a request brings along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BroughtLimits<'a> {
    /// Envoy's, of this path.
    Override(Override),
    /// Those of the API key with this id.
    OfApiKey(&'a str, &'a [ApiKeyLimit]),
}

/// The source of a descriptor's hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HitsSource {
    /// The request, for all its descriptors; or the default of 1.
    #[default]
    Request,
    /// The descriptor itself. Envoy sends the cost of a response and peeks in this way.
    Descriptor,
}

/// A limit that a request brings along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    pub amount: u64,
    pub unit: Unit,
}

/// The reason that a request is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("the domain is empty")]
    EmptyDomain,
    #[error("the request has no descriptors")]
    NoDescriptors,
    #[error("too many descriptors: {count}; at most {DESCRIPTORS_MAX} are allowed")]
    TooManyDescriptors { count: usize },
    #[error("descriptor {index} has {count} entries, more than {ENTRIES_MAX}")]
    TooManyEntries { index: usize, count: usize },
    #[error("descriptor {index} brings a limit of unknown unit {unit}")]
    UnknownUnit { index: usize, unit: String },
}

impl<'a> Request<'a> {
    /// A valid request.
    ///
    /// # Errors
    /// If the domain is empty, there are no descriptors, or too many of something.
    pub fn try_new(
        domain: &'a str,
        descriptors: Vec<Descriptor<'a>>,
    ) -> Result<Self, RequestError> {
        if domain.is_empty() {
            return Err(RequestError::EmptyDomain);
        }
        match descriptors.len() {
            0 => return Err(RequestError::NoDescriptors),
            count if DESCRIPTORS_MAX < count => {
                return Err(RequestError::TooManyDescriptors { count });
            }
            _ => {}
        }
        for (index, descriptor) in descriptors.iter().enumerate() {
            let count = descriptor.entries.len();
            if ENTRIES_MAX < count {
                return Err(RequestError::TooManyEntries { index, count });
            }
        }
        let taking = Taking::default();
        Ok(Self {
            domain,
            descriptors,
            taking,
            reservation: None,
            last_tier: None,
            is_counted_later: false,
            address: None,
            store_wait_max: None,
        })
    }

    /// The same request, which waits for the store for so long at most; None: for the store's deadline.
    pub fn waits_at_most(self, store_wait_max: Option<Duration>) -> Self {
        Self { store_wait_max, ..self }
    }

    /// The most that it waits for the store.
    pub fn store_wait_max(&self) -> Option<Duration> {
        self.store_wait_max
    }

    /// The same request, which takes its hits so.
    pub fn takes(self, taking: Taking) -> Self {
        Self { taking, ..self }
    }

    /// Whether it gets what is left of its limits.
    pub fn taking(&self) -> Taking {
        self.taking
    }

    /// The same request with `name` instead of `value` in every entry with this key.
    pub fn replaced(&self, key: &str, value: &str, name: &'a str) -> Self {
        let mut request = self.clone();
        let entries = request.descriptors.iter_mut().flat_map(|part| &mut part.entries);
        for entry in entries.filter(|entry| **entry == (key, value)) {
            entry.1 = name;
        }
        request
    }

    /// The same request that asks this of reservations. What it meets besides is charged when it reserves.
    pub fn reserving(self, asked: AskedReservation<'a>) -> Self {
        Self { reservation: Some(Box::new(asked)), ..self }
    }

    /// The same request of a caller that last had this tier. It applies if neither an entry nor the directory says one.
    pub fn of_last_tier(self, last_tier: Option<&'a str>) -> Self {
        Self { last_tier, ..self }
    }

    /// The same request, which is only checked now: if it passes, another one with the same caller counts it in usage.
    pub fn counted_later(self) -> Self {
        Self { is_counted_later: true, ..self }
    }

    /// The same request of a client with this address, if no entry has one.
    pub fn from_address(self, address: Option<IpAddr>) -> Self {
        Self { address, ..self }
    }

    /// The address of the client, if its protocol tells it.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Whether another request counts it in usage, if it passes.
    pub fn is_counted_later(&self) -> bool {
        self.is_counted_later
    }

    /// The tier that the caller last had, if it is known.
    pub fn last_tier(&self) -> Option<&'a str> {
        self.last_tier
    }

    /// What it asks of reservations, if it does not say that by entries.
    pub fn reservation(&self) -> Option<&AskedReservation<'a>> {
        self.reservation.as_deref()
    }

    /// The domain of the policy.
    pub fn domain(&self) -> &'a str {
        self.domain
    }

    /// At least one.
    pub fn descriptors(&self) -> &[Descriptor<'a>] {
        &self.descriptors
    }
}
