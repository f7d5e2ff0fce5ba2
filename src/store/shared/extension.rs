//! Extensions of a reservation whose limits are on several shards.
//!
//! What one shard has extended can't be shortened again if another one refuses, because the hits have lapsed there. So the shards are
//! asked first whether they would all extend it. Only hits that lapse between the question and the extension are missed.

use futures_util::future::join_all;

use super::{ShardedRequest, Shared, StoreAnswer, join};
use crate::policy::Refused;
use crate::store::{Batch, Charge, Outcome, Reservation, Store};

impl<S: Store> Shared<S> {
    /// The answer to a request with an extension that the shards would refuse; None for other requests, and if the store does
    /// not answer. Nothing is extended or charged.
    pub(super) async fn refused_extension(
        &self,
        request: &ShardedRequest<'_>,
    ) -> Option<StoreAnswer> {
        let charges = &request.batch.charges;
        let counts = |charge: &Charge| charge.refused != Refused::Free;
        // What counts although the request is refused must not count twice.
        if !charges.iter().any(extends) || charges.iter().any(counts) {
            return None;
        }
        let batches = request.shards.iter().map(|shard| {
            let mut batch = shard.batch.clone();
            batch.look();
            batch
        });
        let batches: Vec<Batch> = batches.collect();
        let ask = |batch| self.inner.ask(batch, request.arrival);
        let answers = join_all(batches.iter().map(ask)).await;
        if answers.iter().any(|answer| answer.error.is_some() || answer.outcome.fallback) {
            return None;
        }
        let outcomes: Vec<Outcome> = answers.into_iter().map(|answer| answer.outcome).collect();
        let outcome = join(request.batch, &request.shards, &outcomes);
        (!outcome.admitted).then_some(StoreAnswer { outcome, error: None })
    }
}

fn extends(charge: &Charge) -> bool {
    matches!(charge.step(), Some(Reservation::Extend { .. }))
}
