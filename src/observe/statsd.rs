//! Sends the metrics of envoyproxy/ratelimit by statsd or DogStatsD, under its names.
//!
//! Requests only add to counters. A task reads them at an interval and sends what was added since, one line a counter,
//! several lines a packet. If the receiver is unavailable, the sums are sent later; UDP does not tell.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cadence::prelude::*;
use cadence::{MetricSink, StatsdClient};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio::{pin, select};

use crate::lock::lock;
use crate::metrics::{LatencyCounts, Metrics, ServiceCounts, StatCounts, StatKey};

/// The maximum size of a packet of UDP: below the usual MTU.
const PACKET_LEN_MAX: usize = 1_432;

/// The maximum time of one transmission.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Where and how metrics are sent.
#[derive(Clone, Debug)]
pub struct StatsdSettings {
    pub host: String,
    pub port: u16,
    /// TCP instead of UDP.
    pub over_tcp: bool,
    pub interval: Duration,
    /// Names and values.
    pub tags: Vec<(String, String)>,
    /// In the format of DogStatsD.
    pub dog: bool,
    /// With it, rules are named by tags.
    pub rule_tags: bool,
}

/// Sends metrics.
#[derive(Debug)]
pub struct Statsd {
    settings: StatsdSettings,
    metrics: Arc<Metrics>,
    sent: Sent,
    /// The receiver was available last time.
    is_available: bool,
}

/// What was read, or sent before.
#[derive(Clone, Debug, Default)]
struct Sent {
    rules: BTreeMap<StatKey, StatCounts>,
    service: ServiceCounts,
    times: LatencyCounts,
}

/// Collects the lines of one transmission.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl MetricSink for Lines {
    fn emit(&self, metric: &str) -> io::Result<usize> {
        lock(&self.0).push(metric.to_owned());
        Ok(metric.len())
    }
}

/// Writes lines with the tags of all metrics.
struct Writer<'s> {
    settings: &'s StatsdSettings,
    lines: Lines,
    client: StatsdClient,
    /// At the end of all names.
    suffix: String,
}

impl<'s> Writer<'s> {
    fn new(settings: &'s StatsdSettings) -> Self {
        let lines = Lines::default();
        let mut client = StatsdClient::builder("", lines.clone());
        let mut suffix = String::new();
        for (name, value) in &settings.tags {
            match settings.dog {
                true => client = client.with_tag(name, value),
                // As the reference writes them.
                false => suffix.push_str(&format!(".__{name}={value}")),
            }
        }
        Self { settings, lines, client: client.build(), suffix }
    }

    /// A counter to which something was added.
    fn count(&self, name: &str, added: u64, tags: &[(&str, &str)]) {
        if added == 0 {
            return;
        }
        let name = format!("{name}{}", self.suffix);
        let mut metric = self.client.count_with_tags(&name, added);
        for (name, value) in tags {
            metric = metric.with_tag(name, value);
        }
        // Lines are collected in memory, which can't fail.
        metric.try_send().ok();
    }

    fn rule(&self, key: &StatKey, added: [(&'static str, u64); StatCounts::LEN]) {
        let is_tagged = self.settings.dog && self.settings.rule_tags;
        for (field, added) in added {
            if !is_tagged {
                let name = format!("ratelimit.service.rate_limit.{}.{field}", key.as_str());
                self.count(&name, added, &[]);
                continue;
            }
            let (domain, key1, key2) = key.labels();
            let tags = [("domain", Some(domain)), ("key1", key1), ("key2", key2)];
            let tags: Vec<(&str, &str)> =
                tags.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            self.count(&format!("ratelimit.service.rate_limit.{field}"), added, &tags);
        }
    }

    /// Times of several requests: one line with the number of them as the sampling rate.
    fn times(&self, times: &LatencyCounts) {
        let name = format!("ratelimit_server.ShouldRateLimit.response_time{}", self.suffix);
        for (bound, count) in times.buckets().filter(|(_, count)| *count != 0) {
            let ms = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
            let metric = self.client.time_with_tags(&name, ms);
            metric.with_sampling_rate(1.0 / count as f64).try_send().ok();
        }
    }

    fn finish(self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.lines.0))
    }
}

impl Statsd {
    /// Nothing is sent yet.
    pub fn new(settings: StatsdSettings, metrics: Arc<Metrics>) -> Self {
        Self { settings, metrics, sent: Sent::default(), is_available: true }
    }

