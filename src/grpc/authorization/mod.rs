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
use crate::engine::{ApiKeyRefusal, ApiKeyRequest, ApiKeys, Code, Engine};
use read::Attributes;

/// The path of the one method.
pub const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

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
        let answer = match self.engine.check_api_key(&self.keys, (domain, policy), &request).await {
            Ok(grant) if policy.charges => {
                let charged = charge::charge(&self.engine, &snapshot, (domain, &grant)).await?;
                match charged.code {
                    Code::Ok => {
                        let answer = write::granted(policy, &attributes, Some(&grant));
                        charge::with_headers(answer, &charged)
                    }
                    Code::OverLimit => charge::over_limit(charged),
                    Code::Unavailable => write::refused(ApiKeyRefusal::Unavailable),
                }
            }
            Ok(grant) => write::granted(policy, &attributes, Some(&grant)),
            Err(ApiKeyRefusal::Missing) if !policy.is_required => {
                write::granted(policy, &attributes, None)
            }
            Err(refusal) => write::refused(refusal),
        };
        Ok(answer)
    }
}
