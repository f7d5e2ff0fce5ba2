//! The `answer:` of a domain: which headers, body and metadata go back with each answer.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

use super::schema::AnswerBodyFile;
use super::schema::AnswerFile;
use super::schema::AnswerLimitsFile;
use super::schema::AnswerMetadataFile;
use super::schema::HeaderSetFile;
use super::schema::Spanned;

/// What goes back with each answer of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerSettings {
    /// `RateLimit` and `RateLimit-Policy`.
    pub ratelimit: bool,
    /// `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset`.
    pub ratelimit_legacy: bool,
    /// The same with `X-` before them.
    pub x_ratelimit: bool,
    /// `Retry-After` with refusals.
    pub retry_after: bool,
    /// Headers tell of all limits, not only of the tightest.
    pub all_limits: bool,
    /// Refusals have a JSON problem as their body.
    pub problem_body: bool,
    pub metadata: AnswerMetadata,
    /// Fixed headers for the upstream.
    pub request_headers: Vec<(String, String)>,
    /// Fixed headers for the caller.
    pub response_headers: Vec<(String, String)>,
}

/// Which answers carry metadata on their limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerMetadata {
    Always,
    #[default]
    Refused,
    Never,
}

impl AnswerSettings {
    /// What the file asks for.
    pub(super) fn new(file: &AnswerFile) -> Self {
        let has = |set| file.headers.iter().flatten().any(|header| header.value == set);
        let fixed = |headers: &Option<BTreeMap<String, Spanned<String>>>| {
            let headers = headers.iter().flatten();
            headers.map(|(name, text)| (name.clone(), text.value.clone())).collect()
        };
        Self {
            ratelimit: has(HeaderSetFile::RateLimit),
            ratelimit_legacy: has(HeaderSetFile::RateLimitLegacy),
            x_ratelimit: has(HeaderSetFile::XRateLimit),
            retry_after: has(HeaderSetFile::RetryAfter),
            all_limits: file.limits.as_ref().is_some_and(|s| s.value == AnswerLimitsFile::All),
            problem_body: file.body.as_ref().is_some_and(|s| s.value == AnswerBodyFile::Problem),
            metadata: file.metadata.as_ref().map_or_else(AnswerMetadata::default, |metadata| {
                match metadata.value {
                    AnswerMetadataFile::Always => AnswerMetadata::Always,
                    AnswerMetadataFile::Refused => AnswerMetadata::Refused,
                    AnswerMetadataFile::Never => AnswerMetadata::Never,
                }
            }),
            request_headers: fixed(&file.request_headers),
            response_headers: fixed(&file.response_headers),
        }
    }

    /// The same as JSON, in the words of the file.
    pub(super) fn describe(&self) -> Value {
        let sets = [
            (self.ratelimit, HeaderSetFile::RateLimit),
            (self.ratelimit_legacy, HeaderSetFile::RateLimitLegacy),
            (self.x_ratelimit, HeaderSetFile::XRateLimit),
            (self.retry_after, HeaderSetFile::RetryAfter),
        ];
        let word = |set| HeaderSetFile::WORDS.iter().find(|(_, word)| *word == set);
        let headers = sets.into_iter().filter(|(on, _)| *on);
        let headers = headers.filter_map(|(_, set)| word(set)).map(|(word, _)| *word);
        let fixed = |headers: &[(String, String)]| {
            headers
                .iter()
                .map(|(name, text)| (name.clone(), Value::from(text.as_str())))
                .collect::<Value>()
        };
        json!({
            "headers": headers.collect::<Value>(),
            "limits": if self.all_limits { "all" } else { "tightest" },
            "body": if self.problem_body { "problem" } else { "empty" },
            "metadata": match self.metadata {
                AnswerMetadata::Always => "always",
                AnswerMetadata::Refused => "refused",
                AnswerMetadata::Never => "never",
            },
            "request_headers": fixed(&self.request_headers),
            "response_headers": fixed(&self.response_headers),
        })
    }
}
