//! Sends what is due, for each channel at its own pace: a slow receiver has only its own notifications wait.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, OptionFuture};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use http::HeaderName;
use tokio::select;
use tokio::time::{Sleep, sleep};

use super::event::{CLOUD_EVENT, event};
use super::files::{line, read, secrets};
use super::http::Post;
use super::send_error::SendError;
use super::templated::wording;
use super::{chat, mail, retry};
use crate::alerts::book::{Book, Delivery, Notification, NotificationKind};
use crate::alerts::keeper::Keeper;
use crate::clock::{Clock, Timestamp};
use crate::metrics::AlertMetrics;
use crate::policy::{
    AlertChannel, AlertPolicy, AlertReceiver, AlertTemplates, AlertUrl, HttpReceiver, check_url,
};

/// Maximum number of attempts of a channel at the same time.
const ATTEMPTS_OF_CHANNEL_MAX: usize = 4;

/// Maximum number of notifications of a channel that are taken from the book and not yet sent. So few that all are tried
/// before another sidecar may take them, also if each attempt takes its maximum time.
const TAKEN_OF_CHANNEL_MAX: usize = 16;

/// The pause between two exchanges with the book: it is written as a whole, and results that come meanwhile share a change.
const PAUSE: Duration = Duration::from_millis(250);

const JSON: &str = "application/json";

const SOURCE: &str = "/tollgate";

/// Notifications on their way.
#[derive(Debug)]
pub struct Senders {
    clock: Clock,
    metrics: AlertMetrics,
    attempts: FuturesUnordered<BoxFuture<'static, Attempt>>,
    by_channel: BTreeMap<Arc<str>, Channel>,
    /// Attempts that have ended, and are not yet noted in the book.
    ended: Vec<Attempt>,
    /// Until the next exchange with the book.
    pause: Option<Pin<Box<Sleep>>>,
}

/// What a channel has taken.
#[derive(Debug, Default)]
struct Channel {
    busy: usize,
    waiting: VecDeque<(Delivery, AlertReceiver, AlertTemplates)>,
}

/// An attempt that has ended.
#[derive(Debug)]
struct Attempt {
    delivery: Delivery,
    result: Result<(), SendError>,
}

impl Senders {
    /// Nothing is on its way.
    pub fn new(clock: Clock, metrics: AlertMetrics) -> Self {
        let (attempts, by_channel) = (FuturesUnordered::new(), BTreeMap::new());
        Self { clock, metrics, attempts, by_channel, ended: Vec::new(), pause: None }
    }

    /// Waits until results can be noted in the book. Never returns without attempts.
    pub async fn next(&mut self) {
        while self.are_busy() {
            let pause = OptionFuture::from(self.pause.as_mut());
            let attempt = select! {
                Some(attempt) = self.attempts.next() => attempt,
                _ = pause, if !self.ended.is_empty() => return,
            };
            self.end(attempt);
        }
        std::future::pending::<()>().await;
    }

    /// Notes results in the book, takes what is due, and begins attempts at it: one change of the book for all.
    pub async fn exchange(&mut self, keeper: &Keeper, policy: &AlertPolicy) {
        let ended = mem::take(&mut self.ended);
        let left = |name: &Arc<str>| {
            let taken =
                self.by_channel.get(name).map(|channel| channel.busy + channel.waiting.len());
            TAKEN_OF_CHANNEL_MAX.saturating_sub(taken.unwrap_or_default())
        };
        let free: Vec<(&str, usize)> =
            policy.channels.iter().map(|channel| (&*channel.name, left(&channel.name))).collect();
        let (dead, due) = keeper
            .change(|book, now| {
                let dead: Vec<bool> = ended.iter().map(|attempt| attempt.note(book, now)).collect();
                (dead, book.take(policy, &free, now))
            })
            .await;
        self.pause = Some(Box::pin(sleep(PAUSE)));
        for (attempt, is_dead) in ended.iter().zip(dead) {
            self.tell(attempt, is_dead);
        }
        for delivery in due {
            let Some(channel) = policy.channel(&delivery.channel) else { continue };
            let taken = self.by_channel.entry(channel.name.clone()).or_default();
            let AlertChannel { receiver, templates, .. } = channel;
            taken.waiting.push_back((delivery, receiver.clone(), templates.clone()));
        }
        self.begin();
    }

    /// Whether notifications are on their way.
    pub fn are_busy(&self) -> bool {
        !self.attempts.is_empty() || !self.ended.is_empty()
    }

    /// Begins attempts at what waits.
    fn begin(&mut self) {
        let at_s = self.clock.now().timestamp().as_ms() / 1_000;
        for channel in self.by_channel.values_mut() {
            while channel.busy < ATTEMPTS_OF_CHANNEL_MAX
                && let Some((delivery, receiver, templates)) = channel.waiting.pop_front()
            {
                channel.busy += 1;
                let attempt = async move {
                    let result = send((&receiver, &templates), &delivery, at_s).await;
                    Attempt { delivery, result }
                };
                self.attempts.push(attempt.boxed());
            }
        }
    }

