//! The lines of what is imported, each read as it comes: no line is ever held as a whole.

use super::error::{Error, Result};
use super::value::MAX_VALUE_BYTES;
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Read};

/// A text in a line has at most so many characters: those of the base64 of the longest value, and of its name.
const MAX_TEXT_CHARACTERS: u64 = MAX_VALUE_BYTES as u64 / 3 * 4 + 64;
/// The reader of JSON takes bytes one by one: so many are fetched for it at a time.
const BUFFER_BYTES: usize = 64 * 1024;

/// The lines of an input, and the hash of all that was read of them.
pub(super) struct Lines<'i> {
    input: &'i mut dyn BufRead,
    number: u64,
    hasher: blake3::Hasher,
    most_characters: u64,
}

impl<'i> Lines<'i> {
    pub(super) fn new(input: &'i mut dyn BufRead) -> Self {
        Self { input, number: 0, hasher: blake3::Hasher::new(), most_characters: MAX_TEXT_CHARACTERS }
    }

    /// The hash of the lines so far.
    pub(super) fn hash(&self) -> blake3::Hash {
        self.hasher.finalize()
    }

    /// Whether something comes after the lines so far.
    pub(super) fn has_more(&mut self) -> Result<bool> {
        let rest = self.input.fill_buf().map_err(not_read)?;
        Ok(!rest.is_empty())
    }

    /// What the next line says, of at most so many bytes.
    pub(super) fn next<T: DeserializeOwned>(&mut self, most_bytes: u64) -> Result<T> {
        self.number += 1;
        let mut line = Line { lines: self, rest_bytes: most_bytes, is_over: false, text: Text::Outside, fault: None };
        let parsed = serde_json::from_reader(BufReader::with_capacity(BUFFER_BYTES, &mut line));
        let fault = line.fault.take();
        parsed.map_err(|error: serde_json::Error| match fault {
            Some(why) => self.wrong(why),
            None if error.is_io() => not_read(error.into()),
            None => self.wrong(error.to_string()),
        })
    }

    /// The line that was read last is not what an export writes.
    pub(super) fn wrong(&self, why: impl Into<String>) -> Error {
        Error::Import { line: self.number, why: why.into() }
    }
}

fn not_read(source: std::io::Error) -> Error {
    Error::Transfer { doing: "read", source }
}

/// One line, up to its end.
struct Line<'l, 'i> {
    lines: &'l mut Lines<'i>,
    rest_bytes: u64,
    is_over: bool,
    text: Text,
    /// Why it is not read on.
    fault: Option<&'static str>,
}

/// Where in a text of JSON a byte is, and how many characters of it came before: its reader keeps a text as a whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Text {
    Outside,
    Inside {
        count: u64,
    },
    /// After the backslash.
    Escape {
        count: u64,
    },
}

impl Text {
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Outside, b'"') => Self::Inside { count: 0 },
            (Self::Outside, _) | (Self::Inside { .. }, b'"') => Self::Outside,
            (Self::Inside { count }, b'\\') => Self::Escape { count },
            (Self::Inside { count }, _) => Self::Inside { count: count + 1 },
            // The four digits of a number are no characters of the text.
            (Self::Escape { count }, b'u') => Self::Inside { count: count.saturating_sub(4) + 1 },
            (Self::Escape { count }, _) => Self::Inside { count: count + 1 },
        }
    }

    fn is_longer_than(self, characters: u64) -> bool {
        matches!(self, Self::Inside { count } if count > characters)
    }
}

impl Read for Line<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.is_over {
            return Ok(0);
        }
        let found = self.lines.input.fill_buf()?;
        let found = &found[..found.len().min(buffer.len())];
        let end = found.iter().position(|byte| *byte == b'\n');
        let count = end.map_or(found.len(), |end| end + 1);
        if count as u64 > self.rest_bytes {
            self.fault = Some("it is longer than any such line of an export");
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        let taken = &found[..count];
        self.text = taken.iter().fold(self.text, |text, byte| text.after(*byte));
        if self.text.is_longer_than(self.lines.most_characters) {
            self.fault = Some("a text in it is longer than any value");
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.rest_bytes -= count as u64;
        self.is_over = end.is_some();
        self.lines.hasher.update(taken);
        buffer[..count].copy_from_slice(taken);
        self.lines.input.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_characters_of_a_text_are_counted_as_its_reader_keeps_them() {
        let after = |json: &str| json.bytes().fold(Text::Outside, Text::after);
        assert!(after(r#"{"a":"b\"c","#) == Text::Outside && after("[1,2") == Text::Outside);
        assert!(after(r#"["a\"b"#) == Text::Inside { count: 3 });
        assert!(after(r#"["abcd\u0041\\"#) == Text::Inside { count: 6 });
        assert!(after(r#"["\"#) == Text::Escape { count: 0 });
    }

    #[test]
    fn what_comes_before_a_lines_end_is_that_line_and_no_more() {
        let mut input: &[u8] = b"[1]\n {\"a\":\"\\n\"} \n\"no end\"";
        let mut lines = Lines::new(&mut input);
        assert_eq!(lines.next::<Vec<u8>>(4).expect("a line"), [1]);
        let hash = lines.hash();
        assert_eq!(hash, blake3::hash(b"[1]\n"));
        assert!(lines.has_more().expect("read"));
        let object: serde_json::Value = lines.next(100).expect("a line");
        assert_eq!(object["a"], "\n");
        assert_eq!(lines.next::<String>(100).expect("a line"), "no end");
        assert!(!lines.has_more().expect("read"));
        assert!(matches!(lines.next::<String>(100), Err(Error::Import { line: 4, .. })));
    }

    #[test]
    fn a_line_that_is_too_long_is_told_so_and_not_read_to_its_end() {
        let mut input: &[u8] = b"[1,2,3,4,5]\n";
        let error = Lines::new(&mut input).next::<Vec<u8>>(11).expect_err("it has twelve");
        assert!(error.to_string().contains("longer than any such line"), "{error}");
        // Longer than what is read at once, as any text is that is too long.
        let mut input = BufReader::with_capacity(2, &b"[\"123\",\"12345678\"]\n"[..]);
        let mut lines = Lines { most_characters: 3, ..Lines::new(&mut input) };
        let error = lines.next::<Vec<String>>(100).expect_err("one has eight characters");
        assert!(error.to_string().contains("longer than any value"), "{error}");
    }
}
