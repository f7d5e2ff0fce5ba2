//! Reads the process twice a second while pages are open, and updates all of them.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio::{pin, select};

use super::live::{Live, Update};
use super::overview::Overview;
use super::rates::{CountsAt, Recent};
use super::view;
use crate::http::edge::Edge;

/// How often the process is read.
const INTERVAL: Duration = Duration::from_millis(500);

/// Reads until `shutdown`.
pub async fn run(edge: &Edge, live: &Live, shutdown: impl Future<Output = ()>) {
    pin!(shutdown);
    loop {
        select! {
            () = &mut shutdown => return,
            () = live.wanted() => {}
        }
        select! {
            () = &mut shutdown => return,
            () = update(edge, live) => {}
        }
    }
}

/// Updates the open pages until the last one is closed.
async fn update(edge: &Edge, live: &Live) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut recent = Recent::default();
    while live.is_wanted() {
        ticks.tick().await;
        recent.push(CountsAt::read(&edge.metrics, edge.engine.now()));
        let overview = Overview::read(edge, recent.rates()).await;
        let html = view::overview::live(&overview).into_string();
        let providers = view::providers::live(&overview.providers, overview.now_ms).into_string();
        live.publish(Some(Update { overview: html.into(), providers: providers.into() }));
    }
    live.publish(None);
}
