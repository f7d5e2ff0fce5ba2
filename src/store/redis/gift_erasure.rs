//! Erases the name of a caller from gifts, and from what other callers are told of them.
//!
//! A gift stays known without the name: its hits may be marked as spent for longer, and another gift of the same id would
//! get them.

use ::redis::Cmd;

use super::directory::{RedisDirectory, in_time, read};
use super::gifts::parse;
use crate::store::{ErasedGifts, GiftState, StoreError, event_json, gift_json, read_event};

/// Keys that one command looks at: less than a millisecond of the server.
const SCANNED_AT_ONCE: u32 = 1_000;

/// Replaces a gift that is still ARGV[1] by ARGV[2].
const REPLACE: &str = "\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1";

/// Replaces the lines of a list that are in ARGV, each before the line that takes its place.
const REPLACE_LINES: &str = "\
local new, changed = {}, 0
for i = 1, #ARGV, 2 do
  new[ARGV[i]] = ARGV[i + 1]
end
for i, line in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  if new[line] then
    redis.call('LSET', KEYS[1], i - 1, new[line])
    changed = changed + 1
  end
end
return changed";

impl RedisDirectory {
    /// Erases a caller from all gifts but pending ones, from the lines of other callers, and its own lines.
    ///
    /// # Errors
    /// When Redis does not answer as it should; some may be erased.
    pub async fn erase_gifts(&self, caller: &str) -> Result<ErasedGifts, StoreError> {
        let mut erased = ErasedGifts::default();
        let own = self.names.gift_log(caller);
        let mut command = Cmd::new();
        command.arg("DEL").arg(&own);
        erased.count += self.ask::<u64>(&command).await?;
        for (names, are_gifts) in [(self.names.gift("*"), true), (self.names.gift_log("*"), false)]
        {
            let mut cursor = "0".to_owned();
            loop {
                let mut command = Cmd::new();
                command.arg("SCAN").arg(&cursor).arg("MATCH").arg(&names);
                command.arg("COUNT").arg(SCANNED_AT_ONCE);
                let (next, keys): (String, Vec<String>) = self.ask(&command).await?;
                for key in &keys {
                    match are_gifts {
                        true => self.erase_gift(key, caller, &mut erased).await?,
                        false => self.erase_lines(key, caller, &mut erased).await?,
                    }
                }
                if next == "0" {
                    break;
                }
                cursor = next;
            }
        }
        Ok(erased)
    }

    async fn erase_gift(
        &self,
        key: &str,
        caller: &str,
        erased: &mut ErasedGifts,
    ) -> Result<(), StoreError> {
        let mut command = Cmd::new();
        command.arg("GET").arg(key);
        let Some(stored) = self.ask::<Option<Vec<u8>>>(&command).await? else { return Ok(()) };
        let mut gift = parse(&stored)?;
        let names = [&mut gift.from, &mut gift.to];
        let mut is_of = false;
        for name in names.into_iter().filter(|name| **name == caller) {
            name.clear();
            is_of = true;
        }
        if !is_of {
            return Ok(());
        }
        if gift.state == GiftState::Pending {
            erased.is_pending = true;
            return Ok(());
        }
        let mut command = Cmd::new();
        command.arg("EVAL").arg(REPLACE).arg(1).arg(key).arg(stored).arg(gift_json(&gift));
        erased.count += self.ask::<u64>(&command).await?;
        Ok(())
    }

    async fn erase_lines(
        &self,
        key: &str,
        caller: &str,
        erased: &mut ErasedGifts,
    ) -> Result<(), StoreError> {
        let mut command = Cmd::new();
        command.arg("LRANGE").arg(key).arg(0).arg(-1);
        let lines: Vec<Vec<u8>> = self.ask(&command).await?;
        let mut command = Cmd::new();
        command.arg("EVAL").arg(REPLACE_LINES).arg(1).arg(key);
        let mut is_of = false;
        for line in &lines {
            // A line does not have the name of its own caller.
            let event = read_event("", line);
            if let Some(mut event) = event.filter(|event| event.with == caller) {
                event.with.clear();
                command.arg(line).arg(event_json(&event));
                is_of = true;
            }
        }
        if is_of {
            erased.count += self.ask::<u64>(&command).await?;
        }
        Ok(())
    }

    async fn ask<T: ::redis::FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        read(in_time(self.send(command)).await?)
    }
}
