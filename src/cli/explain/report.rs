//! The report of `tollgate explain` in JSON; `text.rs` writes it as text.
//!
//! Scripts read it: fields may be added, and none is removed or renamed. `config/README.md` lists them.

use serde::{Serialize, Serializer};

use super::entries::shown;
use super::estimate::EstimateReport;

/// The request, and the limits that apply to it.
#[derive(Debug, Serialize)]
pub struct Report {
    pub domain: String,
    pub at: String,
    pub timezone: String,
    /// The requested hits of each descriptor; negative if hits are given back.
    pub hits: i64,
    /// Whether the request passes if nothing has been spent.
    pub passes: bool,
    /// The reason of a refusal.
    pub reason: Option<&'static str>,
    /// Whether the policy applies to the request.
    pub matched: bool,
    pub caller: CallerReport,
    pub choices: Vec<ChoiceReport>,
    pub descriptors: Vec<DescriptorReport>,
    pub limits: Vec<LimitReport>,
    pub not_charged: Vec<NotChargedReport>,
    pub pressure: Vec<PressureReport>,
    /// Null if no price applies.
    pub price: Option<PriceReport>,
}

#[derive(Debug, Serialize)]
pub struct PriceReport {
    pub provider: Option<String>,
    /// The other entries of the line.
    pub kind: String,
    /// Millionths of the currency.
    pub micros: u64,
    pub currency: String,
    /// Charged per that many hits; null if flat.
    pub per: Option<u64>,
}

#[derive(Debug, Serialize)]
pub struct CallerReport {
    /// The key of the entry that names callers.
    pub key: Option<String>,
    pub name: Option<String>,
    /// Null without a directory.
    pub known: Option<bool>,
    pub tier: Option<String>,
    /// `request`, `directory` or `default`.
    pub tier_from: &'static str,
    /// The tier in the request, if it is unknown to the policy.
    pub unknown_tier: Option<String>,
    pub priority: u8,
    /// The caller and its parents, from the directory.
    pub lineage: Vec<MemberReport>,
}

#[derive(Debug, Serialize)]
pub struct MemberReport {
    pub name: String,
    pub tier: Option<String>,
    pub roles: Vec<String>,
    pub share: Option<String>,
    pub pool: bool,
    pub disabled: bool,
}

#[derive(Debug, Serialize)]
pub struct ChoiceReport {
    pub key: String,
    pub value: String,
    pub chosen: String,
    pub weights: WeightsReport,
    pub candidates: Vec<CandidateReport>,
}

#[derive(Debug, Serialize)]
pub struct WeightsReport {
    pub capacity: f64,
    pub latency: f64,
    pub price: f64,
}

#[derive(Debug, Serialize)]
pub struct CandidateReport {
    pub name: String,
    /// Null if the candidate is excluded.
    pub score: Option<f64>,
    pub price: Option<f64>,
    pub latency_ms: Option<f64>,
    /// The caller has no access.
    pub denied: bool,
}

#[derive(Debug, Serialize)]
pub struct DescriptorReport {
    pub entries: Vec<EntryReport>,
    /// Entries that are not part of the path.
    pub qualifiers: Vec<EntryReport>,
    pub steps: Vec<StepReport>,
    /// `limits`, `unlimited`, `no_limit`, `no_rule` or `no_path`.
    pub end: &'static str,
    /// Numbers of `limits`, from 1.
    pub limits: Vec<usize>,
    /// Rules that deny the caller access.
    pub closed_by: Vec<ClosedReport>,
}

#[derive(Clone, Debug, Serialize)]
pub struct EntryReport {
    #[serde(serialize_with = "serialize_shown")]
    pub key: String,
    #[serde(serialize_with = "serialize_shown")]
    pub value: String,
}

#[derive(Debug, Serialize)]
pub struct StepReport {
    pub entry: EntryReport,
    pub rule: Option<RuleReport>,
    pub others: Vec<OtherReport>,
}

#[derive(Clone, Debug, Serialize)]
pub struct RuleReport {
    pub path: String,
    pub file: String,
    pub line: usize,
}

/// Places of a limit, each as FILE:LINE.
#[derive(Debug, Serialize)]
pub struct SaidReport {
    /// That of its rate, in the resource or in the overlay.
    pub rate: String,
    /// That of the overlay's rule.
    pub overlay: String,
}

#[derive(Debug, Serialize)]
pub struct OtherReport {
    pub rule: String,
    pub why_not: String,
}

#[derive(Debug, Serialize)]
pub struct ClosedReport {
    pub rule: RuleReport,
    pub only: OnlyReport,
}

#[derive(Clone, Debug, Serialize)]
pub struct OnlyReport {
    pub tiers: Vec<String>,
    pub priority: Option<u8>,
}

