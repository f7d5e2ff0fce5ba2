//! Compiles how limits are enforced: `mode`, and `enforce` for a share of the callers.

use crate::policy::model::{Mode, Share};
use crate::policy::schema::ModeFile;
use crate::policy::yaml::{Reader, Spanned};

/// How a limit, or the limits of a rule or a policy, are enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enforcement {
    pub mode: Mode,
    /// Without an overdraft or a grace, and with a refusal while the store is out.
    pub strict: bool,
    /// The part of the callers for whom it is; all if None.
    pub share: Option<Share>,
}

impl Enforcement {
    /// What a limit, a rule or a policy says; None if it says nothing.
    pub fn compile(
        reader: &mut Reader<'_>,
        mode: Option<&Spanned<ModeFile>>,
        share: Option<&Spanned<String>>,
    ) -> Option<Self> {
        let word = mode.map_or(ModeFile::Enforce, |mode| mode.value);
        let enforces = matches!(word, ModeFile::Enforce | ModeFile::Strict);
        if let Some(share) = share.filter(|_| !enforces) {
            reader.error(share.span.clone(), "`enforce` requires the mode `enforce` or `strict`");
        }
        let parse = |reader: &mut Reader<'_>, text: &Spanned<String>| {
            let share = Share::parse(&text.value);
            share.map_err(|message| reader.error(text.span.clone(), message)).ok()
        };
        let read = share.and_then(|share| parse(reader, share));
        (mode.is_some() || share.is_some()).then(|| Self {
            mode: word.into(),
            strict: word == ModeFile::Strict,
            share: read.filter(|share| *share != Share::ALL),
        })
    }

    /// Of that mode, for all callers.
    pub fn of(mode: Mode) -> Self {
        Self { mode, ..Self::default() }
    }
}
