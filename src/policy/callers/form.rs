//! The form of a caller in files, over HTTP and in Redis, and its conversion to a [`Caller`] and back.
//!
//! All three have the same names and limits. All problems are reported at once, each with its place in the form, so
//! that a file can show the line and HTTP can name the field.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::bonus_form::{BonusForm, check_id};
use super::flaw::{Flaw, Flaws, LABEL_LEN_MAX, check_text, too_much};
use super::overrides::OverrideForm;
use crate::limit::AMOUNT_MAX;
use crate::policy::model::{Caller, CallerBonus, CallerOverride, Share};

/// Maximum bytes of a caller's name, and of a limit's.
pub const NAME_LEN_MAX: usize = 256;

/// Maximum number of roles, of overrides and of bonuses of one caller: requests search them.
const LIST_LEN_MAX: usize = 32;

/// Maximum bytes of the notes: each sidecar stores those of its cached callers.
const NOTES_LEN_MAX: usize = 1_024;

/// A caller of the directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Caller")]
pub struct CallerForm {
    /// The caller's tier; if absent, the parent's, else the policy's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// The caller's team or workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The part of the parent's limits that the caller has, such as 20% or 0.2.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "share")]
    #[schemars(with = "Option<ShareForm>")]
    pub share: Option<String>,
    /// The caller spends from the parent's counters; with a share, at most that part of them.
    #[serde(skip_serializing_if = "is_default")]
    pub pool: bool,
    /// Labels for priorities and answers.
    #[serde(skip_serializing_if = "is_default")]
    pub roles: Vec<String>,
    /// What replaces the policy's amounts, by the name of the limit.
    #[serde(skip_serializing_if = "is_default")]
    pub overrides: BTreeMap<String, OverrideForm>,
    /// Extra hits on limits, each until a date.
    #[serde(skip_serializing_if = "is_default")]
    pub bonuses: Vec<BonusForm>,
    /// All requests of the caller are refused.
    #[serde(skip_serializing_if = "is_default")]
    pub disabled: bool,
    /// Comments.
    #[serde(skip_serializing_if = "is_default")]
    pub notes: String,
}

/// A share in a request; it is stored as text.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a share must be a text or a number, such as 20% or 0.2")]
#[schemars(inline)]
enum ShareForm {
    Text(String),
    Fraction(f64),
}

/// Checks the name of a caller.
///
/// # Errors
/// A clause with the reason.
pub fn check_caller_name(name: &str) -> Result<(), String> {
    check_text(name, "the name of a caller", NAME_LEN_MAX)
}

impl CallerForm {
    /// The caller of the form.
    ///
    /// # Errors
    /// All problems of the form. It does not check whether the parent exists.
    pub fn check(&self) -> Result<Caller, Vec<Flaw>> {
        let mut flaws = Flaws::default();
        let share =
            self.share.as_deref().and_then(|text| flaws.take(&["share"], Share::parse(text)));
        let bonuses = self.check_bonuses(&mut flaws);
        let overrides = self.check_overrides(&mut flaws);
        self.check_texts(&mut flaws);
        self.check_lists(&mut flaws);
        if self.parent.is_none() {
            for (name, given) in [("share", self.share.is_some()), ("pool", self.pool)] {
                flaws.note_if(given, &[name], || format!("`{name}` requires a `parent`"));
            }
        }
        if !flaws.0.is_empty() {
            return Err(flaws.0);
        }
        Ok(Caller {
            tier: self.tier.clone(),
            parent: self.parent.clone(),
            share,
            pool: self.pool,
            roles: self.roles.clone(),
            overrides,
            bonuses,
            disabled: self.disabled,
            notes: self.notes.clone(),
        })
    }

