//! Changes an API key: reads it, decides the change, records it in the audit log, and writes it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;

use super::limits;
use crate::api_keys::{ApiKey, ApiKeyForm, ApiKeyRecord, SECRETS_MAX, is_id, new_id};
use crate::clock::{Backoff, Timestamp};
use crate::engine::ApiKeys;
use crate::http::auth::Principal;
use crate::http::edge::Edge;
use crate::http::problem::Problem;
use crate::http::recorded::Recorded;
use crate::observe::audit::{Changed, instant};
use crate::policy::{Domain, Flaw, nearest, show_time};
use crate::store::{ApiKeyChange, ApiKeyError};

/// Maximum number of attempts while concurrent changes win, and the pauses between them.
const ATTEMPTS_MAX: u32 = 8;
const RETRY: Backoff = Backoff::new(Duration::from_millis(32), Duration::from_millis(256));

/// API keys of a caller that are erased at once.
const ERASED_AT_ONCE: usize = 100;

/// A change to make.
pub struct Change<'e> {
    pub edge: &'e Edge,
    pub principal: &'e Principal,
    /// The operation, for the audit log.
    pub what: &'static str,
    /// The revision that the record must have. None: any.
    pub revision: Option<u64>,
}

/// The API keys of the process.
///
/// # Errors
/// If it has none.
pub fn keys(edge: &Edge) -> Result<&ApiKeys, Problem> {
    edge.api.api_keys.as_deref().ok_or_else(|| {
        let detail = "no API keys are kept here: set `api_key_pepper_file`";
        Problem::new(StatusCode::NOT_FOUND, detail)
    })
}

/// The record of an id.
///
/// # Errors
/// If there is none, or the store is unavailable.
pub async fn read(edge: &Edge, id: &str) -> Result<Arc<ApiKeyRecord>, Problem> {
    keys(edge)?.store.read(id).await?.ok_or_else(|| unknown(id))
}

impl Change<'_> {
    /// Replaces the record of an id by the result of `decide`.
    pub async fn apply(
        &self,
        id: &str,
        decide: impl Fn(&ApiKeyRecord) -> Result<ApiKeyRecord, Problem> + Send + Sync,
    ) -> Result<ApiKeyRecord, Problem> {
        for attempt in 0..ATTEMPTS_MAX {
            if let Some(failures) = attempt.checked_sub(1) {
                // A concurrent change of the API key won.
                tokio::time::sleep(RETRY.jittered(failures)).await;
            }
            let before = self.before(id).await?;
            let after = decide(&before)?;
            if *before == after || self.write(Some(&before), Some(&after)).await?.is_some() {
                return Ok(after);
            }
        }
        Err(conflict())
    }

    /// Removes the record of an id.
    pub async fn remove(&self, id: &str) -> Result<(), Problem> {
        for attempt in 0..ATTEMPTS_MAX {
            if let Some(failures) = attempt.checked_sub(1) {
                // A concurrent change of the API key won.
                tokio::time::sleep(RETRY.jittered(failures)).await;
            }
            let before = self.before(id).await?;
            if self.write(Some(&before), None).await?.is_some() {
                limits::remove(self.edge, &before).await;
                return Ok(());
            }
        }
        Err(conflict())
    }

    /// The record that is changed.
    async fn before(&self, id: &str) -> Result<Arc<ApiKeyRecord>, Problem> {
        let before = read(self.edge, id).await?;
        match self.revision {
            Some(revision) if revision != before.revision => {
                let detail = "the API key was changed meanwhile; look at it again";
                Err(Problem::new(StatusCode::CONFLICT, detail))
            }
            _ => Ok(before),
        }
    }

    /// Writes a change, after its line in the audit log. None if a concurrent change came first.
    pub async fn write(
        &self,
        before: Option<&ApiKeyRecord>,
        after: Option<&ApiKeyRecord>,
    ) -> Result<Option<u64>, Problem> {
        let change = ApiKeyChange { before, after };
        let form = |record: &ApiKeyRecord| Box::new(ApiKeyForm::from(&record.key));
        let changed = Changed::ApiKey {
            id: change.id().to_owned(),
            caller: change.caller().to_owned(),
            before: before.map(form),
            after: after.map(form),
        };
        let recorded = Recorded::begin(self.edge, self.principal, self.what, changed).await?;
        let written = keys(self.edge)?.store.write(change).await;
        let written =
            written.map_err(Problem::from).and_then(|revision| revision.ok_or_else(conflict));
        match recorded.end(written).await {
            Ok(revision) => Ok(Some(revision)),
            Err(problem) if problem.status == StatusCode::CONFLICT => Ok(None),
            Err(problem) => Err(problem),
        }
    }
}

