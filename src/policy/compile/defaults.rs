//! Compiles the `defaults` of a file.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::enforcement::Enforcement;
use super::grace::GraceDraft;
use super::thresholds::{PERCENT_MAX, thresholds};
use super::when::{Schedules, When};
use crate::limit::{LimitName, Overdraft};
use crate::policy::model::{
    API_KEY_LABEL, AlgorithmKind, Brought, Classes, Cost, Estimate, Idempotency, Lease,
    OVERRIDE_LABEL, OnOutage, Reservations, Wait,
};
use crate::policy::schema::PolicyFile;
use crate::policy::yaml::Reader;

/// The defaults of all limits of a file.
#[derive(Debug)]
pub struct Defaults {
    pub domain: Box<str>,
    pub zone: TimeZone,
    pub algorithm: Option<AlgorithmKind>,
    /// What the policy says of all its limits.
    pub enforcement: Option<Enforcement>,
    pub on_outage: Option<OnOutage>,
    pub overdraft: Overdraft,
    pub wait: Option<Wait>,
    pub lease: Lease,
    pub estimate: Option<Estimate>,
    pub grace: Option<GraceDraft>,
    /// In percent.
    pub thresholds: Option<Arc<[u16]>>,
    pub classes: Arc<Classes>,
    pub idempotency: Option<Arc<Idempotency>>,
    pub reservations: Option<Arc<Reservations>>,
    /// By name.
    pub costs: BTreeMap<String, Arc<Cost>>,
    pub schedules: Schedules,
    /// For limits without a `when` of their own.
    pub when: When,
}

impl Defaults {
    /// The settings in the file.
    pub fn compile(reader: &mut Reader<'_>, file: &PolicyFile) -> Self {
        let costs = file.costs.iter().flatten();
        let costs = costs
            .map(|(name, lines)| (name.value.clone(), Cost::compile(reader, &name.value, lines)));
        let costs = costs.map(|(name, cost)| (name, Arc::new(cost))).collect();
        let said = file.defaults.as_ref();
        let overdraft = said
            .and_then(|file| file.overdraft.as_ref())
            .map_or_else(Overdraft::default, |word| word.value.into());
        let grace = said
            .and_then(|file| file.grace.as_ref())
            .and_then(|file| GraceDraft::compile(reader, file));
        let schedules = Schedules::compile(reader, file);
        let classes = Arc::new(Classes::compile(reader, file));
        let mode = said.and_then(|file| file.mode.as_ref());
        if let (Some(mode), Some(_)) = (mode, &file.mode) {
            reader.error(mode.span.clone(), "use `mode` at the top or in `defaults`, not both");
        }
        let mode = file.mode.as_ref().or(mode);
        let enforcement = Enforcement::compile(reader, mode, file.enforce.as_ref());
        let when = said.and_then(|file| file.when.as_ref());
        let when = when.map_or_else(When::default, |list| {
            When::compile(reader, (&schedules, &classes), list, None)
        });
        Self {
            domain: file.domain.as_ref().map_or("", |domain| &domain.value).into(),
            zone: zone(reader, file),
            algorithm: said.and_then(|file| file.algorithm.as_ref()).map(|word| word.value.into()),
            enforcement,
            on_outage: said.and_then(|file| file.on_outage.as_ref()).map(|word| word.value.into()),
            overdraft,
            wait: said
                .and_then(|file| file.wait.as_ref())
                .and_then(|file| Wait::compile(reader, file)),
            lease: said
                .and_then(|file| file.lease.as_ref())
                .map_or_else(Lease::default, |word| word.value.into()),
            estimate: said
                .and_then(|file| file.estimate.as_ref())
                .and_then(|file| Estimate::compile(reader, file)),
            thresholds: said
                .and_then(|file| file.thresholds.as_ref())
                .and_then(|file| thresholds(reader, file, PERCENT_MAX)),
            grace,
            classes,
            idempotency: file
                .idempotency
                .as_ref()
                .map(|said| Arc::new(Idempotency::compile(reader, said))),
            reservations: file
                .reservation
                .as_ref()
                .map(|said| Arc::new(Reservations::compile(reader, said))),
            costs,
            schedules,
            when,
        }
    }

    /// The settings of limits that requests bring along.
    pub fn brought(&self) -> Brought {
        let named =
            |label: &str| Arc::new(LimitName { domain: self.domain.clone(), label: label.into() });
        let Enforcement { mode, strict, share } = self.enforcement.unwrap_or_default();
        let on_outage = if strict { Some(OnOutage::Deny) } else { self.on_outage };
        Brought {
            name: named(OVERRIDE_LABEL),
            api_key_name: named(API_KEY_LABEL),
            zone: self.zone.clone(),
            algorithm: self.algorithm,
            mode,
            strict,
            enforced: share,
            on_outage: on_outage.unwrap_or_default(),
            overdraft: if strict { Overdraft::None } else { self.overdraft },
            wait: self.wait,
            lease: self.lease,
            estimate: self.estimate.clone(),
            idempotency: self.idempotency.clone(),
        }
    }
}

fn zone(reader: &mut Reader<'_>, file: &PolicyFile) -> TimeZone {
    file.timezone.as_ref().map_or(TimeZone::UTC, |zone| {
        parse_zone(&zone.value).unwrap_or_else(|message| {
            reader.error(zone.span.clone(), message);
            TimeZone::UTC
        })
    })
}

/// The time zone with a name.
///
/// # Errors
/// A clause that names the unknown one.
pub fn parse_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name)
        .map_err(|_| format!("unknown time zone `{name}`; use a name such as Europe/Madrid"))
}
