//! What `tollgate explain` tells, as its JSON has it; `text.rs` writes the same for people.
//!
//! Scripts read it: fields may be added, and none is removed or renamed. `config/README.md` lists them.

use serde::{Serialize, Serializer};

use super::entries::shown;

/// What a request meets.
#[derive(Debug, Serialize)]
pub struct Report {
    pub domain: String,
    pub at: String,
    pub timezone: String,
    /// What each descriptor asks for; below zero it gives back.
    pub hits: i64,
    /// Whether it passes if nothing has been spent.
    pub passes: bool,
    /// Why it doesn't pass.
    pub reason: Option<&'static str>,
    /// Whether the policy says anything of it.
    pub matched: bool,
    pub caller: CallerReport,
    pub choices: Vec<ChoiceReport>,
    pub descriptors: Vec<DescriptorReport>,
    pub limits: Vec<LimitReport>,
    pub not_charged: Vec<NotChargedReport>,
    pub pressure: Vec<PressureReport>,
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
    /// What the request says of the tier, if the policy has no such tier.
    pub unknown_tier: Option<String>,
    pub priority: u8,
    /// The caller and its parents, as the directory has them.
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
    /// Null if it is out of the running.
    pub score: Option<f64>,
    pub price: Option<f64>,
    pub latency_ms: Option<f64>,
    /// The caller may not use it.
    pub denied: bool,
}

#[derive(Debug, Serialize)]
pub struct DescriptorReport {
    pub entries: Vec<EntryReport>,
    /// Entries that are no part of the path.
    pub qualifiers: Vec<EntryReport>,
    pub steps: Vec<StepReport>,
    /// `limits`, `unlimited`, `no_limit`, `no_rule` or `no_path`.
    pub end: &'static str,
    /// Numbers of `limits`, from 1.
    pub limits: Vec<usize>,
    /// Rules that keep the caller out.
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
    /// The name that the policy gives it.
    pub name: Option<String>,
    /// What metrics and answers call it.
    pub label: String,
    pub rule: Option<RuleReport>,
    pub cascade: bool,
    /// Numbers of the descriptors that meet it, from 1.
    pub descriptors: Vec<usize>,
    /// For this caller.
    pub rate: String,
    pub by_tier: Vec<TierReport>,
    pub amount_from: AmountReport,
    /// What its hits are hundredths of, if it counts money.
    pub currency: Option<String>,
    pub algorithm: String,
    pub burst: Option<u64>,
    pub period: Option<PeriodReport>,
    pub schedule: Option<ScheduleReport>,
    /// The counter.
    pub key: String,
    /// What the request is charged; below zero it gives back.
    pub cost: i64,
    pub has_cost_table: bool,
    /// Whether the limit has these hits if nothing has been spent.
    pub fits: bool,
    /// The most that can be spent at once when nothing has been.
    pub capacity: u64,
    /// How much of it is open to this caller.
    pub open: u64,
    pub open_by_tier: Vec<OpenReport>,
    pub open_under_pressure: Vec<PressedReport>,
    pub bonuses: Vec<BonusReport>,
    pub mode: String,
    pub on_outage: String,
    pub overdraft: String,
    pub grace: Option<GraceReport>,
    pub thresholds: Vec<ThresholdReport>,
    pub wait: Option<WaitReport>,
    /// Null if retries of the request are charged like new ones.
    pub idempotency: Option<IdempotencyReport>,
    pub lease: &'static str,
}

/// How much passes beyond a limit, and for how long from the first breach on.
#[derive(Debug, Serialize)]
pub struct GraceReport {
    pub percent: u16,
    pub hits: u64,
    pub for_ms: u64,
}

/// A threshold, and from how many hits in use on it is crossed.
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
    /// Whose counter it is, if a directory knows the caller and the limit is the caller's own.
    pub account: Option<String>,
    pub share: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct PeriodReport {
    pub start: String,
    pub end: String,
    pub ends_in_ms: u64,
}

#[derive(Debug, Serialize)]
pub struct ScheduleReport {
    /// The schedule that holds, by its name or what it says; None while none does.
    pub during: Option<String>,
    /// The limit while none does.
    pub otherwise: String,
    /// When another one holds, if one ever does.
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
    pub amount: u64,
    pub until: String,
}

#[derive(Debug, Serialize)]
pub struct WaitReport {
    pub up_to_ms: u64,
    pub queue: usize,
}

#[derive(Debug, Serialize)]
pub struct IdempotencyReport {
    /// Where the charge is marked.
    pub key: String,
    pub for_ms: u32,
    pub retries: u16,
}

#[derive(Debug, Serialize)]
pub struct NotChargedReport {
    pub label: String,
    pub rule: Option<RuleReport>,
    /// `replaced`, `unlimited` or `no_access`.
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
    /// The parts of their own limits that callers keep, by tier.
    pub scale: Vec<TierReport>,
    pub only: Option<OnlyReport>,
    /// Where it begins and ends for each of the rule's limits.
    pub marks: Vec<MarkReport>,
}

#[derive(Debug, Serialize)]
pub struct MarkReport {
    /// The number of `limits`, from 1.
    pub limit: usize,
    /// It holds once more than this is used,
    pub rise: u64,
    /// until no more than this is.
    pub fall: u64,
}

fn serialize_shown<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&shown(text))
}
