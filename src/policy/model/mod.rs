//! The model of policies: domains, rules and limits, and how they match. It is independent of files and JSON.

mod abuse;
mod address_ranges;
mod adjust;
mod answer;
mod api_keys;
mod brought;
mod caller;
mod capacity;
mod choice;
mod classes;
mod cost;
mod domain;
mod estimate;
mod idempotency;
mod key;
mod lease;
mod matcher;
mod metadata;
mod mode;
mod outage;
mod overlay;
mod pattern;
mod price;
mod provider;
mod reservation;
mod rule;
mod rule_limit;
mod set;
mod share;
mod source_location;
mod unit;
mod wait;
mod window;

pub use abuse::{AbuseEntries, AbuseEntry, AbuseEntrySet};
pub use adjust::{Adjust, InForce, SignalSource};
pub use answer::{AnswerMetadata, AnswerSettings, LegacyNames, RefusalIdPlaces};
pub use api_keys::{
    ApiKeyHeaders, ApiKeyNeeds, ApiKeyOutage, ApiKeyPlace, ApiKeyPolicy, ApiKeyRoute, ApiKeyRoutes,
    HeaderPlace,
};
pub use brought::{API_KEY_LABEL, AlgorithmKind, Brought, OVERRIDE_LABEL};
pub use caller::{
    Caller, CallerBonus, CallerOverride, Lineage, Member, OverrideAmount, PARENTS_MAX,
};
pub use capacity::{Capacity, Only, PRESSURE_LEVELS_MAX, PressureLevel, ScheduledCapacity};
pub use choice::{Candidate, CandidateFigures, Choice, LATENCY_MS_MAX, Weights};
pub use classes::{
    Classes, PRIORITY_DEFAULT, PRIORITY_MAX, PRIORITY_MIN, Priority, parse_priority,
};
pub use cost::{Cost, CostLine};
pub use domain::{Domain, Path, Walk};
pub use estimate::{Estimate, EstimateAt, StatedEstimate};
pub use idempotency::Idempotency;
pub use key::{Key, KeyEntry, RetryId};
pub use lease::{LEASED_AMOUNT_MIN, Lease};
pub use matcher::{Matcher, ValueSet};
pub use metadata::{Metadata, MetadataValue};
pub use mode::Mode;
pub use outage::OnOutage;
pub use overlay::{Overlay, OverlayState};
pub use pattern::Pattern;
pub use price::{Budget, MICROS, PriceLine, Prices};
pub use provider::Provider;
pub use reservation::{ReservationAction, ReservationEntries, Reservations};
pub use rule::{MetricValues, Rule, RuleLevel, RuleValue};
pub use rule_limit::{LimitPlaces, Refused, RuleLimit, TierLimit};
pub use set::{Origin, PolicySet};
pub use share::Share;
pub use source_location::SourceLocation;
pub use unit::Unit;
pub use wait::Wait;
pub use window::Window;
