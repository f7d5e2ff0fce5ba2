//! The way to the server that has a key: one server, or the masters of a cluster.

use std::sync::Arc;

use super::link::Link;
use super::nodes::Nodes;
use super::slot::slot_of;

/// The way to the server that has a key.
#[derive(Clone, Debug)]
pub enum Route {
    One(Arc<Link>),
    Cluster(Arc<Nodes>),
}

impl Route {
    /// The link to the server that has a slot; None if that is not known.
    pub fn link(&self, slot: u16) -> Option<Arc<Link>> {
        match self {
            Self::One(link) => Some(link.clone()),
            Self::Cluster(nodes) => nodes.link(slot),
        }
    }

    /// The slot of a key; 0 where there are no slots.
    pub fn slot(&self, key: &str) -> u16 {
        match self {
            Self::One(_) => 0,
            Self::Cluster(_) => slot_of(key),
        }
    }
}
