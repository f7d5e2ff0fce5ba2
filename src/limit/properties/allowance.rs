//! Properties of the allowance of a request, for any limit and history.

use proptest::prelude::*;

use super::{Counter, Size, limit, spends, spends_and_returns};
use crate::limit::{
    Allowance, AvailableCapacity, BonusLeft, Fit, Held, Hits, Holdings, Limit, Overdraft, Settled,
};

/// What a request finds beside the state: what is open from when on, bonuses, and overdraft. Times are in
/// milliseconds from when it asks.
#[derive(Clone, Debug)]
struct Finds {
    /// In thousandths of the capacity; the later the more.
    available: Vec<(u64, u64)>,
    /// Ends and amounts.
    bonuses: Vec<(u64, u64)>,
    /// What reservations hold: when each lapses, and thousandths of the capacity.
    held: Vec<(u64, u64)>,
    overdraft: Overdraft,
}

impl Finds {
    fn available(&self, limit: &Limit, asked_ms: u64) -> Vec<AvailableCapacity> {
        let share = |share| Size::Share(share).of(limit.capacity());
        let capacity = |&(from_ms, hits)| AvailableCapacity {
            from_ms: asked_ms + from_ms,
            until_ms: u64::MAX,
            hits: share(hits),
        };
        self.available.iter().map(capacity).collect()
    }

    fn bonuses(&self, asked_ms: u64) -> Vec<BonusLeft> {
        let bonus = |&(until_ms, amount)| BonusLeft {
            until_ms: asked_ms + until_ms,
            amount,
            spent: 0,
            period: None,
        };
        self.bonuses.iter().map(bonus).collect()
    }

    fn holdings(&self, limit: &Limit, (asked_ms, now_ms): (u64, u64)) -> Holdings {
        let mut holdings = Holdings::default();
        for (id, &(ms, hits)) in (0..).zip(&self.held) {
            let until_ms = asked_ms + ms;
            if now_ms < until_ms {
                holdings.add(Held { id, hits: Size::Share(hits).of(limit.capacity()), until_ms });
            }
        }
        holdings
    }

    /// The allowance of a request at `asked_ms`.
    fn allowance(&self, limit: &Limit, asked_ms: u64) -> Allowance {
        Allowance {
            available: self.available(limit, asked_ms).into(),
            bonuses: self.bonuses(asked_ms).into(),
            grace: None,
            held: self.holdings(limit, (asked_ms, asked_ms)).steps(None).collect(),
            holds: false,
        }
    }

    /// The allowance at `now_ms` without later capacity.
    fn allowance_at(&self, limit: &Limit, (asked_ms, now_ms): (u64, u64)) -> Allowance {
        let mut allowance = self.allowance(limit, asked_ms);
        let last =
            allowance.available.iter().rev().find(|capacity| capacity.from_ms <= now_ms).copied();
        allowance.available = last.into_iter().collect();
        allowance.bonuses.retain(|bonus| now_ms < bonus.until_ms);
        allowance.held = self.holdings(limit, (asked_ms, now_ms)).steps(None).collect();
        allowance
    }
}

fn finds() -> impl Strategy<Value = Finds> {
    let time = || prop_oneof![1_u64..50, 1_u64..2_000, 1_u64..100_000];
    let available = prop::collection::vec((time(), 0_u64..=1_000), 1..4).prop_map(|available| {
        let (mut times, mut shares): (Vec<u64>, Vec<u64>) = available.into_iter().unzip();
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
    let held = prop::collection::vec((time(), 0_u64..400), 0..4);
    let held = prop_oneof![Just(Vec::new()), held];
    (available, bonuses, held, overdraft).prop_map(|(available, bonuses, held, overdraft)| Finds {
        available,
        bonuses,
        held,
        overdraft,
    })
}

impl Counter {
    fn settled(&self) -> Settled<'_> {
        Settled { limit: &self.limit, state: &self.state, now: self.now(), held: Holdings::NONE }
    }

    /// Whether hits that were asked for at `asked_ms` have what they need at `now_ms`.
    fn fits(&mut self, finds: &Finds, hits: Hits, times: (u64, u64)) -> bool {
        self.now_ms = times.1;
        self.remaining();
        finds.allowance_at(&self.limit, times).suffice(&self.settled(), hits)
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
        let fits_at_once = counter.fits(&finds, hits, (asked_ms, asked_ms));
        let allowance = finds.allowance(&counter.limit, asked_ms);
        let ends = allowance.bonuses.iter().map(|bonus| bonus.until_ms - 1);
        let opens = allowance.available.iter().map(|capacity| capacity.from_ms);
        let lapses = finds.held.iter().flat_map(|(ms, _)| [asked_ms + ms - 1, asked_ms + ms]);
        let events: Vec<u64> = ends.chain(opens).chain(lapses).collect();
        if !fits_at_once {
            let wait = allowance.wait(&counter.settled(), hits);
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
                let fits = counter.fits(&finds, hits, (asked_ms, at_ms));
                prop_assert!(!fits, "{} ms before {:?}", until_ms - at_ms, wait);
            }
            let fits = counter.fits(&finds, hits, (asked_ms, until_ms));
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
        let mut allowance = finds.allowance_at(&counter.limit, (counter.now_ms, counter.now_ms));
        let before = allowance.remaining(&counter.settled());
        let bonuses = allowance.bonuses.clone();
        let asked = Size::Share(share).of(counter.limit.capacity());
        prop_assume!(allowance.suffice(&counter.settled(), Hits::Spend(asked)));
        let (base, _) = allowance.divide(&counter.settled(), Hits::Spend(asked), finds.overdraft);
        counter.limit.charge(&mut counter.state, base, now);
        let after = allowance.remaining(&counter.settled());
        prop_assert_eq!(after, before.saturating_sub(asked));
        let spent: u64 = allowance.bonuses.iter().map(|bonus| bonus.spent).sum();
        match finds.overdraft {
            Overdraft::None | Overdraft::Allow | Overdraft::Owed => {
                prop_assert_eq!(base.amount() + spent, asked);
            }
            Overdraft::Clip => prop_assert_eq!(base.amount() + spent, asked.min(before)),
        }
        for bonus in &allowance.bonuses {
            prop_assert!(bonus.spent <= bonus.amount);
        }
        // Giving back never brings more than there was.
        let back = Hits::GiveBack(Size::Share(back).of(counter.limit.capacity()));
        let (base, _) = allowance.divide(&counter.settled(), back, finds.overdraft);
        counter.limit.charge(&mut counter.state, base, now);
        let given = allowance.remaining(&counter.settled());
        prop_assert!(given <= after + back.amount());
        if spent >= back.amount() && finds.held.is_empty() {
            prop_assert_eq!(given, after + back.amount());
        }
        prop_assert!(bonuses.iter().zip(&allowance.bonuses).all(|(one, other)| one.amount == other.amount));
    }
}