    /// Sends at intervals, and once more at the shutdown.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut ticks = interval(self.settings.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pin!(shutdown);
        loop {
            let is_over = select! {
                () = &mut shutdown => true,
                _ = ticks.tick() => false,
            };
            self.flush().await;
            if is_over {
                return;
            }
        }
    }

    async fn flush(&mut self) {
        let read = Sent {
            rules: self.metrics.reference.totals(),
            service: self.metrics.service_counts(),
            times: self.metrics.check_duration.counts(),
        };
        let lines = self.lines(&read);
        let sending = timeout(SEND_TIMEOUT, send(&self.settings, &lines)).await;
        let result = sending.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let StatsdSettings { host, port, .. } = &self.settings;
        match result {
            Ok(()) => {
                self.sent = read;
                if !self.is_available {
                    tracing::info!(host, port, "statsd is available");
                }
                self.is_available = true;
            }
            Err(error) => {
                if self.is_available {
                    tracing::warn!(host, port, %error, "statsd is unavailable; its metrics are sent later");
                }
                self.is_available = false;
            }
        }
    }

    /// What was added since the last transmission.
    fn lines(&self, read: &Sent) -> Vec<String> {
        let writer = Writer::new(&self.settings);
        for (key, counts) in &read.rules {
            let before = self.sent.rules.get(key).copied().unwrap_or_default().fields();
            let mut added = counts.fields();
            for ((_, now), (_, before)) in added.iter_mut().zip(before) {
                // A value that was among the busiest before, and is again, begins at zero.
                *now = now.checked_sub(before).unwrap_or(*now);
            }
            writer.rule(key, added);
        }
        let before = self.sent.service.fields();
        for ((name, now), (_, before)) in read.service.fields().into_iter().zip(before) {
            writer.count(name, now.saturating_sub(before), &[]);
        }
        writer.times(&read.times.since(&self.sent.times));
        writer.finish()
    }
}

/// Sends lines. The name is resolved each time, since addresses change.
async fn send(settings: &StatsdSettings, lines: &[String]) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let target = (settings.host.as_str(), settings.port);
    if settings.over_tcp {
        let mut stream = TcpStream::connect(target).await?;
        let mut text = lines.join("\n");
        text.push('\n');
        stream.write_all(text.as_bytes()).await?;
        return stream.shutdown().await;
    }
    let address = lookup_host(target).await?.next().ok_or(io::ErrorKind::NotFound)?;
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    for packet in packets(lines) {
        socket.send(packet.as_bytes()).await?;
    }
    Ok(())
}

/// The lines in packets. A line that is longer than a packet has one of its own.
fn packets(lines: &[String]) -> Vec<String> {
    let mut packets: Vec<String> = Vec::new();
    for line in lines {
        match packets.last_mut() {
            Some(packet) if packet.len() + 1 + line.len() <= PACKET_LEN_MAX => {
                packet.push('\n');
                packet.push_str(line);
            }
            _ => packets.push(line.clone()),
        }
    }
    packets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(dog: bool, rule_tags: bool) -> StatsdSettings {
        let tags = vec![("env".to_owned(), "prod".to_owned())];
        let (host, interval) = ("localhost".to_owned(), Duration::from_secs(1));
        StatsdSettings { host, port: 1, over_tcp: false, interval, tags, dog, rule_tags }
    }

    /// The lines after six hits of which two are over the limit.
    #[track_caller]
    fn check(settings: StatsdSettings, expected: &[&str]) {
        let metrics = Arc::new(Metrics::new());
        metrics.reference.enable(10);
        let mut key = StatKey::of_domain("d");
        key.step("a", Some("b"));
        let series = metrics.reference.series(key, false);
        series.add(StatCounts { total_hits: 6, over_limit: 2, ..StatCounts::default() }, |_| {});
        for _ in 0..4 {
            metrics.check_duration.observe(Duration::from_millis(5));
        }
        let mut statsd = Statsd::new(settings, metrics.clone());
        let read = Sent {
            rules: metrics.reference.totals(),
            service: metrics.service_counts(),
            times: metrics.check_duration.counts(),
        };
        assert_eq!(statsd.lines(&read), expected);
        statsd.sent = read.clone();
        assert!(statsd.lines(&read).is_empty());
    }

    #[test]
    fn names_and_tags_are_those_of_the_reference() {
        check(
            settings(false, false),
            &[
                "ratelimit.service.rate_limit.d.a_b.total_hits.__env=prod:6|c",
                "ratelimit.service.rate_limit.d.a_b.over_limit.__env=prod:2|c",
                "ratelimit_server.ShouldRateLimit.total_requests.__env=prod:4|c",
                "ratelimit_server.ShouldRateLimit.response_time.__env=prod:5|ms|@0.25",
            ],
        );
        check(
            settings(true, false),
            &[
                "ratelimit.service.rate_limit.d.a_b.total_hits:6|c|#env:prod",
                "ratelimit.service.rate_limit.d.a_b.over_limit:2|c|#env:prod",
                "ratelimit_server.ShouldRateLimit.total_requests:4|c|#env:prod",
                "ratelimit_server.ShouldRateLimit.response_time:5|ms|@0.25|#env:prod",
            ],
        );
        check(
            settings(true, true),
            &[
                "ratelimit.service.rate_limit.total_hits:6|c|#env:prod,domain:d,key1:a_b",
                "ratelimit.service.rate_limit.over_limit:2|c|#env:prod,domain:d,key1:a_b",
                "ratelimit_server.ShouldRateLimit.total_requests:4|c|#env:prod",
                "ratelimit_server.ShouldRateLimit.response_time:5|ms|@0.25|#env:prod",
            ],
        );
    }

    #[test]
    fn packets_are_short_and_have_whole_lines() {
        let lines: Vec<String> = (0..1_000).map(|number| format!("counter {number}:1|c")).collect();
        let packets = packets(&lines);
        assert!(1 < packets.len() && packets.iter().all(|packet| packet.len() <= PACKET_LEN_MAX));
        let back: Vec<&str> = packets.iter().flat_map(|packet| packet.lines()).collect();
        assert_eq!(back, lines);
    }
}
