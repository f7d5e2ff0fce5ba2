//! The page of providers, and its forms: first the effect of a change, then, when it is confirmed, the operation of the API.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::failure::Failure;
use super::login::redirect;
use super::page::Page;
use super::view;
use super::view::change::{Question, confirmation};
use super::view::layout::Section;
use super::visitor::{Submitted, Visitor};
use crate::api_token::Role;
use crate::http::auth::{Operator, Viewer};
use crate::http::edge::Edge;
use crate::http::provider_controls::{
    ActionName, ControlBody, ControlForm, end_one, make, one, read as read_control,
};
use crate::http::providers::{ProvidersBody, providers};
use crate::http::usage::{ProviderSpend, spend_by_provider};
use crate::observe::audit::instant;

const PATH: &str = "/dashboard/providers";

/// How long a change holds, unless the form says another time.
const HOLD_MS: u64 = 3_600_000;

/// The query of the page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ProvidersQuery {
    /// What was just done.
    done: String,
}

/// What the page shows beside the live part.
#[derive(Debug)]
pub struct ProvidersPage {
    pub providers: ProvidersBody,
    /// What is spent at each, or why that is unknown; None if no policy has prices.
    pub spend: Option<Result<ProviderSpend, String>>,
    /// All changes that hold.
    pub controls: Vec<ControlBody>,
    /// For forms; None: the visitor may not change anything.
    pub form_token: Option<String>,
    /// The end of a change, unless another one is entered.
    pub until: String,
    pub done: Option<&'static str>,
    pub now_ms: u64,
}

/// The fields of all forms.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ProviderForm {
    pub domain: String,
    pub provider: String,
    pub tier: String,
    pub entry: String,
    pub priority: String,
    pub limit: String,
    pub percent: String,
    pub until: String,
    pub id: String,
    /// `yes` once the effect has been shown.
    pub confirmed: String,
}

/// Shows the page.
pub async fn show(
    visitor: Visitor,
    State(edge): State<Edge>,
    Query(query): Query<ProvidersQuery>,
) -> Result<Page, Failure> {
    visitor.authorized::<Viewer>()?;
    let now = edge.engine.now();
    let controls = edge.engine.provider_controls();
    let page = ProvidersPage {
        providers: providers(&edge, None).await,
        spend: spend_by_provider(&edge).await.map_err(|problem| problem.detail).transpose(),
        controls: controls.iter().map(ControlBody::from).collect(),
        form_token: visitor.may(Role::Operator).then(|| visitor.form_token.clone()),
        until: instant(now.after(std::time::Duration::from_millis(HOLD_MS))),
        done: sentence(&query.done),
        now_ms: now.as_ms(),
    };
    Ok(visitor.page(Section::Providers, "Providers", &view::providers::page(&page)))
}

/// Shows the effect of a change, or makes it.
pub async fn change(
    State(edge): State<Edge>,
    Path(action): Path<String>,
    Submitted { visitor, form }: Submitted<ProviderForm>,
) -> Result<Response, Failure> {
    let by = visitor.authorized::<Operator>()?.principal;
    if action == "end" {
        let control = one(&edge, (Some(&form.domain), &form.provider), &form.id).await?;
        if form.confirmed != "yes" {
            let effect = vec![
                format!("Ends now, on all sidecars: {}", effect(&ControlBody::from(&control))),
                "Requests are decided as the policy says again.".to_owned(),
            ];
            return Ok(ask(&visitor, &form, ("end", &effect)));
        }
        end_one(&edge, &by, &control).await?;
    } else {
        let asked = form.asked(&action)?;
        if form.confirmed != "yes" {
            let control = read_control(&edge, &by, (form.provider.clone(), asked))?;
            let control = ControlBody::from(&control);
            let ends =
                format!("It holds until {}, on all sidecars, and ends by itself.", control.until);
            return Ok(ask(&visitor, &form, (&action, &[effect(&control), ends])));
        }
        make(&edge, &by, (form.provider.clone(), asked)).await?;
    }
    Ok(redirect(&format!("{PATH}?done={action}")))
}

/// The question whether a change is to be made.
fn ask(visitor: &Visitor, form: &ProviderForm, (action, effect): (&str, &[String])) -> Response {
    let question = Question {
        title: &format!("Change {}?", form.provider),
        path: &format!("{PATH}/{action}"),
        button: "Change it",
        is_danger: false,
        cancel: PATH,
        effect,
    };
    let body = confirmation(&question, &visitor.form_token, &form.fields());
    visitor.page(Section::Providers, "Confirm", &body).into_response()
}

/// What the page says of what was just done.
fn sentence(action: &str) -> Option<&'static str> {
    match action {
        "pause" => Some("the queue is paused"),
        "priority" => Some("the priority holds"),
        "cap" => Some("the cap holds"),
        "end" => Some("the change has ended"),
        _ => None,
    }
}

/// What a change does, in a sentence.
pub fn effect(control: &ControlBody) -> String {
    let provider = &control.provider;
    let tier =
        control.tier.as_ref().map_or_else(String::new, |tier| format!(" of the tier {tier}"));
    let entry = control.entry.as_ref().map_or_else(String::new, |entry| format!(" with {entry}"));
    let whose = format!("Requests{tier} for {provider}{entry}");
    match control.action {
        ActionName::Pause => format!(
            "No request for {provider} begins to wait: those that would are answered at once. Those that wait already keep \
             their place and their time."
        ),
        ActionName::Priority => {
            format!("{whose} have the priority {}.", control.priority.unwrap_or_default())
        }
        ActionName::Cap => {
            let limit = match &control.limit {
                Some(limit) => format!("the limit {limit}"),
                None => "each of its limits".to_owned(),
            };
            let percent = control.percent.unwrap_or_default();
            format!("{whose} pass only while less than {percent}% of {limit} is in use.")
        }
    }
}

impl ProviderForm {
    /// The fields to send again, when the effect is confirmed.
    fn fields(&self) -> [(&'static str, &str); 9] {
        [
            ("domain", &self.domain),
            ("provider", &self.provider),
            ("tier", &self.tier),
            ("entry", &self.entry),
            ("priority", &self.priority),
            ("limit", &self.limit),
            ("percent", &self.percent),
            ("until", &self.until),
            ("id", &self.id),
        ]
    }

    /// What is asked of the API.
    fn asked(&self, action: &str) -> Result<ControlForm, Failure> {
        let action = match action {
            "pause" => ActionName::Pause,
            "priority" => ActionName::Priority,
            "cap" => ActionName::Cap,
            _ => return Err(Failure::new(StatusCode::NOT_FOUND, "no such change")),
        };
        Ok(ControlForm {
            action,
            domain: some(&self.domain),
            tier: some(&self.tier),
            entry: some(&self.entry),
            priority: number("priority", &self.priority)?,
            limit: some(&self.limit),
            percent: number("percent", &self.percent)?,
            until: self.until.trim().to_owned(),
        })
    }
}

fn number(name: &str, text: &str) -> Result<Option<u8>, Failure> {
    let number = some(text).map(|text| text.parse::<u8>()).transpose();
    number.map_err(|_| {
        Failure::new(StatusCode::BAD_REQUEST, format!("{name}: `{text}` is no whole number"))
    })
}

fn some(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
