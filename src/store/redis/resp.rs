//! Reads replies of a server (RESP 2) in place: texts are borrowed from the bytes that arrived. The library makes a value of
//! each text, which takes longer than all else in an answer of a million texts.

use std::str;

use crate::store::StoreError;

/// Maximum length of a line and of a text: longer ones are no sums.
const LINE_LEN_MAX: usize = 1024;
const TEXT_LEN_MAX: usize = 16 * 1024 * 1024;

/// A part of a reply, with its length in bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Part<'b> {
    pub content: Content<'b>,
    pub len: usize,
}

/// What a part says.
#[derive(Debug, PartialEq, Eq)]
pub enum Content<'b> {
    /// The start of an array of so many parts.
    Array(usize),
    Text(&'b str),
    /// A status, such as `OK`.
    Status,
    Error(&'b str),
}

/// The first part of the bytes; None if more of it must arrive.
///
/// # Errors
/// If it is not part of a reply.
pub fn part(bytes: &[u8]) -> Result<Option<Part<'_>>, StoreError> {
    let Some(line_len) = bytes.iter().take(LINE_LEN_MAX).position(|byte| *byte == b'\r') else {
        return if LINE_LEN_MAX <= bytes.len() { Err(garbled("a long line")) } else { Ok(None) };
    };
    let Some((kind, line)) = bytes[..line_len].split_first() else {
        return Err(garbled("an empty line"));
    };
    let start = line_len + 2;
    let Some(rest) = bytes.get(start..) else { return Ok(None) };
    let (content, len) = match kind {
        b'*' => (Content::Array(number(line)?), start),
        b'$' => {
            let len = number(line)?;
            if TEXT_LEN_MAX < len {
                return Err(garbled("a long text"));
            }
            match (rest.get(..len), rest.get(len..len + 2)) {
                (Some(text), Some(b"\r\n")) => (Content::Text(utf8(text)?), start + len + 2),
                (_, Some(_)) => return Err(garbled("a text without an end")),
                _ => return Ok(None),
            }
        }
        b'+' => (Content::Status, start),
        b'-' => (Content::Error(utf8(line)?), start),
        _ => return Err(garbled("another type")),
    };
    Ok(Some(Part { content, len }))
}

/// The error of an invalid reply.
pub fn garbled(reason: &str) -> StoreError {
    StoreError::Garbled { reason: reason.to_owned() }
}

fn number(digits: &[u8]) -> Result<usize, StoreError> {
    utf8(digits)?.parse().map_err(|_| garbled("an invalid length"))
}

fn utf8(text: &[u8]) -> Result<&str, StoreError> {
    str::from_utf8(text).map_err(|_| garbled("a text that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_when_they_are_complete() {
        let check = |bytes: &[u8], content: Content<'_>| {
            let read = |bytes| part(bytes).unwrap();
            assert_eq!(read(bytes), Some(Part { content, len: bytes.len() }));
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]), None, "{end} bytes of {bytes:?}");
            }
            let followed = [bytes, b"$1\r\n"].concat();
            assert_eq!(read(&followed).map(|part| part.len), Some(bytes.len()));
        };
        check(b"*128\r\n", Content::Array(128));
        check(b"*0\r\n", Content::Array(0));
        check(b"$4\r\na\r\nb\r\n", Content::Text("a\r\nb"));
        check(b"$0\r\n\r\n", Content::Text(""));
        check(b"+OK\r\n", Content::Status);
        check(b"-MOVED 1 :7000\r\n", Content::Error("MOVED 1 :7000"));
    }

    #[test]
    fn no_bytes_that_are_not_a_reply_are_waited_for() {
        let long = [b"+".as_slice(), &[b'x'; 2 * LINE_LEN_MAX]].concat();
        for bytes in [
            b"\r\n".as_slice(),
            b"$x\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"$99999999999\r\n",
            b"$99999999999999999999999\r\n",
            b"$1\r\nab\r\n",
            b"$1\r\n\xff\r\n",
            b"%1\r\n",
            &long,
        ] {
            assert!(part(bytes).is_err(), "{bytes:?}");
        }
    }
}
