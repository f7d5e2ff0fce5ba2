//! Replaces lines of the audit log's stream in their places.
//!
//! An entry of a stream can't be changed. If a new one took its place at the end, the stream would lose the lines before it first,
//! and have a gap. So the stream is copied with the new lines, under the same ids, and the copy takes its place in one step, with
//! what was added meanwhile.

use ::redis::{Cmd, Value};

use super::audit_log::{FIELD, RedisAuditLog};
use crate::store::StoreError;

/// How often the stream was replaced by a copy; in the slot of the stream, as the copies are.
const REWRITES: &str = "tgw1{tgw1}-rewrites";
const COPY_PREFIX: &str = "tgw1{tgw1}-copy-";

/// How long a copy stays that nobody completes.
const COPY_LIFE_MS: u64 = 600_000;

/// Entries that one command reads or copies.
const PAGE_LEN: usize = 500;

/// Maximum number of copies while other sidecars replace the stream.
const ATTEMPTS_MAX: u32 = 8;

/// Adds entries to a copy: KEYS[1]. ARGV[1] is its life; for each entry follow its id, how many texts it has, and these.
const COPY: &str = "\
local at = 2
while at <= #ARGV do
  local last = at + 1 + ARGV[at + 1]
  redis.call('XADD', KEYS[1], ARGV[at], unpack(ARGV, at + 2, last))
  at = last + 1
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1";

/// Puts a copy, KEYS[2], in the place of the stream, KEYS[1], unless that was replaced other than ARGV[1] times, as KEYS[3] says.
/// ARGV[2] is the id of the last entry that was copied. Consumer groups go on where they are.
const COMMIT: &str = "\
if (redis.call('GET', KEYS[3]) or '') ~= ARGV[1] then
  redis.call('DEL', KEYS[2])
  return 0
end
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '(' .. ARGV[2], '+')) do
  redis.call('XADD', KEYS[2], entry[1], unpack(entry[2]))
end
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local fields = {}
  for at = 1, #group, 2 do fields[group[at]] = group[at + 1] end
  redis.call('XGROUP', 'CREATE', KEYS[2], fields['name'], fields['last-delivered-id'])
end
redis.call('PERSIST', KEYS[2])
redis.call('RENAME', KEYS[2], KEYS[1])
redis.call('INCR', KEYS[3])
return 1";

/// Entries of a stream: the id, and fields and their values.
type Entries = Vec<(String, Vec<String>)>;

impl RedisAuditLog {
    /// Replaces each line for which `replace` has another one, and returns their number. It is asked more than once.
    ///
    /// # Errors
    /// If Redis does not answer as expected, or other sidecars replace lines again and again.
    pub async fn replace(
        &self,
        replace: impl Fn(&str) -> Option<String>,
    ) -> Result<u64, StoreError> {
        for _ in 0..ATTEMPTS_MAX {
            let rewrites_key = self.key(REWRITES);
            let mut command = Cmd::new();
            command.arg("GET").arg(&rewrites_key);
            let rewrites: Option<String> = self.ask(&command).await?;
            let Some(last) = self.last_id().await? else { return Ok(0) };
            if self.pass(&last, None, &replace).await? == 0 {
                return Ok(0);
            }
            let copy = format!("{}{}", self.key(COPY_PREFIX), random()?);
            let replaced = self.pass(&last, Some(&copy), &replace).await?;
            let mut command = Cmd::new();
            command.arg("EVAL").arg(COMMIT).arg(3).arg(&self.stream).arg(&copy).arg(&rewrites_key);
            command.arg(rewrites.unwrap_or_default()).arg(&last);
            if self.ask::<u64>(&command).await? == 1 {
                return Ok(replaced);
            }
        }
        let reason = "other sidecars replace lines of the audit log again and again".to_owned();
        Err(StoreError::Garbled { reason })
    }

    /// Reads the entries up to the `last`, and copies them to `copy`, if there is one. How many lines are others then.
    async fn pass(
        &self,
        last: &str,
        copy: Option<&str>,
        replace: &impl Fn(&str) -> Option<String>,
    ) -> Result<u64, StoreError> {
        let (mut from, mut replaced) = ("-".to_owned(), 0);
        loop {
            let mut command = Cmd::new();
            command.arg("XRANGE").arg(&self.stream).arg(&from).arg(last).arg("COUNT").arg(PAGE_LEN);
            let mut page: Entries = self.ask(&command).await?;
            for (_, fields) in &mut page {
                let line = fields.iter_mut().skip_while(|field| *field != FIELD).nth(1);
                if let Some((line, new)) = line.and_then(|line| Some((replace(line)?, line))) {
                    *new = line;
                    replaced += 1;
                }
            }
            if let Some(copy) = copy.filter(|_| !page.is_empty()) {
                let mut command = Cmd::new();
                command.arg("EVAL").arg(COPY).arg(1).arg(copy).arg(COPY_LIFE_MS);
                for (id, fields) in &page {
                    command.arg(id).arg(fields.len()).arg(fields);
                }
                self.ask::<Value>(&command).await?;
            }
            match page.last() {
                Some((id, _)) if page.len() == PAGE_LEN => from = format!("({id}"),
                _ => return Ok(replaced),
            }
        }
    }
}

/// A text that no other copy has in its name.
fn random() -> Result<String, StoreError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Garbled {
        reason: format!("no random name of a copy: {error}"),
    })?;
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}
