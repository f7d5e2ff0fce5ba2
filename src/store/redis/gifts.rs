//! Gifts in Redis: beside the callers, so that a gift is noted as done in the step in which its receiver gets the hits.

use std::time::Duration;

use ::redis::Cmd;

use super::directory::{RedisDirectory, in_time, read};
use crate::clock::Timestamp;
use crate::store::{
    GIFT_KEPT, GIFT_LOG_LEN_MAX, GIFT_LOG_LIFE, Gift, GiftChange, GiftEvent, GiftState, StoreError,
    caller_json, event_json, gift_json, read_event, read_gift,
};

const CHANGE: &str = include_str!("gift.lua");

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
        command.arg(&gift.id).arg(seen.map(gift_json).unwrap_or_default()).arg(gift_json(gift));
        match is_pending {
            true => command.arg("").arg(resumed.as_ms()),
            false => command.arg(ms(GIFT_KEPT)).arg(""),
        };
        let json = credit.and_then(|credit| credit.caller).map(caller_json);
        command.arg(name).arg(credit.map_or(0, |credit| credit.seen));
        command
            .arg(json.unwrap_or_default())
            .arg(self.names.channel())
            .arg(GIFT_LOG_LEN_MAX)
            .arg(ms(GIFT_LOG_LIFE));
        for event in log {
            command.arg(event_json(event));
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
        command.arg("LRANGE").arg(self.names.gift_log(caller)).arg(0).arg(GIFT_LOG_LEN_MAX - 1);
        let lines: Vec<Vec<u8>> = read(in_time(self.send(&command)).await?)?;
        Ok(lines.iter().filter_map(|line| read_event(caller, line)).collect())
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<Gift, StoreError> {
    read_gift(bytes)
        .map_err(|error| StoreError::Garbled { reason: format!("invalid gift: {error}") })
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
