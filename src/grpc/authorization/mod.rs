//! Envoy's `Authorization` service: checks the API key of a request before it goes on.
//!
//! A message tells of a request ([`read`]); the engine checks its API key; the answer tells Envoy of the caller, or what to
//! answer the client ([`write`]).

mod charge;
mod read;
mod write;

use std::sync::Arc;

use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use http::Request;
use hyper::body::Incoming;
use tonic::codegen::BoxFuture;
use tonic::server::{Grpc, UnaryService};
use tonic::{Response, Status};
use tonic_prost::ProstCodec;

use super::body_reader::{BodyReader, MESSAGE_LEN_MAX};
use super::service::Answer;
use crate::engine::{ApiKeyGrant, ApiKeyRefusal, ApiKeyRequest, ApiKeys, Code, Engine, Snapshot};
use crate::policy::{ApiKeyPolicy, Domain};
use read::Attributes;

/// The path of the one method.
pub const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

/// Results of checks in metrics, beside those of [`ApiKeyRefusal`].
const GRANTED: &str = "granted";
const OVER_LIMIT: &str = "over_limit";

/// The service with `Check`.
#[derive(Clone)]
pub struct Authorization(Arc<Method>);

struct Method {
    engine: Arc<Engine>,
    keys: Arc<ApiKeys>,
}

impl Authorization {
    /// The service for these API keys.
    pub fn new(engine: Arc<Engine>, keys: Arc<ApiKeys>) -> Self {
        Self(Arc::new(Method { engine, keys }))
    }

    /// Answers a call.
    pub fn call(&self, call: Request<BodyReader<Incoming>>) -> Answer {
        let method = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::default())
                .apply_max_message_size_config(Some(MESSAGE_LEN_MAX), None);
            Ok(grpc.unary(method, call).await)
        })
    }
}

impl UnaryService<CheckRequest> for Authorization {
    type Response = CheckResponse;
    type Future = BoxFuture<Response<CheckResponse>, Status>;

    fn call(&mut self, request: tonic::Request<CheckRequest>) -> Self::Future {
        let method = self.0.clone();
        Box::pin(async move { method.answer(request.get_ref()).await.map(Response::new) })
    }
}

impl Method {
    async fn answer(&self, message: &CheckRequest) -> Result<CheckResponse, Status> {
        let attributes = Attributes::of(message)?;
        let snapshot = self.engine.snapshot();
        let named = attributes.domain();
        let checking = snapshot
            .policies()
            .api_key_domain(named)
            .and_then(|domain| Some((domain, domain.api_keys.as_ref()?)));
        let Some((domain, policy)) = checking else {
            return Err(Status::failed_precondition(match named {
                Some(_) => "the policy of the domain has no `api_keys`",
                None => {
                    "no policy has `api_keys`, or several have; name the domain in context_extensions"
                }
            }));
        };
        let (presented, origin) = (attributes.presented(policy), attributes.origin());
        let request = ApiKeyRequest {
            text: presented.as_deref(),
            method: attributes.method(),
            path: attributes.path(),
            address: attributes.address(policy.trusted_proxies),
            origin: origin.as_deref(),
        };
        let checked = self.engine.check_api_key(&self.keys, (domain, policy), &request).await;
        let (result, answer) = match checked {
            Ok(grant) => {
                let charged = self.charge(&snapshot, (domain, policy), (&grant, &attributes));
                let (result, answer) = charged.await?;
                if result == GRANTED {
                    self.keys.note_use(&grant.record, self.engine.now(), request.address);
                }
                (result, answer)
            }
            Err(ApiKeyRefusal::Missing) if !policy.is_required => {
                (ApiKeyRefusal::Missing.name(), write::granted(policy, &attributes, None))
            }
            Err(refusal) => (refusal.name(), write::refused(refusal)),
        };
        self.engine.metrics().api_keys.count(result);
        Ok(answer)
    }

    /// Charges the limits of a valid API key. Returns the result for metrics, and the answer.
    async fn charge(
        &self,
        snapshot: &Snapshot,
        (domain, policy): (&Domain, &ApiKeyPolicy),
        (grant, attributes): (&ApiKeyGrant<'_>, &Attributes<'_>),
    ) -> Result<(&'static str, CheckResponse), Status> {
        let granted = || write::granted(policy, attributes, Some(grant));
        // Boxed, because it is large, and most API keys have nothing to charge.
        let of_client = (grant, attributes.address(policy.trusted_proxies));
        let charged = Box::pin(charge::charge(&self.engine, snapshot, (domain, policy), of_client));
        let Some(charged) = charged.await? else { return Ok((GRANTED, granted())) };
        Ok(match charged.answer.code {
            Code::Ok => (GRANTED, charge::with_headers(granted(), &charged.answer)),
            Code::OverLimit => (OVER_LIMIT, charge::over_limit(charged)),
            Code::Unavailable => {
                let refusal = ApiKeyRefusal::Unavailable;
                (refusal.name(), write::refused(refusal))
            }
        })
    }
}
