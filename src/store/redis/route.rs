//! The link for a key: to one server, or to a master of a cluster.

use std::sync::Arc;

use super::key_prefix::KeyPrefix;
use super::link::Link;
use super::nodes::Nodes;
use super::slot::slot_of;

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

    /// The slot of a key by its name in Redis; 0 without slots.
    pub fn slot(&self, key: &str) -> u16 {
        match self {
            Self::One(_) => 0,
            Self::Cluster(_) => slot_of(key),
        }
    }
}
