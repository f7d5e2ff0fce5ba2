//! Charges the limits of an API key within the check; those of its caller too if the policy says so, so that Envoy needs no second
//! call.

use std::net::IpAddr;
use std::time::Duration;

use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{CheckResponse, DeniedHttpResponse};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use tonic::Status;

use super::write::{overwrite, status};
use crate::answer::{Answer, protocol, push_retry_after, render};
use crate::engine::{
    ApiKeyGrant, BroughtLimits, Descriptor, Engine, HitsSource, Request, Snapshot,
};
use crate::limit::Hits;
use crate::policy::{ApiKeyPolicy, Domain};

/// The key of the entry with the id of the API key.
const KEY_ID: &str = "key_id";

/// Status and body of a refusal.
const STATUS: u32 = 429;
const BODY: &str = "the limit of the API key or of its caller is reached";

/// The answer to a charge.
pub struct Charged {
    pub answer: Answer,
    /// Time until the same request would pass.
    pub wait: Option<Duration>,
}

/// Charges one hit, in one step: for the descriptors `[CALLER=caller, TIER=tier]` and `[key_id=ID]` if the policy charges them in
/// the check, and for the limits of the API key itself. None if there is nothing to charge.
///
/// # Errors
/// If they are no valid request.
pub async fn charge(
    engine: &Engine,
    snapshot: &Snapshot,
    (domain, policy): (&Domain, &ApiKeyPolicy),
    (grant, address): (&ApiKeyGrant<'_>, Option<IpAddr>),
) -> Result<Option<Charged>, Status> {
    let record = &grant.record;
    if !policy.charges && record.key.limits.is_empty() {
        return Ok(None);
    }
    let classes = &domain.classes;
    let caller = classes.caller_key.as_deref().map(|key| (key, &*record.key.caller));
    let tier = classes.tier_key.as_deref().zip(grant.tier);
    let caller = caller.into_iter().chain(tier);
    let key_id = (KEY_ID, &*record.id);
    let mut descriptors = Vec::new();
    if policy.charges {
        descriptors.extend([one_hit(caller.clone().collect()), one_hit(vec![key_id])]);
    }
    if !record.key.limits.is_empty() {
        let own = BroughtLimits::OfApiKey(&record.id, &record.key.limits);
        let entries = caller.chain([key_id]).collect();
        descriptors.push(Descriptor { limit: Some(own), ..one_hit(entries) });
    }
    let request = Request::try_new(&domain.name, descriptors);
    let request = request.map_err(|error| Status::invalid_argument(error.to_string()))?;
    let request = request.from_address(address);
    let request = if policy.charges { request } else { request.counted_later() };
    let verdict = engine.check(snapshot, &request).await;
    Ok(Some(Charged { answer: render(&verdict), wait: verdict.wait() }))
}

/// A descriptor with one hit.
fn one_hit<'a>(entries: Vec<(&'a str, &'a str)>) -> Descriptor<'a> {
    let (hits, hits_source) = (Hits::Spend(1), HitsSource::Request);
    Descriptor { entries, hits, hits_source, limit: None }
}

/// The answer for a request that goes on, with the headers of the limits.
pub fn with_headers(mut response: CheckResponse, charged: &Answer) -> CheckResponse {
    if let Some(HttpResponse::OkResponse(ok)) = &mut response.http_response {
        let header = |(name, value): &(String, String)| overwrite(name, value);
        ok.response_headers_to_add.extend(charged.response_headers.iter().map(header));
        let forwarded = charged.request_headers.iter();
        let forwarded = forwarded.filter(|(name, _)| protocol::may_forward(name));
        ok.headers.extend(forwarded.map(header));
    }
    response
}

/// The answer for a request beyond a limit: when to retry is also said where the policy does not ask for it.
pub fn over_limit(Charged { answer, wait }: Charged) -> CheckResponse {
    let mut headers = answer.response_headers;
    if headers.iter().all(|(name, _)| name != "retry-after") {
        push_retry_after(&mut headers, wait);
    }
    let body = String::from_utf8(answer.body).unwrap_or_default();
    let denied = DeniedHttpResponse {
        status: Some(HttpStatus { code: STATUS.cast_signed() }),
        headers: headers.iter().map(|(name, value)| overwrite(name, value)).collect(),
        body: if body.is_empty() { BODY.to_owned() } else { body },
    };
    CheckResponse {
        status: Some(status(tonic::Code::ResourceExhausted)),
        dynamic_metadata: None,
        http_response: Some(HttpResponse::DeniedResponse(denied)),
    }
}
