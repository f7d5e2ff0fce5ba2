//! `PUT`, `PATCH` and `DELETE` of `/v1/callers/{name}/quota`: amounts of one caller, instead of the policy's.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::http::auth::Operator;
use crate::http::callers::unknown_caller;
use crate::http::change::{ChangeBy, Edit, Edited, INVALID_CALLER, NewNames, etag};
use crate::http::extract::{JsonObject, UrlPath, UrlQuery};
use crate::http::openapi::{self, Operation};
use crate::http::problem::Problem;
use crate::http::reply::{NoContent, Stored, Tagged};
use crate::policy::{Caller, CallerForm, OverrideForm, OverrideUntilForm, parse_until};
use crate::store::Record;

pub fn operations() -> [Operation; 3] {
    [
        openapi::put(
            "/v1/callers/{name}/quota",
            "putQuota",
            "Replace the overrides of a caller: amounts instead of the policy's, until a time if they have one",
            put,
        ),
        openapi::patch(
            "/v1/callers/{name}/quota",
            "patchQuota",
            "Set or remove some overrides of a caller",
            patch,
        ),
        openapi::delete(
            "/v1/callers/{name}/quota",
            "deleteQuota",
            "Remove the overrides of a caller, or that of one limit",
            remove,
        )
        .or([(404, "There is no such caller, or it has no such override"), INVALID_CALLER]),
    ]
}

/// All overrides of a caller.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Overrides")]
pub struct OverridesForm {
    /// By the name of the limit: an amount, or an amount or a tier until a time. At most 32.
    pub overrides: BTreeMap<String, OverrideForm>,
}

/// Changes of the overrides of a caller.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OverridesPatch")]
pub struct OverridesPatchForm {
    /// By the name of the limit; null removes the override.
    pub overrides: BTreeMap<String, Option<OverrideForm>>,
}

/// The overrides to remove.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemovalParams {
    /// Only that of this limit; all if absent.
    pub limit: Option<String>,
}

/// Replaces all overrides of a caller, which is created if it is unknown.
async fn put(
    by: ChangeBy<Operator>,
    UrlPath(name): UrlPath<String>,
    names: NewNames,
    JsonObject(form): JsonObject<OverridesForm>,
) -> Result<Stored<OverridesForm>, Problem> {
    let edit = Edit { request: &by.request, names, action: "put quota", name: &name };
    let edited = edit.apply(|caller| {
        let overrides = form.overrides.clone();
        let before = known(caller).overrides;
        let new = overrides.iter().filter(|(limit, form)| before.get(*limit) != Some(form));
        check_ends(new, by.request.now())?;
        Ok(Some(CallerForm { overrides, ..known(caller) }))
    });
    stored(edited.await?, &name)
}

/// Changes some overrides of a caller, which is created if it is unknown.
pub async fn patch(
    by: ChangeBy<Operator>,
    UrlPath(name): UrlPath<String>,
    names: NewNames,
    JsonObject(patch): JsonObject<OverridesPatchForm>,
) -> Result<Stored<OverridesForm>, Problem> {
    let set = patch.overrides.iter().filter_map(|(limit, form)| Some((limit, form.as_ref()?)));
    check_ends(set, by.request.now())?;
    let edit = Edit { request: &by.request, names, action: "patch quota", name: &name };
    let edited = edit.apply(|caller| {
        let mut form = known(caller);
        for (limit, change) in &patch.overrides {
            match change {
                Some(change) => drop(form.overrides.insert(limit.clone(), change.clone())),
                None => drop(form.overrides.remove(limit)),
            }
        }
        Ok(Some(form))
    });
    stored(edited.await?, &name)
}

/// Removes overrides of a caller.
pub async fn remove(
    by: ChangeBy<Operator>,
    UrlPath(name): UrlPath<String>,
    UrlQuery(RemovalParams { limit }): UrlQuery<RemovalParams>,
) -> Result<NoContent, Problem> {
    let names = NewNames::OfPolicies;
    let edit = Edit { request: &by.request, names, action: "delete quota", name: &name };
    edit.apply(|caller| {
        let mut form = caller.map(CallerForm::from).ok_or_else(|| unknown_caller(&name))?;
        match &limit {
            None => form.overrides.clear(),
            Some(limit) => {
                if form.overrides.remove(limit).is_none() {
                    let detail = format!("`{name}` has no override of `{limit}`");
                    return Err(Problem::new(StatusCode::NOT_FOUND, detail));
                }
            }
        }
        Ok(Some(form))
    })
    .await?;
    Ok(NoContent)
}

/// Checks that none of new overrides has ended already: it would change nothing.
fn check_ends<'f>(
    overrides: impl IntoIterator<Item = (&'f String, &'f OverrideForm)>,
    now: Timestamp,
) -> Result<(), Problem> {
    for (limit, form) in overrides {
        let OverrideForm::Until(OverrideUntilForm { until: Some(until), .. }) = form else {
            continue;
        };
        // An invalid time is a flaw of the form.
        if parse_until(until).is_ok_and(|end| end <= now) {
            let detail = format!("overrides.{limit}.until: {until} is in the past");
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
    }
    Ok(())
}

/// The form of a caller; an empty one if it is unknown.
fn known(caller: Option<&Caller>) -> CallerForm {
    caller.map(CallerForm::from).unwrap_or_default()
}

fn stored(edited: Edited, name: &str) -> Result<Stored<OverridesForm>, Problem> {
    let record = edited.after.ok_or_else(|| unknown_caller(name))?;
    let tagged = tagged(&record);
    Ok(if edited.before.is_some() { Stored::Replaced(tagged) } else { Stored::Created(tagged) })
}

fn tagged(record: &Record) -> Tagged<OverridesForm> {
    let overrides = CallerForm::from(&*record.caller).overrides;
    Tagged { etag: etag(record), body: OverridesForm { overrides } }
}
