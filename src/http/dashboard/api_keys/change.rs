//! Changes of API keys by forms: first the effect, then, when it is confirmed, the operation of the API.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::choices::Choices;
use super::effect;
use super::fields::KeyFields;
use super::one::KeyPage;
use crate::api_keys::ApiKeyForm;
use crate::http::api_keys::{Author, CreatedBody, RotateForm, check_change, check_new, fresh_id};
use crate::http::auth::{Admin, Operator};
use crate::http::dashboard::failure::Failure;
use crate::http::dashboard::link;
use crate::http::dashboard::login::redirect;
use crate::http::dashboard::page::Page;
use crate::http::dashboard::view::api_keys as view;
use crate::http::dashboard::view::change::{Question, confirmation};
use crate::http::dashboard::view::layout::Section;
use crate::http::dashboard::visitor::{Submitted, Visitor};
use crate::http::edge::Edge;
use crate::http::problem::Problem;

/// What a form does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Create,
    Change,
    Disable,
    Enable,
    Rotate,
    Delete,
}

impl Action {
    /// All of them, by the last part of their path.
    const ALL: [(&'static str, Self); 6] = [
        ("create", Self::Create),
        ("change", Self::Change),
        ("disable", Self::Disable),
        ("enable", Self::Enable),
        ("rotate", Self::Rotate),
        ("delete", Self::Delete),
    ];

    /// The action with that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, action)| *action)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, action)| *action == self).map_or("", |(name, _)| name)
    }

    /// What a page says of one that was done.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Create => "the API key was created",
            Self::Change => "the API key was changed",
            Self::Disable => "the API key is disabled",
            Self::Enable => "the API key is enabled",
            Self::Rotate => "the API key was rotated",
            Self::Delete => "the API key was deleted",
        }
    }

    /// The role as over the API.
    fn check_role(self, visitor: &Visitor) -> Result<(), Failure> {
        match self {
            Self::Change | Self::Disable | Self::Enable => {
                visitor.authorized::<Operator>().map(drop)
            }
            Self::Create | Self::Rotate | Self::Delete => visitor.authorized::<Admin>().map(drop),
        }
    }

    fn question(self, caller: &str) -> (String, &'static str) {
        match self {
            Self::Create => (format!("Create an API key for {caller}?"), "Create it"),
            Self::Change => (format!("Change the API key of {caller}?"), "Change it"),
            Self::Disable => (format!("Disable the API key of {caller}?"), "Disable it"),
            Self::Enable => (format!("Enable the API key of {caller}?"), "Enable it"),
            Self::Rotate => (format!("Rotate the API key of {caller}?"), "Rotate it"),
            Self::Delete => (format!("Delete the API key of {caller}?"), "Delete it"),
        }
    }
}

/// Shows the effect of a change, or makes it.
pub async fn change(
    State(edge): State<Edge>,
    Path(action): Path<String>,
    Submitted { visitor, form: fields }: Submitted<KeyFields>,
) -> Result<Response, Failure> {
    let action = Action::named(&action);
    let action = action.ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "no such change"))?;
    action.check_role(&visitor)?;
    if fields.confirmed != "yes" {
        return confirm(&edge, &visitor, action, &fields).await.map(IntoResponse::into_response);
    }
    match apply(&edge, &visitor, action, &fields).await? {
        Some(made) => {
            let body = view::created(made.api_key.expose(), &made.body.id, action.sentence());
            Ok(visitor.page(Section::ApiKeys, "New API key", &body).into_response())
        }
        None => {
            let path = match action {
                Action::Delete => link::api_keys_of(&fields.caller),
                _ => link::api_key(&fields.id),
            };
            Ok(redirect(&format!("{path}&changed={}", action.name())))
        }
    }
}

/// Asks whether the change is to be made.
async fn confirm(
    edge: &Edge,
    visitor: &Visitor,
    action: Action,
    fields: &KeyFields,
) -> Result<Page, Failure> {
    let mut fields = fields.clone();
    let (effect, cancel) = if action == Action::Create {
        let form = fields.form(false);
        if let Err(problem) = check_new(edge, fields.domain(), &form) {
            return Ok(again(edge, visitor, &fields, &problem));
        }
        // The form that is confirmed makes this one API key, even if it is sent twice.
        fields.id = fresh_id()?;
        let cancel = link::api_keys_of(&fields.caller);
        (effect::creation(&form), cancel)
    } else {
        let key = KeyPage::read(edge, &fields.id).await?;
        fields.caller = key.form.caller.clone();
        let now = edge.engine.now();
        let effect = match action {
            Action::Create | Action::Change => {
                let after = fields.form(key.form.disabled);
                if let Err(problem) = check_change(edge, &key.form, &after) {
                    return Ok(again(edge, visitor, &fields, &problem));
                }
                effect::revision(&key.form, &after)
            }
            Action::Disable => effect::disabling(key.last_use, now),
            Action::Enable => effect::enabling(),
            Action::Rotate => effect::rotation(fields.overlap()?, now),
            Action::Delete => effect::deletion(&key.record, key.last_use, now),
        };
        (effect, link::api_key(&fields.id))
    };
    let (title, button) = action.question(&fields.caller);
    let question = Question {
        title: &title,
        path: &format!("/dashboard/api-key/{}", action.name()),
        button,
        is_danger: matches!(action, Action::Delete | Action::Disable),
        cancel: &cancel,
        effect: &effect,
    };
    let body = confirmation(&question, &visitor.form_token, &fields.sent_again());
    Ok(visitor.page(Section::ApiKeys, "Confirm", &body))
}

/// The form again, with what is wrong with it.
fn again(edge: &Edge, visitor: &Visitor, fields: &KeyFields, problem: &Problem) -> Page {
    let (token, choices) = (&visitor.form_token, Choices::of(edge));
    let reason = Some(problem.detail.as_str());
    let body = match fields.id.is_empty() {
        true => view::new(token, fields, &choices, reason),
        false => view::changed(token, fields, &choices, reason),
    };
    visitor.page(Section::ApiKeys, "API key", &body).with_status(problem.status)
}

/// Makes a change by the operation of the API, which writes it to the audit log first. Returns what is shown once.
async fn apply(
    edge: &Edge,
    visitor: &Visitor,
    action: Action,
    fields: &KeyFields,
) -> Result<Option<CreatedBody>, Failure> {
    let revision = match action {
        Action::Create => None,
        _ => Some(fields.revision()?),
    };
    let author = Author { edge, principal: &visitor.principal, revision };
    let id = fields.id.as_str();
    let disabled = |before: &ApiKeyForm, disabled| ApiKeyForm { disabled, ..before.clone() };
    match action {
        Action::Create => {
            let made = author.create(id, (fields.domain(), &fields.form(false))).await?;
            return Ok(Some(made));
        }
        Action::Rotate => {
            let form = RotateForm { overlap_s: fields.overlap()?.as_secs() };
            return Ok(Some(author.rotate(id, form.checked_overlap()?).await?));
        }
        Action::Change => {
            author.revise(id, |before| Ok(fields.form(before.disabled))).await?;
        }
        Action::Disable => {
            author.revise(id, |before| Ok(disabled(before, true))).await?;
        }
        Action::Enable => {
            author.revise(id, |before| Ok(disabled(before, false))).await?;
        }
        Action::Delete => author.remove(id).await?,
    }
    Ok(None)
}
