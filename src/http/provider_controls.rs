//! `/v1/providers/{name}/controls`: changes of a provider for a while, on all sidecars: its queue is paused, requests get another
//! priority, or less of its limits may be in use.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::{Authorized, Operator, Principal, Viewer};
use super::edge::Edge;
use super::extract::{JsonObject, UrlPath, UrlQuery};
use super::openapi::{self, Description, Operation, Output};
use super::problem::Problem;
use super::quota::check_domain;
use super::recorded::Recorded;
use super::reply::NoContent;
use crate::engine::{CAP_PERCENT_MAX, ControlError};
use crate::observe::audit::{Changed, ControlLine, instant};
use crate::policy::parse_until;
use crate::store::provider_controls::{ControlAction, ProviderControl};

const CONTROLS: &str = "/v1/providers/{name}/controls";

/// Maximum length of an entry in a form.
const ENTRY_LEN_MAX: usize = 500;

pub fn operations() -> [Operation; 3] {
    [
        openapi::get(
            "/v1/provider-controls",
            "listProviderControls",
            "List the changes of providers that hold, also of providers that the policies do not have now",
            list,
        ),
        openapi::post(
            CONTROLS,
            "controlProvider",
            "Pause the queue of a provider for a while, or change a priority or a cap",
            control,
        )
        .or([
            (409, "There are as many changes as may hold at a time"),
            (422, "The change is invalid, or several domains have the provider"),
        ]),
        openapi::delete(
            "/v1/providers/{name}/controls/{id}",
            "endProviderControl",
            "End a change of a provider, such as a pause, before its time",
            end,
        )
        .or([(422, "Several domains have the provider: `domain` is required")]),
    ]
}

/// A change of a provider for a while. It replaces one of the same action for the same tier, entry or limit.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewProviderControl")]
pub struct ControlForm {
    pub action: ActionName,
    /// The domain of the provider; required if several have it.
    pub domain: Option<String>,
    /// For a priority or a cap: only requests of callers with this tier; all if absent.
    pub tier: Option<String>,
    /// For a priority: only requests with this entry, such as `op=search`.
    #[schemars(length(max = 500))]
    pub entry: Option<String>,
    /// From 1, low, to 4, urgent.
    #[schemars(range(min = 1, max = 4))]
    pub priority: Option<u8>,
    /// For a cap: the label of the limit; all limits of the provider if absent.
    pub limit: Option<String>,
    /// The part of the limit that may be in use.
    #[schemars(range(min = 0, max = CAP_PERCENT_MAX))]
    pub percent: Option<u8>,
    /// When it ends, within 7 days: a date, at whose end in UTC it ends, or a time.
    pub until: String,
}

/// What changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ProviderAction")]
pub enum ActionName {
    /// No request waits for capacity: those that would are answered at once. Those that wait already pass in their order, or
    /// end when their time is over.
    #[default]
    Pause,
    /// Requests have this priority instead of their own.
    Priority,
    /// Requests pass only while less than this part of a limit is in use.
    Cap,
}

/// The changes of providers.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProviderControls")]
struct ControlsBody {
    items: Vec<ControlBody>,
}

/// A change of a provider that holds.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProviderControl")]
pub struct ControlBody {
    pub id: String,
    pub domain: String,
    pub provider: String,
    pub action: ActionName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// Who made it.
    pub by: String,
    #[schemars(extend("format" = "date-time"))]
    pub until: String,
}

/// The query of a change that is ended.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndParams {
    /// The domain of the provider; required if several have it.
    pub domain: Option<String>,
}

/// A change that was made.
struct Made(ControlBody);

/// A change that was ended.
struct Ended;

impl IntoResponse for Made {
    fn into_response(self) -> Response {
        Json(self.0).into_response()
    }
}

impl IntoResponse for Ended {
    fn into_response(self) -> Response {
        NoContent.into_response()
    }
}

impl Output for Made {
    fn describe(description: &mut Description<'_>) {
        description.answer::<ControlBody>(200);
        description.problem("404", "No policy has the provider");
    }
}

impl Output for Ended {
    fn describe(description: &mut Description<'_>) {
        NoContent::describe(description);
        description.problem("404", "The provider has no such change that holds");
    }
}

/// Lists the changes that hold.
async fn list(_: Authorized<Viewer>, State(edge): State<Edge>) -> Json<ControlsBody> {
    let controls = edge.engine.provider_controls();
    Json(ControlsBody { items: controls.iter().map(ControlBody::from).collect() })
}

/// Makes a change: `{"action": "pause", "until": "2026-12-05T06:00:00Z"}`.
async fn control(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
    JsonObject(form): JsonObject<ControlForm>,
) -> Result<Made, Problem> {
    make(&edge, &by.principal, (name, form)).await.map(Made)
}

async fn end(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath((name, id)): UrlPath<(String, String)>,
    UrlQuery(EndParams { domain }): UrlQuery<EndParams>,
) -> Result<Ended, Problem> {
    let control = one(&edge, (domain.as_deref(), &name), &id).await?;
    end_one(&edge, &by.principal, &control).await.map(|()| Ended)
}

