//! A change of a caller over HTTP: read, decide, check, tell the audit log, write.
//!
//! What is written is only what was read, with the change: if somebody else was faster, all of it is done
//! anew. So two changes never make one of them undone, and a condition that held when it was looked at
//! still holds when the change is made. The same goes for the parents that a check has read: if one of them is
//! another one when the change is made, the check is done anew.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::StatusCode;
use axum::http::header;
use serde::Deserialize;

use super::edge::Asked;
use super::problem::Problem;
use crate::clock::Backoff;
use crate::observe::audit;
use crate::observe::audit::Entry;
use crate::policy::Caller;
use crate::policy::CallerForm;
use crate::policy::CallerNames;
use crate::policy::Flaw;
use crate::policy::PARENTS_MAX;
use crate::policy::check_caller_name;
use crate::policy::check_parents;
use crate::store::Change;
use crate::store::DirectoryError;
use crate::store::Record;

/// How often a change is tried while others are faster.
const ATTEMPTS_MAX: u32 = 8;

/// The pauses between them, so that many writers of one caller part.
const RETRY: Backoff = Backoff::new(Duration::from_millis(32), Duration::from_millis(256));

/// What is to be changed, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Edit<'a> {
    pub asked: &'a Asked,
    pub names: NewNames,
    /// A word for the audit log.
    pub what: &'static str,
    pub name: &'a str,
}

/// Which tiers and limits a change may name that the caller did not name before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewNames {
    /// Those of the policies in force.
    OfPolicies,
    /// Any: a policy that has them may come later.
    Any,
}

/// What the path of a change says after its question mark.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForceQuery {
    #[serde(default)]
    force: bool,
}

/// A [`ForceQuery`] that may not make sense.
pub type Force = Result<Query<ForceQuery>, QueryRejection>;

impl NewNames {
    /// What a query says.
    pub fn of(query: Force) -> Result<Self, Problem> {
        let Query(ForceQuery { force }) =
            query.map_err(|wrong| Problem::new(wrong.status(), wrong.body_text()))?;
        Ok(if force { Self::Any } else { Self::OfPolicies })
    }
}

/// A caller that may be written, and the records by which that was found: names and revisions.
struct Checked {
    caller: Arc<Caller>,
    depends_on: Vec<(Arc<str>, u64)>,
}

/// A change that was made, or that changed nothing.
#[derive(Clone, Debug)]
pub struct Made {
    pub before: Option<Record>,
    /// None: it is gone.
    pub after: Option<Record>,
}

