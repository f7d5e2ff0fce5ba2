//! Compiles the `answer:` of a file.

use std::collections::BTreeMap;

use crate::policy::model::{AnswerMetadata, AnswerSettings, LegacyNames, RefusalIdPlaces};
use crate::policy::problem::Severity;
use crate::policy::schema::{
    AnswerBodyFile, AnswerFile, AnswerLimitsFile, AnswerMetadataFile, HeaderSetFile, RefusalIdFile,
};
use crate::policy::yaml::{Reader, Spanned};

/// The settings in the file. Warns of places for ids that no answer has.
pub fn answer(reader: &mut Reader<'_>, file: &AnswerFile) -> AnswerSettings {
    let settings = settings(file);
    let mut missing = |place: RefusalIdFile, message: &str| {
        let said = file.refusal_id.iter().flatten().find(|said| said.value == place);
        if let Some(said) = said {
            reader.note(Severity::Warning, said.span.clone(), message);
        }
    };
    if !settings.problem_body {
        missing(RefusalIdFile::Body, "no effect: refusals have no body without `body: problem`");
    }
    if settings.metadata == AnswerMetadata::Never {
        missing(RefusalIdFile::Metadata, "no effect: `metadata` is `never`");
    }
    settings
}

fn settings(file: &AnswerFile) -> AnswerSettings {
    let places = |place| file.refusal_id.iter().flatten().any(|said| said.value == place);
    let has = |set| file.headers.iter().flatten().any(|header| header.value == set);
    let fixed = |headers: &Option<BTreeMap<String, Spanned<String>>>| {
        let headers = headers.iter().flatten();
        headers.map(|(name, text)| (name.clone(), text.value.clone())).collect()
    };
    AnswerSettings {
        ratelimit: has(HeaderSetFile::RateLimit),
        ratelimit_legacy: has(HeaderSetFile::RateLimitLegacy),
        legacy_names: LegacyNames::default(),
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
        refusal_id: RefusalIdPlaces {
            header: places(RefusalIdFile::Header),
            metadata: places(RefusalIdFile::Metadata),
            body: places(RefusalIdFile::Body),
        },
        upgrade_url: file.upgrade_url.as_ref().map(|address| address.value.as_str().into()),
        request_headers: fixed(&file.request_headers),
        response_headers: fixed(&file.response_headers),
    }
}
