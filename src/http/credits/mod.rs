//! `/v1/callers/{name}/gifts` and `/v1/callers/{name}/ledger`: hits that callers give each other, and what explains a balance.

mod gift;
mod ledger;

use super::openapi::Operation;

pub fn operations() -> Vec<Operation> {
    gift::operations().into_iter().chain(ledger::operations()).collect()
}
