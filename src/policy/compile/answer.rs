//! Compiles the `answer:` of a file.

use std::collections::BTreeMap;

use crate::policy::model::{AnswerMetadata, AnswerSettings};
use crate::policy::schema::{
    AnswerBodyFile, AnswerFile, AnswerLimitsFile, AnswerMetadataFile, HeaderSetFile,
};
use crate::policy::yaml::Spanned;

/// The settings in the file.
pub fn answer(file: &AnswerFile) -> AnswerSettings {
    let has = |set| file.headers.iter().flatten().any(|header| header.value == set);
    let fixed = |headers: &Option<BTreeMap<String, Spanned<String>>>| {
        let headers = headers.iter().flatten();
        headers.map(|(name, text)| (name.clone(), text.value.clone())).collect()
    };
    AnswerSettings {
        ratelimit: has(HeaderSetFile::RateLimit),
        ratelimit_legacy: has(HeaderSetFile::RateLimitLegacy),
        x_ratelimit: has(HeaderSetFile::XRateLimit),
        retry_after: has(HeaderSetFile::RetryAfter),
        quota_warning: has(HeaderSetFile::QuotaWarning),
        quota_granted: has(HeaderSetFile::QuotaGranted),
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
