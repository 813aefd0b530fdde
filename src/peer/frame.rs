//! Frames: a length of four bytes, and that many bytes. A length is checked before anything is held for it.

use super::wire::WireError;
use bytes::{Bytes, BytesMut};

/// How many bytes stand before a frame's content.
pub const FRAME_HEADER_BYTES: usize = 4;
/// The largest frame before a peer is known.
pub const MAX_HANDSHAKE_FRAME_BYTES: usize = 1024;
/// The largest message that goes between nodes in one piece.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;

/// How much room is made at a time: a length that was said is not yet a length that came.
const GROWTH_BYTES: usize = 16 * 1024;

/// A frame's length as it stands before it.
pub fn frame_header(content_bytes: usize) -> Result<[u8; FRAME_HEADER_BYTES], WireError> {
    let long = WireError::Long { what: "a frame", length: content_bytes as u64, limit: MAX_MESSAGE_BYTES };
    match u32::try_from(content_bytes) {
        Ok(length) if content_bytes <= MAX_MESSAGE_BYTES => Ok(length.to_le_bytes()),
        _ => Err(long),
    }
}

/// The content's length, when it is within the limit.
pub fn read_frame_header(header: [u8; FRAME_HEADER_BYTES], limit: usize) -> Result<usize, WireError> {
    let length = u32::from_le_bytes(header);
    let fits = usize::try_from(length).ok().filter(|length| *length <= limit);
    fits.ok_or(WireError::Long { what: "a frame", length: u64::from(length), limit })
}

/// Content with its length before it.
pub fn frame(content: &[u8]) -> Result<Bytes, WireError> {
    let header = frame_header(content.len())?;
    Ok([header.as_slice(), content].concat().into())
}

/// Puts frames together from bytes that come in pieces. Holds one frame's bytes at most, and only those that came.
#[derive(Debug)]
pub struct FrameReader {
    limit: usize,
    header: [u8; FRAME_HEADER_BYTES],
    header_bytes: usize,
    content_bytes: usize,
    content: BytesMut,
}

impl FrameReader {
    /// Takes frames with at most `limit` bytes of content.
    pub fn new(limit: usize) -> Self {
        Self { limit, header: [0; 4], header_bytes: 0, content_bytes: 0, content: BytesMut::new() }
    }

    /// Takes from the front of `input` what the next frame needs; the frame's content, once it is whole. After an error
    /// nothing more can be read.
    pub fn take(&mut self, input: &mut &[u8]) -> Result<Option<Bytes>, WireError> {
        if self.header_bytes < FRAME_HEADER_BYTES {
            let part = split_front(input, FRAME_HEADER_BYTES - self.header_bytes);
            self.header[self.header_bytes..self.header_bytes + part.len()].copy_from_slice(part);
            self.header_bytes += part.len();
            if self.header_bytes < FRAME_HEADER_BYTES {
                return Ok(None);
            }
            self.content_bytes = read_frame_header(self.header, self.limit)?;
        }
        while self.content.len() < self.content_bytes && !input.is_empty() {
            let part = split_front(input, GROWTH_BYTES.min(self.content_bytes - self.content.len()));
            self.content.extend_from_slice(part);
        }
        if self.content.len() < self.content_bytes {
            return Ok(None);
        }
        self.header_bytes = 0;
        Ok(Some(self.content.split().freeze()))
    }

    /// Whether a frame has begun and is not whole: a stream that ends here was cut.
    pub fn is_within_a_frame(&self) -> bool {
        self.header_bytes > 0
    }

    /// How many bytes are held of a frame that is not whole.
    pub fn held_bytes(&self) -> usize {
        self.header_bytes + self.content.len()
    }
}

fn split_front<'a>(input: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (front, rest) = input.split_at(most.min(input.len()));
    *input = rest;
    front
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_beyond_the_limit_is_refused_before_anything_is_held_for_it() {
        for length in [MAX_HANDSHAKE_FRAME_BYTES as u32 + 1, u32::MAX] {
            let mut reader = FrameReader::new(MAX_HANDSHAKE_FRAME_BYTES);
            let bytes = length.to_le_bytes();
            let outcome = reader.take(&mut bytes.as_slice());
            let limit = MAX_HANDSHAKE_FRAME_BYTES;
            assert_eq!(outcome, Err(WireError::Long { what: "a frame", length: u64::from(length), limit }));
            assert_eq!(reader.content.capacity(), 0);
        }
        assert!(frame(&vec![0; MAX_MESSAGE_BYTES]).is_ok() && frame(&vec![0; MAX_MESSAGE_BYTES + 1]).is_err());
    }

    #[test]
    fn a_length_that_was_said_takes_no_room_before_it_came() {
        let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
        let mut input = frame_header(MAX_MESSAGE_BYTES).expect("a header").to_vec();
        input.push(1);
        assert_eq!(reader.take(&mut input.as_slice()), Ok(None));
        assert!(reader.content.capacity() <= GROWTH_BYTES && reader.held_bytes() == 5);
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
            cuts in prop::collection::vec(1_usize..64, 1..40),
        ) {
            let sent: Vec<u8> = contents.iter().flat_map(|content| frame(content).expect("short")).collect();
            let (mut reader, mut found, mut rest, mut at) = (FrameReader::new(300), Vec::new(), sent.as_slice(), 0);
            while !rest.is_empty() {
                let mut piece = split_front(&mut rest, cuts[at % cuts.len()]);
                at += 1;
                while let Some(content) = reader.take(&mut piece).expect("frames") {
                    found.push(content.to_vec());
                    if piece.is_empty() { break; }
                }
            }
            prop_assert_eq!(found, contents);
            prop_assert!(!reader.is_within_a_frame());
        }

        #[test]
        fn any_bytes_are_frames_or_an_error_and_no_more_is_held_than_came(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let (mut reader, mut input) = (FrameReader::new(64), bytes.as_slice());
            while let Ok(Some(content)) = reader.take(&mut input) {
                prop_assert!(content.len() <= 64);
                if input.is_empty() { break; }
            }
            prop_assert!(reader.held_bytes() <= 64 + FRAME_HEADER_BYTES);
        }
    }
}
