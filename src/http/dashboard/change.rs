//! Changes of a caller by forms: first the effect, then, when it is confirmed, the operation of the API.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::caller::{TierTable, limits};
use super::change_form::ChangeForm;
use super::failure::Failure;
use super::link;
use super::login::redirect;
use super::view::change::{Question, confirmation};
use super::view::layout::Section;
use super::visitor::{Submitted, Visitor};
use crate::http::auth::{Admin, Operator};
use crate::http::change::{ChangeBy, NewNames};
use crate::http::edge::Edge;
use crate::http::extract::{JsonObject, OptionalJsonObject, UrlPath, UrlQuery};
use crate::http::merge_patch::MergePatch;
use crate::http::quota::overrides::{self, OverridesPatchForm, RemovalParams};
use crate::http::quota::{self, ResetForm};
use crate::http::{bonuses, callers};
use crate::policy::{BonusForm, CallerForm, OverrideForm, OverrideUntilForm};

/// What a form changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Tier,
    Override,
    RemoveOverride,
    Bonus,
    RemoveBonus,
    Reset,
}

impl Action {
    /// All of them, by the last part of their path.
    const ALL: [(&'static str, Self); 6] = [
        ("tier", Self::Tier),
        ("override", Self::Override),
        ("remove-override", Self::RemoveOverride),
        ("bonus", Self::Bonus),
        ("remove-bonus", Self::RemoveBonus),
        ("reset", Self::Reset),
    ];
}

/// What a page says of a change that was made; None for other words.
pub fn sentence(action: &str) -> Option<&'static str> {
    let (_, action) = Action::ALL.iter().find(|(name, _)| *name == action)?;
    Some(match action {
        Action::Tier => "the tier was changed",
        Action::Override => "the override holds",
        Action::RemoveOverride => "the override was removed",
        Action::Bonus => "the bonus was given",
        Action::RemoveBonus => "the bonus was removed",
        Action::Reset => "what was used was given back",
    })
}

/// Shows the effect of a change, or makes it.
pub async fn change(
    State(edge): State<Edge>,
    Path(action): Path<String>,
    Submitted { visitor, form }: Submitted<ChangeForm>,
) -> Result<Response, Failure> {
    visitor.authorized::<Operator>()?;
    let action = Action::ALL.iter().find(|(name, _)| *name == action);
    let Some((path, action)) = action else {
        return Err(Failure::new(StatusCode::NOT_FOUND, "no such change"));
    };
    if form.confirmed != "yes" {
        let effect = effect(&edge, *action, &form).await?;
        let question = Question {
            title: &format!("Change {}?", form.name),
            path: &format!("/dashboard/caller/{path}"),
            button: "Change it",
            is_danger: false,
            cancel: &link::caller(&form.name),
            effect: &effect,
        };
        let body = confirmation(&question, &visitor.form_token, &form.fields());
        return Ok(visitor.page(Section::Callers, "Confirm", &body).into_response());
    }
    apply(&edge, &visitor, *action, &form).await?;
    Ok(redirect(&format!("{}&changed={path}", link::caller(&form.name))))
}

