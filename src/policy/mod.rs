//! Policies: the limits of a request, and the keys of their counters.
//!
//! [`compile()`] takes the texts of files and returns a [`PolicySet`], or all of their problems. It is pure; `app`
//! reads the files and detects changes.

mod alerts;
mod callers;
mod changes;
mod compile;
mod model;
mod overlay;
mod problem;
mod render;
mod schema;
pub mod yaml;

pub use alerts::{
    AlertBounds, AlertChannel, AlertChecks, AlertEscalation, AlertFilter, AlertGrouping, AlertNeed,
    AlertPolicy, AlertReceiver, AlertRestriction, AlertRule, AlertSeverity, AlertSignal,
    AlertSplit, AlertTemplate, AlertTemplates, AlertUrl, DISTINCT_MAX, HttpReceiver, MailReceiver,
    MailTls, MaintenanceWindow, Misfit, TemplateAlert, TemplateFailed, TemplateFields, check_url,
    compile_alerts, compile_alerts_with, escape_slack, misfits,
};
pub use callers::{
    BonusForm, CallerForm, CallerNames, Callers, CallersFor, Flaw, Flaws, NAME_LEN_MAX,
    OverrideForm, OverrideUntilForm, ParentError, callers_schema, check_caller_name, check_id,
    check_parents, check_text, compile_callers, compile_callers_for, has_one_counter, parse_until,
    show_time, tighter_limits,
};
pub use changes::{CountChanges, Gone, NOT_ALL_COMPARED, Restart, count_changes};
pub use compile::{
    CompileOptions, NEVER_ACTIVE, Rate, compile, currency_of, holds_ever, parse_dates, parse_hours,
    parse_months, parse_weekdays, parse_zone,
};
pub use model::{
    API_KEY_LABEL, AbuseEntries, AbuseEntry, AbuseEntrySet, Adjust, AnswerMetadata, AnswerSettings,
    ApiKeyHeaders, ApiKeyNeeds, ApiKeyOutage, ApiKeyPlace, ApiKeyPolicy, ApiKeyRoute, ApiKeyRoutes,
    Budget, Caller, CallerBonus, CallerOverride, Candidate, CandidateFigures, Capacity, Choice,
    Classes, Domain, Estimate, EstimateAt, HeaderPlace, Idempotency, InForce, Key, KeyEntry,
    LATENCY_MS_MAX, LEASED_AMOUNT_MIN, Lease, LegacyNames, Lineage, Member, Metadata,
    MetadataValue, Mode, OVERRIDE_LABEL, OnOutage, Only, Origin, Overlay, OverlayState,
    OverrideAmount, PARENTS_MAX, PRESSURE_LEVELS_MAX, PRIORITY_MAX, PRIORITY_MIN, Path, PolicySet,
    PressureLevel, PriceLine, Prices, Provider, Refused, ReservationAction, Reservations, RetryId,
    Rule, RuleLimit, RuleValue, Share, SignalSource, SourceLocation, TierLimit, Unit, Wait, Walk,
    Weights, Window, parse_priority,
};
pub use overlay::compile_with_overlays;
pub use problem::{Problem, Severity, Source};
pub use render::{
    Edit, EditedPart, PolicyEdits, RuleTrace, TraceEnd, TraceStep, metadata_json, render,
};
pub use schema::{alerts_schema, schema};
pub use yaml::nearest;