/// Deletes all API keys of a caller, and returns their number. It has a line in the audit log for all of them.
pub async fn erase(edge: &Edge, caller: &str) -> Result<u64, Problem> {
    let Some(keys) = edge.api.api_keys.as_deref() else { return Ok(0) };
    let mut erased = 0;
    loop {
        let page = keys.store.page(Some(caller), ("", ERASED_AT_ONCE)).await?;
        if page.records.is_empty() {
            return Ok(erased);
        }
        for record in &page.records {
            let change = ApiKeyChange { before: Some(record), after: None };
            // One that was changed meanwhile is on the next page again.
            if keys.store.write(change).await?.is_some() {
                limits::remove(edge, record).await;
                erased += 1;
            }
        }
    }
}

/// The API key of a form.
fn checked(form: &ApiKeyForm) -> Result<ApiKey, Problem> {
    form.check().map_err(|flaws| {
        let all: Vec<String> = flaws.iter().map(Flaw::to_string).collect();
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, all.join("; "))
    })
}

/// Checks the form of a new API key of a domain, and returns the prefix of its text.
///
/// # Errors
/// If there is no such domain, or its policy does not know the tier or a scope.
fn checked_prefix(edge: &Edge, domain: Option<&str>, form: &ApiKeyForm) -> Result<String, Problem> {
    let policies = edge.engine.policies();
    let checking = policies.api_key_domain(domain);
    let Some((domain, policy)) = checking.and_then(|one| Some((one, one.api_keys.as_ref()?)))
    else {
        let detail = match domain {
            Some(name) => format!("the policy of the domain `{name}` has no `api_keys`"),
            None => "no policy has `api_keys`, or several have: then name the `domain`".to_owned(),
        };
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    };
    check_tier(&[domain], form.tier.as_deref())?;
    check_scopes(&[domain], (&form.scopes, &[]))?;
    check_routes(&[domain], &form.scopes)?;
    Ok(policy.prefix.to_string())
}

/// Checks the form of a new API key of a domain, and returns it with the prefix of its text.
///
/// # Errors
/// What is wrong with it.
pub fn check_new(
    edge: &Edge,
    domain: Option<&str>,
    form: &ApiKeyForm,
) -> Result<(ApiKey, String), Problem> {
    let key = checked(form)?;
    check_end(edge, None, (form, &key))?;
    let prefix = checked_prefix(edge, domain, form)?;
    Ok((key, prefix))
}

