//! Compiles the rule of an alert.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::abuse::{BURST_MAX, BURST_MIN, answer, check_abuse};
use super::duration::duration;
use super::model::{
    AlertBounds, AlertEscalation, AlertFilter, AlertRule, AlertSeverity, AlertSignal,
};
use super::signal::{AlertUnit, SignalKeys};
use crate::policy::compile::{PERCENT_MAX, parse_percent};
use crate::policy::problem::Severity;
use crate::policy::schema::{AlertRuleFile, EscalationFile};
use crate::policy::yaml::{Reader, Spanned};

/// Maximum of `over`: what is counted is kept in memory.
const OVER_MAX: Duration = HOUR;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// `top` and `least` if they are absent.
const TOP: u64 = 50;
const LEAST: u64 = 100;

/// The shortest `repeat`.
const REPEAT_MIN: Duration = Duration::from_secs(10);

/// Maximum length of `summary`.
const SUMMARY_LEN_MAX: usize = 500;

/// The rule of the file; None if it has a problem. `channels` are the names of all channels.
pub fn compile_rule(
    reader: &mut Reader<'_>,
    name: &str,
    file: &AlertRuleFile,
    channels: &[Arc<str>],
) -> Option<AlertRule> {
    // First what does not depend on the signal, so that all problems are reported at once.
    let notify = notify(reader, file, channels);
    let escalate = file.escalate.as_ref().map(|file| escalation(reader, file, channels));
    let (percents, repeat) = (percents(reader, file), repeat(reader, file));
    let signal = file.when.as_ref()?.value;
    let keys = signal.keys();
    check_keys(reader, file, signal, &keys);
    let answer = file.answer.as_ref().and_then(|file| answer(reader, file, signal));
    let hold = file.r#for.as_ref().and_then(|text| duration(reader, text, Duration::MAX));
    if let (AlertSignal::Threshold, Some(text)) = (signal, &file.r#for) {
        reader.error(
            text.span.clone(),
            "`for` has no effect with `when: threshold`, which fires at once",
        );
    }
    if signal == AlertSignal::Threshold && (file.repeat.is_some() || file.escalate.is_some()) {
        let message =
            "`repeat` and `escalate` have no effect with `when: threshold`, which is an event";
        reader.error(file.span.clone(), message);
    }
    let over = file.over.as_ref().and_then(|text| over(reader, text, signal));
    let bounds = keys.unit.map(|unit| bounds(reader, file, unit));
    if is_of_part(signal)
        && let Some(above) = &file.above
        && bounds.flatten().is_some_and(|bounds| bounds.is_above && 100.0 <= bounds.fires)
    {
        let message = format!("it never fires: a part can't be above `{}`", above.value);
        reader.note(Severity::Warning, above.span.clone(), message);
    }
    if let Some(bounds) = bounds.flatten() {
        check_abuse(reader, file, signal, bounds);
    }
    let summary = file.summary.as_ref().map(|text| Arc::from(&*text.value));
    if let Some(text) = file.summary.as_ref().filter(|text| SUMMARY_LEN_MAX < text.value.len()) {
        let message = format!("`summary` is longer than {SUMMARY_LEN_MAX} bytes");
        reader.error(text.span.clone(), message);
    }
    let bounds = match bounds {
        Some(bounds) => Some(bounds?),
        None => None,
    };
    Some(AlertRule {
        name: name.into(),
        signal,
        bounds,
        hold: hold.unwrap_or_default(),
        over: over.or(keys.over).unwrap_or_default(),
        percents,
        filter: filter(file),
        by: file.by.as_ref().map(|word| word.value),
        top: size(file.top.as_ref(), TOP).try_into().unwrap_or(usize::MAX),
        least: size(file.least.as_ref(), LEAST),
        risk: risk(file, signal),
        answer,
        severity: file.severity.as_ref().map_or(AlertSeverity::Warning, |word| word.value),
        notify,
        summary,
        repeat,
        escalate: escalate.flatten(),
    })
}

/// Whether its value is a part of something, so at most 100 %.
fn is_of_part(signal: AlertSignal) -> bool {
    matches!(
        signal,
        AlertSignal::Refused
            | AlertSignal::Errors
            | AlertSignal::CallerRefused
            | AlertSignal::Bypass
    )
}

