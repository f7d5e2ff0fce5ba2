//! The heartbeat of this sidecar: a write that tells the other sidecars that it lives, checks that the server takes
//! writes, counts the sidecars, and tells the server's time.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::redis::Cmd;
use ::redis::FromRedisValue;
use ::redis::RedisError;
use ::redis::aio::MultiplexedConnection;
use arc_swap::ArcSwapOption;

use super::server_clock::RoundTrip;
use super::server_clock::ServerClock;
use crate::clock::Timestamp;
use crate::clock::monotonic_now;

/// How often it beats.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// How long a sidecar counts that is not heard of: a few heartbeats.
const LIFE: Duration = Duration::from_secs(5);

/// Who lives. The prefix is that of all keys of counters, whose names go on differently.
const KEY: &str = "tg1!sidecars";

const BEAT: &str = include_str!("heartbeat.lua");

/// Bytes of chance in a sidecar's name: enough that no two have the same.
const NAME_LEN: usize = 16;

/// What this sidecar is called, and how many there are.
#[derive(Debug)]
pub struct Heart {
    name: String,
    /// What leads the key to the server, in a cluster.
    tag: ArcSwapOption<String>,
    /// As of the last beat; 0 before the first.
    sidecars: AtomicU32,
}

impl Heart {
    /// That of a new sidecar.
    pub fn new() -> Self {
        let mut bytes = [0; NAME_LEN];
        // Without chance the name is that of every other sidecar without, and each takes itself for the only one.
        let _ = getrandom::fill(&mut bytes);
        let name = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { name, tag: ArcSwapOption::empty(), sidecars: AtomicU32::new(0) }
    }

    /// Has it beat under a key whose slot is that of `tag`.
    pub fn beat_at(&self, tag: String) {
        self.tag.store(Some(Arc::new(tag)));
    }

    fn key(&self) -> String {
        match &*self.tag.load() {
            Some(tag) => format!("{KEY}{{{tag}}}"),
            None => KEY.to_owned(),
        }
    }

    /// How many sidecars lived at the last beat, this one included; 0 if there was none yet.
    pub fn sidecars(&self) -> u32 {
        self.sidecars.load(Ordering::Relaxed)
    }

    /// Beats once, and learns what the server's clock says. What a server that takes no such commands from us says is no
    /// error: it answered.
    ///
    /// # Errors
    /// When there is no connection, or the server takes no writes.
    pub async fn beat(
        &self,
        connection: &mut MultiplexedConnection,
        clock: &ServerClock,
    ) -> Result<(), RedisError> {
        let mut command = Cmd::new();
        command.arg("EVAL").arg(BEAT).arg(1).arg(self.key());
        command.arg(&self.name).arg(LIFE.as_millis().to_string());
        let sent = monotonic_now();
        let answer = connection.send_packed_command(&command).await;
        match answer.and_then(|value| value.extract_error()) {
            Ok(value) => {
                if let Ok((sidecars, told_ms)) = <(u32, u64)>::from_redis_value(value) {
                    let trip = RoundTrip { sent, received: monotonic_now() };
                    clock.learn(Timestamp::from_ms(told_ms), trip);
                    self.sidecars.store(sidecars, Ordering::Relaxed);
                }
                Ok(())
            }
            Err(error) if is_about_us(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Tells the others that this sidecar ends.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn stop(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let mut command = Cmd::new();
        command.arg("ZREM").arg(self.key()).arg(&self.name);
        connection.send_packed_command(&command).await.map(|_| ())
    }
}

/// Whether the server has something against us, and not everything that writes. What a user may not call within a
/// script is told in words alone.
fn is_about_us(error: &RedisError) -> bool {
    let within = "executing the script can't";
    matches!(error.code(), Some("NOPERM" | "WRONGTYPE"))
        || error.detail().is_some_and(|detail| detail.contains(within))
}
