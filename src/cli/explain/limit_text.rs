//! Writes the limits in the report of `tollgate explain` as text for people.

use std::fmt;

use super::report::{
    AdjustReport, AmountReport, BonusReport, LimitReport, PressedReport, Report, RuleReport,
    SaidReport, ScheduleReport,
};

/// Width of the column of names.
const NAME_WIDTH: usize = 11;

/// A line about a limit: its name and its text.
type Line = (&'static str, String);

/// Writes the limits of one counter, after the lines that are common to them.
pub fn write_limits(
    f: &mut fmt::Formatter<'_>,
    limits: &[LimitReport],
    report: &Report,
) -> fmt::Result {
    let lines: Vec<Vec<Line>> = limits.iter().map(|limit| limit.lines(report)).collect();
    let [first, ..] = limits else { return Ok(()) };
    let cascade = if first.cascade { ", which cascades" } else { "" };
    let of = of_rule(first.rule.as_ref());
    let is_common =
        |line: &Line| 1 < limits.len() && lines.iter().all(|other| other.contains(line));
    let write = |f: &mut fmt::Formatter<'_>, (name, text): &Line| {
        let width = NAME_WIDTH.max(name.len() + 1);
        writeln!(f, "  {name:width$}{text}")
    };
    if 1 < limits.len() {
        let (from, to) = (first.number, first.number + limits.len() - 1);
        writeln!(f, "\nlimits {from} to {to}{of}{cascade}")?;
        lines[0].iter().filter(|line| is_common(line)).try_for_each(|line| write(f, line))?;
    }
    for (limit, lines) in limits.iter().zip(&lines) {
        match limits.len() {
            1 => writeln!(f, "\n{}{of}{cascade}", limit.title())?,
            _ => writeln!(f, "  {}", limit.title())?,
        }
        let indent = if limits.len() == 1 { "" } else { "  " };
        for line in lines.iter().filter(|line| !is_common(line)) {
            f.write_str(indent)?;
            write(f, line)?;
        }
    }
    Ok(())
}

impl LimitReport {
    pub(super) fn is_shadow(&self) -> bool {
        self.mode == "shadow" || self.mode == "warn"
    }

    /// An amount as money.
    fn money(&self, amount: u64) -> Option<String> {
        let currency = self.currency.as_deref()?;
        Some(format!("{}.{:02} {currency}", amount / 100, amount % 100))
    }

    fn algorithm(&self) -> String {
        let how = match self.algorithm.as_str() {
            "sliding_window" => "at most that many hits in any interval of that length".to_owned(),
            "fixed_window" => "resets at the start of each window".to_owned(),
            "calendar" => "resets at the start of each period".to_owned(),
            "token_bucket" => format!("at most {} at once, refilled steadily", self.capacity),
            _ => "never resets; returns only when given back".to_owned(),
        };
        format!("{}: {how}", self.algorithm)
    }

    fn cost(&self, asked: i64) -> String {
        let amount = self.cost.unsigned_abs();
        let mut text = match self.cost {
            i64::MIN..=-1 => format!("gives back {amount}"),
            1 => "1 hit".to_owned(),
            _ => format!("{amount} hits"),
        };
        if let Some(money) = self.money(amount) {
            text.push_str(&format!(" ({money})"));
        }
        if self.has_cost_table {
            text.push_str(&format!(" for {asked} requested, by its cost table"));
        }
        match self.descriptors.as_slice() {
            [] | [_] => text,
            several => format!("{text}, in one charge for descriptors {}", list(several)),
        }
    }

    fn open(&self) -> Option<String> {
        let all = self.open_by_tier.iter().all(|one| one.open == self.capacity);
        if self.open_by_tier.is_empty() || all {
            return None;
        }
        let by_tier = self.open_by_tier.iter().map(|one| format!("{} {}", one.tier, one.open));
        let by_tier = by_tier.collect::<Vec<_>>().join(", ");
        Some(format!("{} of {} to this caller; by tier: {by_tier}", self.open, self.capacity))
    }

    /// The remaining capacity under pressure, where it is less.
    fn pressed(&self) -> Option<String> {
        let before = |one: &PressedReport| {
            let mut levels = self.open_under_pressure.iter();
            let before = (one.pressure, one.level - 1);
            let known = levels.find(|other| (other.pressure, other.level) == before);
            known.map_or(self.open, |known| known.open)
        };
        let less = self.open_under_pressure.iter().filter(|one| one.open < before(one));
        let text = less.map(|one| {
            let open = match one.open {
                0 => "none is open".to_owned(),
                open => format!("{open} are open"),
            };
            format!("{open} from level {} of pressure {} on", one.level, one.pressure)
        });
        let text: Vec<String> = text.collect();
        (!text.is_empty()).then(|| text.join(", "))
    }

