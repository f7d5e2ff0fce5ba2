//! Builds the printed report from an explanation.

use crate::clock::Timestamp;
use crate::engine::{
    CandidateState, ExplainedChoice, ExplainedDescriptor, ExplainedPressure, Explanation, Reason,
    RuleName, TierSource, Uncharged,
};
use crate::limit::Hits;
use crate::policy::{Domain, Only, Share, TraceEnd};

use super::at::stamp;
use super::entries::shown;
use super::report::{
    CallerReport, CandidateReport, ChoiceReport, ClosedReport, DescriptorReport, EntryReport,
    LevelReport, LimitReport, MarkReport, MemberReport, NotChargedReport, OnlyReport, OtherReport,
    PressureReport, PriceReport, Report, RuleReport, StepReport, TierReport, WeightsReport,
};

/// The context of a report.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    pub domain: &'a Domain,
    pub at: Timestamp,
    /// The requested hits of each descriptor.
    pub hits: Hits,
    pub has_directory: bool,
}

impl Report {
    pub fn new(explanation: &Explanation, setting: Setting<'_>) -> Self {
        let Setting { domain, at, .. } = setting;
        let limits: Vec<LimitReport> = (1..)
            .zip(&explanation.limits)
            .map(|(number, limit)| setting.limit(explanation, number, limit))
            .collect();
        let unlimited = |part: &ExplainedDescriptor| matches!(part.trace.end, TraceEnd::Unlimited);
        Self {
            domain: domain.name.clone(),
            at: stamp(domain.zone(), at),
            timezone: domain.zone().iana_name().unwrap_or("UTC").to_owned(),
            hits: count(setting.hits),
            passes: explanation.refusal.is_none(),
            reason: explanation.refusal.map(Reason::name),
            matched: !limits.is_empty()
                || !explanation.uncharged.is_empty()
                || explanation.refusal.is_some()
                || explanation.descriptors.iter().any(unlimited),
            caller: setting.caller(explanation),
            choices: explanation.choices.iter().map(choice).collect(),
            descriptors: explanation
                .descriptors
                .iter()
                .map(|descriptor| setting.descriptor(descriptor))
                .collect(),
            limits,
            not_charged: explanation
                .uncharged
                .iter()
                .map(|limit| NotChargedReport {
                    label: limit.label.to_string(),
                    rule: limit.rule.as_ref().map(rule),
                    why: match limit.why {
                        Uncharged::Replaced => "replaced",
                        Uncharged::Unlimited => "unlimited",
                        Uncharged::NoAccess => "no_access",
                        Uncharged::Off => "off",
                    },
                })
                .collect(),
            pressure: (1..)
                .zip(&explanation.pressure)
                .map(|(number, one)| setting.pressure(number, one))
                .collect(),
            price: explanation.price.as_ref().map(|(line, currency)| PriceReport {
                provider: line.provider.as_deref().map(str::to_owned),
                kind: line.kind.to_string(),
                micros: line.micros,
                currency: currency.to_string(),
                per: line.per,
            }),
        }
    }
}

