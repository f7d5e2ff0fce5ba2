//! Protobuf's wire format, read and written in place.
//!
//! Reading borrows every text from the message, and writing goes straight into the bytes that are sent: the
//! structs that generated code puts between cost more than a decision. What is read and written by this is
//! compared with the generated code in the tests of `request.rs` and `response.rs`.

use std::str;

use prost::DecodeError;
use prost::encoding::DecodeContext;
use prost::encoding::WireType;
use prost::encoding::decode_key;
use prost::encoding::decode_varint;
use prost::encoding::skip_field;
use smallvec::SmallVec;

/// Why bytes are no message.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WireError {
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    #[error("field {tag} has another wire type")]
    OtherType { tag: u32 },
    #[error("field {tag} is cut short")]
    CutShort { tag: u32 },
    #[error("field {tag} is not UTF-8")]
    NotUtf8 { tag: u32 },
}

/// The fields of a message, in the order of its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(&'a [u8]);

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    pub tag: u32,
    value: Value<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a wire type that no field has that is read here.
    Other,
}

impl<'a> Fields<'a> {
    /// The fields of the message in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next field; None at the end.
    ///
    /// # Errors
    /// When the bytes are no field.
    pub fn next(&mut self) -> Result<Option<Field<'a>>, WireError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (tag, wire_type) = decode_key(&mut self.0)?;
        let value = match wire_type {
            WireType::Varint => Value::Number(decode_varint(&mut self.0)?),
            WireType::LengthDelimited => {
                let len = usize::try_from(decode_varint(&mut self.0)?);
                let cut = len.ok().and_then(|len| self.0.split_at_checked(len));
                let (bytes, rest) = cut.ok_or(WireError::CutShort { tag })?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            other => {
                skip_field(other, tag, &mut self.0, DecodeContext::default())?;
                Value::Other
            }
        };
        Ok(Some(Field { tag, value }))
    }
}

impl<'a> Field<'a> {
    /// A number or a bool.
    ///
    /// # Errors
    /// When it is something else.
    pub fn u64(self) -> Result<u64, WireError> {
        match self.value {
            Value::Number(number) => Ok(number),
            Value::Bytes(_) | Value::Other => Err(WireError::OtherType { tag: self.tag }),
        }
    }

    /// The lower half of a number, which is all that counts of one of 32 bits.
    ///
    /// # Errors
    /// When it is something else.
    pub fn u32(self) -> Result<u32, WireError> {
        let low = self.u64()? & u64::from(u32::MAX);
        Ok(u32::try_from(low).expect("the upper half is cut off"))
    }

    /// A text.
    ///
    /// # Errors
    /// When it is something else.
    pub fn text(self) -> Result<&'a str, WireError> {
        str::from_utf8(self.bytes()?).map_err(|_| WireError::NotUtf8 { tag: self.tag })
    }

    /// The fields of a message within the message.
    ///
    /// # Errors
    /// When it is something else.
    pub fn fields(self) -> Result<Fields<'a>, WireError> {
        self.bytes().map(Fields)
    }

    fn bytes(self) -> Result<&'a [u8], WireError> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Number(_) | Value::Other => Err(WireError::OtherType { tag: self.tag }),
        }
    }
}

/// A message that is being written; most take no allocation.
pub type Buffer = SmallVec<[u8; 256]>;

/// Writes a message.
#[derive(Debug)]
pub struct Writer<'w>(&'w mut Buffer);

impl<'w> Writer<'w> {
    /// Writes a message at the end of `bytes`.
    pub fn new(bytes: &'w mut Buffer) -> Self {
        Self(bytes)
    }

    /// A number or a bool.
    pub fn number(&mut self, tag: u32, number: u64) {
        self.key(tag, WireType::Varint);
        push_varint(self.0, number);
    }

    /// The same, but for zero, which is what a reader takes a missing one for.
    pub fn number_unless_zero(&mut self, tag: u32, number: u64) {
        if number != 0 {
            self.number(tag, number);
        }
    }

    /// A number with a fraction.
    pub fn double(&mut self, tag: u32, number: f64) {
        self.key(tag, WireType::SixtyFourBit);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// Bytes or a text.
    pub fn bytes(&mut self, tag: u32, bytes: &[u8]) {
        self.key(tag, WireType::LengthDelimited);
        push_varint(self.0, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// The same, but for none.
    pub fn bytes_unless_empty(&mut self, tag: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.bytes(tag, bytes);
        }
    }

    /// A message within the message.
    pub fn message(&mut self, tag: u32, write: impl FnOnce(&mut Writer<'_>)) {
        self.key(tag, WireType::LengthDelimited);
        // Room for the length of most; a longer one makes way.
        let at = self.0.len();
        self.0.push(0);
        write(&mut Writer(self.0));
        let len = self.0.len() - at - 1;
        match u8::try_from(len) {
            Ok(short @ ..0x80) => self.0[at] = short,
            _ => {
                let mut prefix = Buffer::new();
                push_varint(&mut prefix, len as u64);
                self.0[at] = prefix[0];
                self.0.insert_from_slice(at + 1, &prefix[1..]);
            }
        }
    }

    fn key(&mut self, tag: u32, wire_type: WireType) {
        push_varint(self.0, u64::from(tag) << 3 | wire_type as u64);
    }
}

/// A number in groups of seven bits, the lowest first; all but the last are marked.
fn push_varint(bytes: &mut Buffer, mut number: u64) {
    const MARK: u8 = 0x80;
    while u64::from(MARK) <= number {
        bytes.push(number.to_le_bytes()[0] | MARK);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}
