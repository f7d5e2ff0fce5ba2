//! The entries of the audit log: changes over the API and of files, and refused requests.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

use super::line::{Content, hex};
use super::redaction::Redaction;
use crate::api_keys::ApiKeyForm;
use crate::clock::Timestamp;
use crate::engine::DecisionRecord;
use crate::observe::instant::instant;
use crate::observe::refusal::{LimitsShown, RefusalForm};
use crate::policy::CallerForm;
use crate::store::Gift;
use crate::store::provider_controls::{ControlAction, ProviderControl};

/// Random bytes of a nonce: without them, an erased subject could be guessed and compared with its digest.
const NONCE_LEN: usize = 16;

/// A change over the API or of files.
#[derive(Clone, Debug)]
pub struct Entry {
    pub at: Timestamp,
    /// The name of a token, or a fixed name if no token is needed; `files` for a reload.
    pub who: String,
    pub peer: Option<IpAddr>,
    /// The operation, in one or two words.
    pub what: &'static str,
    pub change: Changed,
    /// The reason that the change of the previous line failed, or may have failed.
    pub failed: Option<String>,
}

/// What an entry changes.
#[derive(Clone, Debug)]
pub enum Changed {
    /// The record of a caller.
    Record { caller: String, before: Option<Box<CallerForm>>, after: Option<Box<CallerForm>> },
    /// Hits of a caller, on its limits or held by a reservation.
    Quota { caller: String, hits: u64, limits: LimitsBefore, reservation: Option<String> },
    /// A gift of the caller, or to it.
    Gift { caller: String, gift: GiftLine },
    /// An API key of a caller, without its text.
    ApiKey {
        id: String,
        caller: String,
        before: Option<Box<ApiKeyForm>>,
        after: Option<Box<ApiKeyForm>>,
    },
    /// An alert, a silence or a notification, by its id.
    Alert { id: String },
    /// The value of a signal.
    Signal { name: String, value: f64 },
    /// A change of a provider for a while.
    Provider { domain: String, provider: String, control: ControlLine },
    /// The latencies of providers in milliseconds, by name.
    Latencies(BTreeMap<String, f64>),
    /// What is in force, before and after a reload: the hash of the policies, or of the texts of callers. At a start there was
    /// nothing before.
    InForce { from: Option<String>, to: String },
}

/// The limits of a change of hits, as they were read just before it.
#[derive(Clone, Debug)]
pub struct LimitsBefore {
    pub domain: String,
    pub limits: Vec<LimitBefore>,
}

/// A limit before a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitBefore {
    /// As metrics and usage name it.
    pub limit: String,
    /// Its hits; None if the store is unavailable.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub hits: Option<HitsBefore>,
}

/// The hits of a limit before a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HitsBefore {
    /// Hits that may be spent: the amount (the burst of a token bucket), and valid bonuses.
    pub quota: u64,
    pub used: u64,
    pub remaining: u64,
}

/// A gift, without the names of its callers.
#[derive(Clone, Debug, Serialize)]
pub struct GiftLine {
    id: String,
    limit: String,
    /// The bonus of the giver that the hits are taken from.
    bonus: String,
    #[serde(skip)]
    hits: u64,
}

/// A change of a provider for a while, and the one that it replaces.
#[derive(Clone, Debug, Serialize)]
pub struct ControlLine {
    id: String,
    #[serde(flatten)]
    action: ControlAction,
    until: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Box<ControlLine>>,
}

impl ControlLine {
    /// The line of a control in the place of another one.
    pub fn new(control: &ProviderControl, before: Option<&ProviderControl>) -> Self {
        Self {
            id: control.id(),
            action: control.action.clone(),
            until: instant(control.until),
            before: before.map(|before| Box::new(Self::new(before, None))),
        }
    }
}

impl From<&Gift> for GiftLine {
    fn from(gift: &Gift) -> Self {
        let (id, limit, bonus) = (gift.id.clone(), gift.limit.clone(), gift.bonus.clone());
        Self { id, limit, bonus, hits: gift.hits }
    }
}

#[derive(Default, Serialize)]
struct ChangeHead<'e> {
    at: String,
    who: &'e str,
    peer: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hits: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<&'e [LimitBefore]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gift: Option<&'e GiftLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alert: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    control: Option<&'e ControlLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latencies: Option<&'e BTreeMap<String, f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<&'e str>,
    what: &'static str,
}

#[derive(Serialize)]
struct ChangeSubject<'e> {
    caller: &'e str,
    before: Option<ShownForm>,
    after: Option<ShownForm>,
    /// The id of a reservation. Clients choose ids, so it may tell of the caller, and is erased with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reservation: Option<String>,
    nonce: String,
}

/// The form of a caller or of an API key.
#[derive(Serialize)]
#[serde(untagged)]
enum ShownForm {
    Caller(Box<CallerForm>),
    ApiKey(Box<ApiKeyForm>),
}