#[derive(Debug, Serialize)]
pub struct LimitReport {
    pub number: usize,
    /// The name in the policy.
    pub name: Option<String>,
    /// The name in metrics and answers.
    pub label: String,
    pub rule: Option<RuleReport>,
    /// Where it is said, if its rule has an overlay.
    pub said: Option<SaidReport>,
    pub cascade: bool,
    /// Numbers of the descriptors to which it applies, from 1.
    pub descriptors: Vec<usize>,
    /// For this caller.
    pub rate: String,
    pub by_tier: Vec<TierReport>,
    pub amount_from: AmountReport,
    /// The currency, if amounts are hundredths of one.
    pub currency: Option<String>,
    pub algorithm: String,
    pub burst: Option<u64>,
    pub period: Option<PeriodReport>,
    pub schedule: Option<ScheduleReport>,
    /// The counter.
    pub key: String,
    /// The charge of the request; negative if hits are given back.
    pub cost: i64,
    pub has_cost_table: bool,
    /// Whether the limit has these hits if nothing has been spent.
    pub fits: bool,
    /// The maximum that can be spent at once if nothing has been spent.
    pub capacity: u64,
    /// The part of it that this caller may use.
    pub open: u64,
    pub open_by_tier: Vec<OpenReport>,
    /// The schedule of what is open, if it has one.
    pub open_schedule: Option<ScheduleReport>,
    pub open_under_pressure: Vec<PressedReport>,
    pub bonuses: Vec<BonusReport>,
    pub mode: String,
    /// The part of the callers for whom it is enforced, if that is not all; the mode is this caller's.
    pub enforce: Option<String>,
    pub on_outage: String,
    pub overdraft: String,
    pub partial: bool,
    pub grace: Option<GraceReport>,
    pub thresholds: Vec<ThresholdReport>,
    pub wait: Option<WaitReport>,
    /// Null if retries are charged like new requests.
    pub idempotency: Option<IdempotencyReport>,
    /// Null if no hits of the limit can be held.
    pub reservation: Option<ReservationReport>,
    /// What requests hold until their cost is debited; null if nothing.
    pub estimate: Option<EstimateReport>,
    pub lease: &'static str,
    /// How it follows a signal; null if it doesn't.
    pub adjust: Option<AdjustReport>,
}

/// How a limit follows a signal: what is in force is known to a running process alone.
#[derive(Debug, Serialize)]
pub struct AdjustReport {
    pub signal: String,
    pub above: f64,
    pub below: f64,
    pub least: String,
    pub step: String,
    pub every_ms: u64,
    pub stale_after_ms: u64,
    pub stale: String,
}

/// How far the limit may be exceeded, and how long from the first breach on.
#[derive(Debug, Serialize)]
pub struct GraceReport {
    pub percent: u16,
    pub hits: u64,
    pub for_ms: u64,
}

/// A threshold, and the number of hits in use at which it is crossed.
#[derive(Debug, Serialize)]
pub struct ThresholdReport {
    pub percent: u16,
    pub hits: u64,
}

#[derive(Debug, Serialize)]
pub struct TierReport {
    pub tier: String,
    pub rate: String,
}

#[derive(Debug, Serialize)]
pub struct AmountReport {
    /// `policy`, `override` or `share`.
    pub source: &'static str,
    /// The owner of the counter, if a directory knows the caller and the limit is the caller's own.
    pub account: Option<String>,
    pub share: Option<String>,
    /// The tier whose amount an override gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// The end of the override.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct PeriodReport {
    pub start: String,
    pub end: String,
    pub ends_in_ms: u64,
}

#[derive(Debug, Serialize)]
pub struct ScheduleReport {
    /// The active schedule, by its name or its condition; null if none is active.
    pub during: Option<String>,
    /// The rate while no schedule is active.
    pub otherwise: String,
    /// The next change, if there is one.
    pub next: Option<EdgeReport>,
}

#[derive(Debug, Serialize)]
pub struct EdgeReport {
    pub at: String,
    pub in_ms: u64,
    pub during: Option<String>,
    pub rate: String,
}

#[derive(Debug, Serialize)]
pub struct OpenReport {
    pub tier: String,
    pub open: u64,
}

#[derive(Debug, Serialize)]
pub struct PressedReport {
    /// The number of `pressure`, from 1.
    pub pressure: usize,
    pub level: usize,
    pub open: u64,
}

#[derive(Debug, Serialize)]
pub struct BonusReport {
    pub id: String,
    /// In each period, if it recurs.
    pub amount: u64,
    /// Null if it never ends.
    pub until: Option<String>,
    pub priority: u8,
    /// Null if its hits come once.
    pub recurs: Option<RecurrenceReport>,
}

/// How a bonus comes anew.
#[derive(Debug, Serialize)]
pub struct RecurrenceReport {
    pub every: String,
    /// When the next period begins.
    pub next: String,
    pub rollover_max: u64,
}

#[derive(Debug, Serialize)]
pub struct WaitReport {
    pub up_to_ms: u64,
    pub queue: usize,
}

#[derive(Debug, Serialize)]
pub struct IdempotencyReport {
    /// The mark of the charge.
    pub key: String,
    pub for_ms: u32,
    pub retries: u16,
}

#[derive(Debug, Serialize)]
pub struct ReservationReport {
    /// `count`, `hold`, `settle` or `extend`: what the request does besides counting what is held as used.
    pub action: &'static str,
    /// For how long it holds hits.
    pub for_ms: Option<u32>,
}

#[derive(Debug, Serialize)]
pub struct NotChargedReport {
    pub label: String,
    pub rule: Option<RuleReport>,
    /// `replaced`, `unlimited`, `no_access` or `off`.
    pub why: &'static str,
}

#[derive(Debug, Serialize)]
pub struct PressureReport {
    pub number: usize,
    pub rule: RuleReport,
    pub levels: Vec<LevelReport>,
}

#[derive(Debug, Serialize)]
pub struct LevelReport {
    pub level: usize,
    pub above: String,
    pub until: String,
    /// The parts of their own limits that callers may use, by tier.
    pub scale: Vec<TierReport>,
    pub only: Option<OnlyReport>,
    /// The hits at which it begins and ends, for each of the rule's limits.
    pub marks: Vec<MarkReport>,
}

#[derive(Debug, Serialize)]
pub struct MarkReport {
    /// The number of `limits`, from 1.
    pub limit: usize,
    /// It begins when more than this is in use,
    pub rise: u64,
    /// and ends when no more than this is.
    pub fall: u64,
}

fn serialize_shown<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&shown(text))
}
