//! Reads the variables of envoyproxy/ratelimit, and collects settings and problems.

use std::collections::{BTreeMap, BTreeSet};

use super::table::{ReferenceVariable, TABLE_OF_REFERENCE};
use super::values;
use crate::settings::error::SettingsError;

/// The value of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translated {
    pub setting: &'static str,
    pub text: String,
    /// The variable; None for a default of the reference.
    pub variable: Option<&'static str>,
}

/// What an environment of envoyproxy/ratelimit says.
#[derive(Debug, Default)]
pub struct Translation {
    /// Defaults of the reference first.
    pub settings: Vec<Translated>,
    /// Variables without an effect, each with the reason.
    pub unused: Vec<(&'static str, &'static str)>,
    pub errors: Vec<SettingsError>,
}

/// Reads variables, and notes those that it has read.
pub struct Translator<'e> {
    environment: &'e BTreeMap<String, String>,
    used: BTreeSet<&'static str>,
    pub translation: Translation,
}

impl<'e> Translator<'e> {
    /// Nothing is read yet.
    pub fn new(environment: &'e BTreeMap<String, String>) -> Self {
        Self { environment, used: BTreeSet::new(), translation: Translation::default() }
    }

    /// Whether a variable is set, without reading it.
    pub fn is_set(&self, name: &str) -> bool {
        self.environment.contains_key(name)
    }

    /// The text of a variable that is set.
    pub fn get(&mut self, name: &'static str) -> Option<&'e str> {
        let text = self.environment.get(name)?;
        self.used.insert(name);
        Some(text)
    }

    /// Whether a variable is true; false if it is absent.
    pub fn is_on(&mut self, name: &'static str) -> bool {
        let Some(text) = self.get(name) else { return false };
        let flag = values::flag(text);
        if flag.is_none() {
            self.wrong(name, "true or false");
        }
        flag.unwrap_or_default()
    }

    /// Sets a setting by a variable.
    pub fn set(&mut self, setting: &'static str, text: impl Into<String>, variable: &'static str) {
        let (text, variable) = (text.into(), Some(variable));
        self.translation.settings.push(Translated { setting, text, variable });
    }

    /// An invalid variable. Its value is shown unless it may be a secret.
    pub fn wrong(&mut self, name: &'static str, expected: &'static str) {
        let place = format!("{name} of envoyproxy/ratelimit");
        let text = self.environment.get(name).map_or("", String::as_str);
        let shown = match values::is_secret(name, text) {
            true => "the given value".to_owned(),
            false => format!("`{}`", text.escape_debug()),
        };
        self.translation.errors.push(SettingsError::Wrong { place, shown, expected });
    }

    /// Sets a setting of the same form.
    pub fn copy(&mut self, name: &'static str, setting: &'static str) {
        if let Some(text) = self.get(name) {
            self.set(setting, text, name);
        }
    }

    /// Sets a setting that is true or false.
    pub fn copy_flag(&mut self, name: &'static str, setting: &'static str) {
        if self.environment.contains_key(name) {
            let text = self.is_on(name).to_string();
            self.set(setting, text, name);
        }
    }

    /// Sets a setting with a duration.
    pub fn copy_duration(&mut self, name: &'static str, setting: &'static str) {
        let Some(text) = self.get(name) else { return };
        match values::duration(text) {
            Some(text) => self.set(setting, text, name),
            None => self.wrong(name, "a duration such as 10s"),
        }
    }

    /// Sets a setting by a default of the reference.
    pub fn default(&mut self, setting: &'static str, text: &str) {
        let text = text.to_owned();
        self.translation.settings.insert(0, Translated { setting, text, variable: None });
    }

    /// The translation, with the variables that were not read.
    pub fn finish(mut self) -> Translation {
        for ReferenceVariable { name, advice, .. } in TABLE_OF_REFERENCE {
            if self.environment.contains_key(*name) && !self.used.contains(name) {
                self.translation.unused.push((name, advice));
            }
        }
        self.translation
    }
}
