//! The limits of an explanation, as they are reported.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::engine::{AmountSource, ExplainedDescriptor, ExplainedLimit, Explanation};
use crate::limit::{Grace, Limit, Thresholds, Timetable};
use crate::policy::{Adjust, Capacity, Lease, Mode, Wait};
use crate::store::Reservation;

use super::at::stamp;
use super::build::{Setting, count, rule};
use super::estimate::EstimateReport;
use super::report::{
    AdjustReport, AmountReport, BonusReport, EdgeReport, GraceReport, IdempotencyReport,
    LimitReport, OpenReport, PeriodReport, PressedReport, RecurrenceReport, ReservationReport,
    SaidReport, ScheduleReport, ThresholdReport, TierReport, WaitReport,
};

/// Where a limit is said, if its rule has an overlay.
fn said(explained: &ExplainedLimit) -> Option<SaidReport> {
    let places = explained.limit.places.as_ref()?;
    let overlay = explained.rule.as_ref()?.overlay.as_ref()?;
    let overlay = places.more.as_ref().unwrap_or(overlay);
    Some(SaidReport { rate: places.rate.to_string(), overlay: overlay.to_string() })
}

impl Setting<'_> {
    fn amount(&self, explained: &ExplainedLimit) -> AmountReport {
        let account = explained.account.as_ref();
        let source = account.map(|(_, source)| *source).unwrap_or(AmountSource::Policy);
        AmountReport {
            source: match source {
                AmountSource::Policy => "policy",
                AmountSource::Override(_) | AmountSource::Tier(_) => "override",
                AmountSource::Share(_) => "share",
            },
            account: account.map(|(name, _)| name.to_string()),
            share: match source {
                AmountSource::Share(share) => Some(share.to_string()),
                AmountSource::Policy | AmountSource::Override(_) | AmountSource::Tier(_) => None,
            },
            tier: match source {
                AmountSource::Tier(tier) => {
                    self.domain.classes.tiers.get(tier).map(ToString::to_string)
                }
                _ => None,
            },
            until: explained
                .overridden
                .and_then(|one| one.until)
                .map(|until| stamp(self.domain.zone(), until)),
        }
    }

    pub(super) fn limit(
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
            said: said(explained),
            cascade: explained.rule.as_ref().is_some_and(|rule| rule.cascade),
            descriptors: descriptors.filter(meets).map(|(number, _)| number).collect(),
            rate: own.to_string(),
            by_tier: by_tier
                .map(|((_, tier), rate)| TierReport { tier, rate: rate.to_string() })
                .collect(),
            amount_from: self.amount(explained),
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
            open_schedule: self.open_schedule(explained, explanation.caller.tier),
            open_under_pressure: pressed.collect(),
            bonuses: self.bonuses(explained),
            mode: mode(explained),
            enforce: limit.enforced.map(|share| share.to_string()),
            on_outage: charge.on_outage.to_string(),
            overdraft: own.overdraft().to_string(),
            partial: charge.is_partial(),
            grace: own.grace().map(grace),
            thresholds: own.thresholds().map_or_else(Vec::new, thresholds),
            wait: limit.wait.map(wait),
            idempotency: explained.mark.as_ref().map(|(key, mark)| IdempotencyReport {
                key: key.clone(),
                for_ms: mark.life_ms,
                retries: mark.retries_max,
            }),
            reservation: charge.reservation.as_deref().map(reservation),
            estimate: limit.estimate.as_ref().map(|own| EstimateReport::new(own, charge)),
            lease: lease(charge.lease),
            adjust: limit.adjust.as_deref().map(adjust),
        }
    }

    fn open_by_tier(&self, explained: &ExplainedLimit) -> Vec<OpenReport> {
        let whole = explained.charge.limit.at(self.at).capacity();
        let open = explained.capacity.iter().flat_map(|capacity| {
            let capacity = capacity.at(self.at);
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
        let rate = |at| limit.at(at).to_string();
        Some(self.on_timetable(timetable, limit.to_string(), rate))
    }

    /// The schedule of what is open to the caller.
    fn open_schedule(&self, explained: &ExplainedLimit, tier: usize) -> Option<ScheduleReport> {
        let capacity = explained.capacity.as_ref()?;
        let timetable = &capacity.scheduled.as_ref()?.timetable;
        let whole = explained.charge.limit.at(self.at).capacity();
        let text = |capacity: &Capacity| {
            let levels = match capacity.levels.len() {
                0 => String::new(),
                1 => ", 1 level of pressure".to_owned(),
                number => format!(", {number} levels of pressure"),
            };
            format!("{} of {whole} open{levels}", capacity.open(tier, whole))
        };
        Some(self.on_timetable(timetable, text(capacity), |at| text(capacity.at(at))))
    }

    /// What holds now and from the next edge on; `of` tells it for a time.
    fn on_timetable(
        &self,
        timetable: &Timetable,
        otherwise: String,
        of: impl Fn(Timestamp) -> String,
    ) -> ScheduleReport {
        let during = |at| {
            let holding = timetable.holding(at)?;
            timetable.conditions().get(holding).map(ToString::to_string)
        };
        let next = timetable.next_edge(self.at).map(|edge| EdgeReport {
            at: stamp(self.domain.zone(), edge),
            in_ms: edge.as_ms().saturating_sub(self.at.as_ms()),
            during: during(edge),
            rate: of(edge),
        });
        ScheduleReport { during: during(self.at), otherwise, next }
    }

    /// The bonuses that have not expired.
    fn bonuses(&self, explained: &ExplainedLimit) -> Vec<BonusReport> {
        let bonuses = explained.charge.bonuses.iter().filter(|bonus| self.at < bonus.until);
        let report = bonuses.map(|bonus| BonusReport {
            id: bonus.id.to_string(),
            amount: bonus.amount,
            until: (bonus.until != Timestamp::MAX).then(|| stamp(self.domain.zone(), bonus.until)),
            priority: bonus.priority,
            recurs: bonus.recurs.as_ref().map(|recurs| RecurrenceReport {
                every: recurs.every().to_string(),
                next: stamp(self.domain.zone(), Timestamp::from_ms(recurs.period(self.at).end_ms)),
                rollover_max: recurs.rollover_max(),
            }),
        });
        report.collect()
    }
}

fn wait(wait: Wait) -> WaitReport {
    let up_to_ms = u64::try_from(wait.up_to.as_millis()).unwrap_or(u64::MAX);
    WaitReport { up_to_ms, queue: wait.queue }
}

fn lease(lease: Lease) -> &'static str {
    match lease {
        Lease::Off => "off",
        Lease::Auto => "auto",
    }
}

