//! Numbers and texts as bytes, for records in a file. A number takes seven bits a byte, the lowest first; a text follows
//! its length. All bytes are read without trust: what is cut off or too large is None.

/// Bytes of the largest number.
const NUMBER_LEN_MAX: u32 = 10;

/// Adds a number.
pub fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while 0x7f < number {
        bytes.push(low_bits(number) | 0x80);
        number >>= 7;
    }
    bytes.push(low_bits(number));
}

/// Adds a number, or that there is none.
pub fn push_optional(bytes: &mut Vec<u8>, number: Option<u64>) {
    push_number(bytes, u64::from(number.is_some()));
    if let Some(number) = number {
        push_number(bytes, number);
    }
}

/// Adds a text or bytes.
pub fn push_bytes(bytes: &mut Vec<u8>, text: &[u8]) {
    push_number(bytes, u64::try_from(text.len()).unwrap_or(u64::MAX));
    bytes.extend_from_slice(text);
}

fn low_bits(number: u64) -> u8 {
    (number & 0x7f) as u8
}

/// Reads bytes from their start.
#[derive(Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next number.
    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for index in 0..NUMBER_LEN_MAX {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            let shifted = bits << (7 * index);
            if shifted >> (7 * index) != bits {
                return None;
            }
            number |= shifted;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// The next number, of a smaller type.
    pub fn small<N: TryFrom<u64>>(&mut self) -> Option<N> {
        self.number().and_then(|number| N::try_from(number).ok())
    }

    /// The next number that may be absent.
    pub fn optional(&mut self) -> Option<Option<u64>> {
        match self.number()? {
            0 => Some(None),
            _ => self.number().map(Some),
        }
    }

    /// The next bytes with their length.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.small()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    /// The next text.
    pub fn text(&mut self) -> Option<&'a str> {
        str::from_utf8(self.bytes()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_were_written() {
        for number in [0, 1, 127, 128, 300, 1 << 35, (1 << 53) - 1, u64::MAX] {
            let mut bytes = Vec::new();
            push_number(&mut bytes, number);
            push_optional(&mut bytes, Some(number));
            push_optional(&mut bytes, None);
            let mut reader = Reader(&bytes);
            assert_eq!(reader.number(), Some(number));
            assert_eq!(reader.optional(), Some(Some(number)));
            assert_eq!(reader.optional(), Some(None));
            assert_eq!(reader.number(), None);
        }
        assert_eq!(Reader(&[0xff; 20]).number(), None);
        assert_eq!(Reader(&[5, b'a']).bytes(), None);
    }
}
