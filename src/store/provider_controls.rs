//! Changes of a provider for a while, as a store keeps them beside the signals: a text by the name of a field.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::signals::SignalFields;
use crate::clock::Timestamp;

/// The start of the names of their fields.
const FIELD: &str = "c\n";

/// Bytes of the hash in an id.
const ID_HASH_LEN: usize = 6;

/// A change of a provider for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderControl {
    pub domain: String,
    pub provider: String,
    #[serde(flatten)]
    pub action: ControlAction,
    /// When it was made, and who made it.
    #[serde(with = "ms")]
    pub at: Timestamp,
    pub by: String,
    /// It holds before this time.
    #[serde(with = "ms")]
    pub until: Timestamp,
}

/// What changes. Another control of the same provider with the same scope replaces it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum ControlAction {
    /// No request waits for capacity.
    Pause,
    /// Requests have this priority: those of a tier, or with an entry; all if neither is named.
    Priority {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tier: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        entry: Option<(String, String)>,
        priority: u8,
    },
    /// Requests, or those of a tier, pass only while less than this part of the provider's limits is in use, or of one of them.
    Cap {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tier: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<String>,
        percent: u8,
    },
}

impl ControlAction {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Priority { .. } => "priority",
            Self::Cap { .. } => "cap",
        }
    }

    /// The tier of the callers that it is for; None: all.
    pub fn tier(&self) -> Option<&str> {
        match self {
            Self::Pause => None,
            Self::Priority { tier, .. } | Self::Cap { tier, .. } => tier.as_deref(),
        }
    }
}

impl ProviderControl {
    /// Whether it holds at a time.
    pub fn holds(&self, now: Timestamp) -> bool {
        now < self.until
    }

    /// Its id among those of its provider: the name of the action, and a hash of its scope if it is not for all.
    pub fn id(&self) -> String {
        let name = self.action.name();
        let scope = match &self.action {
            ControlAction::Pause => return name.to_owned(),
            ControlAction::Priority { tier, entry, .. } => serde_json::json!([tier, entry]),
            ControlAction::Cap { tier, limit, .. } => serde_json::json!([tier, limit]),
        };
        if scope == serde_json::json!([null, null]) {
            return name.to_owned();
        }
        let hash = Sha256::digest(scope.to_string());
        let hex: String = hash[..ID_HASH_LEN].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{name}-{hex}")
    }

    /// The name of its field.
    pub fn field(&self) -> String {
        format!("{FIELD}{}\n{}\n{}", self.domain, self.provider, self.id())
    }

    /// Its text. Like that of a signal, it ends with a time, after which it may be forgotten.
    pub fn text(&self) -> String {
        let json = serde_json::to_string(self).expect("a control is JSON");
        format!("{json} {}", self.until.as_ms())
    }

    /// A control from its text; None if it makes no sense.
    fn parse(text: &str) -> Option<Self> {
        let (json, _) = text.rsplit_once(' ')?;
        serde_json::from_str(json).ok()
    }
}

/// The controls among the fields of a store that hold, in the order of their fields.
pub fn controls(fields: &SignalFields, now: Timestamp) -> Vec<ProviderControl> {
    let own = fields.range(FIELD.to_owned()..).take_while(|(field, _)| is_control(field));
    let parsed = own.filter_map(|(_, text)| ProviderControl::parse(text));
    parsed.filter(|control| control.holds(now)).collect()
}

/// The names of the fields of controls that have ended.
pub fn ended(fields: &SignalFields, now: Timestamp) -> Vec<String> {
    let own = fields.range(FIELD.to_owned()..).take_while(|(field, _)| is_control(field));
    let is_over = |text: &str| ProviderControl::parse(text).is_none_or(|one| !one.holds(now));
    own.filter(|(_, text)| is_over(text)).map(|(field, _)| field.clone()).collect()
}

/// Whether a field is that of a control.
pub fn is_control(field: &str) -> bool {
    field.starts_with(FIELD)
}

/// A time as milliseconds.
mod ms {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::clock::Timestamp;

    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(at.as_ms())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(text: D) -> Result<Timestamp, D::Error> {
        u64::deserialize(text).map(Timestamp::from_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::signals::told_at;

    fn control(action: ControlAction) -> ProviderControl {
        let (at, until) = (Timestamp::from_ms(5), Timestamp::from_ms(9_000));
        let [domain, provider, by] = ["d", "near", "ann the first"].map(str::to_owned);
        ProviderControl { domain, provider, action, at, by, until }
    }

    fn every() -> Vec<ProviderControl> {
        let tier = || Some("free".to_owned());
        let entry = Some(("op".to_owned(), "search and more".to_owned()));
        let actions = [
            ControlAction::Pause,
            ControlAction::Priority { tier: None, entry: None, priority: 1 },
            ControlAction::Priority { tier: tier(), entry: None, priority: 1 },
            ControlAction::Priority { tier: tier(), entry, priority: 4 },
            ControlAction::Cap { tier: None, limit: None, percent: 0 },
            ControlAction::Cap { tier: None, limit: tier(), percent: 50 },
            ControlAction::Cap { tier: tier(), limit: None, percent: 50 },
        ];
        actions.map(control).into()
    }

    #[test]
    fn what_is_written_is_read_back_until_it_ends() {
        let mut fields = SignalFields::from([("s\nx".to_owned(), "1 2".to_owned())]);
        for one in every() {
            assert_eq!(ProviderControl::parse(&one.text()).as_ref(), Some(&one));
            assert_eq!(told_at(&one.text()), Some(one.until));
            fields.insert(one.field(), one.text());
        }
        assert_eq!(fields.len(), every().len() + 1, "each has a field of its own");
        let at = Timestamp::from_ms;
        assert_eq!(controls(&fields, at(8_999)).len(), every().len());
        assert_eq!((controls(&fields, at(9_000)).len(), ended(&fields, at(8_999)).len()), (0, 0));
        assert_eq!(ended(&fields, at(9_000)).len(), every().len());
    }

    #[test]
    fn a_text_that_makes_no_sense_is_none() {
        for text in ["", "{} 5", "x 5", "{\"action\":\"stop\"} 5"] {
            assert_eq!(ProviderControl::parse(text), None, "{text}");
        }
        let bad = SignalFields::from([("c\nx".to_owned(), "nonsense".to_owned())]);
        let now = Timestamp::from_ms(0);
        assert_eq!((controls(&bad, now).len(), ended(&bad, now)), (0, vec!["c\nx".to_owned()]));
    }

    #[test]
    fn the_same_scope_has_the_same_id() {
        let priority = |priority| {
            let entry = Some(("a".to_owned(), "b".to_owned()));
            control(ControlAction::Priority { tier: None, entry, priority }).id()
        };
        assert_eq!(priority(1), priority(4));
        assert_eq!(control(ControlAction::Pause).id(), "pause");
        assert_eq!(every()[4].id(), "cap");
    }
}