/// Makes a change of a provider.
///
/// # Errors
/// If it is invalid, if there are too many, or if the store or the audit log does not take it.
pub async fn make(
    edge: &Edge,
    by: &Principal,
    (provider, form): (String, ControlForm),
) -> Result<ControlBody, Problem> {
    let control = read(edge, by, (provider, form))?;
    let (domain, provider) = (control.domain.clone(), control.provider.clone());
    let before = match edge.engine.control((&domain, &provider), &control.id()).await {
        Ok(before) => Some(before),
        Err(ControlError::UnknownControl { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let line = ControlLine::new(&control, before.as_ref());
    let change = Changed::Provider { domain, provider, control: line };
    let recorded = Recorded::begin(edge, by, "control provider", change).await?;
    let made = edge.engine.put_control(&control).await.map_err(Problem::from);
    recorded.end(made).await.map(|()| ControlBody::from(&control))
}

/// The change that a form asks for, if it may be made.
///
/// # Errors
/// If it is invalid.
pub fn read(
    edge: &Edge,
    by: &Principal,
    (provider, form): (String, ControlForm),
) -> Result<ProviderControl, Problem> {
    let domain = domain_of(edge, form.domain.as_deref(), &provider)?;
    let until = parse_until(&form.until).map_err(|reason| invalid(format!("until: {reason}")))?;
    let (at, by) = (edge.engine.now(), by.name.clone());
    let action = action(form)?;
    let control = ProviderControl { domain, provider, action, at, by, until };
    edge.engine.check_control(&control)?;
    Ok(control)
}

/// A change of a provider that holds.
///
/// # Errors
/// If there is none, or if the store does not answer.
pub async fn one(
    edge: &Edge,
    (domain, provider): (Option<&str>, &str),
    id: &str,
) -> Result<ProviderControl, Problem> {
    // A change outlives its provider, and can be ended then too.
    let domain = match domain {
        Some(domain) => domain.to_owned(),
        None => domain_of(edge, None, provider)?,
    };
    Ok(edge.engine.control((&domain, provider), id).await?)
}

/// Ends a change of a provider.
///
/// # Errors
/// If the store or the audit log does not take it.
pub async fn end_one(
    edge: &Edge,
    by: &Principal,
    control: &ProviderControl,
) -> Result<(), Problem> {
    let (domain, provider) = (control.domain.clone(), control.provider.clone());
    let change = Changed::Provider { domain, provider, control: ControlLine::new(control, None) };
    let recorded = Recorded::begin(edge, by, "end provider control", change).await?;
    let ended = edge.engine.end_control(control).await.map_err(Problem::from);
    recorded.end(ended).await
}

/// The domain of a provider: the one that is named, or the only one that has it.
fn domain_of(edge: &Edge, domain: Option<&str>, provider: &str) -> Result<String, Problem> {
    let policies = edge.engine.policies();
    check_domain(&policies, domain)?;
    let domains = policies.domains().into_iter();
    let having = domains.filter(|known| {
        domain.is_none_or(|domain| known.name == domain)
            && known.providers().iter().any(|one| one.name == provider)
    });
    let names: Vec<&str> = having.map(|domain| domain.name.as_str()).collect();
    match names.as_slice() {
        [] => {
            let detail = format!("no policy has the provider `{provider}`; see /v1/providers");
            Err(Problem::new(StatusCode::NOT_FOUND, detail))
        }
        [name] => Ok((*name).to_owned()),
        several => Err(invalid(format!("name the `domain`: one of {}", several.join(", ")))),
    }
}

/// What a form changes, with exactly the fields of its action.
fn action(form: ControlForm) -> Result<ControlAction, Problem> {
    let ControlForm { action, tier, entry, priority, limit, percent, .. } = form;
    let given = [
        ("tier", tier.is_some(), action != ActionName::Pause),
        ("entry", entry.is_some(), action == ActionName::Priority),
        ("priority", priority.is_some(), action == ActionName::Priority),
        ("limit", limit.is_some(), action == ActionName::Cap),
        ("percent", percent.is_some(), action == ActionName::Cap),
    ];
    if let Some((name, ..)) = given.iter().find(|(_, is_given, is_known)| *is_given && !is_known) {
        return Err(invalid(format!("{name}: this action does not have it")));
    }
    let required = |name: &str| invalid(format!("{name}: this action requires it"));
    Ok(match action {
        ActionName::Pause => ControlAction::Pause,
        ActionName::Priority => {
            let entry = entry.map(|text| self::entry(&text)).transpose()?;
            let priority = priority.ok_or_else(|| required("priority"))?;
            ControlAction::Priority { tier, entry, priority }
        }
        ActionName::Cap => {
            let percent = percent.ok_or_else(|| required("percent"))?;
            ControlAction::Cap { tier, limit, percent }
        }
    })
}

fn entry(text: &str) -> Result<(String, String), Problem> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && text.len() <= ENTRY_LEN_MAX => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(invalid("entry: use KEY=VALUE, such as op=search".to_owned())),
    }
}

fn invalid(detail: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let status = match error {
            ControlError::UnknownProvider { .. } | ControlError::UnknownControl { .. } => {
                StatusCode::NOT_FOUND
            }
            ControlError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ControlError::TooMany => StatusCode::CONFLICT,
            ControlError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<&ProviderControl> for ControlBody {
    fn from(control: &ProviderControl) -> Self {
        let ProviderControl { domain, provider, action, at, by, until } = control.clone();
        let mut body = Self {
            id: control.id(),
            domain,
            provider,
            action: ActionName::Pause,
            tier: None,
            entry: None,
            priority: None,
            limit: None,
            percent: None,
            at: instant(at),
            by,
            until: instant(until),
        };
        match action {
            ControlAction::Pause => {}
            ControlAction::Priority { tier, entry, priority } => {
                (body.action, body.tier) = (ActionName::Priority, tier);
                body.entry = entry.map(|(key, value)| format!("{key}={value}"));
                body.priority = Some(priority);
            }
            ControlAction::Cap { tier, limit, percent } => {
                (body.action, body.tier, body.limit) = (ActionName::Cap, tier, limit);
                body.percent = Some(percent);
            }
        }
        body
    }
}