    fn check_texts(&self, flaws: &mut Flaws) {
        if let Some(tier) = &self.tier {
            flaws.take(&["tier"], check_text(tier, "the tier", LABEL_LEN_MAX));
        }
        if let Some(parent) = &self.parent {
            flaws.take(&["parent"], check_caller_name(parent));
        }
        flaws.note_if(NOTES_LEN_MAX < self.notes.len(), &["notes"], || {
            format!("the notes are longer than {NOTES_LEN_MAX} bytes")
        });
    }

    fn check_lists(&self, flaws: &mut Flaws) {
        let lengths = [
            ("roles", self.roles.len()),
            ("overrides", self.overrides.len()),
            ("bonuses", self.bonuses.len()),
        ];
        for (name, len) in lengths {
            flaws.note_if(LIST_LEN_MAX < len, &[name], || {
                format!("too many {name}: {len}; at most {LIST_LEN_MAX} are allowed")
            });
        }
        for (index, role) in self.roles.iter().enumerate() {
            let path = ["roles", &index.to_string()];
            flaws.take(&path, check_text(role, "a role", LABEL_LEN_MAX));
        }
    }

    fn check_overrides(&self, flaws: &mut Flaws) -> BTreeMap<String, CallerOverride> {
        let mut overrides = BTreeMap::new();
        for (name, form) in &self.overrides {
            let path = ["overrides", name.as_str()];
            flaws.take(&path, check_text(name, "the name of a limit", NAME_LEN_MAX));
            match form.check() {
                Ok(known) => drop(overrides.insert(name.clone(), known)),
                Err(problems) => {
                    for (field, message) in problems {
                        let path: Vec<&str> = path.into_iter().chain(field).collect();
                        flaws.note_if(true, &path, || message);
                    }
                }
            }
        }
        overrides
    }

    fn check_bonuses(&self, flaws: &mut Flaws) -> Vec<CallerBonus> {
        let mut ids = BTreeSet::new();
        let mut bonuses = Vec::new();
        for (index, form) in self.bonuses.iter().enumerate() {
            let index = index.to_string();
            let path = |field| ["bonuses", &index, field];
            let limit = check_text(&form.limit, "the name of a limit", NAME_LEN_MAX);
            flaws.take(&path("limit"), limit);
            flaws.note_if(form.amount == 0, &path("amount"), || {
                "a bonus must have an amount above 0".to_owned()
            });
            let is_much = AMOUNT_MAX < form.amount;
            flaws.note_if(is_much, &path("amount"), || too_much(form.amount));
            let id = form.id.clone().unwrap_or_else(|| form.digest());
            flaws.take(&path("id"), check_id(&id));
            let is_known = !ids.insert(id.clone());
            flaws.note_if(is_known, &path("id"), || match &form.id {
                Some(id) => format!("duplicate id `{id}`"),
                None => "duplicate bonus; give each an `id`".to_owned(),
            });
            if let Some(bonus) = form.bonus((&index, id), flaws) {
                bonuses.push(CallerBonus { limit: form.limit.clone(), bonus });
            }
        }
        bonuses
    }
}

impl From<&Caller> for CallerForm {
    fn from(caller: &Caller) -> Self {
        Self {
            tier: caller.tier.clone(),
            parent: caller.parent.clone(),
            share: caller.share.map(|share| share.to_string()),
            pool: caller.pool,
            roles: caller.roles.clone(),
            overrides: caller
                .overrides
                .iter()
                .map(|(limit, known)| (limit.clone(), OverrideForm::from(known)))
                .collect(),
            bonuses: caller.bonuses.iter().map(BonusForm::from).collect(),
            disabled: caller.disabled,
            notes: caller.notes.clone(),
        }
    }
}

fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let share = Option::<ShareForm>::deserialize(deserializer)?;
    Ok(share.map(|share| match share {
        ShareForm::Text(text) => text,
        ShareForm::Fraction(fraction) => fraction.to_string(),
    }))
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(json: serde_json::Value) -> CallerForm {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_caller_survives_being_written_and_read() {
        let json = serde_json::json!({
            "tier": "premium", "parent": "acme", "share": "12.5%", "pool": true,
            "roles": ["partner"], "overrides": { "daily": 500 }, "disabled": true, "notes": "x",
            "bonuses": [
                { "id": "a", "limit": "b", "amount": 4, "until": "2027-01-01T00:00:00Z" },
                { "id": "never", "limit": "b", "amount": 4, "priority": 7 },
                {
                    "id": "monthly", "limit": "b", "amount": 4, "every": "month",
                    "from": "2026-11-01T00:00:00Z", "rollover": { "max": 3 },
                },
                { "id": "hourly", "limit": "b", "amount": 4, "every": "hour" },
            ],
        });
        let caller = form(json.clone()).check().unwrap();
        assert_eq!(serde_json::to_value(CallerForm::from(&caller)).unwrap(), json);
        let nothing = serde_json::json!({});
        let caller = form(nothing.clone()).check().unwrap();
        assert_eq!(serde_json::to_value(CallerForm::from(&caller)).unwrap(), nothing);
    }

    #[test]
    fn a_share_is_a_text_or_a_number() {
        let check = |share: serde_json::Value, shown: &str| {
            let caller = form(serde_json::json!({ "parent": "a", "share": share })).check();
            assert_eq!(caller.unwrap().share.unwrap().to_string(), shown);
        };
        check("20%".into(), "20%");
        check(0.2.into(), "20%");
        check(1.into(), "100%");
        let flaws = form(serde_json::json!({ "parent": "a", "share": 20 })).check().unwrap_err();
        assert!(flaws[0].to_string().starts_with("share: invalid share `20`"), "{}", flaws[0]);
        let wrong = serde_json::from_value::<CallerForm>(serde_json::json!({ "share": true }));
        assert!(wrong.unwrap_err().to_string().contains("a share must be a text or a number"));
    }

    #[test]
    fn every_flaw_is_told_with_its_place() {
        let long = "x".repeat(NAME_LEN_MAX + 1);
        let caller = form(serde_json::json!({
            "tier": "", "share": "120%", "pool": true, "roles": ["a", ""],
            "overrides": { "daily": AMOUNT_MAX + 1, long: 1 },
            "bonuses": [
                { "id": "a b", "limit": "", "amount": 0, "until": "soon" },
                { "id": "c", "limit": "d", "amount": 1, "until": "2026-12-31" },
                { "id": "c", "limit": "d", "amount": u64::MAX, "until": "2026-12-31" },
            ],
            "notes": "x".repeat(NOTES_LEN_MAX + 1),
        }));
        let flaws = caller.check().unwrap_err();
        let mut places: Vec<String> = flaws.iter().map(|flaw| flaw.path.join(".")).collect();
        places.sort();
        places.iter_mut().for_each(|place| place.truncate(20));
        assert_eq!(
            places,
            [
                "bonuses.0.amount",
                "bonuses.0.id",
                "bonuses.0.limit",
                "bonuses.0.until",
                "bonuses.2.amount",
                "bonuses.2.id",
                "notes",
                "overrides.daily",
                "overrides.xxxxxxxxxx",
                "pool",
                "roles.1",
                "share",
                "share",
                "tier",
            ]
        );
    }

    #[test]
    fn lists_are_bounded() {
        let roles = vec!["a"; LIST_LEN_MAX + 1];
        let flaws = form(serde_json::json!({ "roles": roles })).check().unwrap_err();
        assert_eq!(flaws[0].to_string(), "roles: too many roles: 33; at most 32 are allowed");
    }

    #[test]
    fn a_bonus_without_an_id_gets_one_that_stays() {
        let caller = |amount: u64| {
            let bonus =
                serde_json::json!({ "limit": "a", "amount": amount, "until": "2026-12-31" });
            form(serde_json::json!({ "bonuses": [bonus] })).check().unwrap().bonuses[0].clone()
        };
        assert_eq!(caller(1).bonus.id, caller(1).bonus.id);
        assert_ne!(caller(1).bonus.id, caller(2).bonus.id);
    }
}