/// Checks that a new end of an API key is to come, and some of its new times.
fn check_end(
    edge: &Edge,
    before: Option<&ApiKeyForm>,
    (form, key): (&ApiKeyForm, &ApiKey),
) -> Result<(), Problem> {
    let now = edge.engine.now();
    let has_new_times = before.is_none_or(|before| before.when != form.when);
    if let Some(times) = key.when.as_ref().filter(|times| has_new_times && times.are_over(now)) {
        let detail = format!("when.dates: `{}` is in the past", times.form.dates.join(", "));
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let shown = key.expires_at.map(show_time);
    let is_new = before.is_none_or(|before| before.expires_at != shown);
    if !is_new || key.expires_at.is_none_or(|end| now < end) {
        return Ok(());
    }
    let said = form.expires_at.as_deref().unwrap_or_default();
    let remedy = before.map_or("", |_| "; to end the API key now, disable or delete it");
    let detail =
        format!("expires_at: `{said}` is in the past: it is {} now{remedy}", show_time(now));
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
}

/// Checks a change of a form. A policy that has lost a tier or a scope must not keep anybody from disabling an API key: so
/// only what is changed is compared with policies.
///
/// # Errors
/// What is wrong with it.
pub fn check_change(
    edge: &Edge,
    before: &ApiKeyForm,
    after: &ApiKeyForm,
) -> Result<ApiKey, Problem> {
    if after.caller != before.caller {
        let detail = "the caller of an API key can't be changed; create another API key";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let key = checked(after)?;
    check_end(edge, Some(before), (after, &key))?;
    let policies = edge.engine.policies();
    let mut domains = policies.domains();
    domains.retain(|domain| domain.api_keys.is_some());
    check_tier(&domains, after.tier.as_deref().filter(|_| after.tier != before.tier))?;
    check_scopes(&domains, (&after.scopes, &before.scopes))?;
    if after.scopes != before.scopes {
        check_routes(&domains, &after.scopes)?;
    }
    Ok(key)
}

/// Checks that one of these domains knows a tier.
fn check_tier(domains: &[&Domain], tier: Option<&str>) -> Result<(), Problem> {
    let Some(tier) = tier else { return Ok(()) };
    if domains.iter().any(|domain| domain.classes.tier(tier).is_some()) {
        return Ok(());
    }
    let mut known: Vec<&str> =
        domains.iter().flat_map(|domain| &domain.classes.tiers).map(|tier| &**tier).collect();
    known.dedup();
    let detail = match known.as_slice() {
        [] => format!("tier: unknown tier `{tier}`; the policy has no tiers"),
        known => format!("tier: unknown tier `{tier}`; use one of {}", known.join(", ")),
    };
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
}

/// Checks that one of these domains knows each scope that the API key did not have before. A policy without any scope leaves
/// them to upstreams.
fn check_scopes(
    domains: &[&Domain],
    (scopes, before): (&[String], &[String]),
) -> Result<(), Problem> {
    let known: Vec<BTreeSet<&str>> = domains
        .iter()
        .filter_map(|domain| Some(domain.api_keys.as_ref()?.known_scopes()))
        .collect();
    let is_known = |scope: &String| {
        before.contains(scope)
            || known.iter().any(|known| known.is_empty() || known.contains(&**scope))
    };
    let Some((index, scope)) = scopes.iter().enumerate().find(|(_, scope)| !is_known(scope)) else {
        return Ok(());
    };
    let all: Vec<&str> = known.into_iter().flatten().collect::<BTreeSet<_>>().into_iter().collect();
    let meant =
        nearest(scope, &all).map(|meant| format!("did you mean `{meant}`? ")).unwrap_or_default();
    let detail = format!(
        "scopes.{index}: unknown scope `{scope}`; {meant}The policy has {}; scopes for upstreams alone belong in `scopes` of `api_keys`",
        all.join(", ")
    );
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
}

/// Checks that an API key with these scopes could make some request of one of these domains.
fn check_routes(domains: &[&Domain], scopes: &[String]) -> Result<(), Problem> {
    let mut policies = domains.iter().filter_map(|domain| domain.api_keys.as_ref());
    let has = |scope: &str| scopes.iter().any(|one| one == scope);
    let is_open = policies.any(|policy| {
        let routes = &policy.routes;
        routes.allows_others()
            || routes.routes().is_empty()
            || routes.routes().iter().any(|route| route.scopes.iter().all(|scope| has(scope)))
    });
    if is_open || domains.is_empty() {
        return Ok(());
    }
    let known: BTreeSet<&str> = domains
        .iter()
        .filter_map(|one| Some(one.api_keys.as_ref()?.known_scopes()))
        .flatten()
        .collect();
    let known: Vec<&str> = known.into_iter().collect();
    let detail = format!(
        "scopes: the API key could make no request, since each route needs other scopes; the policy has {}",
        known.join(", ")
    );
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
}

/// A new id.
///
/// # Errors
/// If the system has no randomness.
pub fn fresh_id() -> Result<String, Problem> {
    new_id().map_err(|error| no_randomness(&error))
}

/// A problem: there is no API key with this id. What has not the form of an id is not repeated: it may be the API key itself.
fn unknown(id: &str) -> Problem {
    let detail = match is_id(id) {
        true => format!("unknown API key `{id}`"),
        false => "unknown API key: its id has the form key_0123456789abc".to_owned(),
    };
    Problem::new(StatusCode::NOT_FOUND, detail)
}

/// A problem: concurrent changes came first.
fn conflict() -> Problem {
    let detail = "too many concurrent changes of the API key; retry later";
    Problem::new(StatusCode::CONFLICT, detail)
}

/// A problem: another rotation would end a text of the API key in its overlap.
pub fn too_many_texts(first_end: Timestamp) -> Problem {
    let detail = format!(
        "{SECRETS_MAX} texts of the API key are valid, the most at once; the first overlap ends at {}. Rotate then, or \
         with a shorter overlap, which ends theirs too",
        instant(first_end)
    );
    Problem::new(StatusCode::CONFLICT, detail)
}

/// A problem: the system has no randomness.
pub fn no_randomness(error: &getrandom::Error) -> Problem {
    tracing::error!(%error, "the system has no randomness; no API key was made");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the system has no randomness")
}

impl From<ApiKeyError> for Problem {
    fn from(error: ApiKeyError) -> Self {
        let status = match error {
            ApiKeyError::Store(_) | ApiKeyError::File(_) => StatusCode::SERVICE_UNAVAILABLE,
            ApiKeyError::Full => StatusCode::INSUFFICIENT_STORAGE,
        };
        Self::new(status, error.to_string())
    }
}
