//! The pages of API keys: the list, one of them, and a new one. An API key itself is shown once, by the answer to the form that
//! makes it.

mod change;
mod choices;
mod effect;
mod fields;
mod list;
mod one;
mod state;

use axum::extract::{Query, State};
use serde::Deserialize;

use super::failure::Failure;
use super::page::Page;
use super::view;
use super::view::api_keys::Forms;
use super::view::layout::Section;
use super::visitor::Visitor;
use crate::api_token::Role;
use crate::http::auth::{Admin, Viewer};
use crate::http::edge::Edge;

pub use change::{Action, change};
pub use choices::Choices;
pub use fields::KeyFields;
pub use list::{Expires, KeyList, KeyRow, KeysQuery, Used};
pub use one::{DomainRoutes, KeyPage, RouteRow};
pub use state::KeyState;

/// The query of the page of an API key.
#[derive(Debug, Deserialize)]
pub struct KeyQuery {
    id: String,
    /// The change that was just made.
    changed: Option<String>,
}

/// The query of the page for a new API key.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct NewQuery {
    caller: String,
}

/// Shows the list.
pub async fn list(
    visitor: Visitor,
    State(edge): State<Edge>,
    Query(query): Query<KeysQuery>,
) -> Result<Page, Failure> {
    visitor.authorized::<Viewer>()?;
    if edge.api.api_keys.is_none() {
        let body = view::api_keys::none_configured();
        return Ok(visitor.page(Section::ApiKeys, "API keys", &body));
    }
    let list = KeyList::read(&edge, query).await?;
    let body = view::api_keys::list(&list, visitor.may(Role::Admin));
    Ok(visitor.page(Section::ApiKeys, "API keys", &body))
}

/// Shows one.
pub async fn show(
    visitor: Visitor,
    State(edge): State<Edge>,
    Query(KeyQuery { id, changed }): Query<KeyQuery>,
) -> Result<Page, Failure> {
    visitor.authorized::<Viewer>()?;
    let key = KeyPage::read(&edge, &id).await?;
    let fields = KeyFields::of(&key.record);
    let forms = visitor.may(Role::Operator).then(|| Forms {
        form_token: &visitor.form_token,
        fields: &fields,
        choices: Choices::of(&edge),
        is_admin: visitor.may(Role::Admin),
    });
    let changed = changed.as_deref().and_then(Action::named).map(Action::sentence);
    let body = view::api_keys::one(&key, forms.as_ref(), changed);
    Ok(visitor.page(Section::ApiKeys, "API key", &body))
}

/// Shows the form for a new one.
pub async fn new(
    visitor: Visitor,
    State(edge): State<Edge>,
    Query(NewQuery { caller }): Query<NewQuery>,
) -> Result<Page, Failure> {
    visitor.authorized::<Admin>()?;
    crate::http::api_keys::keys(&edge)?;
    let fields = KeyFields { caller, ..KeyFields::default() };
    let body = view::api_keys::new(&visitor.form_token, &fields, &Choices::of(&edge), None);
    Ok(visitor.page(Section::ApiKeys, "New API key", &body))
}
