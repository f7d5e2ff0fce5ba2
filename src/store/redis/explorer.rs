//! Finds the masters of a Redis Cluster, and keeps its map up to date.
//!
//! A task asks the cluster for its slots: from time to time, more often while a master is unavailable, and at once when
//! a master reports that a slot has moved.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{join_all, select_ok};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time;

use super::cluster_slots::{Address, SlotRange, most, question, read};
use super::connect::{ConnectError, connect};
use super::connection::Connector;
use super::map_change::MapChange;
use super::nodes::{Map, Master, Nodes};
use super::settings::{Login, RedisSettings, RedisSettingsError};
use super::slot::tag_in;
use crate::store::Health;

/// Interval of the questions while all masters are healthy, and while one isn't.
const WELL_INTERVAL: Duration = Duration::from_secs(10);
const ILL_INTERVAL: Duration = Duration::from_millis(500);

/// Minimum time between two questions, however many slots move.
const PAUSE: Duration = Duration::from_millis(50);

/// Keeps the map and the tasks of the masters: the task of a cluster.
#[derive(Debug)]
pub struct Explorer {
    settings: RedisSettings,
    seeds: Vec<Address>,
    nodes: Arc<Nodes>,
}

impl Explorer {
    /// An explorer that is not running yet, and its nodes.
    pub fn try_new(settings: &RedisSettings) -> Result<(Self, Arc<Nodes>), RedisSettingsError> {
        settings.check()?;
        let nodes = Arc::new(Nodes::new(settings.key_prefix.clone()));
        let seeds = settings.seeds()?;
        Ok((Self { settings: settings.clone(), seeds, nodes: nodes.clone() }, nodes))
    }

    /// Keeps the map until `shutdown`.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut links = JoinSet::new();
        tokio::select! {
            () = shutdown => {}
            () = self.keep_up(&mut links) => {}
        }
        // The links end when their masters are dropped.
        self.nodes.replace(Map::default());
        links.join_all().await;
    }

    async fn keep_up(&self, links: &mut JoinSet<()>) {
        let mut last_reason = String::new();
        loop {
            let reason = match self.ask().await.and_then(|slots| self.redraw(&slots, links)) {
                Ok(()) => String::new(),
                Err(error) => error.to_string(),
            };
            if reason != last_reason && !reason.is_empty() {
                tracing::warn!(reason, "Redis Cluster topology unavailable; retrying");
            }
            last_reason = reason;
            while links.try_join_next().is_some() {}
            let is_well = self.nodes.health() == Health::Healthy && last_reason.is_empty();
            let interval = if is_well { WELL_INTERVAL } else { ILL_INTERVAL };
            time::sleep(PAUSE).await;
            // Whatever ended the wait, a question is due.
            let _ = time::timeout(interval, self.nodes.doubted()).await;
        }
    }

    /// The slots of the cluster: the most common answer of healthy masters, or else the first answer of any node.
    async fn ask(&self) -> Result<Vec<SlotRange>, ConnectError> {
        let map = self.nodes.map();
        let well = map.masters.iter().filter(|master| master.link.breaker().is_healthy());
        let answers = join_all(well.map(|master| self.ask_master(master))).await;
        // Right after a change of slots some masters may not know it; the most common answer is used.
        if let Some(slots) = most(answers.into_iter().flatten().collect()) {
            return Ok(slots);
        }
        let known = map.masters.iter().map(|master| master.address.clone());
        let all = known.chain(self.seeds.iter().cloned());
        let asked = all.map(|address| Box::pin(self.ask_anew(address)));
        select_ok(asked).await.map(|(slots, _)| slots)
    }

    async fn ask_master(&self, master: &Master) -> Option<Vec<SlotRange>> {
        let question = question();
        let answer = master.link.send(&question);
        let answer = time::timeout(self.settings.connect_timeout, answer).await.ok()?.ok()?;
        read(answer.extract_error().ok()?, &master.address.0)
    }

    async fn ask_anew(&self, (host, port): Address) -> Result<Vec<SlotRange>, ConnectError> {
        let asking = async {
            let settings = self.settings.at(&host, port)?;
            let mut connected = connect(&settings, Login::Charges).await?;
            let answer =
                connected.connection.send_packed_command(&question()).await?.extract_error()?;
            read(answer, &host).ok_or(ConnectError::NoSlots)
        };
        let late = |_| ConnectError::Late { timeout: self.settings.connect_timeout };
        time::timeout(self.settings.connect_timeout, asking).await.map_err(late).flatten()
    }

    /// Applies a map. Masters that stay keep their links.
    fn redraw(&self, slots: &[SlotRange], links: &mut JoinSet<()>) -> Result<(), ConnectError> {
        let old = self.nodes.map();
        let addresses: Vec<Address> =
            old.masters.iter().map(|master| master.address.clone()).collect();
        let change = MapChange::between(&addresses, slots);
        let masters = change.masters.iter().map(|next| match next.old {
            Some(index) => Ok(old.masters[index].clone()),
            None => self.begin(&next.address, links),
        });
        let masters: Vec<Master> = masters.collect::<Result<_, _>>()?;
        for (master, next) in masters.iter().zip(&change.masters) {
            if let Some(tag) = tag_in(&next.ranges) {
                master.link.membership().set_tag(tag);
            }
        }
        for index in change.gone {
            let link = &old.masters[index].link;
            self.nodes.bury(link);
            tracing::info!(
                store.address = link.address(),
                "node removed: it has no slots any more"
            );
        }
        self.nodes.replace(Map { masters, slots: change.slots });
        Ok(())
    }

    /// A new master's link, and its task, which ends with the master.
    fn begin(&self, address: &Address, links: &mut JoinSet<()>) -> Result<Master, ConnectError> {
        let settings = self.settings.at(&address.0, address.1)?;
        let nodes: Weak<Nodes> = Arc::downgrade(&self.nodes);
        let (connector, link) = Connector::try_new(&settings, nodes)?;
        let (life, mut ends) = watch::channel(());
        links.spawn(connector.run(async move { drop(ends.changed().await) }));
        Ok(Master { address: address.clone(), link, _life: Arc::new(life) })
    }
}
