//! Changes an API key: reads it, decides the change, records it in the audit log, and writes it.

use std::time::Duration;

use axum::http::StatusCode;

use crate::api_keys::{ApiKey, ApiKeyForm, ApiKeyRecord};
use crate::clock::Backoff;
use crate::engine::ApiKeys;
use crate::http::auth::Principal;
use crate::http::edge::Edge;
use crate::http::problem::Problem;
use crate::http::recorded::Recorded;
use crate::observe::audit::Changed;
use crate::policy::Flaw;
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
            let before = keys(self.edge)?.store.read(id).await?.ok_or_else(|| unknown(id))?;
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
            let before = keys(self.edge)?.store.read(id).await?.ok_or_else(|| unknown(id))?;
            if self.write(Some(&before), None).await?.is_some() {
                return Ok(());
            }
        }
        Err(conflict())
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
            erased += u64::from(keys.store.write(change).await?.is_some());
        }
    }
}

/// The API key of a form.
pub fn checked(form: &ApiKeyForm) -> Result<ApiKey, Problem> {
    form.check().map_err(|flaws| {
        let all: Vec<String> = flaws.iter().map(Flaw::to_string).collect();
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, all.join("; "))
    })
}

/// The prefix of new API keys of a domain, whose tiers must have that of the form.
pub fn checked_prefix(
    edge: &Edge,
    domain: Option<&str>,
    form: &ApiKeyForm,
) -> Result<String, Problem> {
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
    match form.tier.as_deref().filter(|tier| domain.classes.tier(tier).is_none()) {
        Some(tier) => Err(unknown_tier(tier)),
        None => Ok(policy.prefix.to_string()),
    }
}

/// Checks that any domain with API keys has the tier of a form.
pub fn check_tier(edge: &Edge, form: &ApiKeyForm) -> Result<(), Problem> {
    let Some(tier) = form.tier.as_deref() else { return Ok(()) };
    let policies = edge.engine.policies();
    let mut domains = policies.domains().into_iter().filter(|domain| domain.api_keys.is_some());
    match domains.any(|domain| domain.classes.tier(tier).is_some()) {
        true => Ok(()),
        false => Err(unknown_tier(tier)),
    }
}

/// The prefix of an API key, from its hint: without the underscore and the digits after it.
pub fn prefix_of(record: &ApiKeyRecord) -> String {
    let hint = record.secrets.first().map_or("", |secret| &secret.hint);
    hint.rsplit_once('_').map_or(hint, |(prefix, _)| prefix).to_owned()
}

fn unknown_tier(tier: &str) -> Problem {
    let detail =
        format!("tier: unknown tier `{tier}`; the policy with `api_keys` does not have it");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

/// A problem: there is no API key with this id.
pub fn unknown(id: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("unknown API key `{id}`"))
}

/// A problem: concurrent changes came first.
pub fn conflict() -> Problem {
    let detail = "too many concurrent changes of the API key; retry later";
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
