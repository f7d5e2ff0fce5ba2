//! The texts of callers and gifts, as Redis and the file of callers keep them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::caller_record::Record;
use super::gift::{Gift, GiftEvent, GiftEventKind, GiftState};
use crate::clock::Timestamp;
use crate::policy::{Caller, CallerForm};

/// A caller; `change.lua` writes the first two fields.
#[derive(Deserialize)]
struct StoredCaller {
    #[serde(rename = "version")]
    _version: u32,
    revision: u64,
    caller: CallerForm,
}

/// A gift.
#[derive(Serialize, Deserialize)]
struct StoredGift {
    version: u32,
    id: String,
    from: String,
    to: String,
    limit: String,
    hits: u64,
    bonus: String,
    until: u64,
    domain: String,
    entries: Vec<(String, String)>,
    at: u64,
    state: StoredState,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredState {
    Pending,
    Done,
    Refused,
    Returned,
}

/// A line of what a caller is told of gifts.
#[derive(Serialize, Deserialize)]
struct StoredEvent {
    at: u64,
    kind: StoredKind,
    gift: String,
    limit: String,
    bonus: String,
    hits: u64,
    with: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredKind {
    Given,
    Received,
    Returned,
}

/// The form of a caller as JSON.
pub fn caller_json(caller: &Caller) -> String {
    serde_json::to_string(&CallerForm::from(caller)).expect("a form is JSON")
}

/// A record, as `change.lua` writes it.
pub fn record_json(record: &Record) -> String {
    let (revision, caller) = (record.revision, caller_json(&record.caller));
    format!("{{\"version\":1,\"revision\":{revision},\"caller\":{caller}}}")
}

/// Parses a record; None if it is invalid.
pub fn read_record(bytes: &[u8]) -> Option<Record> {
    let stored: StoredCaller = serde_json::from_slice(bytes).ok()?;
    let caller = stored.caller.check().ok()?;
    Some(Record { caller: Arc::new(caller), revision: stored.revision })
}

/// A gift as JSON.
pub fn gift_json(gift: &Gift) -> String {
    serde_json::to_string(&StoredGift::from(gift)).expect("a gift is JSON")
}

/// Parses a gift.
///
/// # Errors
/// If it is invalid.
pub fn read_gift(bytes: &[u8]) -> Result<Gift, serde_json::Error> {
    serde_json::from_slice::<StoredGift>(bytes).map(Gift::from)
}

/// A line of the log of a caller's gifts, without the caller's name.
pub fn event_json(event: &GiftEvent) -> String {
    serde_json::to_string(&StoredEvent::from(event)).expect("an event is JSON")
}

/// Parses a line of the log of a caller's gifts; None if it is invalid.
pub fn read_event(caller: &str, line: &[u8]) -> Option<GiftEvent> {
    serde_json::from_slice::<StoredEvent>(line).ok().map(|event| event.of(caller))
}

impl From<StoredGift> for Gift {
    fn from(stored: StoredGift) -> Self {
        Self {
            id: stored.id,
            from: stored.from,
            to: stored.to,
            limit: stored.limit,
            hits: stored.hits,
            bonus: stored.bonus,
            until: Timestamp::from_ms(stored.until),
            domain: stored.domain,
            entries: stored.entries,
            at: Timestamp::from_ms(stored.at),
            state: match stored.state {
                StoredState::Pending => GiftState::Pending,
                StoredState::Done => GiftState::Done,
                StoredState::Refused => GiftState::Refused,
                StoredState::Returned => GiftState::Returned,
            },
        }
    }
}

impl From<&Gift> for StoredGift {
    fn from(gift: &Gift) -> Self {
        let gift = gift.clone();
        Self {
            version: 1,
            id: gift.id,
            from: gift.from,
            to: gift.to,
            limit: gift.limit,
            hits: gift.hits,
            bonus: gift.bonus,
            until: gift.until.as_ms(),
            domain: gift.domain,
            entries: gift.entries,
            at: gift.at.as_ms(),
            state: match gift.state {
                GiftState::Pending => StoredState::Pending,
                GiftState::Done => StoredState::Done,
                GiftState::Refused => StoredState::Refused,
                GiftState::Returned => StoredState::Returned,
            },
        }
    }
}

impl From<&GiftEvent> for StoredEvent {
    fn from(event: &GiftEvent) -> Self {
        Self {
            at: event.at.as_ms(),
            kind: match event.kind {
                GiftEventKind::Given => StoredKind::Given,
                GiftEventKind::Received => StoredKind::Received,
                GiftEventKind::Returned => StoredKind::Returned,
            },
            gift: event.gift.clone(),
            limit: event.limit.clone(),
            bonus: event.bonus.clone(),
            hits: event.hits,
            with: event.with.clone(),
        }
    }
}

impl StoredEvent {
    fn of(self, caller: &str) -> GiftEvent {
        GiftEvent {
            caller: caller.into(),
            at: Timestamp::from_ms(self.at),
            kind: match self.kind {
                StoredKind::Given => GiftEventKind::Given,
                StoredKind::Received => GiftEventKind::Received,
                StoredKind::Returned => GiftEventKind::Returned,
            },
            gift: self.gift,
            limit: self.limit,
            bonus: self.bonus,
            hits: self.hits,
            with: self.with,
        }
    }
}