/// The time over which a signal is counted.
fn over(reader: &mut Reader<'_>, text: &Spanned<String>, signal: AlertSignal) -> Option<Duration> {
    if signal == AlertSignal::Burst {
        let over = duration(reader, text, BURST_MAX)?;
        if over < BURST_MIN {
            let message = format!("`{}` is shorter than {}ms", text.value, BURST_MIN.as_millis());
            reader.error(text.span.clone(), message);
        }
        return Some(over);
    }
    if !matches!(signal, AlertSignal::Spend | AlertSignal::Budget) {
        return duration(reader, text, OVER_MAX);
    }
    let over = duration(reader, text, Duration::MAX)?;
    if over != HOUR && over != DAY {
        let message = format!("invalid time `{}`; money is summed over 1h or 1d", text.value);
        reader.error(text.span.clone(), message);
    }
    Some(over)
}

fn size(number: Option<&Spanned<u64>>, usual: u64) -> u64 {
    number.map_or(usual, |number| number.value)
}

fn risk(file: &AlertRuleFile, signal: AlertSignal) -> u8 {
    let usual = signal.risk().unwrap_or_default();
    file.risk.as_ref().map_or(usual, |risk| u8::try_from(risk.value).unwrap_or(u8::MAX))
}

fn repeat(reader: &mut Reader<'_>, file: &AlertRuleFile) -> Option<Duration> {
    let text = file.repeat.as_ref()?;
    let repeat = duration(reader, text, Duration::MAX)?;
    if repeat < REPEAT_MIN {
        let message = format!("`repeat: {}` is shorter than {}s", text.value, REPEAT_MIN.as_secs());
        reader.error(text.span.clone(), message);
    }
    Some(repeat)
}

fn escalation(
    reader: &mut Reader<'_>,
    file: &EscalationFile,
    channels: &[Arc<str>],
) -> Option<AlertEscalation> {
    let after = file.after.as_ref().and_then(|text| duration(reader, text, Duration::MAX));
    let named = file.notify.as_ref()?;
    if named.value.is_empty() {
        reader.note(Severity::Warning, named.span.clone(), "this escalation notifies nobody");
    }
    let notify = names_of(reader, named, channels);
    Some(AlertEscalation { after: after?, notify })
}

/// Reports keys that the signal does not have.
fn check_keys(
    reader: &mut Reader<'_>,
    file: &AlertRuleFile,
    signal: AlertSignal,
    keys: &SignalKeys,
) {
    let span = |text: &Option<Spanned<String>>| text.as_ref().map(|text| text.span.clone());
    let percent = file.percent.as_ref().map(|list| list.span.clone());
    let has_value = keys.unit.is_some();
    let number = |number: &Option<Spanned<u64>>| number.as_ref().map(|number| number.span.clone());
    let present: [(&str, bool, Option<Range<usize>>); 13] = [
        ("above", has_value, span(&file.above)),
        ("below", has_value, span(&file.below)),
        ("clear", has_value, span(&file.clear)),
        ("over", keys.over.is_some(), span(&file.over)),
        ("percent", keys.others.contains(&"percent"), percent),
        ("domain", keys.others.contains(&"domain"), span(&file.domain)),
        ("limit", keys.others.contains(&"limit"), span(&file.limit)),
        ("tier", keys.others.contains(&"tier"), span(&file.tier)),
        ("provider", keys.others.contains(&"provider"), span(&file.provider)),
        ("by", keys.others.contains(&"by"), file.by.as_ref().map(|word| word.span.clone())),
        ("top", keys.others.contains(&"top"), number(&file.top)),
        ("least", keys.others.contains(&"least"), number(&file.least)),
        ("risk", signal.risk().is_some(), number(&file.risk)),
    ];
    for (key, _, span) in present.into_iter().filter(|(_, has, _)| !has) {
        if let Some(span) = span {
            let message = format!("`{key}` has no effect with `when: {}`", signal.as_str());
            reader.error(span, message);
        }
    }
}

