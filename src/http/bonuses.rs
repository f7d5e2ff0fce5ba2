//! `/v1/callers/{name}/bonuses`: adds and removes bonuses.

use axum::http::StatusCode;

use super::auth::Operator;
use super::callers::{form_of, unknown_caller};
use super::change::{ChangeBy, Edit, INVALID_CALLER, NewNames};
use super::extract::{JsonObject, UrlPath};
use super::openapi::{self, NO_RANDOMNESS, Operation};
use super::problem::Problem;
use super::reply::{Created, NoContent};
use crate::policy::{BonusForm, show_time};

/// Random bytes of a generated id.
const ID_LEN: usize = 6;

pub fn operations() -> [Operation; 2] {
    [
        openapi::post(
            "/v1/callers/{name}/bonuses",
            "giveBonus",
            "Add a bonus to a caller; without an id, one is generated",
            give,
        )
        .or([
            (409, "The caller has a bonus with this id, is in files, or other changes came first"),
            NO_RANDOMNESS,
        ]),
        openapi::delete("/v1/callers/{name}/bonuses/{id}", "takeBonus", "Remove a bonus", take)
            .or([(404, "There is no such caller, or it has no such bonus"), INVALID_CALLER]),
    ]
}

/// Adds a bonus to a caller, and returns it with its id.
pub async fn give(
    by: ChangeBy<Operator>,
    UrlPath(name): UrlPath<String>,
    names: NewNames,
    JsonObject(mut bonus): JsonObject<BonusForm>,
) -> Result<Created<BonusForm>, Problem> {
    if bonus.end().is_some_and(|end| end <= by.request.now()) {
        let until = bonus.until.as_deref().unwrap_or_default();
        let detail = format!("`until`: {until} is in the past");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let id = bonus.id.take().map_or_else(random_id, Ok)?;
    bonus.id = Some(id.clone());
    if bonus.every.is_some() && bonus.from.is_none() {
        bonus.from = Some(show_time(by.request.now()));
    }
    let edit = Edit { request: &by.request, names, action: "give bonus", name: &name };
    let edited = edit.apply(|caller| {
        let mut form = form_of(caller, &name)?;
        if form.bonuses.iter().any(|known| known.id == bonus.id) {
            let detail = format!("`{name}` already has a bonus `{id}`");
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        form.bonuses.push(bonus.clone());
        Ok(Some(form))
    });
    let record = edited.await?.after.ok_or_else(|| unknown_caller(&name))?;
    let given =
        record.caller.bonuses.iter().map(BonusForm::from).find(|given| given.id == bonus.id);
    Ok(Created(given.unwrap_or(bonus)))
}

/// Removes a bonus.
pub async fn take(
    by: ChangeBy<Operator>,
    UrlPath((name, id)): UrlPath<(String, String)>,
) -> Result<NoContent, Problem> {
    let names = NewNames::OfPolicies;
    let edit = Edit { request: &by.request, names, action: "take bonus", name: &name };
    edit.apply(|caller| {
        let mut form = form_of(caller, &name)?;
        let before = form.bonuses.len();
        form.bonuses.retain(|bonus| bonus.id.as_ref() != Some(&id));
        if form.bonuses.len() == before {
            let detail = format!("`{name}` has no bonus `{id}`");
            return Err(Problem::new(StatusCode::NOT_FOUND, detail));
        }
        Ok(Some(form))
    })
    .await?;
    Ok(NoContent)
}

/// An id that no other has.
pub fn random_id() -> Result<String, Problem> {
    let mut bytes = [0; ID_LEN];
    getrandom::fill(&mut bytes).map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("generating an id failed: {error}"))
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
