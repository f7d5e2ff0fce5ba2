//! What holds for the means of every request, on whatever limit and history.

use proptest::prelude::*;

use super::Counter;
use super::Size;
use super::limit;
use super::spends;
use super::spends_and_returns;
use crate::limit::BonusLeft;
use crate::limit::Fit;
use crate::limit::Hits;
use crate::limit::Limit;
use crate::limit::Means;
use crate::limit::Opening;
use crate::limit::Overdraft;
use crate::limit::Settled;

/// What a request finds beside the state: what is open from when on, bonuses, and overdraft. Times are in
/// milliseconds from when it asks.
#[derive(Clone, Debug)]
struct Finds {
    /// In thousandths of the capacity; the later the more.
    openings: Vec<(u64, u64)>,
    /// Ends and amounts.
    bonuses: Vec<(u64, u64)>,
    overdraft: Overdraft,
}

impl Finds {
    fn openings(&self, limit: &Limit, asked_ms: u64) -> Vec<Opening> {
        let share = |share| Size::Share(share).of(limit.capacity());
        let opening = |&(from_ms, hits)| Opening { from_ms: asked_ms + from_ms, hits: share(hits) };
        self.openings.iter().map(opening).collect()
    }

    fn bonuses(&self, asked_ms: u64) -> Vec<BonusLeft> {
        let bonus =
            |&(until_ms, amount)| BonusLeft { until_ms: asked_ms + until_ms, amount, spent: 0 };
        self.bonuses.iter().map(bonus).collect()
    }

    /// The means of one who asked at `asked_ms` and knows what comes.
    fn means(&self, limit: &Limit, asked_ms: u64) -> Means {
        Means {
            openings: self.openings(limit, asked_ms).into(),
            bonuses: self.bonuses(asked_ms).into(),
        }
    }

    /// The means at `now_ms` of one who looks at the present alone.
    fn means_at(&self, limit: &Limit, (asked_ms, now_ms): (u64, u64)) -> Means {
        let mut means = self.means(limit, asked_ms);
        let last = means.openings.iter().rev().find(|opening| opening.from_ms <= now_ms).copied();
        means.openings = last.into_iter().collect();
        means.bonuses.retain(|bonus| now_ms < bonus.until_ms);
        means
    }
}

fn finds() -> impl Strategy<Value = Finds> {
    let time = || prop_oneof![1_u64..50, 1_u64..2_000, 1_u64..100_000];
    let openings = prop::collection::vec((time(), 0_u64..=1_000), 1..4).prop_map(|openings| {
        let (mut times, mut shares): (Vec<u64>, Vec<u64>) = openings.into_iter().unzip();
        times.sort_unstable();
        shares.sort_unstable();
        times[0] = 0;
        times.into_iter().zip(shares).collect()
    });
    let bonuses = prop::collection::vec((time(), 0_u64..40), 0..4).prop_map(|mut bonuses| {
        bonuses.sort_unstable();
        bonuses
    });
    let overdraft = prop::sample::select(vec![Overdraft::None, Overdraft::Allow, Overdraft::Clip]);
    (openings, bonuses, overdraft).prop_map(|(openings, bonuses, overdraft)| Finds {
        openings,
        bonuses,
        overdraft,
    })
}

