//! Regular work of a task until the shutdown.

use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use tokio::select;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Ticks until the shutdown, at once and then at intervals that are not made up for.
#[derive(Debug)]
pub struct Ticks<S> {
    ticks: Interval,
    shutdown: Pin<Box<S>>,
    is_over: bool,
}

impl<S: Future<Output = ()>> Ticks<S> {
    /// A tick each `period` until `shutdown`.
    pub fn new(period: Duration, shutdown: S) -> Self {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, shutdown: Box::pin(shutdown), is_over: false }
    }

    /// Waits for the next tick; false after the shutdown.
    pub async fn next(&mut self) -> bool {
        self.next_or(pending()).await
    }

    /// Waits for the next tick, or for something earlier; false after the shutdown.
    pub async fn next_or(&mut self, earlier: impl Future<Output = ()>) -> bool {
        if self.is_over {
            return false;
        }
        select! {
            biased;
            () = &mut self.shutdown => self.is_over = true,
            _ = self.ticks.tick() => {}
            () = earlier => {}
        }
        !self.is_over
    }

    /// Does work that the shutdown may interrupt.
    pub async fn during(&mut self, work: impl Future<Output = ()>) {
        select! {
            biased;
            () = &mut self.shutdown => self.is_over = true,
            () = work => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_shutdown_ends_ticks_and_interrupts_work() {
        let start = Instant::now();
        let mut ticks = Ticks::new(Duration::from_secs(2), sleep(Duration::from_secs(5)));
        let mut times = Vec::new();
        while ticks.next().await {
            times.push(start.elapsed().as_secs());
        }
        assert_eq!((times, start.elapsed().as_secs()), (vec![0, 2, 4], 5));
        let mut ticks = Ticks::new(Duration::from_secs(2), sleep(Duration::from_secs(5)));
        assert!(ticks.next().await);
        ticks.during(ready(())).await;
        assert!(ticks.next_or(ready(())).await);
        assert_eq!(start.elapsed().as_secs(), 5);
        assert!(ticks.next().await);
        ticks.during(pending()).await;
        assert!(!ticks.next().await && !ticks.next().await);
        assert_eq!(start.elapsed().as_secs(), 10);
    }
}
