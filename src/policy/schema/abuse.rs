//! The entries of requests that alerts about abuse read.

use super::map::map;
use super::readers::text;
use crate::policy::yaml::Spanned;

map! {
    /// The entries of requests that alerts about abuse read; they decide nothing. An entry that no rule has as its `key` is no
    /// part of a descriptor's path.
    pub struct AbuseFile in "`abuse`" at span;

    /// The key of the entry with the address of the client, such as remote_address.
    address: Spanned<String> = text;
    /// The key of the entry with the id of the API key, or of another credential; never the credential itself.
    api_key: Spanned<String> = text;
    /// The key of the entry with the identifier of what is asked for, such as hotel_id.
    identifier: Spanned<String> = text;
}
