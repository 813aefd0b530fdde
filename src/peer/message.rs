//! What is said on a session's streams: what each stream is for, and on the control stream that a peer lives or leaves.

use super::wire::{Fields, WireError};

/// A stream's header, in a frame, has this many bytes.
pub const STREAM_HEADER_BYTES: usize = 10;
/// The largest message of the control stream.
pub const MAX_CONTROL_BYTES: usize = 16;

const HEADER_VERSION: u8 = 1;
const CONTROL: u8 = 0;
const MESSAGES: u8 = 1;
const SERVICE: u8 = 2;
const PING: u8 = 0;
const PONG: u8 = 1;
const GOODBYE: u8 = 2;

/// What a stream is for: the first frame of each says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamPurpose {
    /// Heartbeats and goodbyes: one a session, opened by the one who began it.
    Control,
    /// Messages one way, each in a frame, on the stream with this number.
    Messages(u64),
    /// Requests and answers of the service with this number.
    Service(u64),
}

impl StreamPurpose {
    /// The bytes of the header.
    pub fn to_bytes(self) -> [u8; STREAM_HEADER_BYTES] {
        let (kind, number) = match self {
            Self::Control => (CONTROL, 0),
            Self::Messages(number) => (MESSAGES, number),
            Self::Service(number) => (SERVICE, number),
        };
        let mut bytes = [HEADER_VERSION, kind, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[2..].copy_from_slice(&number.to_le_bytes());
        bytes
    }

    /// Reads them again.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new(bytes);
        let (version, kind, number) = (fields.u8()?, fields.u8()?, fields.u64()?);
        fields.end()?;
        if version != HEADER_VERSION {
            return Err(WireError::Unknown { what: "version of a stream", value: u64::from(version) });
        }
        match (kind, number) {
            (CONTROL, 0) => Ok(Self::Control),
            (MESSAGES, number) => Ok(Self::Messages(number)),
            (SERVICE, number) => Ok(Self::Service(number)),
            _ => Err(WireError::Unknown { what: "kind of stream", value: u64::from(kind) }),
        }
    }
}

/// A message of the control stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Asks for a sign of life; the number comes back.
    Ping(u64),
    /// The sign of life.
    Pong(u64),
    /// The sender leaves and opens no more streams than the so many that it opened: when they are read, the session is over.
    Goodbye(u64),
}

impl Control {
    /// The bytes of the message.
    pub fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Ping(number) => [[PING].as_slice(), &number.to_le_bytes()].concat(),
            Self::Pong(number) => [[PONG].as_slice(), &number.to_le_bytes()].concat(),
            Self::Goodbye(opened) => [[GOODBYE].as_slice(), &opened.to_le_bytes()].concat(),
        }
    }

    /// Reads them again.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new(bytes);
        let message = match fields.u8()? {
            PING => Self::Ping(fields.u64()?),
            PONG => Self::Pong(fields.u64()?),
            GOODBYE => Self::Goodbye(fields.u64()?),
            kind => return Err(WireError::Unknown { what: "control message", value: u64::from(kind) }),
        };
        fields.end()?;
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn headers_and_control_messages_read_back(number in any::<u64>()) {
            for purpose in [StreamPurpose::Control, StreamPurpose::Messages(number), StreamPurpose::Service(number)] {
                prop_assert_eq!(StreamPurpose::parse(&purpose.to_bytes()), Ok(purpose));
            }
            for message in [Control::Ping(number), Control::Pong(number), Control::Goodbye(number)] {
                prop_assert!(message.to_bytes().len() <= MAX_CONTROL_BYTES);
                prop_assert_eq!(Control::parse(&message.to_bytes()), Ok(message));
            }
        }

        #[test]
        fn what_is_read_is_written_the_same_again_and_anything_else_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(purpose) = StreamPurpose::parse(&bytes) {
                prop_assert_eq!(purpose.to_bytes().to_vec(), bytes.clone());
            }
            if let Ok(message) = Control::parse(&bytes) {
                prop_assert_eq!(message.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn a_header_of_another_version_kind_or_length_is_refused() {
        let bytes = StreamPurpose::Messages(7).to_bytes();
        for length in 0..bytes.len() {
            assert!(StreamPurpose::parse(&bytes[..length]).is_err(), "{length}");
        }
        assert!(StreamPurpose::parse(&[bytes.as_slice(), &[0]].concat()).is_err());
        for (at, value) in [(0, 0), (0, 2), (1, 3), (1, 0)] {
            let mut other = bytes;
            other[at] = value;
            assert!(StreamPurpose::parse(&other).is_err(), "{at} {value}");
        }
    }
}
