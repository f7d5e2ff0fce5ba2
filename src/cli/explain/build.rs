//! Builds the printed report from an explanation.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::engine::{
    AmountSource, ExplainedChoice, ExplainedDescriptor, ExplainedLimit, ExplainedPressure,
    Explanation, Reason, RuleName, Stand, TierSource, Uncharged,
};
use crate::limit::{Grace, Hits, Limit, Thresholds};
use crate::policy::{Domain, Lease, Mode, Only, Share, TraceEnd};

use super::at::stamp;
use super::entries::shown;
use super::report::{
    AmountReport, BonusReport, CallerReport, CandidateReport, ChoiceReport, ClosedReport,
    DescriptorReport, EdgeReport, EntryReport, GraceReport, IdempotencyReport, LevelReport,
    LimitReport, MarkReport, MemberReport, NotChargedReport, OnlyReport, OpenReport, OtherReport,
    PeriodReport, PressedReport, PressureReport, Report, RuleReport, ScheduleReport, StepReport,
    ThresholdReport, TierReport, WaitReport, WeightsReport,
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
        }
    }
}

impl Setting<'_> {
    fn tiers(&self) -> impl Iterator<Item = (usize, String)> {
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
        let (_, said) = entries.find(|(name, _)| name == key)?;
        classes.tier(said).is_none().then(|| shown(said))
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

    fn limit(
        &self,
        explanation: &Explanation,
        number: usize,
        explained: &ExplainedLimit,
    ) -> LimitReport {
        let ExplainedLimit { limit, charge, .. } = explained;
        let own = charge.limit.at(self.at);
        let descriptors = (1..).zip(&explanation.descriptors);
        let meets = |(_, part): &(usize, &ExplainedDescriptor)| part.limits.contains(&(number - 1));
        let by_tier = self.tiers().zip(&limit.by_tier);
        let pressed = charge.open.pressed.iter().flat_map(|pressed| {
            (1..).zip(&pressed.hits).map(|(level, open)| PressedReport {
                pressure: pressed.gauge + 1,
                level,
                open: charge.part(*open, own),
            })
        });
        LimitReport {
            number,
            name: Some(limit.name.to_string()).filter(|name| !name.is_empty()),
            label: limit.label.to_string(),
            rule: explained.rule.as_ref().map(rule),
            cascade: explained.rule.as_ref().is_some_and(|rule| rule.cascade),
            descriptors: descriptors.filter(meets).map(|(number, _)| number).collect(),
            rate: own.to_string(),
            by_tier: by_tier
                .map(|((_, tier), rate)| TierReport { tier, rate: rate.to_string() })
                .collect(),
            amount_from: amount(explained),
            currency: limit.currency.as_deref().map(str::to_owned),
            algorithm: own.algorithm().to_string(),
            burst: Some(own.capacity()).filter(|burst| *burst != own.amount()),
            period: self.period(explained),
            schedule: self.schedule(&charge.limit),
            key: explained.key.clone(),
            cost: count(charge.hits),
            has_cost_table: limit.cost.is_some(),
            fits: explained.fits,
            capacity: own.capacity(),
            open: charge.part(charge.open.hits, own),
            open_by_tier: self.open_by_tier(explained),
            open_under_pressure: pressed.collect(),
            bonuses: self.bonuses(explained),
            mode: match (charge.mode, limit.strict) {
                (Mode::Enforce, true) => "strict".to_owned(),
                (mode, _) => mode.to_string(),
            },
            enforce: limit.enforced.map(|share| share.to_string()),
            on_outage: charge.on_outage.to_string(),
            overdraft: own.overdraft().to_string(),
            grace: own.grace().map(grace),
            thresholds: own.thresholds().map_or_else(Vec::new, thresholds),
            wait: limit.wait.map(|wait| WaitReport {
                up_to_ms: u64::try_from(wait.up_to.as_millis()).unwrap_or(u64::MAX),
                queue: wait.queue,
            }),
            idempotency: explained.mark.as_ref().map(|(key, mark)| IdempotencyReport {
                key: key.clone(),
                for_ms: mark.life_ms,
                retries: mark.retries_max,
            }),
            lease: lease(charge.lease),
        }
    }

    fn open_by_tier(&self, explained: &ExplainedLimit) -> Vec<OpenReport> {
        let whole = explained.charge.limit.at(self.at).capacity();
        let open = explained.capacity.iter().flat_map(|capacity| {
            self.tiers().map(move |(tier, name)| OpenReport {
                tier: name,
                open: capacity.open(tier, whole),
            })
        });
        open.collect()
    }

    fn period(&self, explained: &ExplainedLimit) -> Option<PeriodReport> {
        let period = explained.charge.limit.algorithm().period(self.at)?;
        let zone = self.domain.zone();
        Some(PeriodReport {
            start: stamp(zone, period.start),
            end: stamp(zone, period.end),
            ends_in_ms: period.end.as_ms().saturating_sub(self.at.as_ms()),
        })
    }

    fn schedule(&self, limit: &Arc<Limit>) -> Option<ScheduleReport> {
        let timetable = limit.scheduled()?.timetable();
        let during = |at| {
            let holding = timetable.holding(at)?;
            timetable.conditions().get(holding).map(ToString::to_string)
        };
        let next = timetable.next_edge(self.at).map(|edge| EdgeReport {
            at: stamp(self.domain.zone(), edge),
            in_ms: edge.as_ms().saturating_sub(self.at.as_ms()),
            during: during(edge),
            rate: limit.at(edge).to_string(),
        });
        Some(ScheduleReport { during: during(self.at), otherwise: limit.to_string(), next })
    }

    /// The bonuses that have not expired.
    fn bonuses(&self, explained: &ExplainedLimit) -> Vec<BonusReport> {
        let bonuses = explained.charge.bonuses.iter().filter(|bonus| self.at < bonus.until);
        let report = bonuses.map(|bonus| BonusReport {
            id: bonus.id.to_string(),
            amount: bonus.amount,
            until: stamp(self.domain.zone(), bonus.until),
        });
        report.collect()
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

fn lease(lease: Lease) -> &'static str {
    match lease {
        Lease::Off => "off",
        Lease::Auto => "auto",
    }
}

fn entry((key, value): &(String, String)) -> EntryReport {
    EntryReport { key: key.clone(), value: value.clone() }
}

fn rule(name: &RuleName) -> RuleReport {
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
            .map(|(candidate, stands)| CandidateReport {
                name: candidate.name.to_string(),
                score: stands.score.map(|score| (score * 1_000.0).round() / 1_000.0),
                price: candidate.price,
                latency_ms: stands.latency_ms.or(candidate.latency_ms),
                denied: stands.stand == Stand::Denied,
            })
            .collect(),
    }
}

