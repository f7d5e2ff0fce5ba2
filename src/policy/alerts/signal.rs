//! What each signal of an alert has: the unit of its value, its defaults, and the filters that apply.

use std::time::Duration;

use super::model::AlertSignal;
use crate::policy::compile::parse_length_ms;
use crate::policy::model::AbuseEntry;

/// The unit of a signal's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertUnit {
    Number,
    Percent,
    /// In seconds; written as a duration.
    Time,
}

/// The keys that a signal has.
#[derive(Clone, Copy, Debug)]
pub struct SignalKeys {
    /// None: it has no value, and so neither `above` nor `below`.
    pub unit: Option<AlertUnit>,
    /// The time over which it is counted, if the rule has none; None: it is not counted.
    pub over: Option<Duration>,
    /// The other keys that it has.
    pub others: &'static [&'static str],
}

/// The other keys of rules about money.
const SPEND: &[&str] = &["domain", "provider", "tier", "by"];

const MINUTE: Duration = Duration::from_secs(60);

impl AlertSignal {
    /// The keys that the signal has.
    pub fn keys(self) -> SignalKeys {
        let (unit, over, others): (_, _, &[&str]) = match self {
            Self::Threshold => (None, None, &["percent", "domain", "limit", "tier"]),
            Self::Denials => (Some(AlertUnit::Number), Some(MINUTE), &["domain", "tier"]),
            Self::Refused | Self::Errors => (Some(AlertUnit::Percent), Some(5 * MINUTE), &[]),
            Self::StoreErrors => (Some(AlertUnit::Number), Some(MINUTE), &[]),
            Self::Latency | Self::QueueDelay => (Some(AlertUnit::Time), Some(MINUTE), &[]),
            Self::Queue => (Some(AlertUnit::Number), None, &[]),
            Self::Capacity => (Some(AlertUnit::Percent), None, &["domain", "limit", "provider"]),
            Self::Certificate | Self::XdsSilent => (Some(AlertUnit::Time), None, &[]),
            Self::Spend => (Some(AlertUnit::Number), Some(60 * MINUTE), SPEND),
            Self::Budget => (Some(AlertUnit::Percent), Some(60 * MINUTE), SPEND),
            Self::Spike => (Some(AlertUnit::Number), None, &["domain", "tier", "top", "least"]),
            Self::CallerRefused => {
                (Some(AlertUnit::Percent), None, &["domain", "tier", "top", "least"])
            }
            Self::Forecast => (Some(AlertUnit::Time), None, &["domain", "limit", "tier", "top"]),
            Self::AddressCallers | Self::AddressApiKeys => {
                (Some(AlertUnit::Number), Some(10 * MINUTE), &["domain"])
            }
            Self::CallerAddresses | Self::ApiKeyAddresses | Self::Probing => {
                (Some(AlertUnit::Number), Some(10 * MINUTE), &["domain", "tier"])
            }
            Self::Burst => {
                (Some(AlertUnit::Number), Some(Duration::from_secs(1)), &["domain", "tier"])
            }
            Self::Bypass => (Some(AlertUnit::Percent), None, &["domain", "provider", "least"]),
            Self::Risk => (Some(AlertUnit::Number), None, &[]),
            Self::StoreDown | Self::ConfigInvalid => (None, None, &[]),
        };
        SignalKeys { unit, over, others }
    }

    /// Whether values above that of a rule are bad, and not those below; None: either may be.
    pub fn is_bad_above(self) -> Option<bool> {
        match self {
            Self::Forecast | Self::Certificate => Some(false),
            Self::CallerRefused
            | Self::AddressCallers
            | Self::AddressApiKeys
            | Self::CallerAddresses
            | Self::ApiKeyAddresses
            | Self::Burst
            | Self::Probing
            | Self::Bypass
            | Self::Risk
            | Self::XdsSilent => Some(true),
            _ => None,
        }
    }