impl Setting<'_> {
    pub(super) fn tiers(&self) -> impl Iterator<Item = (usize, String)> {
        let tiers = self.domain.classes.tiers.iter().enumerate();
        tiers.map(|(index, tier)| (index, tier.to_string()))
    }

    fn caller(&self, explanation: &Explanation) -> CallerReport {
        let classes = &self.domain.classes;
        let caller = &explanation.caller;
        let members = &caller.lineage.members;
        let knows = self.has_directory && caller.name.is_some();
        CallerReport {
            key: classes.caller_key.as_deref().map(str::to_owned),
            name: caller.name.as_deref().map(shown),
            known: knows.then_some(!members.is_empty()),
            tier: classes.tiers.get(caller.tier).map(|tier| tier.to_string()),
            tier_from: match caller.tier_source {
                TierSource::Request => "request",
                TierSource::Directory => "directory",
                TierSource::Usage => "usage",
                TierSource::Default => "default",
            },
            unknown_tier: self.unknown_tier(explanation),
            priority: caller.priority,
            lineage: members
                .iter()
                .map(|member| MemberReport {
                    name: member.name.to_string(),
                    tier: member.caller.tier.clone(),
                    roles: member.caller.roles.clone(),
                    share: member.caller.share.map(|share| share.to_string()),
                    pool: member.caller.pool,
                    disabled: member.caller.disabled,
                })
                .collect(),
        }
    }

    fn unknown_tier(&self, explanation: &Explanation) -> Option<String> {
        let classes = &self.domain.classes;
        let key = classes.tier_key.as_deref()?;
        let mut entries = explanation.descriptors.iter().flat_map(|part| &part.trace.entries);
        let (_, name) = entries.find(|(name, _)| name == key)?;
        classes.tier(name).is_none().then(|| shown(name))
    }

    fn descriptor(&self, descriptor: &ExplainedDescriptor) -> DescriptorReport {
        let trace = &descriptor.trace;
        let steps = trace.steps.iter().map(|step| StepReport {
            entry: entry(&(step.key.clone(), step.value.clone())),
            rule: step.rule.as_ref().map(|(path, place)| RuleReport {
                path: path.clone(),
                file: place.file.to_string(),
                line: place.line,
            }),
            others: step
                .others
                .iter()
                .map(|(rule, why_not)| OtherReport { rule: rule.clone(), why_not: shown(why_not) })
                .collect(),
        });
        let closed = descriptor.closed.iter();
        DescriptorReport {
            entries: trace.entries.iter().map(entry).collect(),
            qualifiers: trace.qualifying.iter().map(entry).collect(),
            steps: steps.collect(),
            end: match trace.end {
                TraceEnd::Limits => "limits",
                TraceEnd::Unlimited => "unlimited",
                TraceEnd::NoLimit => "no_limit",
                TraceEnd::NoRule => "no_rule",
                TraceEnd::NoPath => "no_path",
            },
            limits: descriptor.limits.iter().map(|index| index + 1).collect(),
            closed_by: closed
                .map(|(name, only)| ClosedReport { rule: rule(name), only: self.only(only) })
                .collect(),
        }
    }

    fn only(&self, only: &Only) -> OnlyReport {
        let tiers = self.tiers().filter(|(tier, _)| only.admits_tier(*tier));
        OnlyReport { tiers: tiers.map(|(_, name)| name).collect(), priority: only.priority }
    }

    fn pressure(&self, number: usize, explained: &ExplainedPressure) -> PressureReport {
        let levels = (1..).zip(&explained.capacity.levels);
        let levels = levels.map(|(level, one)| {
            let scale = self.tiers().map(|(tier, name)| (name, one.keeps(tier)));
            let scale = scale.filter(|(_, keeps)| *keeps != Share::ALL);
            let marks = explained.marks.iter().filter(|mark| usize::from(mark.level) == level);
            LevelReport {
                level,
                above: one.above.to_string(),
                until: one.until.to_string(),
                scale: scale
                    .map(|(tier, keeps)| TierReport { tier, rate: keeps.to_string() })
                    .collect(),
                only: one.only.as_ref().map(|only| self.only(only)),
                marks: marks
                    .map(|mark| MarkReport {
                        limit: mark.charge + 1,
                        rise: mark.rise,
                        fall: mark.fall,
                    })
                    .collect(),
            }
        });
        PressureReport { number, rule: rule(&explained.rule), levels: levels.collect() }
    }
}

fn entry((key, value): &(String, String)) -> EntryReport {
    EntryReport { key: key.clone(), value: value.clone() }
}

pub(super) fn rule(name: &RuleName) -> RuleReport {
    RuleReport {
        path: name.path.clone(),
        file: name.location.file.to_string(),
        line: name.location.line,
    }
}

fn choice(explained: &ExplainedChoice) -> ChoiceReport {
    let choice = &explained.choice;
    let candidates = choice.candidates.iter().zip(&explained.candidates);
    ChoiceReport {
        key: choice.key.to_string(),
        value: choice.value.to_string(),
        chosen: explained.chosen.clone(),
        weights: WeightsReport {
            capacity: choice.weights.capacity,
            latency: choice.weights.latency,
            price: choice.weights.price,
        },
        candidates: candidates
            .map(|(candidate, explained)| CandidateReport {
                name: candidate.name.to_string(),
                score: explained.score.map(|score| (score * 1_000.0).round() / 1_000.0),
                price: candidate.price,
                latency_ms: explained.latency_ms.or(candidate.latency_ms),
                denied: explained.state == CandidateState::Denied,
            })
            .collect(),
    }
}

/// Negative if hits are given back.
pub(super) fn count(hits: Hits) -> i64 {
    let amount = i64::try_from(hits.amount()).unwrap_or(i64::MAX);
    match hits {
        Hits::Spend(_) => amount,
        Hits::GiveBack(_) => -amount,
    }
}