/// The values at which a rule fires and resolves.
fn bounds(reader: &mut Reader<'_>, file: &AlertRuleFile, unit: AlertUnit) -> Option<AlertBounds> {
    let bad_above = file.when.as_ref().and_then(|when| when.value.is_bad_above());
    let (is_above, written) = match (&file.above, &file.below) {
        (Some(above), None) => (true, above),
        (None, Some(below)) => (false, below),
        (Some(_), Some(below)) => {
            reader.error(below.span.clone(), "use either `above` or `below`, not both");
            return None;
        }
        (None, None) => {
            let key = bound_key(bad_above.unwrap_or(true));
            let message = format!("`{key}` is missing: the value at which it fires");
            reader.error(file.span.clone(), message);
            return None;
        }
    };
    if bad_above == Some(!is_above) {
        let (written_key, key) = (bound_key(is_above), bound_key(!is_above));
        let message = format!("`{written_key}` fires while all is well; use `{key}`");
        reader.note(Severity::Warning, written.span.clone(), message);
    }
    let fires = value(reader, written, unit)?;
    if !is_above && fires == 0.0 {
        let message = format!("it never fires: no value is below `{}`", written.value);
        reader.note(Severity::Warning, written.span.clone(), message);
    }
    let Some(text) = &file.clear else {
        return Some(AlertBounds { is_above, fires, clears: fires });
    };
    let clears = value(reader, text, unit)?;
    let is_between = if is_above { fires < clears } else { clears < fires };
    if is_between {
        let (wrong, side) =
            if is_above { ("above", "at or below") } else { ("below", "at or above") };
        let message = format!(
            "`clear: {}` is {wrong} the value at which it fires; use one {side} `{}`",
            text.value, written.value
        );
        reader.error(text.span.clone(), message);
        return None;
    }
    Some(AlertBounds { is_above, fires, clears })
}

/// The key of the value at which a rule fires.
fn bound_key(is_above: bool) -> &'static str {
    if is_above { "above" } else { "below" }
}

fn value(reader: &mut Reader<'_>, text: &Spanned<String>, unit: AlertUnit) -> Option<f64> {
    unit.parse(&text.value).map_err(|message| reader.error(text.span.clone(), message)).ok()
}

fn percents(reader: &mut Reader<'_>, file: &AlertRuleFile) -> Vec<u16> {
    let mut percents = Vec::new();
    let Some(list) = &file.percent else { return percents };
    if list.value.is_empty()
        && file.when.as_ref().is_some_and(|when| when.value == AlertSignal::Threshold)
    {
        let message =
            "`percent` is empty, so that the alert never fires; without it, all thresholds count";
        reader.error(list.span.clone(), message);
    }
    for text in &list.value {
        match parse_percent(&text.value, "threshold", PERCENT_MAX) {
            Ok(percent) if percents.contains(&percent) => {
                reader.error(text.span.clone(), format!("duplicate threshold `{}`", text.value));
            }
            Ok(percent) => percents.push(percent),
            Err(message) => reader.error(text.span.clone(), message),
        }
    }
    percents
}

fn filter(file: &AlertRuleFile) -> AlertFilter {
    let name =
        |text: &Option<Spanned<String>>| text.as_ref().map(|text| text.value.as_str().into());
    AlertFilter {
        domain: name(&file.domain),
        limit: name(&file.limit),
        tier: name(&file.tier),
        provider: name(&file.provider),
    }
}

/// The channels that are notified: all if the rule names none.
fn notify(reader: &mut Reader<'_>, file: &AlertRuleFile, channels: &[Arc<str>]) -> Vec<Arc<str>> {
    match &file.notify {
        Some(named) => names_of(reader, named, channels),
        None => channels.to_vec(),
    }
}

/// The channels of a list of names.
fn names_of(
    reader: &mut Reader<'_>,
    named: &Spanned<Vec<Spanned<String>>>,
    channels: &[Arc<str>],
) -> Vec<Arc<str>> {
    let mut notified = Vec::new();
    for name in &named.value {
        match channels.iter().find(|channel| ***channel == *name.value) {
            Some(channel) if notified.contains(channel) => {
                reader.error(name.span.clone(), format!("duplicate channel `{}`", name.value));
            }
            Some(channel) => notified.push(channel.clone()),
            None => {
                let message =
                    format!("unknown channel `{}`; `channels` has none of this name", name.value);
                reader.error(name.span.clone(), message);
            }
        }
    }
    notified
}
