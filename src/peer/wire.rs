//! Numbers and bytes one after another, as every message here is written: little-endian, lengths before what they count.

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It ends too early.
    #[error("a message ends after {had} bytes of a field of {needed}")]
    Short {
        /// What the field has.
        needed: usize,
        /// What was left.
        had: usize,
    },
    /// It goes on after its end.
    #[error("{0} bytes follow the end of a message")]
    Trailing(usize),
    /// A length beyond what is allowed there.
    #[error("{what} has {length} bytes, at most {limit} are allowed")]
    Long {
        /// What has that length.
        what: &'static str,
        /// The length.
        length: u64,
        /// What is allowed.
        limit: usize,
    },
    /// A value that means nothing there.
    #[error("{value} is no {what}")]
    Unknown {
        /// What it should be.
        what: &'static str,
        /// The value.
        value: u64,
    },
}

/// Takes the fields of a message from its front.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], WireError> {
        let short = WireError::Short { needed: LENGTH, had: self.rest.len() };
        let (field, rest) = self.rest.split_first_chunk().ok_or(short)?;
        self.rest = rest;
        Ok(*field)
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Bytes after their length of two bytes, which is compared with the limit first.
    pub(super) fn bytes(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], WireError> {
        let length = usize::from(self.u16()?);
        if length > limit {
            return Err(WireError::Long { what, length: length as u64, limit });
        }
        let short = WireError::Short { needed: length, had: self.rest.len() };
        let (field, rest) = self.rest.split_at_checked(length).ok_or(short)?;
        self.rest = rest;
        Ok(field)
    }

    /// A message has exactly its fields.
    pub(super) fn end(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing(self.rest.len())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_in_their_order_and_no_further() {
        let mut fields = Fields::new(&[1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!((fields.u8(), fields.u16(), fields.u64()), (Ok(1), Ok(0x0302), Ok(4)));
        assert_eq!(fields.u16(), Err(WireError::Short { needed: 2, had: 1 }));
        assert_eq!(fields.end(), Err(WireError::Trailing(1)));
        assert_eq!(Fields::new(&[]).end(), Ok(()));
    }

    #[test]
    fn a_length_beyond_its_limit_or_the_message_is_refused() {
        let read = |bytes: &'static [u8]| Fields::new(bytes).bytes("a word", 2);
        assert_eq!(read(&[2, 0, 7, 8, 9]), Ok(&[7, 8][..]));
        assert_eq!(read(&[0, 0]), Ok(&[][..]));
        assert_eq!(read(&[2, 0, 7]), Err(WireError::Short { needed: 2, had: 1 }));
        assert_eq!(read(&[3, 0, 7, 8, 9]), Err(WireError::Long { what: "a word", length: 3, limit: 2 }));
    }
}
