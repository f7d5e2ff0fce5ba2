//! The page of a caller for itself: by a token of the role `self`, or by a signed link that expires.

use axum::Json;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Deserialize;

use super::caller::CallerPage;
use super::failure::Failure;
use super::own_link::OwnQuery;
use super::page::{Page, bare};
use super::recommendation::recommendation;
use super::view;
use super::view::layout::Section;
use super::visitor::{Submitted, Visitor};
use crate::api_token::Role;
use crate::http::auth::Operator;
use crate::http::edge::Edge;
use crate::http::extract::{AlwaysAvailable, UrlPath};
use crate::http::own_page;

/// Shows the page.
pub async fn show(
    State(edge): State<Edge>,
    Query(query): Query<OwnQuery>,
    mut parts: Parts,
) -> Result<Page, Failure> {
    let Some(dashboard) = &edge.api.dashboard else {
        return Err(Failure::new(StatusCode::NOT_FOUND, "the dashboard is off"));
    };
    let name = if query.signature.is_empty() {
        let visitor = Visitor::from_request_parts(&mut parts, &edge).await?;
        match visitor.principal.role {
            Role::Own => visitor.principal.name,
            _ if query.caller.is_empty() => {
                let reason = "this page is for a token with the role self; others add ?caller=NAME";
                return Err(Failure::new(StatusCode::BAD_REQUEST, reason));
            }
            _ => query.caller,
        }
    } else {
        let verified = query.verified(&dashboard.key, edge.engine.now());
        verified.map_err(|reason| Failure::new(StatusCode::FORBIDDEN, reason))?.to_owned()
    };
    let caller = CallerPage::read(&edge, name).await?;
    let advice = recommendation(&caller);
    let upgrade = upgrade_url(&edge, &caller);
    let body = view::me::page(&caller, upgrade.as_deref(), advice.as_ref());
    Ok(bare("Your limits", &body).framed_by(&dashboard.frame_ancestors))
}

/// Where the caller gets a higher tier, as the policy of its first limit says.
fn upgrade_url(edge: &Edge, caller: &CallerPage) -> Option<String> {
    let policies = edge.engine.policies();
    let mut domains = caller.domains().into_iter().filter_map(|name| policies.domain(name));
    domains.find_map(|domain| domain.answer.upgrade_url.clone()).map(String::from)
}

/// The form for a link.
#[derive(Debug, Deserialize)]
pub struct LinkForm {
    name: String,
}

/// Makes a link to the page of a caller, by the operation of the API.
pub async fn make_link(
    State(edge): State<Edge>,
    Submitted { visitor, form }: Submitted<LinkForm>,
) -> Result<Page, Failure> {
    let by = visitor.authorized::<Operator>()?;
    let Json(made) =
        own_page::link(by, AlwaysAvailable(edge.clone()), UrlPath(form.name.clone())).await?;
    let body = view::me::link(&form.name, &made.path, &made.expires_at);
    Ok(visitor.page(Section::Callers, "Link", &body))
}