#[derive(Serialize)]
struct RefusalHead {
    what: &'static str,
    #[serde(flatten)]
    refusal: RefusalForm,
}

#[derive(Serialize)]
struct RefusalSubject<'e> {
    caller: &'e str,
    nonce: String,
}

impl ShownForm {
    fn of_caller(form: &CallerForm, redaction: Option<&Redaction>) -> Self {
        let form = redaction.map_or_else(|| form.clone(), |redaction| redaction.form(form));
        Self::Caller(Box::new(form))
    }

    fn of_api_key(form: &ApiKeyForm, redaction: Option<&Redaction>) -> Self {
        let form = redaction.map_or_else(|| form.clone(), |one| one.api_key_form(form));
        Self::ApiKey(Box::new(form))
    }
}

impl Entry {
    /// The content of its line.
    pub fn content(&self, redaction: Option<&Redaction>) -> Content {
        let mut head = ChangeHead {
            at: instant(self.at),
            who: &self.who,
            peer: self.peer,
            failed: self.failed.as_deref(),
            what: self.what,
            ..ChangeHead::default()
        };
        let form = |form: &Option<Box<CallerForm>>| {
            Some(ShownForm::of_caller(form.as_deref()?, redaction))
        };
        let key_form = |form: &Option<Box<ApiKeyForm>>| {
            Some(ShownForm::of_api_key(form.as_deref()?, redaction))
        };
        let subject = |caller: &str, before, after| {
            let caller = &*shown(caller, redaction);
            let reservation = match &self.change {
                Changed::Quota { reservation: Some(id), .. } => Some(shown(id, redaction)),
                _ => None,
            };
            Some(members(&ChangeSubject { caller, before, after, reservation, nonce: nonce() }))
        };
        let subject = match &self.change {
            Changed::Record { caller, before, after } => subject(caller, form(before), form(after)),
            Changed::Quota { caller, hits, limits, .. } => {
                head.hits = Some(*hits);
                (head.domain, head.limits) = (Some(&*limits.domain), Some(&*limits.limits));
                subject(caller, None, None)
            }
            Changed::Gift { caller, gift } => {
                (head.hits, head.gift) = (Some(gift.hits), Some(gift));
                subject(caller, None, None)
            }
            Changed::ApiKey { id, caller, before, after } => {
                head.api_key = Some(id);
                subject(caller, key_form(before), key_form(after))
            }
            Changed::Alert { id } => {
                head.alert = Some(id);
                None
            }
            Changed::Signal { name, value } => {
                (head.signal, head.value) = (Some(name.as_str()), Some(*value));
                None
            }
            Changed::Provider { domain, provider, control } => {
                (head.domain, head.provider) = (Some(domain.as_str()), Some(provider.as_str()));
                head.control = Some(control);
                None
            }
            Changed::Latencies(latencies) => {
                head.latencies = Some(latencies);
                None
            }
            Changed::InForce { from, to } => {
                (head.from, head.to) = (from.as_deref(), Some(to.as_str()));
                None
            }
        };
        Content { head: members(&head), subject }
    }
}

/// The content of the line of a refusal; None if it is not in the sample.
pub fn refusal(record: &DecisionRecord, redaction: Option<&Redaction>) -> Option<Content> {
    record.refusal().filter(|refusal| refusal.is_sampled)?;
    let mut form = RefusalForm::new(record, LimitsShown::Refusing)?;
    let caller = form.caller.take();
    let head = members(&RefusalHead { what: "refused", refusal: form });
    let subject = caller.map(|caller| {
        members(&RefusalSubject { caller: &shown(&caller, redaction), nonce: nonce() })
    });
    Some(Content { head, subject })
}

/// Whether a subject has data of an erased caller: as itself, or as a parent.
pub fn is_subject_of(subject: &str, is_erased: &dyn Fn(&str) -> bool) -> bool {
    let Ok(subject) = serde_json::from_str::<Value>(&format!("{{{subject}}}")) else {
        return false;
    };
    let places = ["/caller", "/before/parent", "/after/parent"];
    let mut texts = places.into_iter().filter_map(|place| subject.pointer(place)?.as_str());
    texts.any(is_erased)
}

/// The name of a caller, or the id of a reservation, as the log shows it.
fn shown(name: &str, redaction: Option<&Redaction>) -> String {
    redaction.map_or_else(|| name.to_owned(), |redaction| redaction.name(name))
}

/// The members of a JSON object, without its braces.
pub fn members<T: Serialize>(object: &T) -> String {
    let text = serde_json::to_string(object).expect("it has only texts, numbers and lists");
    let inside = text.strip_prefix("{").and_then(|text| text.strip_suffix("}"));
    inside.unwrap_or_default().to_owned()
}

fn nonce() -> String {
    let mut bytes = [0; NONCE_LEN];
    // Without randomness only an erased subject is affected: it could be guessed.
    let _ = getrandom::fill(&mut bytes);
    hex(&bytes)
}
