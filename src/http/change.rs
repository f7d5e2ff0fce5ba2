//! Changes a caller over HTTP: reads it, decides the change, validates it, records it in the audit log, and writes it.
//!
//! A change is written only if the record is still the one that it is based on. Otherwise all steps are repeated. So no
//! change overwrites another one, and a condition still holds when the change is made. The same applies to the parents
//! that the validation has read.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;

use super::auth::{Authorized, Principal, Refusal, RequiredRole};
use super::directory_problem::reason;
use super::edge::Edge;
use super::extract::UrlQuery;
use super::openapi::{Description, Guard, Input, NO_CALLER, StatusText};
use super::problem::Problem;
use super::recorded;
use super::replicated::confirmed;
use crate::api_token::Role;
use crate::clock::{Backoff, Timestamp};
use crate::engine::stored_name;
use crate::observe::audit::{Changed, Entry};
use crate::policy::{
    Caller, CallerForm, CallerNames, Flaw, PARENTS_MAX, check_caller_name, check_parents,
};
use crate::store::{Change, Record};

/// Maximum number of attempts while concurrent changes win.
const ATTEMPTS_MAX: u32 = 8;

/// The problem of a change of a caller that is, or would be, invalid.
pub const INVALID_CALLER: StatusText = (
    422,
    "The caller is invalid: for example, its tier or a limit is unknown to the loaded policies",
);

/// The pauses between them, which separate concurrent writers.
const RETRY: Backoff = Backoff::new(Duration::from_millis(32), Duration::from_millis(256));

/// A request to change a caller, without its path and body.
#[derive(Debug)]
pub struct ChangeRequest {
    edge: Edge,
    principal: Principal,
    /// With its conditions: `If-Match` and `If-None-Match`.
    headers: HeaderMap,
}

/// A [`ChangeRequest`] of a principal that has the role `R` or a higher one.
#[derive(Debug)]
pub struct ChangeBy<R> {
    pub request: ChangeRequest,
    role: PhantomData<R>,
}

/// A change to make.
#[derive(Clone, Copy, Debug)]
pub struct Edit<'a> {
    pub request: &'a ChangeRequest,
    pub names: NewNames,
    /// The action, for the audit log.
    pub action: &'static str,
    /// The caller's name.
    pub name: &'a str,
}

/// The tiers and limits that a change may add to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewNames {
    /// The names of the policies in force.
    OfPolicies,
    /// Any: a later policy may have them.
    Any,
}

/// The query of a change.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ForceQuery {
    /// Also write a tier, an override or a bonus that is unknown to all policies in force.
    #[serde(default)]
    force: bool,
}

impl ChangeRequest {
    /// A change without conditions by a principal that may make it.
    pub fn by(edge: Edge, principal: Principal) -> Self {
        Self { edge, principal, headers: HeaderMap::new() }
    }

    /// The time by the engine's clock.
    pub fn now(&self) -> Timestamp {
        self.edge.engine.now()
    }
}

impl<R> ChangeBy<R> {
    /// A change without conditions by an authorized principal.
    pub fn new(edge: &Edge, by: Authorized<R>) -> Self {
        Self { request: ChangeRequest::by(edge.clone(), by.principal), role: PhantomData }
    }
}

impl<R: RequiredRole> FromRequestParts<Edge> for ChangeBy<R> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Refusal> {
        let Authorized { principal, .. } = Authorized::<R>::from_request_parts(parts, edge).await?;
        let (edge, headers) = (edge.clone(), parts.headers.clone());
        Ok(Self { request: ChangeRequest { edge, principal, headers }, role: PhantomData })
    }
}

impl<R: RequiredRole> Guard for ChangeBy<R> {
    const ROLE: Role = R::ROLE;

    fn describe(description: &mut Description<'_>) {
        description.header("If-Match", "Change the caller only if its ETag is one of these");
        description.header("If-None-Match", "Change the caller only if its ETag is none of these");
        let (_, no_caller) = NO_CALLER;
        description.problem("404", no_caller);
        description.problem("409", "Callers are in files, or other changes came first");
        description.problem("503", "Redis, the file of callers or the audit log is unavailable");
        description.problem("507", "The directory has the most callers that it keeps");
        description.problem("412", "A condition failed: the caller was changed or does not exist");
    }
}

impl FromRequestParts<Edge> for NewNames {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        let UrlQuery(ForceQuery { force }) = UrlQuery::from_request_parts(parts, edge).await?;
        Ok(if force { Self::Any } else { Self::OfPolicies })
    }
}

