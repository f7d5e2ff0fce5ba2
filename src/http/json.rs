//! `POST /json`: the rate limit service for clients without gRPC, as in envoyproxy/ratelimit.

use std::fmt::Display;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::edge::Edge;
use super::problem::Problem;
use super::request::RateLimitRequest;
use super::response::RateLimitResponse;
use crate::answer;
use crate::answer::{Answer, protocol};
use crate::engine::{Code, Engine};
use crate::metrics::Invalid;

/// Headers of the HTTP connection itself. The headers of the answer are for the caller.
const OWN_HEADERS: [HeaderName; 4] =
    [header::CONNECTION, header::CONTENT_LENGTH, header::CONTENT_TYPE, header::TRANSFER_ENCODING];

/// Handles the request. The content type does not matter, as in the reference.
pub async fn handle(
    State(edge): State<Edge>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let answered = match body {
        Ok(body) => decide(&edge.engine, &body).await,
        Err(rejection) => Err(Refusal::of(&rejection)),
    };
    answered.map_err(|Refusal { why, problem }| {
        if let Some(why) = why {
            edge.invalid.note(why, &problem.detail);
        }
        problem
    })
}

/// The reason of an error answer, and its status.
struct Refusal {
    /// None if the body is not invalid.
    why: Option<Invalid>,
    problem: Problem,
}

impl Refusal {
    fn of(rejection: &BytesRejection) -> Self {
        let why = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Invalid::TooLarge,
            _ => Invalid::Malformed,
        };
        Self { why: Some(why), problem: Problem::new(rejection.status(), rejection.body_text()) }
    }

    fn new(why: Invalid, error: &dyn Display) -> Self {
        Self { why: Some(why), problem: Problem::new(StatusCode::BAD_REQUEST, error.to_string()) }
    }
}

/// Answers an encoded body with an encoded body, for the fuzzer.
///
/// # Errors
/// If the body is malformed, or the request is invalid.
pub async fn answer_bytes(engine: &Engine, body: &[u8]) -> Result<Response, Problem> {
    decide(engine, body).await.map_err(|refusal| refusal.problem)
}

async fn decide(engine: &Engine, body: &[u8]) -> Result<Response, Refusal> {
    let message =
        RateLimitRequest::parse(body).map_err(|error| Refusal::new(Invalid::Malformed, &error))?;
    let request = message.read().map_err(|error| Refusal::new(Invalid::Undecidable, &error))?;
    let snapshot = engine.snapshot();
    let answer = answer::render(&*engine.check(&snapshot, &request).await);
    write(&answer).map_err(|problem| Refusal { why: None, problem })
}

/// An outage is answered by its verdict: the status is an error only if the policy says so.
fn write(answer: &Answer) -> Result<Response, Problem> {
    let status = match answer.code {
        Code::Ok => StatusCode::OK,
        Code::OverLimit => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => {
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, protocol::UNAVAILABLE));
        }
    };
    let body = Json(RateLimitResponse::write(answer));
    Ok((status, headers(answer), body).into_response())
}

/// The answer's headers for the caller, except those that an HTTP response can't have.
fn headers(answer: &Answer) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &answer.response_headers {
        let (Ok(parsed), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
        else {
            continue;
        };
        if protocol::may_forward(name) && !OWN_HEADERS.contains(&parsed) {
            headers.append(parsed, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::any;
    use proptest::proptest;

    use super::*;

    #[test]
    fn the_status_says_the_answer() {
        let check = |code, expected: u16| {
            let response = write(&Answer::new(code)).into_response();
            assert_eq!(response.status().as_u16(), expected);
            let is_problem = response.headers()["content-type"] == "application/problem+json";
            assert_eq!(is_problem, code == Code::Unavailable);
        };
        check(Code::Ok, 200);
        check(Code::OverLimit, 429);
        check(Code::Unavailable, 503);
    }

    #[test]
    fn the_answers_headers_are_the_responses_but_for_its_own() {
        let header = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let all = [
            ("retry-after", "12"),
            ("X-A", "1"),
            ("x-a", "2"),
            ("content-type", "application/problem+json"),
            ("content-length", "7"),
            (":status", "200"),
            ("host", "evil"),
            ("x y", "no name"),
            ("x-b", "no\nvalue"),
        ];
        let response_headers = all.map(header).to_vec();
        let answer = Answer { response_headers, ..Answer::new(Code::Ok) };
        let response = write(&answer).unwrap();
        let headers: Vec<(&str, &str)> = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        let expected = [
            ("content-type", "application/json"),
            ("retry-after", "12"),
            ("x-a", "1"),
            ("x-a", "2"),
        ];
        assert_eq!(headers.len(), expected.len(), "{headers:?}");
        assert!(expected.iter().all(|header| headers.contains(header)), "{headers:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = RateLimitRequest::parse(&bytes).map(|message| message.read().map(|_| ()));
        }

        /// Random combinations of the parts of requests reach more code than random bytes.
        #[test]
        fn any_pieces_are_a_request_or_an_error(pieces in proptest::collection::vec(piece(), 0..24)) {
            let json = pieces.concat();
            let _ = RateLimitRequest::parse(json.as_bytes()).map(|message| message.read().map(|_| ()));
        }
    }

    fn piece() -> impl proptest::strategy::Strategy<Value = &'static str> {
        proptest::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "null",
            "true",
            "1",
            "-1",
            "1e99",
            "0.5",
            "\"\"",
            "\"9\"",
            "\"domain\":\"d\"",
            "\"descriptors\":[{",
            "}]",
            "\"entries\":[{",
            "\"key\":",
            "\"value\":",
            "\"limit\":{",
            "\"unit\":",
            "\"hitsAddend\":",
            "\"is_negative_hits\":",
            "\"\\ud800\"",
        ])
    }
}
