//! The link for a key: to one server, or to a master of a cluster.

use std::sync::Arc;
use std::time::Duration;

use ::redis::{Cmd, FromRedisValue};
use tokio::time;

use super::fault;
use super::key_prefix::KeyPrefix;
use super::link::Link;
use super::nodes::Nodes;
use super::slot::slot_of;
use crate::store::StoreError;

/// Timeout of a command that no decision waits for.
const PATIENCE: Duration = Duration::from_secs(2);

/// The links to one server, or to the masters of a cluster.
#[derive(Clone, Debug)]
pub enum Route {
    One(Arc<Link>),
    Cluster(Arc<Nodes>),
}

impl Route {
    /// The link to the server with a slot; None if it is unknown.
    pub fn link(&self, slot: u16) -> Option<Arc<Link>> {
        match self {
            Self::One(link) => Some(link.clone()),
            Self::Cluster(nodes) => nodes.link(slot),
        }
    }

    /// The text before all keys.
    pub fn prefix(&self) -> &KeyPrefix {
        match self {
            Self::One(link) => &link.settings().key_prefix,
            Self::Cluster(nodes) => nodes.prefix(),
        }
    }

    /// The name of a key in Redis.
    pub fn key(&self, key: &str) -> String {
        self.prefix().on(key).into_owned()
    }

    /// The answer to a command about a key, by its name in Redis, of a purpose. No decision waits for it.
    ///
    /// # Errors
    /// If Redis does not answer as expected; what the command does may have been done.
    pub async fn ask<T: FromRedisValue>(
        &self,
        (key, purpose): (&str, &str),
        command: &Cmd,
    ) -> Result<T, StoreError> {
        let link = self.link(self.slot(key));
        let link = link.ok_or_else(|| StoreError::unexplored(&format!("the slot of {purpose}")))?;
        let late = |_| StoreError::Late { deadline: PATIENCE };
        let answer = time::timeout(PATIENCE, link.send(command)).await.map_err(late)??;
        let answer = answer.extract_error().map_err(|error| {
            if fault::is_of_slot(&error) {
                link.doubt_nodes();
            }
            fault::refused(&error)
        })?;
        T::from_redis_value(answer)
            .map_err(|error| StoreError::Garbled { reason: error.to_string() })
    }

    /// The slot of a key by its name in Redis; 0 without slots.
    pub fn slot(&self, key: &str) -> u16 {
        match self {
            Self::One(_) => 0,
            Self::Cluster(_) => slot_of(key),
        }
    }
}