impl Input for NewNames {
    fn describe(description: &mut Description<'_>) {
        description.query::<ForceQuery>();
        let (_, invalid) = INVALID_CALLER;
        description.problem("422", invalid);
    }
}

/// A valid caller, and the records that its validation has read: names and revisions.
struct Checked {
    caller: Arc<Caller>,
    depends_on: Vec<(Arc<str>, u64)>,
}

/// The result of an edit; before and after may be equal.
#[derive(Clone, Debug)]
pub struct Edited {
    pub before: Option<Record>,
    /// None: it was deleted.
    pub after: Option<Record>,
}

impl Edited {
    /// Whether the edit has disabled the caller, or an earlier one has, which it repeats.
    fn is_disabled_by_it(&self) -> bool {
        let Some(after) = self.after.as_ref().filter(|after| after.caller.disabled) else {
            return false;
        };
        let before = self.before.as_ref();
        before.is_none_or(|before| !before.caller.disabled || before.revision == after.revision)
    }
}

impl Edit<'_> {
    /// Replaces the caller by the result of `decide`; None deletes it. One that is disabled waits for a replica.
    pub async fn apply(
        &self,
        decide: impl Fn(Option<&Caller>) -> Result<Option<CallerForm>, Problem> + Send + Sync,
    ) -> Result<Edited, Problem> {
        let edited = self.make(decide).await?;
        if edited.is_disabled_by_it() {
            let is_replicated = self.request.edge.engine.directory().is_replicated().await;
            confirmed(is_replicated, "the caller is disabled")?;
        }
        Ok(edited)
    }

    async fn make(
        &self,
        decide: impl Fn(Option<&Caller>) -> Result<Option<CallerForm>, Problem> + Send + Sync,
    ) -> Result<Edited, Problem> {
        check_name(self.name)?;
        let directory = self.request.edge.engine.directory();
        directory.writable()?;
        for attempt in 0..ATTEMPTS_MAX {
            if let Some(failures) = attempt.checked_sub(1) {
                // A concurrent change won.
                tokio::time::sleep(RETRY.jittered(failures)).await;
            }
            let before = directory.read(self.name).await?;
            check_conditions(&self.request.headers, before.as_ref())?;
            let after = match decide(before.as_ref().map(|record| &*record.caller))? {
                Some(form) => Some(self.checked(&form, before.as_ref()).await?),
                None => None,
            };
            let known = before.as_ref().map(|record| &record.caller);
            if known == after.as_ref().map(|checked| &checked.caller) {
                return Ok(Edited { after: before.clone(), before });
            }
            if let Some(revision) = self.write(before.as_ref(), after.as_ref()).await? {
                let after = after.map(|checked| Record { caller: checked.caller, revision });
                return Ok(Edited { before, after });
            }
        }
        let detail = format!("too many concurrent changes of `{}`; retry later", self.name);
        Err(Problem::new(StatusCode::CONFLICT, detail))
    }

    /// Writes a line, and then removes the record if there is one. Returns whether there was.
    pub async fn remove(&self) -> Result<bool, Problem> {
        if check_name(self.name).is_err() {
            // No record has such a name, but usage and logs may, as far as they keep it.
            let kept = Edit { name: stored_name(self.name), ..*self };
            kept.record(&kept.entry(None, None)).await?;
            return Ok(false);
        }
        let directory = self.request.edge.engine.directory();
        if directory.writable().is_ok() {
            let edited = self.apply(|_| Ok(None)).await?;
            if edited.before.is_some() {
                return Ok(true);
            }
        } else if matches!(directory.read(self.name).await, Ok(Some(_))) {
            directory.writable()?;
        }
        self.record(&self.entry(None, None)).await?;
        Ok(false)
    }

    /// The caller of a form, if it is valid. If the parent is unchanged it may be missing, so that the other fields can
    /// be changed.
    async fn checked(
        &self,
        form: &CallerForm,
        before: Option<&Record>,
    ) -> Result<Checked, Problem> {
        let invalid = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
        let caller = form.check().map_err(|flaws| invalid(joined(&flaws)))?;
        if self.names == NewNames::OfPolicies {
            let policies = self.request.edge.engine.policies();
            let names = CallerNames::of(&policies);
            let flaws = names.check(&caller, before.map(|record| &*record.caller));
            if !flaws.is_empty() {
                let all = joined(&flaws);
                return Err(invalid(format!(
                    "{all}; use `?force=true`, or the flag `--force`, to write it anyway"
                )));
            }
        }
        let known = before.and_then(|record| record.caller.parent.as_ref());
        let mut depends_on = Vec::new();
        if let Some(parent) = caller.parent.as_ref().filter(|parent| known != Some(parent)) {
            let parents = self.parents(parent).await?;
            let parent_of = |name: &str| {
                parents.get(name).map(|record| record.caller.parent.as_deref().map(Arc::from))
            };
            check_parents(self.name, parent, parent_of)
                .map_err(|error| invalid(format!("parent: {error}")))?;
            depends_on =
                parents.into_iter().map(|(name, record)| (name, record.revision)).collect();
        }
        Ok(Checked { caller: Arc::new(caller), depends_on })
    }

    /// The records of `parent` and its parents, up to the maximum number of levels.
    async fn parents(&self, parent: &str) -> Result<HashMap<Arc<str>, Record>, Problem> {
        let mut parents = HashMap::new();
        let mut next: Option<Arc<str>> = Some(parent.into());
        while let Some(name) = next.filter(|name| !parents.contains_key(name)) {
            if PARENTS_MAX < parents.len() {
                break;
            }
            let Some(record) = self.request.edge.engine.directory().read(&name).await? else {
                break;
            };
            next = record.caller.parent.as_deref().map(Arc::from);
            parents.insert(name, record);
        }
        Ok(parents)
    }

    /// The revision of the change, or None if a concurrent change won. It is in the audit log before it is made.
    async fn write(
        &self,
        before: Option<&Record>,
        after: Option<&Checked>,
    ) -> Result<Option<u64>, Problem> {
        let caller = after.map(|checked| &*checked.caller);
        let depends_on = after.map_or(&[][..], |checked| &checked.depends_on);
        let mut entry = self.entry(before.map(|record| &*record.caller), caller);
        self.record(&entry).await?;
        let seen = before.map_or(0, |record| record.revision);
        let change = Change { name: self.name, seen, depends_on, caller };
        let written = self.request.edge.engine.directory().write(change).await;
        entry.failed = match &written {
            Ok(Some(_)) => return Ok(written?),
            Ok(None) => Some("a concurrent change came first".to_owned()),
            Err(error) => Some(reason(error)),
        };
        self.record(&entry).await?;
        Ok(written?)
    }

    fn entry(&self, before: Option<&Caller>, after: Option<&Caller>) -> Entry {
        let change = Changed::Record {
            caller: self.name.to_owned(),
            before: before.map(|caller| Box::new(CallerForm::from(caller))),
            after: after.map(|caller| Box::new(CallerForm::from(caller))),
        };
        let ChangeRequest { edge, principal, .. } = self.request;
        recorded::entry(edge, principal, self.action, change)
    }

    async fn record(&self, entry: &Entry) -> Result<(), Problem> {
        recorded::record(&self.request.edge, entry).await
    }
}

