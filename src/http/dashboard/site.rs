//! What the pages of the dashboard share.

use super::live::Live;
use super::signing::SigningKey;

/// The dashboard of a process.
#[derive(Debug)]
pub struct Dashboard {
    /// Signs sessions, forms and links.
    pub key: SigningKey,
    /// The port accepts only HTTPS: cookies are not sent otherwise.
    pub has_tls: bool,
    /// The origins whose pages may show `/me` in a frame.
    pub frame_ancestors: Vec<String>,
    pub live: Live,
}
