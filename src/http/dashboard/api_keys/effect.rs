//! What a change of an API key would do, in sentences.

use std::time::Duration;

use crate::api_keys::{ApiKeyForm, ApiKeyRecord, LastUse};
use crate::clock::Timestamp;
use crate::http::dashboard::format;
use crate::observe::audit::instant;

const EVERYWHERE: &str = "It is in force on all sidecars within a second.";

/// Of a new API key.
pub fn creation(form: &ApiKeyForm) -> Vec<String> {
    let fields = shown(form).into_iter().filter(|(_, value)| !value.is_empty());
    let mut effect = vec![format!("A new API key makes requests in the name of {}.", form.caller)];
    effect.extend(fields.map(|(name, value)| format!("{name}: {value}.")));
    if form.expires_at.is_none() {
        effect.push("It never expires.".to_owned());
    }
    effect.push("It is shown once, on the next page.".to_owned());
    effect
}

/// Of other fields.
pub fn revision(before: &ApiKeyForm, after: &ApiKeyForm) -> Vec<String> {
    let or_none = |text: String| if text.is_empty() { "nothing".to_owned() } else { text };
    let pairs = shown(before).into_iter().zip(shown(after));
    let changed = pairs.filter(|((_, before), (_, after))| before != after);
    let mut effect: Vec<String> = changed
        .map(|((name, before), (_, after))| {
            format!("{name}: {} becomes {}.", or_none(before), or_none(after))
        })
        .collect();
    effect.push(match effect.is_empty() {
        true => "Nothing changes.".to_owned(),
        false => EVERYWHERE.to_owned(),
    });
    effect
}

/// Of refusing it until it is enabled.
pub fn disabling(last_use: Option<LastUse>, now: Timestamp) -> Vec<String> {
    let refused = "Requests with it are refused with 401 until it is enabled.".to_owned();
    vec![refused, used(last_use, now), EVERYWHERE.to_owned()]
}

/// Of using it again.
pub fn enabling() -> Vec<String> {
    vec!["Requests with it may pass again.".to_owned(), EVERYWHERE.to_owned()]
}

/// Of a new text.
pub fn rotation(overlap: Duration, now: Timestamp) -> Vec<String> {
    let earlier = match overlap.is_zero() {
        true => "The earlier text is refused on all sidecars within a second.".to_owned(),
        false => {
            let end = format::time(&instant(now.after(overlap)));
            format!("The earlier text stays valid until {end}.")
        }
    };
    vec!["It gets a new text, which is shown once, on the next page.".to_owned(), earlier]
}

/// Of deleting it.
pub fn deletion(record: &ApiKeyRecord, last_use: Option<LastUse>, now: Timestamp) -> Vec<String> {
    let refused = format!(
        "Requests of {} with it are refused with 401. It can't be restored.",
        record.key.caller
    );
    vec![refused, used(last_use, now), EVERYWHERE.to_owned()]
}

fn used(last_use: Option<LastUse>, now: Timestamp) -> String {
    match last_use {
        None => "It was never used.".to_owned(),
        Some(LastUse { at, address }) => {
            let ago = format::distance(&instant(at), now.as_ms());
            let from = address.map(|address| format!(", from {address}")).unwrap_or_default();
            format!("It was last used {ago}{from}.")
        }
    }
}

/// The fields that a form changes, as people read them.
fn shown(form: &ApiKeyForm) -> [(&'static str, String); 13] {
    let when = form.when.clone().unwrap_or_default();
    let list = |items: &[String]| items.join(", ");
    [
        ("Name", form.name.clone()),
        ("Scopes", list(&form.scopes)),
        ("Tier", form.tier.clone().unwrap_or_default()),
        ("Expires", form.expires_at.clone().unwrap_or_default()),
        ("Addresses", list(&form.addresses)),
        ("Origins", list(&form.origins)),
        ("Limits", list(&form.limits)),
        ("Time zone", when.timezone.unwrap_or_default()),
        ("Months", list(&when.months)),
        ("Weekdays", list(&when.weekdays)),
        ("Hours", list(&when.hours)),
        ("Dates", list(&when.dates)),
        ("Except", list(&when.except)),
    ]
}
