//! Sends what is due, for each channel at its own pace: a slow receiver has only its own notifications wait.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use http::HeaderName;

use super::event::{CLOUD_EVENT, event};
use super::http::Post;
use super::send_error::SendError;
use super::signature::Secrets;
use super::{chat, mail, retry};
use crate::alerts::book::{Notification, NotificationKind};
use crate::alerts::keeper::Keeper;
use crate::clock::Clock;
use crate::metrics::AlertMetrics;
use crate::policy::{AlertPolicy, AlertReceiver, AlertUrl, HttpReceiver, check_url};

/// Maximum number of attempts of a channel at the same time.
const ATTEMPTS_OF_CHANNEL_MAX: usize = 4;

/// Maximum size of a file of a channel.
const FILE_LEN_MAX: u64 = 1024 * 1024;

const JSON: &str = "application/json";

const SOURCE: &str = "/tollgate";

/// The attempts under way.
#[derive(Debug)]
pub struct Senders {
    clock: Clock,
    metrics: AlertMetrics,
    attempts: FuturesUnordered<BoxFuture<'static, Attempt>>,
    by_channel: BTreeMap<Arc<str>, usize>,
}

/// An attempt that has ended.
#[derive(Debug)]
struct Attempt {
    notification: Notification,
    result: Result<(), SendError>,
}

impl Senders {
    /// No attempts yet.
    pub fn new(clock: Clock, metrics: AlertMetrics) -> Self {
        let (attempts, by_channel) = (FuturesUnordered::new(), BTreeMap::new());
        Self { clock, metrics, attempts, by_channel }
    }

    /// Begins attempts at what is due.
    pub async fn begin(&mut self, keeper: &Keeper, policy: &AlertPolicy) {
        let left = |name: &Arc<str>| {
            let busy = self.by_channel.get(name).copied().unwrap_or_default();
            ATTEMPTS_OF_CHANNEL_MAX.saturating_sub(busy)
        };
        let free: Vec<(&str, usize)> =
            policy.channels.iter().map(|channel| (&*channel.name, left(&channel.name))).collect();
        if free.iter().all(|(_, left)| *left == 0) {
            return;
        }
        let due = keeper.change(|book, now| book.take(&free, now)).await;
        for notification in due {
            let Some(channel) = policy.channel(&notification.channel) else { continue };
            *self.by_channel.entry(channel.name.clone()).or_default() += 1;
            let (receiver, at_s) =
                (channel.receiver.clone(), self.clock.now().timestamp().as_ms() / 1_000);
            let attempt = async move {
                let result = send(&receiver, &notification, at_s).await;
                Attempt { notification, result }
            };
            self.attempts.push(attempt.boxed());
        }
    }

    /// Waits for the end of an attempt, and notes its result in the book. Never returns without attempts.
    pub async fn next(&mut self, keeper: &Keeper) {
        let Some(Attempt { notification, result }) = self.attempts.next().await else {
            return std::future::pending().await;
        };
        let Notification { id, channel, .. } = &notification;
        if let Some(busy) = self.by_channel.get_mut(channel.as_str()) {
            *busy = busy.saturating_sub(1);
        }
        let Err(error) = result else {
            self.metrics.sent(channel);
            return keeper.change(|book, _| book.sent(id)).await;
        };
        let failed = notification.attempts + 1;
        let asked = match error {
            SendError::Status { retry_after, .. } => retry_after,
            _ => None,
        };
        let is_gone = matches!(error, SendError::Gone);
        self.metrics.failed(channel);
        let message = error.to_string();
        let is_dead = keeper
            .change(|book, now| {
                let next = retry::next(failed, asked, now).filter(|_| !is_gone);
                book.failed(id, &message, next);
                next.is_none()
            })
            .await;
        if is_dead {
            self.metrics.dead(channel);
            tracing::error!(channel, notification = id, attempts = failed, %error, "a notification was not sent");
        } else if failed == 1 {
            tracing::warn!(channel, notification = id, %error, "sending a notification failed; it is tried again");
        } else {
            tracing::debug!(channel, notification = id, attempts = failed, %error, "sending a notification failed again");
        }
    }

    /// Whether attempts are under way.
    pub fn are_busy(&self) -> bool {
        !self.attempts.is_empty()
    }
}

/// Sends a notification to its receiver.
async fn send(
    receiver: &AlertReceiver,
    notification: &Notification,
    at_s: u64,
) -> Result<(), SendError> {
    match receiver {
        AlertReceiver::Log => {
            log(notification);
            Ok(())
        }
        AlertReceiver::Webhook { http, secret_file } => {
            let body = event(notification, SOURCE).to_string();
            let mut headers = vec![
                (HeaderName::from_static("webhook-id"), notification.id.clone()),
                (HeaderName::from_static("webhook-timestamp"), at_s.to_string()),
            ];
            if let Some(file) = secret_file {
                let secrets = secrets(file)?;
                let signature = secrets.sign(&notification.id, at_s, body.as_bytes());
                headers.push((HeaderName::from_static("webhook-signature"), signature));
            }
            post(http, (CLOUD_EVENT, headers, body)).await
        }
        AlertReceiver::Slack(http) => {
            post(http, (JSON, Vec::new(), chat::slack(notification).to_string())).await
        }
        AlertReceiver::Discord(http) => {
            post(http, (JSON, Vec::new(), chat::discord(notification).to_string())).await
        }
        AlertReceiver::PagerDuty { http, key_file } => {
            let body = chat::pagerduty(notification, &line(key_file)?).to_string();
            post(http, (JSON, Vec::new(), body)).await
        }
        AlertReceiver::Email(receiver) => {
            let password = receiver.password_file.as_deref().map(line).transpose()?;
            let ca = receiver.ca_file.as_deref().map(read).transpose()?;
            // Boxed, because it is large and rare.
            Box::pin(mail::send(receiver, notification, (password, ca.as_deref()))).await
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
            let text = String::from_utf8(read(file)?).map_err(|_| SendError::Address)?;
            let url = text.trim().to_owned();
            check_url(&url).map_err(|_| SendError::Address)?;
            url
        }
    };
    let ca = http.ca_file.as_deref().map(read).transpose()?;
    let (ca, allow_private) = (ca.as_deref(), http.allow_private);
    // Boxed, because it is large and rare.
    Box::pin(Post { url: &url, content_type, headers, body, ca, allow_private }.send()).await
}

fn secrets(file: &str) -> Result<Secrets, SendError> {
    let text = String::from_utf8_lossy(&read(file)?).into_owned();
    let named = |source| SendError::Secrets { file: file.to_owned(), source };
    Secrets::parse(&text).map_err(named)
}

/// The text of a file without the end of its line.
fn line(file: &str) -> Result<String, SendError> {
    Ok(String::from_utf8_lossy(&read(file)?).trim().to_owned())
}

/// The bytes of a file, read each time so that it may be replaced while the process runs.
fn read(file: &str) -> Result<Vec<u8>, SendError> {
    let mut bytes = Vec::new();
    let read =
        fs::File::open(file).and_then(|opened| opened.take(FILE_LEN_MAX).read_to_end(&mut bytes));
    read.map_err(|source| SendError::File { file: file.to_owned(), source })?;
    Ok(bytes)
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
