//! Compiles the tables of `costs`.

use super::rate::{currency, parse_amount};
use crate::policy::model::{Cost, CostLine};
use crate::policy::schema::CostFile;
use crate::policy::yaml::Reader;

impl Cost {
    /// The settings in the file.
    pub(super) fn compile(reader: &mut Reader<'_>, name: &str, files: &[CostFile]) -> Self {
        let mut known: Option<&str> = None;
        for text in files.iter().filter_map(|file| file.hits.as_ref()) {
            let Some(own) = currency(&text.value) else { continue };
            let first = *known.get_or_insert(own);
            if first != own {
                let message = format!("a cost table must have one currency; {own} follows {first}");
                reader.error(text.span.clone(), message);
            }
        }
        let lines = files.iter().filter_map(|file| CostLine::compile(reader, file)).collect();
        Self { name: name.into(), lines, currency: known.map(Into::into) }
    }
}

impl CostLine {
    fn compile(reader: &mut Reader<'_>, file: &CostFile) -> Option<Self> {
        let text = file.hits.as_ref()?;
        let hits = parse_amount(&text.value)
            .map_err(|message| reader.error(text.span.clone(), message))
            .ok()?;
        if let Some(per) = file.per.as_ref().filter(|per| per.value == 0) {
            reader.error(per.span.clone(), "`per` must be 1 or more");
            return None;
        }
        let when = file.when.iter().flatten();
        Some(Self {
            when: when
                .map(|(key, value)| (key.value.as_str().into(), value.value.as_str().into()))
                .collect(),
            hits,
            per: file.per.as_ref().map(|per| per.value),
        })
    }
}