    fn end(&mut self, attempt: Attempt) {
        if let Some(channel) = self.by_channel.get_mut(attempt.delivery.channel.as_str()) {
            channel.busy = channel.busy.saturating_sub(1);
        }
        self.ended.push(attempt);
        self.begin();
    }

    /// Counts and logs a result.
    fn tell(&self, Attempt { delivery, result }: &Attempt, is_dead: bool) {
        let Delivery { id, channel, notifications, .. } = delivery;
        let count = u64::try_from(notifications.len()).unwrap_or(u64::MAX);
        let Err(error) = result else { return self.metrics.sent(channel, count) };
        let failed = delivery.attempts() + 1;
        self.metrics.failed(channel);
        if is_dead {
            self.metrics.dead(channel, count);
            tracing::error!(channel, notification = id, attempts = failed, %error, "a notification was not sent");
        } else if failed == 1 {
            tracing::warn!(channel, notification = id, %error, "sending a notification failed; it is tried again");
        } else {
            tracing::debug!(channel, notification = id, attempts = failed, %error, "sending a notification failed again");
        }
    }
}

impl Attempt {
    /// Notes the result in the book; true if it is not tried again.
    fn note(&self, book: &mut Book, now: Timestamp) -> bool {
        let Delivery { id, notifications, .. } = &self.delivery;
        let Err(error) = &self.result else {
            book.sent(id);
            return false;
        };
        let asked = match error {
            SendError::Status { retry_after, .. } => *retry_after,
            _ => None,
        };
        // A person waits for the result of a test.
        let is_test = notifications.iter().any(|one| one.kind == NotificationKind::Test);
        let is_last = matches!(error, SendError::Gone) || is_test;
        let next = retry::next(self.delivery.attempts() + 1, asked, now).filter(|_| !is_last);
        book.failed(id, &error.to_string(), next);
        next.is_none()
    }
}

/// Sends a notification, or those of a group, to their receiver.
async fn send(
    (receiver, templates): (&AlertReceiver, &AlertTemplates),
    delivery: &Delivery,
    at_s: u64,
) -> Result<(), SendError> {
    let wording = &wording(templates, delivery);
    match receiver {
        AlertReceiver::Log => {
            delivery.notifications.iter().for_each(log);
            Ok(())
        }
        AlertReceiver::Webhook { http, secret_file } => {
            let body = event(delivery, wording, SOURCE).to_string();
            let mut headers = vec![
                (HeaderName::from_static("webhook-id"), delivery.id.clone()),
                (HeaderName::from_static("webhook-timestamp"), at_s.to_string()),
            ];
            if let Some(file) = secret_file {
                let secrets = secrets(file)?;
                let signature = secrets.sign(&delivery.id, at_s, body.as_bytes());
                headers.push((HeaderName::from_static("webhook-signature"), signature));
            }
            post(http, (CLOUD_EVENT, headers, body)).await
        }
        AlertReceiver::Slack(http) => {
            post(http, (JSON, Vec::new(), chat::slack(delivery, wording).to_string())).await
        }
        AlertReceiver::Discord(http) => {
            post(http, (JSON, Vec::new(), chat::discord(delivery, wording).to_string())).await
        }
        AlertReceiver::PagerDuty { http, key_file } => {
            let key = line(key_file)?;
            // One, because this type has no groups. After an edit of its type it may be a message of several.
            for notification in &delivery.notifications {
                let body = chat::pagerduty(notification, wording, &key).to_string();
                post(http, (JSON, Vec::new(), body)).await?;
            }
            Ok(())
        }
        AlertReceiver::Email(receiver) => {
            let password = receiver.password_file.as_deref().map(line).transpose()?;
            let ca = receiver.ca_file.as_deref().map(read).transpose()?;
            // Boxed, because it is large and rare.
            Box::pin(mail::send(receiver, (delivery, wording), (password, ca.as_deref()))).await
        }
    }
}

async fn post(
    http: &HttpReceiver,
    (content_type, headers, body): (&'static str, Vec<(HeaderName, String)>, String),
) -> Result<(), SendError> {
    let url = match &http.url {
        AlertUrl::Text(url) => url.to_string(),
        AlertUrl::File(file) => {
            let url = line(file)?;
            check_url(&url).map_err(|_| SendError::Address)?;
            url
        }
    };
    let ca = http.ca_file.as_deref().map(read).transpose()?;
    let (ca, allow_private) = (ca.as_deref(), http.allow_private);
    // Boxed, because it is large and rare.
    Box::pin(Post { url: &url, content_type, headers, body, ca, allow_private }.send()).await
}

fn log(notification: &Notification) {
    let alert = &notification.alert;
    let (rule, severity, title) = (&alert.rule, &alert.severity, alert.title());
    let summary = alert.summary.as_deref();
    match (notification.kind, severity.as_str()) {
        (NotificationKind::Resolved, _) => {
            tracing::info!(alert = rule, severity, summary, "alert resolved: {title}");
        }
        (_, "error" | "critical") => {
            tracing::error!(alert = rule, severity, summary, "alert: {title}");
        }
        (_, "warning") => tracing::warn!(alert = rule, severity, summary, "alert: {title}"),
        _ => tracing::info!(alert = rule, severity, summary, "alert: {title}"),
    }
}