    /// The entries of a policy's `abuse` that it reads.
    pub fn entries(self) -> &'static [AbuseEntry] {
        match self {
            Self::AddressCallers | Self::CallerAddresses => &[AbuseEntry::Address],
            Self::AddressApiKeys | Self::ApiKeyAddresses => {
                &[AbuseEntry::Address, AbuseEntry::ApiKey]
            }
            Self::Probing => &[AbuseEntry::Identifier],
            _ => &[],
        }
    }

    /// The labels that its alerts may have.
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Threshold => &["domain", "caller", "tier", "limit", "percent"],
            Self::Denials | Self::Spike | Self::CallerRefused => &["domain", "caller"],
            Self::CallerAddresses | Self::Burst | Self::Probing => &["domain", "caller"],
            Self::Forecast => &["domain", "caller", "limit"],
            Self::AddressCallers | Self::AddressApiKeys => &["domain", "address"],
            Self::ApiKeyAddresses => &["domain", "api_key"],
            Self::Capacity => &["domain", "provider", "limit"],
            Self::Bypass => &["domain", "provider"],
            Self::Spend | Self::Budget => &["domain", "provider", "tier", "period", "currency"],
            Self::Risk => &["caller"],
            Self::Certificate => &["port"],
            Self::ConfigInvalid => &["files"],
            Self::Refused | Self::Errors | Self::StoreErrors | Self::StoreDown => &[],
            Self::Latency | Self::Queue | Self::QueueDelay | Self::XdsSilent => &[],
        }
    }

    /// The usual share of its alerts in the risk of a caller, from 0 to 100; None: they are not about abuse by a caller.
    pub fn risk(self) -> Option<u8> {
        match self {
            Self::Denials | Self::Spike | Self::Burst => Some(20),
            Self::CallerRefused => Some(30),
            Self::CallerAddresses => Some(40),
            Self::Probing => Some(50),
            _ => None,
        }
    }

    /// The unit of its value; None if it has none.
    pub fn unit(self) -> Option<AlertUnit> {
        self.keys().unit
    }
}

impl AlertUnit {
    /// Parses a value of this unit.
    ///
    /// # Errors
    /// A clause with the reason.
    pub fn parse(self, text: &str) -> Result<f64, String> {
        let number = |digits: &str| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            let number = digits.parse::<f64>().ok().filter(|_| plain);
            number.filter(|number| number.is_finite())
        };
        let (value, example) = match self {
            Self::Number => (number(text), "a number, such as 5"),
            Self::Percent => {
                let digits = text.strip_suffix('%').map(str::trim_end);
                (digits.and_then(number), "a percentage, such as 20%")
            }
            Self::Time => {
                let ms = parse_length_ms(text).ok();
                let value = ms.map(|ms| Duration::from_millis(ms).as_secs_f64());
                (value, "a duration, such as 50ms, 2s or 14d")
            }
        };
        value.ok_or_else(|| format!("invalid value `{text}`; use {example}"))
    }

    /// A value of this unit, for people.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Number => format!("{}", (value * 100.0).round() / 100.0),
            Self::Percent => format!("{}%", (value * 10.0).round() / 10.0),
            Self::Time if 86_400.0 <= value => format!("{:.1} days", value / 86_400.0),
            Self::Time if 3_600.0 <= value => format!("{:.1} hours", value / 3_600.0),
            Self::Time if 60.0 <= value => format!("{:.1} minutes", value / 60.0),
            Self::Time if 1.0 <= value => format!("{value:.1} s"),
            Self::Time => format!("{:.1} ms", value * 1_000.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_a_unit_for_people() {
        let shown = [0.05, 59.0, 90.0, 43_200.0, 129_600.0].map(|time| AlertUnit::Time.show(time));
        assert_eq!(shown, ["50.0 ms", "59.0 s", "1.5 minutes", "12.0 hours", "1.5 days"]);
    }
}
