//! Follows the risk of callers for rules of alerts.

use std::collections::BTreeSet;
use std::mem;
use std::time::Duration;

use crate::alerts::{AlertId, AlertList, Alerts, ClosedAlert, Labels, Risk, Seen, risks};
use crate::clock::Timestamp;
use crate::policy::{AlertPolicy, AlertRule};

/// How often the history is read if no alert was closed: it is up to 500 alerts.
const INTERVAL: Duration = Duration::from_secs(60);

/// What is known of the history.
#[derive(Debug, Default)]
pub struct RiskWatch {
    closed: Vec<ClosedAlert>,
    /// What was open at the last look.
    open: BTreeSet<AlertId>,
    read_at: Option<Timestamp>,
}

impl RiskWatch {
    /// The risk of each caller for whom the rule may fire.
    pub async fn seen(
        &mut self,
        alerts: &Alerts,
        (policy, rule): (&AlertPolicy, &AlertRule),
    ) -> Vec<Seen> {
        let (book, now) = alerts.keeper.book_now().await;
        let open: BTreeSet<AlertId> = book.open_alerts().map(|alert| alert.id.clone()).collect();
        let is_old = self.read_at.is_none_or(|at| INTERVAL <= now.since(at));
        if is_old || !self.open.is_subset(&open) {
            (self.closed, self.read_at) = (alerts.keeper.list().await.closed, Some(now));
        }
        self.open = open;
        let closed = mem::take(&mut self.closed);
        let list = AlertList { book, closed, now, of_fleet: false };
        let one = |risk: Risk| Seen {
            labels: Labels::new().with("caller", Some(&risk.caller)),
            value: risk.value,
        };
        let may_fire = |seen: &Seen| rule.may_fire(seen.value);
        let seen = risks(policy, &list).into_iter().map(one).filter(may_fire).collect();
        self.closed = list.closed;
        seen
    }
}
