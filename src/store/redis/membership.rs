//! Membership among the sidecars of one Redis: a heartbeat that registers this sidecar, checks that the server takes
//! writes, counts the sidecars, and reads the server's time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, FromRedisValue, RedisError};
use arc_swap::ArcSwapOption;

use super::key_prefix::KeyPrefix;
use super::server_clock::{RoundTrip, ServerClock};
use crate::clock::{Timestamp, monotonic_now};

/// Time between two heartbeats.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Time after its last heartbeat that a sidecar still counts.
const LIFE: Duration = Duration::from_secs(5);

/// The sorted set of sidecars. No key of a counter starts like this.
const KEY: &str = "tg1!sidecars";

const HEARTBEAT: &str = include_str!("membership.lua");

/// Random bytes in the name of a sidecar.
const NAME_LEN: usize = 16;

/// The name of this sidecar, and the number of sidecars.
#[derive(Debug)]
pub struct Membership {
    prefix: KeyPrefix,
    name: String,
    /// The hash tag of the key in a cluster, which places it on this server.
    tag: ArcSwapOption<String>,
    /// As of the last heartbeat; 0 before the first.
    sidecars: AtomicU32,
}

impl Membership {
    /// The membership of a new sidecar, with a random name.
    pub fn new(prefix: KeyPrefix) -> Self {
        let mut bytes = [0; NAME_LEN];
        // Without randomness all such sidecars have the same name and count as one.
        let _ = getrandom::fill(&mut bytes);
        let name = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { prefix, name, tag: ArcSwapOption::empty(), sidecars: AtomicU32::new(0) }
    }

    /// Moves the key to the slot of `tag`.
    pub fn set_tag(&self, tag: String) {
        self.tag.store(Some(Arc::new(tag)));
    }

    fn key(&self) -> String {
        let prefix = self.prefix.as_str();
        match &*self.tag.load() {
            Some(tag) => format!("{prefix}{KEY}{{{tag}}}"),
            None => format!("{prefix}{KEY}"),
        }
    }

    /// Number of sidecars at the last heartbeat, including this one; 0 before the first.
    pub fn sidecars(&self) -> u32 {
        self.sidecars.load(Ordering::Relaxed)
    }

    /// Sends one heartbeat, and reads the server's clock. If the user lacks permission for these commands, the server
    /// is still available, so that is not an error.
    ///
    /// # Errors
    /// If there is no connection, or the server accepts no writes.
    pub async fn announce(
        &self,
        connection: &mut MultiplexedConnection,
        clock: &ServerClock,
    ) -> Result<(), RedisError> {
        let mut command = Cmd::new();
        command.arg("EVAL").arg(HEARTBEAT).arg(1).arg(self.key());
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
            Err(error) if is_denied_to_user(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes this sidecar.
    ///
    /// # Errors
    /// If there is no connection.
    pub async fn leave(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let mut command = Cmd::new();
        command.arg("ZREM").arg(self.key()).arg(&self.name);
        connection.send_packed_command(&command).await.map(|_| ())
    }
}

/// Whether the user lacks permission for the commands, and the server does not refuse all writes. A command that is
/// denied in a script has no error code, only a message.
fn is_denied_to_user(error: &RedisError) -> bool {
    let within = "executing the script can't";
    matches!(error.code(), Some("NOPERM" | "WRONGTYPE"))
        || error.detail().is_some_and(|detail| detail.contains(within))
}