/// Refuses an invalid name.
pub fn check_name(name: &str) -> Result<(), Problem> {
    check_caller_name(name).map_err(|reason| Problem::new(StatusCode::BAD_REQUEST, reason))
}

/// The `ETag` of a record; records in files have none.
pub fn etag(record: &Record) -> Option<String> {
    (record.revision != 0).then(|| format!("\"{}\"", record.revision))
}

/// Whether a header of tags contains the record's; None without the header.
pub fn matches_etag(
    headers: &HeaderMap,
    header: &HeaderName,
    record: Option<&Record>,
) -> Option<bool> {
    let mut values = headers.get_all(header).iter().peekable();
    values.peek()?;
    let tag = record.and_then(etag);
    // A proxy that compresses makes our tag weak; `If-None-Match` uses weak comparison.
    let compares_weakly = *header == header::IF_NONE_MATCH;
    let matches = |item: &str| {
        let weak = item.strip_prefix("W/").filter(|_| compares_weakly);
        (item == "*" && record.is_some()) || Some(weak.unwrap_or(item)) == tag.as_deref()
    };
    Some(values.any(|value| {
        value.to_str().unwrap_or_default().split(',').any(|item| matches(item.trim()))
    }))
}

/// Checks `If-Match` and `If-None-Match`.
fn check_conditions(headers: &HeaderMap, record: Option<&Record>) -> Result<(), Problem> {
    let failed = |detail: &str| Err(Problem::new(StatusCode::PRECONDITION_FAILED, detail));
    if matches_etag(headers, &header::IF_MATCH, record) == Some(false) {
        return failed("If-Match failed: the caller was changed or does not exist");
    }
    if matches_etag(headers, &header::IF_NONE_MATCH, record) == Some(true) {
        return failed("If-None-Match failed: the caller matches it");
    }
    Ok(())
}

fn joined(flaws: &[Flaw]) -> String {
    flaws.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
