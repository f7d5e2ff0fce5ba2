//! Signals, and changes of providers for a while, in Redis: one hash, which all sidecars read and write.

use std::time::Duration;

use ::redis::{Cmd, FromRedisValue, Value};

use super::Redis;
use crate::store::StoreError;
use crate::store::signals::{SignalChange, SignalFields};

/// The hash, with the version of what is stored in it.
const KEY: &str = "tgs1";

/// How long it stays when nothing changes it: a day longer than a change of a provider may hold.
const LIFE: Duration = Duration::from_secs(8 * 86_400);

impl Redis {
    /// All signals, and what is known of the limits that follow them.
    ///
    /// # Errors
    /// When Redis does not answer as it should.
    pub async fn signals(&self) -> Result<SignalFields, StoreError> {
        let key = self.route.key(KEY);
        let mut command = Cmd::new();
        command.arg("HGETALL").arg(&key);
        self.ask_signals(&key, &command).await
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
            self.ask_signals::<Value>(&key, command).await?;
        }
        Ok(())
    }

    async fn ask_signals<T: FromRedisValue>(
        &self,
        key: &str,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        self.route.ask((key, "signals"), command).await
    }
}