fn amount(explained: &ExplainedLimit) -> AmountReport {
    let account = explained.account.as_ref();
    let source = account.map(|(_, source)| *source).unwrap_or(AmountSource::Policy);
    AmountReport {
        source: match source {
            AmountSource::Policy => "policy",
            AmountSource::Override(_) => "override",
            AmountSource::Share(_) => "share",
        },
        account: account.map(|(name, _)| name.to_string()),
        share: match source {
            AmountSource::Share(share) => Some(share.to_string()),
            AmountSource::Policy | AmountSource::Override(_) => None,
        },
    }
}

/// Negative if hits are given back.
fn count(hits: Hits) -> i64 {
    let amount = i64::try_from(hits.amount()).unwrap_or(i64::MAX);
    match hits {
        Hits::Spend(_) => amount,
        Hits::GiveBack(_) => -amount,
    }
}

fn grace(grace: &Grace) -> GraceReport {
    GraceReport { percent: grace.percent(), hits: grace.over(), for_ms: grace.for_ms() }
}

/// Each threshold of a limit, with the number of hits at which it is crossed.
fn thresholds(thresholds: &Thresholds) -> Vec<ThresholdReport> {
    let points = thresholds.points();
    points.map(|(percent, hits)| ThresholdReport { percent, hits }).collect()
}
