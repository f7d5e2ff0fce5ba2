//! Server-sent events: the changed parts of a page, as long as it is open.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt};
use tokio::time::sleep;
use tokio_stream::wrappers::WatchStream;

use super::failure::Failure;
use super::live::{Live, STREAMS_MAX, Update};
use super::visitor::Visitor;
use crate::engine::Phase;
use crate::http::auth::Viewer;
use crate::http::edge::Edge;

/// Time after which a page has to ask again, so that a session that has ended gets no more.
const LENGTH_MAX: Duration = Duration::from_secs(300);

/// Interval of signs of life, by which a connection that is gone shows.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Streams the updates of a page.
pub async fn stream(
    visitor: Visitor,
    State(edge): State<Edge>,
    Path(topic): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    visitor.authorized::<Viewer>()?;
    let part: fn(Update) -> Arc<str> = match topic.as_str() {
        "overview" => |update| update.overview,
        "providers" => |update| update.providers,
        _ => return Err(Failure::new(StatusCode::NOT_FOUND, "no such stream")),
    };
    let live: &Live = match &edge.api.dashboard {
        Some(dashboard) => &dashboard.live,
        None => return Err(Failure::new(StatusCode::NOT_FOUND, "the dashboard is off")),
    };
    let subscription = live.subscribe().ok_or_else(|| {
        let reason = format!("{STREAMS_MAX} pages are open already");
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, reason)
    })?;
    let mut phase = edge.readiness.watch();
    let end = async move {
        let draining = phase.wait_for(|phase| *phase == Phase::Draining);
        tokio::select! {
            _ = draining => {}
            () = sleep(LENGTH_MAX) => {}
        }
    };
    let updates = WatchStream::new(subscription.updates.clone());
    let events = updates.filter_map(move |update| {
        // The page keeps its place as long as its stream.
        let _place = &subscription;
        let event = update.map(part).and_then(|html| Event::default().json_data(&*html).ok());
        std::future::ready(event.map(Ok))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(events.take_until(end)).keep_alive(keep_alive))
}
