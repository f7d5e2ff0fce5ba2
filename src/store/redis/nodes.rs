//! The masters of a Redis Cluster, and which of them has which slot.
//!
//! Each master has a link of its own, with its own task, breaker and heartbeat: one that is out is left alone, and the
//! others go on. A task asks the cluster where its slots are: now and then, soon again while a master is out, and at once
//! when one said that a slot has moved. Meanwhile requests go where that master sent them.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::redis::Cmd;
use ::redis::FromRedisValue;
use ::redis::Value;
use arc_swap::ArcSwap;
use futures_util::future::join_all;
use futures_util::future::select_ok;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time;

use super::connect::ConnectError;
use super::connect::connect;
use super::connection::Connector;
use super::connection::Link;
use super::settings::Login;
use super::settings::RedisSettings;
use super::settings::RedisSettingsError;
use super::slot::SLOTS;
use super::slot::tag_in;
use crate::store::Health;

/// How often the cluster is asked for its nodes while all is well, and while something isn't.
const WELL_INTERVAL: Duration = Duration::from_secs(10);
const ILL_INTERVAL: Duration = Duration::from_millis(500);

/// The least time from one such question to the next, however many slots move.
const PAUSE: Duration = Duration::from_millis(50);

/// Where a slot is that no master has.
const NOWHERE: u16 = u16::MAX;

/// Host and port.
type Address = (String, u16);

/// The masters of a cluster.
#[derive(Debug)]
pub struct Nodes {
    map: ArcSwap<Map>,
    /// The map may be wrong.
    doubt: Notify,
    /// What is counted of masters that have gone.
    gone: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    breaks: AtomicU64,
    reconnects: AtomicU64,
}

#[derive(Clone, Debug)]
struct Map {
    masters: Vec<Master>,
    /// Of each slot, the place of its master.
    slots: Vec<u16>,
}

#[derive(Clone, Debug)]
struct Master {
    address: Address,
    link: Arc<Link>,
    /// Ends its task when it is dropped.
    _life: Arc<watch::Sender<()>>,
}

/// Slots, and the master that has them, as the cluster tells it.
type Told = (RangeInclusive<u16>, Address);

impl Default for Map {
    fn default() -> Self {
        Self { masters: Vec::new(), slots: vec![NOWHERE; SLOTS.into()] }
    }
}

impl Nodes {
    fn new() -> Self {
        Self { map: ArcSwap::default(), doubt: Notify::new(), gone: Counts::default() }
    }

    /// The link to the master that has a slot, as far as is known.
    pub fn link(&self, slot: u16) -> Option<Arc<Link>> {
        let map = self.map.load();
        let place = usize::from(map.slots[usize::from(slot)]);
        map.masters.get(place).map(|master| master.link.clone())
    }

    /// The link to a master that another one named as `host:port`; without a host it is the one that said so.
    pub fn link_at(&self, named: &str, by: &Link) -> Option<Arc<Link>> {
        let (host, port) = named.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let map = self.map.load();
        let by = map.masters.iter().find(|master| std::ptr::eq(&*master.link, by));
        let host = if host.is_empty() { &by?.address.0 } else { host };
        let is_it =
            |master: &&Master| (master.address.0.as_str(), master.address.1) == (host, port);
        map.masters.iter().find(is_it).map(|master| master.link.clone())
    }

    /// Has the cluster be asked where its slots are.
    pub fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// That of the master that is worst; broken if there is none.
    pub fn health(&self) -> Health {
        let map = self.map.load();
        let all = || map.masters.iter().map(|master| master.link.breaker().health());
        let worst =
            [Health::Broken, Health::Probing].into_iter().find(|bad| all().any(|one| one == *bad));
        match map.masters.is_empty() {
            true => Health::Broken,
            false => worst.unwrap_or(Health::Healthy),
        }
    }

    /// Whether any master is asked.
    pub fn is_any_healthy(&self) -> bool {
        self.map.load().masters.iter().any(|master| master.link.breaker().is_healthy())
    }

    /// How many sidecars the masters know of; the most that one does.
    pub fn sidecars(&self) -> u32 {
        let map = self.map.load();
        map.masters.iter().map(|master| master.link.membership().sidecars()).max().unwrap_or(0)
    }

