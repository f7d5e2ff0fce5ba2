//! What an author may do with API keys: create, change, rotate and delete them. The API and the dashboard both do it here.

use std::time::Duration;

use axum::http::StatusCode;

use super::body::{ApiKeyBody, CreatedBody};
use super::edit::{self, Change, keys};
use super::limits::prefix_of;
use crate::api_keys::{ApiKey, ApiKeyForm, ApiKeyRecord, ApiKeySecret, ApiKeyText, hint_of, is_id};
use crate::http::auth::Principal;
use crate::http::edge::Edge;
use crate::http::problem::Problem;
use crate::http::replicated::confirmed;
use crate::store::ApiKeyStore;

/// Who changes API keys.
#[derive(Clone, Copy, Debug)]
pub struct Author<'e> {
    pub edge: &'e Edge,
    pub principal: &'e Principal,
    /// The revision that the author has seen, which the API key must still have. None: any.
    pub revision: Option<u64>,
}

impl<'e> Author<'e> {
    /// Creates an API key with a new id, for the domain whose policy checks it.
    ///
    /// # Errors
    /// If the form is invalid, or there is an API key with this id.
    pub async fn create(
        &self,
        id: &str,
        (domain, form): (Option<&str>, &ApiKeyForm),
    ) -> Result<CreatedBody, Problem> {
        let peppers = &keys(self.edge)?.peppers;
        let (key, prefix) = edit::check_new(self.edge, domain, form)?;
        if !is_id(id) {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "the id of the API key is invalid"));
        }
        let (text, secret) = self.secret(&prefix)?;
        let created_at = secret.created_at;
        let record =
            ApiKeyRecord { id: id.into(), key, secrets: vec![secret], created_at, revision: 0 };
        let written = self.change("create api key").write(None, Some(&record)).await?;
        if written.is_none() {
            let detail = "this API key was created before, and is not shown again";
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        Ok(CreatedBody { api_key: text, body: ApiKeyBody::of(&record, None, peppers) })
    }

    /// Changes what an API key may do.
    ///
    /// # Errors
    /// If there is none, or the result is invalid.
    pub async fn revise(
        &self,
        id: &str,
        decide: impl Fn(&ApiKeyForm) -> Result<ApiKeyForm, Problem> + Send + Sync,
    ) -> Result<ApiKeyBody, Problem> {
        let change = self.change("patch api key");
        let record = change.apply(id, |before| {
            let known = ApiKeyForm::from(&before.key);
            let form = decide(&known)?;
            let key = edit::check_change(self.edge, &known, &form)?;
            Ok(ApiKeyRecord { key, ..before.clone() })
        });
        let record = record.await?;
        self.replicated("the API key was changed").await?;
        self.shown(&record).await
    }

    /// Replaces the text of an API key. The earlier one stays valid for the overlap.
    ///
    /// # Errors
    /// If there is none.
    pub async fn rotate(&self, id: &str, overlap: Duration) -> Result<CreatedBody, Problem> {
        let known = edit::read(self.edge, id).await?;
        let (text, secret) = self.secret(&prefix_of(&known))?;
        let change = self.change("rotate api key");
        let record = change.apply(id, |before| {
            let mut after = before.clone();
            let now = secret.created_at;
            let rotated = after.rotate(secret.clone(), now.after(overlap), now);
            rotated.map(|()| after).map_err(edit::too_many_texts)
        });
        let record = record.await?;
        // Its text can't be shown later, so this is no failure.
        self.replicated("the API key was rotated").await.ok();
        Ok(CreatedBody { api_key: text, body: self.shown(&record).await? })
    }

    /// Deletes an API key. In Redis it is disabled first: if no replica confirms that, the same request can be repeated, and if
    /// a failover undoes the deletion, what comes back is of no use.
    ///
    /// # Errors
    /// If there is none, or no replica confirms that it is disabled.
    pub async fn remove(&self, id: &str) -> Result<(), Problem> {
        if let ApiKeyStore::Embedded(_) = keys(self.edge)?.store {
            return self.change("delete api key").remove(id).await;
        }
        let disabling = self.change("patch api key");
        let disabled = disabling.apply(id, |before| {
            let key = ApiKey { disabled: true, ..before.key.clone() };
            Ok(ApiKeyRecord { key, ..before.clone() })
        });
        disabled.await?;
        self.replicated("the API key is disabled and not deleted yet").await?;
        // Its revision is another one since.
        let last = Self { revision: None, ..*self };
        last.change("delete api key").remove(id).await
    }

    /// Waits until a failover can't undo the change: then whoever made it may rely on it.
    async fn replicated(&self, done: &str) -> Result<(), Problem> {
        confirmed(keys(self.edge)?.store.is_replicated().await, done)
    }

    fn change(&self, what: &'static str) -> Change<'e> {
        let Self { edge, principal, revision } = *self;
        Change { edge, principal, what, revision }
    }

    /// What is shown of a record that was changed. Its change is told also if its last use can't be read.
    async fn shown(&self, record: &ApiKeyRecord) -> Result<ApiKeyBody, Problem> {
        let keys = keys(self.edge)?;
        let last_use = keys.last_uses(&[&record.id]).await;
        let last_use = last_use.ok().and_then(|uses| uses.into_iter().next().flatten());
        Ok(ApiKeyBody::of(record, last_use, &keys.peppers))
    }

    /// A new text, and what is kept of it.
    fn secret(&self, prefix: &str) -> Result<(ApiKeyText, ApiKeySecret), Problem> {
        let text = ApiKeyText::random(prefix).map_err(|error| edit::no_randomness(&error))?;
        let peppers = &keys(self.edge)?.peppers;
        let hash = peppers.hashes(text.expose()).first().copied();
        let hash =
            hash.ok_or_else(|| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "no pepper"))?;
        let secret = ApiKeySecret {
            hash,
            hint: hint_of(prefix, &text),
            pepper: peppers.mark().to_owned(),
            created_at: self.edge.engine.now(),
            until: None,
        };
        Ok((text, secret))
    }
}
