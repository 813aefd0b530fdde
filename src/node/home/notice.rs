//! What nodes tell each other: a kind and a text, as one message.

pub use crate::peer::storage::{MAX_NOTICE_BYTES, NoticeKind};

/// On which stream of messages notices go.
pub const NOTICE_STREAM: u64 = 1;

/// Why bytes or a text are no notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    /// There is nothing in it.
    #[error("a notice has a text")]
    Empty,
    /// A kind that is not known.
    #[error("a notice of the unknown kind {0}")]
    Kind(u8),
    /// It is too long.
    #[error("a notice has at most {MAX_NOTICE_BYTES} bytes, and not {0}")]
    Long(usize),
    /// It is not UTF-8.
    #[error("a notice is UTF-8")]
    NotText,
}

/// A notice; one that exists can be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    kind: NoticeKind,
    text: String,
}

impl Notice {
    /// Of this kind, with a text of 1 to [`MAX_NOTICE_BYTES`] bytes.
    pub fn new(kind: NoticeKind, text: impl Into<String>) -> Result<Self, NoticeError> {
        let text = text.into();
        match text.len() {
            0 => Err(NoticeError::Empty),
            length if length > MAX_NOTICE_BYTES => Err(NoticeError::Long(length)),
            _ => Ok(Self { kind, text }),
        }
    }

    /// What it is about.
    pub fn kind(&self) -> NoticeKind {
        self.kind
    }

    /// What it says.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// As it is sent: the kind, and the text.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&[self.kind.byte()], self.text.as_bytes()].concat()
    }

    /// Reads it again.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoticeError> {
        let (byte, text) = bytes.split_first().ok_or(NoticeError::Empty)?;
        let kind = NoticeKind::of(*byte).ok_or(NoticeError::Kind(*byte))?;
        if text.len() > MAX_NOTICE_BYTES {
            return Err(NoticeError::Long(text.len()));
        }
        Self::new(kind, std::str::from_utf8(text).map_err(|_| NoticeError::NotText)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_reads_back_and_what_is_none_is_refused() {
        for kind in NoticeKind::ALL {
            let notice = Notice::new(kind, "the disk is nearly full").expect("a notice");
            assert_eq!(Notice::parse(&notice.to_bytes()), Ok(notice.clone()));
            assert_eq!(serde_json::to_value(kind).expect("JSON"), kind.name());
        }
        let longest = "x".repeat(MAX_NOTICE_BYTES);
        assert!(Notice::new(NoticeKind::Text, longest.as_str()).is_ok());
        let long = Notice::new(NoticeKind::Text, longest + "x");
        assert_eq!(long, Err(NoticeError::Long(MAX_NOTICE_BYTES + 1)));
        for (bytes, error) in [
            (&b""[..], NoticeError::Empty),
            (b"\x01", NoticeError::Empty),
            (b"\x00a", NoticeError::Kind(0)),
            (b"\x05a", NoticeError::Kind(5)),
            (b"\x01\xff", NoticeError::NotText),
            (&[1; MAX_NOTICE_BYTES + 2], NoticeError::Long(MAX_NOTICE_BYTES + 1)),
        ] {
            assert_eq!(Notice::parse(bytes), Err(error));
        }
    }
}