    /// How often masters broke, since the start.
    pub fn breaks(&self) -> u64 {
        let map = self.map.load();
        let now: u64 = map.masters.iter().map(|master| master.link.breaker().breaks()).sum();
        now + self.gone.breaks.load(Ordering::Relaxed)
    }

    /// How often connections were made anew, since the start.
    pub fn reconnects(&self) -> u64 {
        let map = self.map.load();
        let now: u64 = map.masters.iter().map(|master| master.link.reconnects()).sum();
        now + self.gone.reconnects.load(Ordering::Relaxed)
    }

    fn bury(&self, link: &Link) {
        self.gone.breaks.fetch_add(link.breaker().breaks(), Ordering::Relaxed);
        self.gone.reconnects.fetch_add(link.reconnects(), Ordering::Relaxed);
    }
}

/// Keeps the map, and the tasks of the masters: the task behind a cluster.
#[derive(Debug)]
pub struct Explorer {
    settings: RedisSettings,
    seeds: Vec<Address>,
    nodes: Arc<Nodes>,
}

impl Explorer {
    /// An explorer that has not begun, and the nodes that it will find.
    pub fn try_new(settings: &RedisSettings) -> Result<(Self, Arc<Nodes>), RedisSettingsError> {
        settings.check()?;
        let nodes = Arc::new(Nodes::new());
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
        // The links end as their masters are dropped.
        self.nodes.map.store(Arc::default());
        links.join_all().await;
    }

    async fn keep_up(&self, links: &mut JoinSet<()>) {
        let mut last_reason = String::new();
        loop {
            let reason = match self.ask().await.and_then(|told| self.draw(&told, links)) {
                Ok(()) => String::new(),
                Err(error) => error.to_string(),
            };
            if reason != last_reason && !reason.is_empty() {
                tracing::warn!(reason, "no node of the Redis Cluster tells where its slots are");
            }
            last_reason = reason;
            while links.try_join_next().is_some() {}
            let is_well = self.nodes.health() == Health::Healthy && last_reason.is_empty();
            let interval = if is_well { WELL_INTERVAL } else { ILL_INTERVAL };
            time::sleep(PAUSE).await;
            // Whatever ends the wait, it is time to ask again.
            let _ = time::timeout(interval, self.nodes.doubt.notified()).await;
        }
    }

    /// What the cluster says of its slots: the first answer of a master that is well, or else of any node.
    async fn ask(&self) -> Result<Vec<Told>, ConnectError> {
        let map = self.nodes.map.load_full();
        let well = map.masters.iter().filter(|master| master.link.breaker().is_healthy());
        let told = join_all(well.map(|master| self.ask_master(master))).await;
        // Those who have just lost or won slots may not have heard of each other; the most say what is.
        if let Some(told) = most(told.into_iter().flatten().collect()) {
            return Ok(told);
        }
        let known = map.masters.iter().map(|master| master.address.clone());
        let all = known.chain(self.seeds.iter().cloned());
        let asked = all.map(|address| Box::pin(self.ask_anew(address)));
        select_ok(asked).await.map(|(told, _)| told)
    }

    async fn ask_master(&self, master: &Master) -> Option<Vec<Told>> {
        let question = question();
        let answer = master.link.send(&question);
        let answer = time::timeout(self.settings.connect_timeout, answer).await.ok()?.ok()?;
        read(answer.extract_error().ok()?, &master.address.0)
    }

