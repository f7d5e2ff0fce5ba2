//! `/v1/callers/{name}/bonuses`: gives and takes bonuses one by one.

use axum::Json;
use axum::http::StatusCode;

use super::callers::Body;
use super::callers::Parts;
use super::callers::absent;
use super::callers::json;
use super::callers::part;
use super::change::Edit;
use super::change::Force;
use super::change::NewNames;
use super::edge::Asked;
use super::problem::Problem;
use crate::policy::BonusForm;
use crate::policy::CallerForm;

/// Random bytes of an id that is made here.
const ID_LEN: usize = 6;

/// Gives a caller a bonus, and tells it with its id.
pub async fn give(
    asked: Asked,
    name: Parts<String>,
    force: Force,
    body: Body,
) -> Result<(StatusCode, Json<BonusForm>), Problem> {
    let (name, names) = (part(name)?, NewNames::of(force)?);
    let mut bonus: BonusForm = json(body)?;
    let id = bonus.id.take().map_or_else(random_id, Ok)?;
    bonus.id = Some(id.clone());
    let what = "give bonus";
    let edit = Edit { asked: &asked, names, what, name: &name };
    let made = edit.make(|caller| {
        let mut form = CallerForm::from(caller.ok_or_else(|| absent(&name))?);
        if form.bonuses.iter().any(|known| known.id == bonus.id) {
            let detail = format!("`{name}` has a bonus `{id}` already");
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        form.bonuses.push(bonus.clone());
        Ok(Some(form))
    });
    let record = made.await?.after.ok_or_else(|| absent(&name))?;
    let given =
        record.caller.bonuses.iter().map(BonusForm::from).find(|given| given.id == bonus.id);
    Ok((StatusCode::CREATED, Json(given.unwrap_or(bonus))))
}

/// Takes a bonus away.
pub async fn take(asked: Asked, path: Parts<(String, String)>) -> Result<StatusCode, Problem> {
    let (name, id) = part(path)?;
    let what = "take bonus";
    let edit = Edit { asked: &asked, names: NewNames::OfPolicies, what, name: &name };
    edit.make(|caller| {
        let mut form = CallerForm::from(caller.ok_or_else(|| absent(&name))?);
        let before = form.bonuses.len();
        form.bonuses.retain(|bonus| bonus.id.as_ref() != Some(&id));
        if form.bonuses.len() == before {
            let detail = format!("`{name}` has no bonus `{id}`");
            return Err(Problem::new(StatusCode::NOT_FOUND, detail));
        }
        Ok(Some(form))
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn random_id() -> Result<String, Problem> {
    let mut bytes = [0; ID_LEN];
    getrandom::fill(&mut bytes).map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("no random id: {error}"))
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
