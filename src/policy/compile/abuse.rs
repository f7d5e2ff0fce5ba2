//! Compiles `abuse` of a file.

use crate::policy::model::AbuseEntries;
use crate::policy::schema::{AbuseFile, PolicyFile, RuleFile};
use crate::policy::yaml::{Reader, Spanned};
use crate::printable::is_blank;

impl AbuseEntries {
    /// What the file says.
    pub(super) fn compile(reader: &mut Reader<'_>, file: &PolicyFile, said: &AbuseFile) -> Self {
        let caller = file.caller.as_ref().and_then(|caller| caller.key.as_ref());
        let named = [
            ("address", &said.address),
            ("api_key", &said.api_key),
            ("identifier", &said.identifier),
        ];
        if named.iter().all(|(_, key)| key.is_none()) {
            let message = "`abuse` names no entry; name `address`, `api_key` or `identifier`";
            reader.error(said.span.clone(), message);
        }
        for (index, (name, key)) in named.iter().enumerate() {
            let Some(key) = key else { continue };
            let earlier = named[..index].iter();
            let same = |one: &&(&str, &Option<Spanned<String>>)| {
                one.1.as_ref().is_some_and(|one| one.value == key.value)
            };
            let message = if is_blank(&key.value) {
                format!("`{name}` is blank; name the entry")
            } else if caller.is_some_and(|caller| caller.value == key.value) {
                format!("`{}` is the key of the caller; `{name}` must be another entry", key.value)
            } else if let Some((other, _)) = earlier.clone().find(same) {
                format!("`{}` is the entry of `{other}`; `{name}` must be another one", key.value)
            } else {
                continue;
            };
            reader.error(key.span.clone(), message);
        }
        let key = |key: &Option<Spanned<String>>| key.as_ref().map(|key| key.value.as_str().into());
        Self {
            address: key(&said.address),
            api_key: key(&said.api_key),
            identifier: key(&said.identifier),
        }
    }
}

/// The keys of these entries that are qualifiers: neither a rule nor a choice has them as its key, and they are not the caller's.
pub fn qualifiers(file: &PolicyFile) -> Vec<&str> {
    let Some(said) = &file.abuse else { return Vec::new() };
    let keys = [&said.value.address, &said.value.api_key, &said.value.identifier];
    let mut keys: Vec<&str> = keys.into_iter().flatten().map(|key| key.value.as_str()).collect();
    let caller = file.caller.iter().flat_map(|caller| &caller.key);
    let choices = file.choices.iter().flat_map(|choices| &choices.value);
    let choices = choices.flat_map(|choice| &choice.key);
    let own: Vec<&str> = caller.chain(choices).map(|key| key.value.as_str()).collect();
    keys.retain(|key| !own.contains(key));
    let mut rules: Vec<&RuleFile> = file.descriptors.iter().flatten().collect();
    while let Some(rule) = rules.pop() {
        if let Some(of_rule) = &rule.key {
            keys.retain(|key| *key != of_rule.value);
        }
        rules.extend(rule.descriptors.iter().flatten());
    }
    keys
}