/// What a change would do, in sentences.
async fn effect(edge: &Edge, action: Action, form: &ChangeForm) -> Result<Vec<String>, Failure> {
    let items = limits(edge, &form.name).await.unwrap_or_default();
    let until = form
        .until()
        .map_or_else(|| "until it is removed".to_owned(), |until| format!("until {until}"));
    let of_limit = |name: &str| items.iter().find(|item| item.limit == name);
    let standing = |name: &str| {
        of_limit(name).map_or_else(String::new, |item| {
            format!("Now {} of {} hits are used.", item.used, item.quota)
        })
    };
    Ok(match action {
        Action::Tier => {
            let table = TierTable::of(edge, &items);
            let (now, then) = (items.iter().find_map(|item| item.tier.clone()), &form.tier);
            let mut effect = vec![format!(
                "The tier changes from {} to {then}, at once and on all sidecars.",
                now.as_deref().unwrap_or("none")
            )];
            let before = table.amounts(now.as_deref().unwrap_or_default());
            for (limit, amount) in table.amounts(then) {
                let old = before.iter().find(|(name, _)| *name == limit).map(|(_, amount)| *amount);
                if old != Some(amount) {
                    effect.push(format!("{limit}: {} becomes {amount}.", old.unwrap_or("nothing")));
                }
            }
            effect.push("What is used stays used.".to_owned());
            effect
        }
        Action::Override => vec![
            format!(
                "{} has an amount of {} instead of the policy's, {until}.",
                form.limit,
                form.amount()?
            ),
            standing(&form.limit),
            "What is used stays used.".to_owned(),
        ],
        Action::RemoveOverride => vec![
            format!("The amount of {} is the policy's again.", form.limit),
            standing(&form.limit),
        ],
        Action::Bonus => vec![
            format!("{} more hits on {}, {until}.", form.amount()?, form.limit),
            standing(&form.limit),
        ],
        Action::RemoveBonus => {
            vec![format!("The bonus {} ends; what is left of it can't be spent any more.", form.id)]
        }
        Action::Reset => {
            let items = items.iter().filter(|item| item.domain == form.domain);
            let used = items
                .map(|item| format!("{}: {} used hits are given back.", item.limit, item.used));
            used.collect()
        }
    })
}

/// Makes a change by the operation of the API, which writes it to the audit log first.
async fn apply(
    edge: &Edge,
    visitor: &Visitor,
    action: Action,
    form: &ChangeForm,
) -> Result<(), Failure> {
    let by = visitor.authorized::<Operator>()?;
    let (name, names) = (UrlPath(form.name.clone()), NewNames::OfPolicies);
    let changed = || visitor.authorized::<Operator>().map(|by| ChangeBy::new(edge, by));
    match action {
        Action::Tier => {
            let patch = MergePatch::new(json!({ "tier": form.tier }));
            let patched = callers::patch(changed()?, name, names, patch).await;
            match (patched, visitor.authorized::<Admin>()) {
                // It has no record yet, and may create one.
                (Err(problem), Ok(admin)) if problem.status == StatusCode::NOT_FOUND => {
                    let form_of_tier =
                        CallerForm { tier: Some(form.tier.clone()), ..CallerForm::default() };
                    let created = ChangeBy::new(edge, admin);
                    let name = UrlPath(form.name.clone());
                    callers::put(created, name, names, JsonObject(form_of_tier)).await.map(drop)?;
                }
                (patched, _) => drop(patched?),
            }
        }
        Action::Override => {
            let (amount, until) = (form.amount()?, form.until());
            let new =
                OverrideForm::Until(OverrideUntilForm { amount: Some(amount), until, tier: None });
            let overrides = BTreeMap::from([(form.limit.clone(), Some(new))]);
            overrides::patch(changed()?, name, names, JsonObject(OverridesPatchForm { overrides }))
                .await
                .map(drop)?;
        }
        Action::RemoveOverride => {
            let params = UrlQuery(RemovalParams { limit: Some(form.limit.clone()) });
            overrides::remove(changed()?, name, params).await?;
        }
        Action::Bonus => {
            let bonus = BonusForm {
                id: None,
                limit: form.limit.clone(),
                amount: form.amount()?,
                until: form.until(),
                priority: None,
                every: None,
                from: None,
                rollover: None,
            };
            bonuses::give(changed()?, name, names, JsonObject(bonus)).await.map(drop)?;
        }
        Action::RemoveBonus => {
            let path = UrlPath((form.name.clone(), form.id.clone()));
            bonuses::take(changed()?, path).await?;
        }
        Action::Reset => {
            let reset = ResetForm { domain: Some(form.domain.clone()), ..ResetForm::default() };
            quota::reset(by, State(edge.clone()), name, OptionalJsonObject(reset))
                .await
                .map(drop)?;
        }
    }
    Ok(())
}
