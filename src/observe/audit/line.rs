//! The format of an audit line, and the chain of hashes through all lines.
//!
//! A line is a JSON object: `{HEAD,SUBJECT,"digest":"D","hash":"H"}`. The subject is the data of one caller, with a
//! random nonce, and D is its SHA-256. H is the SHA-256 of the previous line's hash, the head and D, separated by line
//! feeds. The subject is not part of that, so it can be erased later: D stays, and all hashes stay valid. A line without
//! a caller has no subject and no digest.
//!
//! The parts are found by their text alone: in JSON a quote within a string is escaped, so a string never contains
//! `,"caller":`.

use std::fmt::{self, Write};

use sha2::{Digest, Sha256};

/// Hexadecimal digits of a hash.
const HASH_LEN: usize = 64;

const HASH_KEY: &str = ",\"hash\":\"";
const DIGEST_KEY: &str = ",\"digest\":\"";
const SUBJECT_KEY: &str = ",\"caller\":";
const PREVIOUS_KEY: &str = "\"previous\":\"";
const END: &str = "\"}";

/// The content of a line: members of a JSON object, without braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub head: String,
    /// Begins with the member `caller`.
    pub subject: Option<String>,
}

/// The end of a chain: its last line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainEnd {
    /// The number of the line; 0 for a chain without lines.
    pub number: u64,
    pub hash: String,
}

/// A line that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditLine<'t> {
    pub number: u64,
    /// The hash of the previous line, on the first line of a file.
    pub previous: Option<&'t str>,
    pub hash: &'t str,
    /// None if the subject was erased, or there was none.
    pub subject: Option<&'t str>,
    /// The digest of the subject, if there is or was one.
    pub digest: Option<&'t str>,
    /// The members before the subject.
    pub head: &'t str,
}

impl Default for ChainEnd {
    /// The end of an empty chain.
    fn default() -> Self {
        Self { number: 0, hash: "0".repeat(HASH_LEN) }
    }
}

impl fmt::Display for ChainEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

impl ChainEnd {
    /// Parses the text of an end, as `Display` writes it.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, hash) = text.split_once(':')?;
        let is_hash = hash.len() == HASH_LEN && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = number.parse().ok()?;
        is_hash.then(|| Self { number, hash: hash.to_ascii_lowercase() })
    }

    /// The next line, with a line feed, of which the chain then ends. The first line of a file repeats the hash of the
    /// previous line.
    pub fn push(&mut self, content: &Content, is_first: bool) -> String {
        self.number += 1;
        let mut head = format!("\"seq\":{},", self.number);
        if is_first {
            head.extend([PREVIOUS_KEY, &self.hash, "\","]);
        }
        head.push_str(&content.head);
        let digest = content.subject.as_deref().map(hash);
        self.hash = chained(&self.hash, &head, digest.as_deref());
        let mut line = format!("{{{head}");
        if let (Some(subject), Some(digest)) = (&content.subject, &digest) {
            line.extend([",", subject, DIGEST_KEY, digest, "\""]);
        }
        line.extend([HASH_KEY, &self.hash, END, "\n"]);
        line
    }
}

impl<'t> AuditLine<'t> {
    /// Parses a line without its line feed. None if it has no hash or no number.
    pub fn parse(text: &'t str) -> Option<Self> {
        let rest = text.strip_prefix('{')?.strip_suffix(END)?;
        let (rest, hash) = split_hash(rest, HASH_KEY)?;
        let (rest, digest) =
            match rest.strip_suffix('"').and_then(|rest| split_hash(rest, DIGEST_KEY)) {
                Some((rest, digest)) => (rest, Some(digest)),
                None => (rest, None),
            };
        let (head, subject) = match rest.find(SUBJECT_KEY).filter(|_| digest.is_some()) {
            Some(at) => (rest.get(..at)?, rest.get(at + 1..)),
            None => (rest, None),
        };
        let (number, rest) = head.strip_prefix("\"seq\":")?.split_once(',')?;
        let previous = rest.strip_prefix(PREVIOUS_KEY).and_then(|rest| rest.get(..HASH_LEN));
        let number = number.parse().ok()?;
        Some(Self { number, previous, hash, subject, digest, head })
    }

    /// Whether it follows the line with the hash `previous`, and is unchanged except for an erased subject.
    pub fn follows(&self, previous: &str) -> bool {
        let is_subject_whole =
            self.subject.is_none_or(|subject| Some(&*hash(subject)) == self.digest);
        is_subject_whole && chained(previous, self.head, self.digest) == self.hash
    }

