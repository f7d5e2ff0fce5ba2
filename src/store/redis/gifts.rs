//! Gifts in Redis: beside the callers, so that a gift is noted as done in the step in which its receiver gets the hits.

use ::redis::Cmd;
use serde::{Deserialize, Serialize};

use super::directory::{RedisDirectory, in_time, read};
use crate::clock::Timestamp;
use crate::policy::CallerForm;
use crate::store::{
    GIFT_MARK_MS, Gift, GiftChange, GiftEvent, GiftEventKind, GiftState, StoreError,
};

const CHANGE: &str = include_str!("gift.lua");

/// How long a gift is known that has come to an end. Longer than the mark of its hits, or a gift of the same id could get
/// the hits that are marked.
const KEPT_MS: u64 = GIFT_MARK_MS as u64 + 24 * 3_600_000;

/// What a caller is told of gifts: so many lines.
const LOG_LEN_MAX: usize = 200;

/// For so long.
const LOG_LIFE_MS: u64 = 90 * 24 * 3_600_000;

/// A gift as Redis keeps it.
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
pub(super) struct StoredEvent {
    at: u64,
    kind: StoredKind,
    gift: String,
    limit: String,
    bonus: String,
    hits: u64,
    pub(super) with: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredKind {
    Given,
    Received,
    Returned,
}

impl RedisDirectory {
    /// The gift of an id.
    ///
    /// # Errors
    /// When Redis does not answer as it should.
    pub async fn gift(&self, id: &str) -> Result<Option<Gift>, StoreError> {
        in_time(async {
            let mut command = Cmd::new();
            command.arg("GET").arg(self.names.gift(id));
            let bytes: Option<Vec<u8>> = read(self.send(&command).await?)?;
            bytes.map(|bytes| parse(&bytes)).transpose()
        })
        .await
    }

    /// Changes a gift, unless it or the caller that gets its hits is another one than its writer saw: then false. A pending one
    /// is to be resumed from that time on.
    ///
    /// # Errors
    /// When Redis does not answer as it should; the change may have been made.
    pub async fn write_gift(
        &self,
        change: GiftChange<'_>,
        resumed: Timestamp,
    ) -> Result<bool, StoreError> {
        let GiftChange { seen, gift, credit, log } = change;
        let (names, is_pending) = (&self.names, gift.state == GiftState::Pending);
        let mut command = Cmd::new();
        command.arg("EVAL").arg(CHANGE).arg(5 + log.len());
        command.arg(names.gift(&gift.id)).arg(names.pending());
        let name = credit.map_or("", |credit| credit.name);
        command.arg(names.caller(name)).arg(names.index()).arg(names.revisions());
        for event in log {
            command.arg(names.gift_log(&event.caller));
        }
        command.arg(&gift.id).arg(seen.map(json).unwrap_or_default()).arg(json(gift));
        match is_pending {
            true => command.arg("").arg(resumed.as_ms()),
            false => command.arg(KEPT_MS).arg(""),
        };
        let form = credit.and_then(|credit| credit.caller).map(CallerForm::from);
        let form = form.map(|form| serde_json::to_string(&form).expect("a form is JSON"));
        command.arg(name).arg(credit.map_or(0, |credit| credit.seen));
        command
            .arg(form.unwrap_or_default())
            .arg(self.names.channel())
            .arg(LOG_LEN_MAX)
            .arg(LOG_LIFE_MS);
        for event in log {
            command.arg(serde_json::to_string(&StoredEvent::from(event)).expect("it is JSON"));
        }
        let written = in_time(self.send(&command)).await;
        if credit.is_some() {
            // Whoever asks here sees it at once.
            self.forget(name);
        }
        let written: u64 = read(written?)?;
        Ok(written == 1)
    }

    /// Some ids of the gifts that are to be resumed by now, the longest due first.
    ///
    /// # Errors
    /// When Redis does not answer as it should.
    pub async fn due_gifts(&self, now: Timestamp, max: usize) -> Result<Vec<String>, StoreError> {
        let mut command = Cmd::new();
        command.arg("ZRANGEBYSCORE").arg(self.names.pending()).arg("-inf").arg(now.as_ms());
        command.arg("LIMIT").arg(0).arg(max);
        read(in_time(self.send(&command)).await?)
    }

    /// What a caller is told of gifts, the youngest first.
    ///
    /// # Errors
    /// When Redis does not answer as it should.
    pub async fn gift_log(&self, caller: &str) -> Result<Vec<GiftEvent>, StoreError> {
        let mut command = Cmd::new();
        command.arg("LRANGE").arg(self.names.gift_log(caller)).arg(0).arg(LOG_LEN_MAX - 1);
        let lines: Vec<Vec<u8>> = read(in_time(self.send(&command)).await?)?;
        let events =
            lines.iter().filter_map(|line| serde_json::from_slice::<StoredEvent>(line).ok());
        Ok(events.map(|event| event.of(caller)).collect())
    }
}

pub(super) fn json(gift: &Gift) -> String {
    serde_json::to_string(&StoredGift::from(gift)).expect("a gift is JSON")
}

pub(super) fn parse(bytes: &[u8]) -> Result<Gift, StoreError> {
    let stored: StoredGift = serde_json::from_slice(bytes)
        .map_err(|error| StoreError::Garbled { reason: format!("invalid gift: {error}") })?;
    Ok(Gift {
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
    })
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
