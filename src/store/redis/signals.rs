//! Signals in Redis: one hash, which all sidecars read and write.

use std::time::Duration;

use ::redis::{Cmd, FromRedisValue, Value};
use tokio::time;

use super::{Redis, fault};
use crate::store::StoreError;
use crate::store::signals::{SignalChange, SignalFields};

/// The hash, with the version of what is stored in it.
const KEY: &str = "tgs1";

/// How long it stays when nothing changes it.
const LIFE: Duration = Duration::from_secs(86_400);

/// How long a call may take; no request waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

impl Redis {
    /// All signals, and what is known of the limits that follow them.
    ///
    /// # Errors
    /// When Redis does not answer as it should.
    pub async fn signals(&self) -> Result<SignalFields, StoreError> {
        let key = self.route.key(KEY);
        let mut command = Cmd::new();
        command.arg("HGETALL").arg(&key);
        let fields = self.call_signals(&command).await?;
        SignalFields::from_redis_value(fields)
            .map_err(|error| StoreError::Garbled { reason: error.to_string() })
    }

    /// Changes some of them.
    ///
    /// # Errors
    /// When Redis does not answer as it should; the change may have been made, or a part of it.
    pub async fn change_signals(&self, change: &SignalChange) -> Result<(), StoreError> {
        let key = self.route.key(KEY);
        let mut set = Cmd::new();
        set.arg("HSET").arg(&key);
        change.set.iter().for_each(|(field, text)| {
            set.arg(field).arg(text);
        });
        let mut remove = Cmd::new();
        remove.arg("HDEL").arg(&key).arg(&change.removed);
        let mut keep = Cmd::new();
        keep.arg("PEXPIRE").arg(&key).arg(LIFE.as_millis().to_string());
        let commands = [
            (set, !change.set.is_empty()),
            (remove, !change.removed.is_empty()),
            (keep, !change.is_empty()),
        ];
        for (command, _) in commands.iter().filter(|(_, is_meant)| *is_meant) {
            self.call_signals(command).await?;
        }
        Ok(())
    }

    async fn call_signals(&self, command: &Cmd) -> Result<Value, StoreError> {
        let link = self.route.link(self.route.slot(&self.route.key(KEY)));
        let link = link.ok_or_else(|| StoreError::unexplored("the slot of signals"))?;
        let call = async {
            let answer = link.send(command).await?;
            answer.extract_error().map_err(|error| fault::refused(&error))
        };
        let late = |_| StoreError::Late { deadline: PATIENCE };
        time::timeout(PATIENCE, call).await.map_err(late).flatten()
    }
}
