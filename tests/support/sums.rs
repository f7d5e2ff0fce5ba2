//! A reader of sums that keeps the whole answer.

use tollgate::store::sums::{SumsEntry, SumsError, SumsPeriod, SumsReader, SumsTable};

/// An answer that is kept.
#[derive(Debug, Default)]
pub struct SumsAnswer {
    /// Names and their meanings.
    pub names: Vec<(String, String)>,
    pub sums: Vec<(SumsPeriod, SumsEntry)>,
    /// If set, the maximum number of sums.
    pub max: Option<usize>,
}

impl SumsReader for SumsAnswer {
    fn name(&mut self, name: &str, meaning: &str) {
        assert_eq!(self.sums, [], "names come first");
        self.names.push((name.to_owned(), meaning.to_owned()));
    }

    fn sums(
        &mut self,
        (period, table): (SumsPeriod, SumsTable),
        field: &str,
        sums: &str,
    ) -> Result<(), SumsError> {
        if self.max.is_some_and(|max| max <= self.sums.len()) {
            return Err(SumsError::Full);
        }
        let (field, sums) = (field.to_owned(), sums.to_owned());
        self.sums.push((period, SumsEntry { table, field, sums }));
        Ok(())
    }
}