    /// The owner of the counter and the source of the amount, if they come from the directory.
    fn account(&self, caller: Option<&str>) -> Option<String> {
        let account = self.amount_from.account.as_deref()?;
        let amount = match (self.amount_from.source, &self.amount_from.share) {
            ("override", _) => {
                let AmountReport { tier, until, .. } = &self.amount_from;
                let tier = tier.as_ref().map(|tier| format!(", that of the tier {tier}"));
                let until = until.as_ref().map(|until| format!(", until {until}"));
                let rest = [tier, until].map(Option::unwrap_or_default).concat();
                Some(format!("the amount is an override of the directory{rest}"))
            }
            ("share", Some(share)) => Some(format!("the amount is {share} of its parent's")),
            _ => None,
        };
        let owner =
            (caller != Some(account)).then(|| "with a counter that this caller shares".to_owned());
        let text: Vec<String> = owner.into_iter().chain(amount).collect();
        (!text.is_empty()).then(|| format!("{account}: {}", text.join(", ")))
    }

    fn reservation_line(&self) -> Option<Line> {
        let reservation = self.reservation.as_ref()?;
        if let Some(estimate) = &self.estimate {
            return Some((
                "estimate",
                estimate.text(reservation.action, &duration(estimate.for_ms)),
            ));
        }
        let text = match (reservation.action, reservation.for_ms) {
            ("hold", Some(ms)) => format!("holds the hits for {}", duration(ms.into())),
            ("extend", Some(ms)) => format!("holds hits for {} more", duration(ms.into())),
            ("settle", _) => "spends the hits instead of those held".to_owned(),
            _ => "hits that are held count as used".to_owned(),
        };
        Some(("reservation", text))
    }

    fn grace_line(&self) -> Option<Line> {
        let grace = self.grace.as_ref()?;
        let (hits, lasts) = (grace.hits, duration(grace.for_ms));
        Some((
            "grace",
            format!("{hits} more ({}%) for {lasts} from the first breach", grace.percent),
        ))
    }

    fn partial_line(&self) -> Option<Line> {
        let text = "a request gets what is left, if that is less than it asks for";
        self.partial.then(|| ("partial", text.to_owned()))
    }

    fn thresholds_line(&self) -> Option<Line> {
        let text = self.thresholds.iter();
        let text = text.map(|one| format!("{}% from {}", one.percent, one.hits));
        let text: Vec<String> = text.collect();
        (!text.is_empty()).then(|| ("thresholds", text.join(", ")))
    }

    /// All lines, each with its name.
    fn lines(&self, report: &Report) -> Vec<Line> {
        let mut lines = vec![("counter", self.key.clone()), ("cost", self.cost(report.hits))];
        lines.extend(self.said.as_ref().map(|said| {
            let SaidReport { rate, overlay } = said;
            ("said", format!("{rate}, with the overlay in {overlay}"))
        }));
        let account = self.account(report.caller.name.as_deref());
        lines.extend(account.map(|text| ("account", text)));
        let tiers = self.by_tier.iter().map(|one| format!("{} {}", one.tier, one.rate));
        let tiers: Vec<String> = tiers.collect();
        lines.extend((!tiers.is_empty()).then(|| ("by_tier", tiers.join(", "))));
        lines.push(("algorithm", self.algorithm()));
        let money = self.money(self.capacity);
        lines.extend(money.map(|text| ("amount", format!("{} ({text})", self.capacity))));
        lines.extend(self.period.as_ref().map(|period| {
            let ends_in = duration(period.ends_in_ms);
            ("period", format!("{} to {}, ends in {ends_in}", period.start, period.end))
        }));
        lines.extend(self.schedule.as_ref().map(|schedule| ("schedule", schedule_text(schedule))));
        lines.extend(self.adjust.as_ref().map(|adjust| ("adjust", adjust_text(adjust))));
        lines.extend(self.open().map(|text| ("open", text)));
        let schedule = self.open_schedule.as_ref();
        lines.extend(schedule.map(|schedule| ("open_when", schedule_text(schedule))));
        lines.extend(self.pressed().map(|text| ("pressure", text)));
        lines.extend(self.bonuses.iter().map(|bonus| ("bonus", bonus_text(bonus))));
        lines.extend(self.wait.as_ref().map(|wait| {
            let up_to = duration(wait.up_to_ms);
            ("wait", format!("up to {up_to} for capacity, {} requests at most", wait.queue))
        }));
        lines.extend(self.idempotency.as_ref().map(|retries| {
            let (free, life) = (retries.retries, duration(retries.for_ms.into()));
            ("retries", format!("{free} are free within {life}: {}", retries.key))
        }));
        lines.extend(self.reservation_line());
        let overdraft = match self.overdraft.as_str() {
            "none" => None,
            "allow" => Some("allow: if anything is left, all hits pass and count"),
            "clip" => Some("clip: if anything is left, all hits pass; the excess is not counted"),
            other => Some(other),
        };
        lines.extend(overdraft.map(|text| ("overdraft", text.to_owned())));
        lines.extend(self.partial_line());
        lines.extend(self.grace_line());
        lines.extend(self.thresholds_line());
        let lease = (self.lease == "auto")
            .then_some("auto: hits of a frequently used counter are taken ahead");
        lines.extend(lease.map(|text| ("lease", text.to_owned())));
        lines.push(("mode", self.mode_text()));
        let on_outage = match self.on_outage.as_str() {
            "error" => "error: the call fails, and Envoy's failure_mode_deny decides",
            "allow" => "allow: the request passes",
            "deny" => "deny: the request is refused",
            "local" => "local: this sidecar's share of the limit decides",
            other => other,
        };
        lines.push(("on_outage", on_outage.to_owned()));
        lines
    }