    /// Whether its subject was erased.
    pub fn is_erased(&self) -> bool {
        self.digest.is_some() && self.subject.is_none()
    }

    /// The same line without its subject and without a line feed.
    pub fn erased(&self) -> String {
        let mut line = format!("{{{}", self.head);
        if let Some(digest) = self.digest {
            line.extend([DIGEST_KEY, digest, "\""]);
        }
        line.extend([HASH_KEY, self.hash, END]);
        line
    }

    /// The end of a chain with this last line.
    pub fn end(&self) -> ChainEnd {
        ChainEnd { number: self.number, hash: self.hash.to_owned() }
    }
}

/// Splits a hash off the end of a text, with its key before it.
fn split_hash<'t>(text: &'t str, key: &str) -> Option<(&'t str, &'t str)> {
    let at = text.len().checked_sub(HASH_LEN)?;
    let (rest, hash) = (text.get(..at)?, text.get(at..)?);
    let is_hash = hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some((rest.strip_suffix(key)?, hash)).filter(|_| is_hash)
}

fn chained(previous: &str, head: &str, digest: Option<&str>) -> String {
    let mut text = format!("{previous}\n{head}");
    if let Some(digest) = digest {
        text.extend(["\n", digest]);
    }
    hash(&text)
}

fn hash(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(head: &str, subject: Option<&str>) -> Content {
        Content { head: head.to_owned(), subject: subject.map(str::to_owned) }
    }

    fn lines() -> Vec<String> {
        let mut end = ChainEnd::default();
        let contents = [
            content(r#""what":"put""#, Some(r#""caller":"a,\"caller\":","nonce":"1""#)),
            content(r#""what":"refused","domain":",\"caller\":""#, None),
            content(r#""what":"x,""#, Some(r#""caller":"b","nonce":"2""#)),
        ];
        let line = |(index, content)| end.push(content, index == 0).trim_end().to_owned();
        contents.iter().enumerate().map(line).collect()
    }

    fn is_whole(lines: &[String]) -> bool {
        let mut previous = ChainEnd::default().hash;
        lines.iter().all(|line| {
            let Some(line) = AuditLine::parse(line) else { return false };
            let follows = line.follows(&previous);
            line.hash.clone_into(&mut previous);
            follows
        })
    }

    #[test]
    fn each_line_is_json_and_follows_the_one_before() {
        let lines = lines();
        assert!(is_whole(&lines));
        for line in &lines {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
        let first = AuditLine::parse(&lines[0]).unwrap();
        assert_eq!((first.number, first.previous), (1, Some(&*ChainEnd::default().hash)));
        assert_eq!(first.subject, Some(r#""caller":"a,\"caller\":","nonce":"1""#));
        assert_eq!(AuditLine::parse(&lines[1]).unwrap().subject, None);
    }

    #[test]
    fn a_change_a_removal_and_another_order_show() {
        let all = lines();
        for (from, to) in
            [("put", "Put"), ("\"seq\":2", "\"seq\":3"), ("\"b\"", "\"c\""), (":\"2\"", ":\"3\"")]
        {
            let changed: Vec<String> = all.iter().map(|line| line.replace(from, to)).collect();
            assert_ne!(changed, all);
            assert!(!is_whole(&changed), "{from} -> {to}");
        }
        assert!(!is_whole(&[all[0].clone(), all[2].clone()]));
        assert!(!is_whole(&[all[1].clone(), all[0].clone(), all[2].clone()]));
        assert!(!is_whole(&all[1..]));
    }

    #[test]
    fn a_subject_can_be_erased_and_the_chain_stays_whole() {
        let mut all = lines();
        all[0] = AuditLine::parse(&all[0]).unwrap().erased();
        assert!(is_whole(&all) && !all[0].contains("caller"), "{}", all[0]);
        let erased = all.iter().map(|line| AuditLine::parse(line).unwrap().is_erased());
        assert_eq!(erased.collect::<Vec<_>>(), [true, false, false]);
        serde_json::from_str::<serde_json::Value>(&all[0]).unwrap();
    }

    #[test]
    fn other_texts_are_no_lines() {
        for text in ["", "{}", "{\"seq\":1}", "{\"seq\":1,\"hash\":\"é\"}", "x"] {
            assert_eq!(AuditLine::parse(text), None, "{text}");
        }
        let short = format!("{{\"hash\":\"{}\"}}", "0".repeat(HASH_LEN));
        assert_eq!(AuditLine::parse(&short), None);
    }
}
