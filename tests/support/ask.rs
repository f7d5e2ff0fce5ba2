//! A short way to send gRPC requests to Tollgate and read the answers.

use std::time::Duration;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, UInt64Value};
use serde_json::{Value, json};
use tonic::Status;

use super::client;
use super::client::Grpc;
use super::tollgate::Tollgate;

/// A client for requests of one domain.
pub struct DomainClient {
    domain: &'static str,
    client: Grpc,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub passed: bool,
    /// The remaining hits of each descriptor's limit.
    pub remaining: Vec<u32>,
    /// The body of a refusal; null if the request passed.
    pub problem: Value,
    /// The dynamic metadata; null if there is none.
    pub metadata: Value,
}

impl DomainClient {
    /// A client of `tollgate`.
    pub async fn new(tollgate: &Tollgate, domain: &'static str) -> Self {
        Self { domain, client: tollgate.client().await }
    }

    /// Requests this many hits, with descriptors in the form `key=value,key=value`.
    pub async fn ask(&mut self, descriptors: &[&str], hits: u32) -> Reply {
        self.send(request(self.domain, descriptors, hits)).await
    }

    /// Requests this many hits; returns the status if the call fails.
    pub async fn try_ask(&mut self, descriptors: &[&str], hits: u32) -> Result<Reply, Status> {
        let mut request = request(self.domain, descriptors, hits);
        if hits == 0 {
            let none = Some(UInt64Value { value: 0 });
            request.descriptors.iter_mut().for_each(|one| one.hits_addend = none);
        }
        let answer = self.client.should_rate_limit(request).await?;
        Ok(Reply::new(&answer.into_inner()))
    }

    /// Requests this many hits as a client that waits for so long.
    pub async fn ask_within(
        &mut self,
        descriptors: &[&str],
        hits: u32,
        timeout: Duration,
    ) -> Result<Reply, Status> {
        let mut request = tonic::Request::new(request(self.domain, descriptors, hits));
        request.set_timeout(timeout);
        let answer = self.client.should_rate_limit(request).await?;
        Ok(Reply::new(&answer.into_inner()))
    }

    /// Returns the remaining hits of each descriptor's limit.
    pub async fn remaining(&mut self, descriptors: &[&str]) -> Vec<u32> {
        let mut request = request(self.domain, descriptors, 0);
        let none = Some(UInt64Value { value: 0 });
        request.descriptors.iter_mut().for_each(|one| one.hits_addend = none);
        self.send(request).await.remaining
    }

    /// Returns the remaining hits of a limit of requests with an `estimate`, of which a peek would settle one.
    pub async fn remaining_unsettled(&mut self, descriptors: &[&str]) -> Vec<u32> {
        let mut request = request(self.domain, descriptors, 0);
        for descriptor in &mut request.descriptors {
            descriptor.hits_addend = Some(UInt64Value { value: 0 });
            descriptor.is_negative_hits = true;
        }
        self.send(request).await.remaining
    }

    /// Charges this many hits like Envoy after a response: each descriptor sets them.
    pub async fn debit(&mut self, descriptors: &[&str], hits: u64) -> Reply {
        let mut request = request(self.domain, descriptors, 0);
        let named = Some(UInt64Value { value: hits });
        request.descriptors.iter_mut().for_each(|one| one.hits_addend = named);
        self.send(request).await
    }

    /// Sends a descriptor with its own `hits`, and another one with its own `others`, or with 1 hit of the request.
    pub async fn mixed(&mut self, named: (&str, u64), other: (&str, Option<u64>)) -> Reply {
        let mut request = request(self.domain, &[named.0, other.0], 0);
        request.descriptors[0].hits_addend = Some(UInt64Value { value: named.1 });
        request.descriptors[1].hits_addend = other.1.map(|value| UInt64Value { value });
        self.send(request).await
    }

    /// Gives this many hits back.
    pub async fn give_back(&mut self, descriptors: &[&str], hits: u32) -> Reply {
        let mut request = request(self.domain, descriptors, hits);
        request.descriptors.iter_mut().for_each(|one| one.is_negative_hits = true);
        self.send(request).await
    }

    /// Checks that this many hits fit, and not one more.
    pub async fn spend_exactly(&mut self, descriptors: &[&str], hits: u32) {
        let more = self.ask(descriptors, hits + 1).await;
        assert!(!more.passed, "{descriptors:?} {hits} + 1: {more:?}");
        let all = self.ask(descriptors, hits).await;
        assert!(all.passed, "{descriptors:?} {hits}: {all:?}");
        let again = self.ask(descriptors, 1).await;
        assert!(!again.passed, "{descriptors:?} 1 after {hits}: {again:?}");
    }

    async fn send(&mut self, request: RateLimitRequest) -> Reply {
        Reply::new(&self.client.should_rate_limit(request).await.unwrap().into_inner())
    }
}

impl Reply {
    /// The contents of a response.
    pub fn new(response: &RateLimitResponse) -> Self {
        let statuses = response.statuses.iter();
        Self {
            passed: response.overall_code() == Code::Ok,
            remaining: statuses.map(|status| status.limit_remaining).collect(),
            problem: serde_json::from_slice(&response.raw_body).unwrap_or_default(),
            metadata: response.dynamic_metadata.as_ref().map(json_of).unwrap_or_default(),
        }
    }

    /// The reason of a refusal, in the body and in the metadata; empty if it passed.
    pub fn reason(&self) -> &str {
        assert_eq!(self.problem["reason"], self.metadata["reason"], "{self:?}");
        self.problem["reason"].as_str().unwrap_or_default()
    }

    /// The names of the refusing limits.
    pub fn violated(&self) -> Vec<&str> {
        let names = self.problem["violated-policies"].as_array().into_iter().flatten();
        names.filter_map(Value::as_str).collect()
    }
}

/// A request with descriptors in the form `key=value,key=value`.
pub fn request(domain: &str, descriptors: &[&str], hits: u32) -> RateLimitRequest {
    let entries = |text: &&str| {
        let entries: Vec<_> = text.split(',').map(|entry| entry.split_once('=').unwrap()).collect();
        client::descriptor(&entries)
    };
    RateLimitRequest {
        domain: domain.to_owned(),
        descriptors: descriptors.iter().map(entries).collect(),
        hits_addend: hits,
    }
}

fn json_of(fields: &Struct) -> Value {
    let fields = fields.fields.iter();
    fields
        .map(|(name, value)| (name.clone(), value.kind.as_ref().map_or(Value::Null, json_kind)))
        .collect()
}

fn json_kind(kind: &Kind) -> Value {
    match kind {
        Kind::NullValue(_) => Value::Null,
        Kind::NumberValue(number) => json!(number),
        Kind::StringValue(text) => json!(text),
        Kind::BoolValue(flag) => json!(flag),
        Kind::StructValue(fields) => json_of(fields),
        Kind::ListValue(list) => {
            list.values.iter().filter_map(|value| value.kind.as_ref()).map(json_kind).collect()
        }
    }
}