    /// What becomes of a request that it does not have the hits for.
    fn mode_text(&self) -> String {
        let mode = match self.mode.as_str() {
            "enforce" => "enforce: the request is refused if too few hits are left",
            "quota" => "quota: the request is refused if no quota has enough hits left",
            "strict" => {
                "strict: the request is refused if too few hits are left, and while the store is unavailable"
            }
            "warn" => "warn: never refused; answers tell that the request would be",
            _ => "shadow: decided and recorded, never refused",
        };
        let part =
            self.enforce.as_ref().map(|share| format!("; enforced for {share} of the callers"));
        format!("{mode}{}", part.unwrap_or_default())
    }

    fn title(&self) -> String {
        let name = self.name.as_ref().map(|name| format!("{name}, ")).unwrap_or_default();
        format!("limit {}: {name}{}", self.number, self.rate)
    }
}

/// A rule with its place.
pub fn rule_text(rule: &RuleReport) -> String {
    format!("{} ({}:{})", rule.path, rule.file, rule.line)
}

/// A rule with its place, in parentheses.
pub fn of_rule(rule: Option<&RuleReport>) -> String {
    rule.map(|rule| format!(" of {}", rule_text(rule))).unwrap_or_default()
}

/// A list of numbers.
pub fn list(numbers: &[usize]) -> String {
    let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
    numbers.join(", ")
}

/// The two largest units of a time, such as `3d 14h`.
fn duration(ms: u64) -> String {
    const UNITS: [(u64, &str); 5] =
        [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let largest = UNITS.iter().position(|(unit, _)| *unit <= ms).unwrap_or(UNITS.len() - 1);
    let mut rest = ms;
    let mut parts = Vec::new();
    for (unit, name) in UNITS.iter().skip(largest).take(2) {
        let count = rest / unit;
        rest %= unit;
        if 0 < count {
            parts.push(format!("{count}{name}"));
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// How a limit follows a signal.
fn adjust_text(adjust: &AdjustReport) -> String {
    let AdjustReport { signal, above, below, least, step, stale, .. } = adjust;
    let (every, stale_after) = (duration(adjust.every_ms), duration(adjust.stale_after_ms));
    format!(
        "by {signal}: {step} less each {every} while it is above {above}, down to {least}; {step} more while it is below \
         {below}; {stale} when it is older than {stale_after}. `/policy` of a process shows what is in force"
    )
}

/// How many hits a bonus has, and until when.
fn bonus_text(bonus: &BonusReport) -> String {
    let mut text = format!("{} more", bonus.amount);
    if let Some(recurs) = &bonus.recurs {
        text.push_str(&format!(" each {}, again at {}", recurs.every, recurs.next));
        if recurs.rollover_max != 0 {
            text.push_str(&format!(", carrying over {} at most", recurs.rollover_max));
        }
    }
    if let Some(until) = &bonus.until {
        text.push_str(&format!(" until {until}"));
    }
    text.push_str(&format!(" ({})", bonus.id));
    text
}

/// The active schedule, and the next one.
fn schedule_text(schedule: &ScheduleReport) -> String {
    let now = match &schedule.during {
        Some(during) => format!("{during}, otherwise {}", schedule.otherwise),
        None => "none is active".to_owned(),
    };
    let Some(next) = &schedule.next else { return now };
    let during = next.during.as_ref().map_or(String::new(), |during| format!(" ({during})"));
    let starts_in = duration(next.in_ms);
    format!("{now}; {}{during} from {}, in {starts_in}", next.rate, next.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_two_units() {
        for (ms, expected) in [
            (0, "0s"),
            (1, "1ms"),
            (2_000, "2s"),
            (61_000, "1m 1s"),
            (86_400_000, "1d"),
            (309_600_000, "3d 14h"),
            (90_061_001, "1d 1h"),
        ] {
            assert_eq!(duration(ms), expected);
        }
    }
}
