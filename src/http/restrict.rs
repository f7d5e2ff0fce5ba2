//! Restricts a caller for a time, because of an alert: by overrides, as an operator would set them over the API.

use std::sync::Arc;

use axum::http::StatusCode;

use super::auth::Principal;
use super::change::{ChangeRequest, Edit, NewNames};
use super::edge::{Api, Edge};
use super::problem::Problem;
use crate::api_token::Role;
use crate::clock::Timestamp;
use crate::engine::{Engine, Readiness};
use crate::metrics::{Metrics, Port};
use crate::observe::invalid::InvalidRequests;
use crate::policy::{
    Caller, CallerForm, Domain, Lineage, NAME_LEN_MAX, OverrideForm, OverrideUntilForm, show_time,
    tighter_limits,
};
use crate::store::StoreWait;

/// A record keeps up to so many bytes of a name that is longer.
const CUT_LEN: usize = 4;

/// The restriction of a caller.
#[derive(Clone, Copy, Debug)]
pub struct Restriction<'a> {
    /// The name of the rule, for the audit log.
    pub rule: &'a str,
    pub caller: &'a str,
    /// The domain of the alert; None: all.
    pub domain: Option<&'a str>,
    /// The tier whose amounts the caller gets.
    pub tier: &'a str,
    pub until: Timestamp,
}

/// Restricts callers.
#[derive(Debug)]
pub struct Restrictor {
    edge: Edge,
}

impl Restrictor {
    /// Restricts callers of this engine's directory.
    pub fn new(engine: Arc<Engine>, metrics: Arc<Metrics>, api: Api) -> Self {
        let invalid = InvalidRequests::new(Port::Http, metrics.clone());
        let readiness = Readiness::default();
        Self { edge: Edge { engine, metrics, readiness, api: Arc::new(api), invalid } }
    }

    /// Gives a caller the amounts of a tier until a time, for each limit of which it has more and that has no override. Returns
    /// the number of these limits. It never gets more of a limit.
    ///
    /// # Errors
    /// The reason that nothing was changed.
    pub async fn restrict(&self, restriction: &Restriction<'_>) -> Result<usize, String> {
        let made = self.make(restriction).await;
        made.map_err(|problem| problem.detail)
    }

    async fn make(&self, restriction: &Restriction<'_>) -> Result<usize, Problem> {
        let Restriction { rule, caller, domain, tier, until } = *restriction;
        if NAME_LEN_MAX - CUT_LEN < caller.len() {
            return Err(conflict("the name of the caller may be cut"));
        }
        let engine = &self.edge.engine;
        engine.directory().writable()?;
        let lineage = engine.directory().lineage(caller, StoreWait::patient()).await;
        if lineage.is_incomplete {
            return Err(conflict("the directory is unavailable"));
        }
        let policies = engine.policies();
        let limits = tighter_limits(&policies, (tier, domain), |one| tier_of(one, &lineage));
        let now = engine.now();
        let principal =
            Principal { name: format!("alert {rule}"), role: Role::Operator, peer: None };
        let request = ChangeRequest::by(self.edge.clone(), principal);
        let edit = Edit {
            request: &request,
            names: NewNames::OfPolicies,
            action: "restrict",
            name: caller,
        };
        let edited = edit.apply(|known| restricted(known, &limits, (tier, until, now)).map(Some));
        let edited = edited.await?;
        let caller = edited.after.map(|after| after.caller).unwrap_or_default();
        let ends = caller.overrides.values().filter(|one| one.until == Some(until));
        Ok(ends.count())
    }
}

/// The caller with the overrides of its restriction.
fn restricted(
    caller: Option<&Caller>,
    limits: &[String],
    (tier, until, now): (&str, Timestamp, Timestamp),
) -> Result<CallerForm, Problem> {
    if caller.is_some_and(|caller| caller.share.is_some()) {
        return Err(conflict("the caller has a share of its parent's limits"));
    }
    let mut form = caller.map(CallerForm::from).unwrap_or_default();
    let holds = |limit: &str| {
        let known = caller.and_then(|caller| caller.overrides.get(limit));
        known.is_some_and(|known| known.holds(now))
    };
    let free: Vec<&String> = limits.iter().filter(|limit| !holds(limit)).collect();
    if free.is_empty() {
        let detail = format!(
            "`{tier}` has less of no limit that has a name, is the caller's own and has no override"
        );
        return Err(conflict(&detail));
    }
    for limit in free {
        let (tier, until) = (Some(tier.to_owned()), Some(show_time(until)));
        let until = OverrideUntilForm { amount: None, tier, until };
        form.overrides.insert(limit.clone(), OverrideForm::Until(until));
    }
    Ok(form)
}

/// The index of the tier that the directory says; None if requests may say another one.
fn tier_of(domain: &Domain, lineage: &Lineage) -> Option<usize> {
    let classes = &domain.classes;
    if classes.tier_key.is_some() {
        return None;
    }
    let mut said = lineage.members.iter().filter_map(|member| member.caller.tier.as_deref());
    Some(said.find_map(|tier| classes.tier(tier)).unwrap_or(classes.default_tier))
}

fn conflict(detail: &str) -> Problem {
    Problem::new(StatusCode::CONFLICT, detail)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What an operator has set is not made larger, and holds on.
    #[test]
    fn a_limit_with_an_override_that_holds_is_left_alone() {
        let at = Timestamp::from_ms;
        let known = json!({ "overrides": {
            "daily": { "amount": 3 },
            "hourly": { "amount": 7, "until": "1970-01-01T00:00:05Z" },
        } });
        let known = serde_json::from_value::<CallerForm>(known).unwrap().check().unwrap();
        let limits = ["daily".to_owned(), "hourly".to_owned()];
        let restriction = ("restricted", at(9_000), at(5_000));
        let form = restricted(Some(&known), &limits, restriction).unwrap();
        let overrides = form.check().unwrap().overrides;
        assert_eq!(overrides.get("daily"), known.overrides.get("daily"));
        assert_eq!(overrides["hourly"].until, Some(at(9_000)), "the earlier one has ended");
        assert!(restricted(Some(&known), &limits[..1], restriction).is_err());
    }
}