    async fn ask_anew(&self, (host, port): Address) -> Result<Vec<Told>, ConnectError> {
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

    /// Puts a map in force. Masters that have stayed keep their links.
    fn draw(&self, told: &[Told], links: &mut JoinSet<()>) -> Result<(), ConnectError> {
        let old = self.nodes.map.load_full();
        let mut map = Map::default();
        for (range, address) in told {
            let known = map.masters.iter().position(|master| master.address == *address);
            let place = match known {
                Some(place) => place,
                None => {
                    let stays = old.masters.iter().find(|master| master.address == *address);
                    let master = match stays {
                        Some(master) => master.clone(),
                        None => self.begin(address, links)?,
                    };
                    map.masters.push(master);
                    map.masters.len() - 1
                }
            };
            let place = u16::try_from(place).unwrap_or(NOWHERE);
            range.clone().for_each(|slot| map.slots[usize::from(slot % SLOTS)] = place);
        }
        for master in &map.masters {
            let of_master = told.iter().filter(|(_, address)| *address == master.address);
            let ranges: Vec<_> = of_master.map(|(range, _)| range.clone()).collect();
            if let Some(tag) = tag_in(&ranges) {
                master.link.membership().set_tag(tag);
            }
        }
        let stays = |master: &Master| map.masters.iter().any(|new| new.address == master.address);
        for master in old.masters.iter().filter(|master| !stays(master)) {
            self.nodes.bury(&master.link);
            tracing::info!(
                store.address = master.link.address(),
                "this node has no slots any more"
            );
        }
        self.nodes.map.store(Arc::new(map));
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

fn question() -> Cmd {
    let mut command = Cmd::new();
    command.arg("CLUSTER").arg("SLOTS");
    command
}

/// The answer that most gave.
fn most(mut told: Vec<Vec<Told>>) -> Option<Vec<Told>> {
    told.iter_mut().for_each(|told| told.sort_by_key(|(range, _)| *range.start()));
    let votes = |one: &Vec<Told>| told.iter().filter(|other| *other == one).count();
    told.iter().max_by_key(|one| votes(one)).cloned()
}

/// What `CLUSTER SLOTS` answered to one who asked `host`; None if it told of no slots, or makes no sense.
fn read(answer: Value, host: &str) -> Option<Vec<Told>> {
    let ranges = Vec::<Vec<Value>>::from_redis_value(answer).ok()?;
    let told = ranges.into_iter().map(|range| {
        let mut parts = range.into_iter();
        let mut slot = || number(parts.next()?).filter(|slot| *slot < SLOTS);
        let slots = slot()?..=slot()?;
        let mut master = Vec::<Value>::from_redis_value(parts.next()?).ok()?.into_iter();
        let named = Option::<String>::from_redis_value(master.next()?).ok()?;
        // A node that doesn't know by what name it is called says nothing, or `?`.
        let named = named.filter(|named| !named.is_empty() && named != "?");
        let port = number(master.next()?)?;
        Some((slots, (named.unwrap_or_else(|| host.to_owned()), port)))
    });
    told.collect::<Option<Vec<Told>>>().filter(|told| !told.is_empty())
}

/// A number, if it is in range: the client library cuts it.
fn number(value: Value) -> Option<u16> {
    i64::from_redis_value(value).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, master: Vec<Value>) -> Value {
        Value::Array(vec![Value::Int(first), Value::Int(last), Value::Array(master)])
    }

    #[test]
    fn the_map_is_read_whatever_nodes_are_called() {
        let answer = Value::Array(vec![
            range(0, 5, vec![text("10.0.0.7"), Value::Int(7000), text("id")]),
            range(6, 6, vec![text(""), Value::Int(7001)]),
            range(7, 8, vec![Value::Nil, Value::Int(7002)]),
            range(9, 9, vec![text("?"), Value::Int(7003)]),
        ]);
        let address = |host: &str, port| (host.to_owned(), port);
        let expected = vec![
            (0..=5, address("10.0.0.7", 7000)),
            (6..=6, address("asked", 7001)),
            (7..=8, address("asked", 7002)),
            (9..=9, address("asked", 7003)),
        ];
        assert_eq!(read(answer, "asked"), Some(expected));
    }

    #[test]
    fn what_is_no_map_is_none() {
        for answer in [
            Value::Nil,
            Value::Array(Vec::new()),
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![Value::Array(vec![Value::Int(1), Value::Int(2)])]),
            Value::Array(vec![range(0, 70_000, vec![text("a"), Value::Int(1)])]),
            Value::Array(vec![range(0, 1, vec![text("a")])]),
            Value::Array(vec![range(0, 1, vec![text("a"), Value::Int(70_000)])]),
        ] {
            assert_eq!(read(answer.clone(), "asked"), None, "{answer:?}");
        }
    }

    #[test]
    fn what_most_say_is_taken() {
        let told = |port| vec![(0..=5, ("a".to_owned(), port))];
        assert_eq!(most(vec![told(1), told(2), told(2)]), Some(told(2)));
        assert_eq!(most(Vec::new()), None);
    }
}