impl Edit<'_> {
    /// Makes the change that `decide` says, given what is known now: the caller as it shall be, or None for
    /// its end.
    pub async fn make(
        &self,
        decide: impl Fn(Option<&Caller>) -> Result<Option<CallerForm>, Problem> + Send + Sync,
    ) -> Result<Made, Problem> {
        check_name(self.name)?;
        let directory = self.asked.edge.engine.directory();
        directory.writable()?;
        for attempt in 0..ATTEMPTS_MAX {
            if let Some(failures) = attempt.checked_sub(1) {
                // Somebody else was faster.
                tokio::time::sleep(RETRY.jittered(failures)).await;
            }
            let before = directory.read(self.name).await?;
            check_conditions(&self.asked.headers, before.as_ref())?;
            let after = match decide(before.as_ref().map(|record| &*record.caller))? {
                Some(form) => Some(self.checked(&form, before.as_ref()).await?),
                None => None,
            };
            let known = before.as_ref().map(|record| &record.caller);
            if known == after.as_ref().map(|checked| &checked.caller) {
                return Ok(Made { after: before.clone(), before });
            }
            if let Some(revision) = self.write(before.as_ref(), after.as_ref()).await? {
                let after = after.map(|checked| Record { caller: checked.caller, revision });
                return Ok(Made { before, after });
            }
        }
        let detail = format!("`{}` is being changed by others all the time", self.name);
        Err(Problem::new(StatusCode::CONFLICT, detail))
    }

    /// The caller that a form tells of. A parent that it had before may have gone: that is no reason not to
    /// change the rest.
    async fn checked(
        &self,
        form: &CallerForm,
        before: Option<&Record>,
    ) -> Result<Checked, Problem> {
        let wrong = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
        let caller = form.check().map_err(|flaws| wrong(joined(&flaws)))?;
        if self.names == NewNames::OfPolicies {
            let policies = self.asked.edge.engine.policies();
            let names = CallerNames::of(&policies);
            let flaws = names.check(&caller, before.map(|record| &*record.caller));
            if !flaws.is_empty() {
                let all = joined(&flaws);
                return Err(wrong(format!(
                    "{all}; `?force=true` writes it before a policy has it"
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
                .map_err(|error| wrong(format!("parent: {error}")))?;
            depends_on =
                parents.into_iter().map(|(name, record)| (name, record.revision)).collect();
        }
        Ok(Checked { caller: Arc::new(caller), depends_on })
    }

    /// The records of `parent` and those above, as far as they matter.
    async fn parents(&self, parent: &str) -> Result<HashMap<Arc<str>, Record>, Problem> {
        let mut parents = HashMap::new();
        let mut next: Option<Arc<str>> = Some(parent.into());
        while let Some(name) = next.filter(|name| !parents.contains_key(name)) {
            if PARENTS_MAX < parents.len() {
                break;
            }
            let Some(record) = self.asked.edge.engine.directory().read(&name).await? else { break };
            next = record.caller.parent.as_deref().map(Arc::from);
            parents.insert(name, record);
        }
        Ok(parents)
    }

    /// The revision of the change, or None if somebody else was faster. It is told before it is made.
    async fn write(
        &self,
        before: Option<&Record>,
        after: Option<&Checked>,
    ) -> Result<Option<u64>, Problem> {
        let caller = after.map(|checked| &*checked.caller);
        let depends_on = after.map_or(&[][..], |checked| &checked.depends_on);
        let mut entry = self.entry(before.map(|record| &*record.caller), caller);
        self.tell(&entry).await?;
        let seen = before.map_or(0, |record| record.revision);
        let change = Change { name: self.name, seen, depends_on, caller };
        let written = self.asked.edge.engine.directory().write(change).await;
        entry.failed = match &written {
            Ok(Some(_)) => return Ok(written?),
            Ok(None) => Some("another change came first".to_owned()),
            Err(error) => Some(reason(error)),
        };
        self.tell(&entry).await?;
        Ok(written?)
    }

    fn entry(&self, before: Option<&Caller>, after: Option<&Caller>) -> Entry {
        Entry {
            at: audit::instant(self.asked.edge.engine.now()),
            who: self.asked.origin.asker.name.clone(),
            peer: self.asked.origin.peer.map(|peer| peer.ip()),
            what: self.what,
            caller: self.name.to_owned(),
            before: before.map(CallerForm::from),
            after: after.map(CallerForm::from),
            failed: None,
        }
    }

    async fn tell(&self, entry: &Entry) -> Result<(), Problem> {
        self.asked.edge.api.audit.write(entry).await.map_err(|error| {
            tracing::error!(%error, "the audit log can't be written; no caller is changed");
            let detail = "the audit log can't be written, so nothing is changed";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        })
    }
}

/// Says that a name can't be a caller's.
pub fn check_name(name: &str) -> Result<(), Problem> {
    check_caller_name(name).map_err(|reason| Problem::new(StatusCode::BAD_REQUEST, reason))
}

/// The tag of a record; those of files have none.
pub fn etag(record: &Record) -> Option<String> {
    (record.revision != 0).then(|| format!("\"{}\"", record.revision))
}

/// Whether a header of tags names the record's.
pub fn names(headers: &HeaderMap, header: &HeaderName, record: Option<&Record>) -> Option<bool> {
    let mut values = headers.get_all(header).iter().peekable();
    values.peek()?;
    let tag = record.and_then(etag);
    // A weak tag, as a proxy that compresses makes of ours, is good enough not to match.
    let is_weak_fine = *header == header::IF_NONE_MATCH;
    let matches = |item: &str| {
        let weak = item.strip_prefix("W/").filter(|_| is_weak_fine);
        (item == "*" && record.is_some()) || Some(weak.unwrap_or(item)) == tag.as_deref()
    };
    Some(values.any(|value| {
        value.to_str().unwrap_or_default().split(',').any(|item| matches(item.trim()))
    }))
}

/// Looks at `If-Match` and `If-None-Match`.
fn check_conditions(headers: &HeaderMap, record: Option<&Record>) -> Result<(), Problem> {
    let failed = |detail: &str| Err(Problem::new(StatusCode::PRECONDITION_FAILED, detail));
    if names(headers, &header::IF_MATCH, record) == Some(false) {
        return failed("the caller is not as If-Match says; it was changed, or is not there");
    }
    if names(headers, &header::IF_NONE_MATCH, record) == Some(true) {
        return failed("the caller is as If-None-Match says it must not be");
    }
    Ok(())
}

impl From<DirectoryError> for Problem {
    fn from(error: DirectoryError) -> Self {
        let status = match &error {
            DirectoryError::None => StatusCode::NOT_FOUND,
            DirectoryError::Files => StatusCode::CONFLICT,
            DirectoryError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, reason(&error))
    }
}

fn joined(flaws: &[Flaw]) -> String {
    flaws.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What went wrong, with its cause: that Redis is a replica, say.
fn reason(error: &DirectoryError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
