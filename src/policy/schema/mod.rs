//! The types of a policy file. Each declares its fields once; the reader, which finds all problems of form, and the
//! JSON Schema for editors are derived from it.

mod abuse;
mod adjust;
mod alerts;
mod answer;
mod api_keys;
mod choice;
mod estimate;
mod grace;
mod idempotency;
mod limit;
mod map;
mod policy;
mod price;
mod readers;
mod reservation;
mod rule;
mod schedule;
mod sharing;
mod thresholds;
mod words;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::yaml::Spanned;

pub use abuse::AbuseFile;
pub use adjust::AdjustFile;
pub use alerts::{
    AlertAnswerFile, AlertRuleFile, AlertsFile, ChannelFile, EscalationFile, MaintenanceFile,
    alerts_schema, read_alerts,
};
pub use answer::{AnswerFile, is_header_name};
pub use api_keys::{ApiKeyHeadersFile, ApiKeyPlaceFile, ApiKeyRouteFile, ApiKeysFile};
pub use choice::{CandidateFile, ChoiceFile, WeightsFile};
pub use estimate::EstimateFile;
pub use grace::GraceFile;
pub use idempotency::{IdempotencyFile, RuleIdempotencyFile};
pub use limit::{DefaultsFile, LimitFile, LimitMapFile, WaitFile};
pub use map::start_of;
pub use policy::{PolicyFile, read, read_node};
pub use price::PriceFile;
pub use reservation::ReservationFile;
pub use rule::{NotFile, RateLimitFile, RuleFile};
pub use schedule::{ByTierFile, ManyFile, ScheduleFile, TextsFile, WhenFile};
pub use sharing::{
    CallerFile, CapacityFile, CapacityWhenFile, CostFile, OnlyFile, PressureFile, PriorityFile,
};
pub use thresholds::ThresholdsFile;
pub use words::{
    AlertSeverityFile, AlertSignalFile, AlertSplitFile, AlgorithmFile, AnswerBodyFile,
    AnswerLimitsFile, AnswerMetadataFile, ApiKeyOutageFile, ChannelTypeFile, EstimateAtFile,
    HeaderSetFile, LeaseFile, MailTlsFile, ModeFile, OtherRoutesFile, OutageFile, OverdraftFile,
    RefusalIdFile, Word,
};

/// Values by free names, in the order of the file.
pub type Named<T> = Vec<(Spanned<String>, T)>;

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// The JSON Schema of a policy file, for editors.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(PolicyFile).to_value()
}