fn reservation(step: &Reservation) -> ReservationReport {
    let action = match step {
        Reservation::Count | Reservation::Release { .. } | Reservation::ReleaseEstimates { .. } => {
            "count"
        }
        Reservation::Estimate { .. } => "estimate",
        Reservation::SettleEstimate { .. } => "settle_estimate",
        Reservation::Hold { .. } => "hold",
        Reservation::Settle { .. } => "settle",
        Reservation::Extend { .. } => "extend",
    };
    ReservationReport { action, for_ms: Some(step.life_ms()).filter(|ms| *ms != 0) }
}

fn grace(grace: &Grace) -> GraceReport {
    GraceReport { percent: grace.percent(), hits: grace.over(), for_ms: grace.for_ms() }
}

/// Each threshold of a limit, with the number of hits at which it is crossed.
fn thresholds(thresholds: &Thresholds) -> Vec<ThresholdReport> {
    let points = thresholds.points();
    points.map(|(percent, hits)| ThresholdReport { percent, hits }).collect()
}

/// For this caller.
fn mode(explained: &ExplainedLimit) -> String {
    match (explained.charge.mode, explained.limit.strict) {
        (Mode::Enforce, true) => "strict".to_owned(),
        (mode, _) => mode.to_string(),
    }
}

fn adjust(adjust: &Adjust) -> AdjustReport {
    let own = &adjust.adjustment;
    AdjustReport {
        signal: adjust.signal.to_string(),
        above: own.above,
        below: own.below,
        least: own.least.to_string(),
        step: own.step.to_string(),
        every_ms: own.every_ms,
        stale_after_ms: own.stale_after_ms,
        stale: own.stale.to_string(),
    }
}
