//! Compiles the `partial` of a limit.

use super::enforcement::Enforcement;
use crate::limit::Overdraft;
use crate::policy::model::Mode;
use crate::policy::yaml::{Reader, Spanned};

/// A limit that may be taken in part.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub enforcement: Enforcement,
    pub overdraft: Overdraft,
    pub has_cost: bool,
}

/// Whether fewer hits than a request asks for may be taken: never of a strict limit, and of no limit that refuses nothing.
pub fn partial(reader: &mut Reader<'_>, said: Option<&Spanned<bool>>, of: Taken) -> bool {
    let Some(said) = said.filter(|said| said.value) else { return false };
    let problem = if of.overdraft != Overdraft::None {
        "use `partial` or `overdraft`, not both: with an overdraft, all hits of a request pass"
    } else if of.has_cost {
        "use `partial` or `cost`, not both: the cost of a part of a request is unknown"
    } else if of.enforcement.mode == Mode::Quota {
        "use `partial` or `mode: quota`, not both: a request passes if another quota has all hits"
    } else {
        return of.enforcement.mode == Mode::Enforce && !of.enforcement.strict;
    };
    reader.error(said.span.clone(), problem);
    false
}