impl Counter {
    fn settled(&self) -> Settled<'_> {
        Settled { limit: &self.limit, state: &self.state, now: self.now() }
    }

    /// Whether hits that were asked for at `asked_ms` have what they need at `now_ms`.
    fn has_means(&mut self, finds: &Finds, hits: Hits, times: (u64, u64)) -> bool {
        self.now_ms = times.1;
        self.remaining();
        finds.means_at(&self.limit, times).suffice(&self.settled(), hits)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_promised_wait_is_exact_whatever_opens_and_ends(
        limit in limit(), history in spends_and_returns(), finds in finds(),
        share in 0_u64..1_500, between in prop::collection::vec(0_u64..1_000, 40),
    ) {
        let mut counter = Counter::new(limit.overdrawn(finds.overdraft));
        history.into_iter().for_each(|event| {
            counter.play(event);
        });
        let asked_ms = counter.now_ms;
        let hits = Hits::Spend(Size::Share(share).of(counter.limit.capacity()) + 1);
        let fits_at_once = counter.has_means(&finds, hits, (asked_ms, asked_ms));
        let means = finds.means(&counter.limit, asked_ms);
        let ends = means.bonuses.iter().map(|bonus| bonus.until_ms - 1);
        let opens = means.openings.iter().map(|opening| opening.from_ms);
        let events: Vec<u64> = ends.chain(opens).collect();
        if !fits_at_once {
            let wait = means.wait(&counter.settled(), hits);
            // Time only brings more, but for the ends of bonuses; so these instants tell.
            let until_ms = match wait {
                Fit::Now => panic!("what doesn't fit has to wait"),
                Fit::AfterMs(wait_ms) => asked_ms + wait_ms,
                Fit::Never => asked_ms + 10_000_000_000,
            };
            let shares = between.iter().map(|share| asked_ms + Size::Share(*share).of(until_ms - asked_ms));
            let mut instants: Vec<u64> =
                events.into_iter().chain(shares).chain([until_ms - 1]).collect();
            instants.retain(|at_ms| *at_ms < until_ms);
            instants.sort_unstable();
            for at_ms in instants {
                let fits = counter.has_means(&finds, hits, (asked_ms, at_ms));
                prop_assert!(!fits, "{} ms before {:?}", until_ms - at_ms, wait);
            }
            let fits = counter.has_means(&finds, hits, (asked_ms, until_ms));
            prop_assert_eq!(fits, wait != Fit::Never);
        }
    }

    #[test]
    fn shares_add_up_and_no_bonus_gives_more_than_it_has(
        limit in limit(), history in spends(), finds in finds(),
        share in 0_u64..1_500, back in 0_u64..1_500,
    ) {
        let mut counter = Counter::new(limit.overdrawn(finds.overdraft));
        history.into_iter().for_each(|event| {
            counter.play(event);
        });
        let now = counter.now();
        let mut means = finds.means_at(&counter.limit, (counter.now_ms, counter.now_ms));
        let before = means.remaining(&counter.settled());
        let bonuses = means.bonuses.clone();
        let asked = Size::Share(share).of(counter.limit.capacity());
        prop_assume!(means.suffice(&counter.settled(), Hits::Spend(asked)));
        let (base, _) = means.divide(&counter.settled(), Hits::Spend(asked), finds.overdraft);
        counter.limit.charge(&mut counter.state, base, now);
        let after = means.remaining(&counter.settled());
        prop_assert_eq!(after, before.saturating_sub(asked));
        let spent: u64 = means.bonuses.iter().map(|bonus| bonus.spent).sum();
        match finds.overdraft {
            Overdraft::None | Overdraft::Allow | Overdraft::Owed => {
                prop_assert_eq!(base.amount() + spent, asked);
            }
            Overdraft::Clip => prop_assert_eq!(base.amount() + spent, asked.min(before)),
        }
        for bonus in &means.bonuses {
            prop_assert!(bonus.spent <= bonus.amount);
        }
        // Giving back never brings more than there was.
        let back = Hits::GiveBack(Size::Share(back).of(counter.limit.capacity()));
        let (base, _) = means.divide(&counter.settled(), back, finds.overdraft);
        counter.limit.charge(&mut counter.state, base, now);
        let given = means.remaining(&counter.settled());
        prop_assert!(given <= after + back.amount());
        if spent >= back.amount() {
            prop_assert_eq!(given, after + back.amount());
        }
        prop_assert!(bonuses.iter().zip(&means.bonuses).all(|(one, other)| one.amount == other.amount));
    }
}
