//! Standard output: text for people, one document for scripts, raw bytes for pipes.

use super::failure::{Failure, FailureKind};
use serde::Serialize;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};

/// What is printed as it comes is printed so many bytes at a time.
pub(crate) const BUFFER_BYTES: usize = 64 * 1024;

/// Who reads what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Someone at a terminal or reading a mail from cron.
    Person,
    /// A program that asked for JSON.
    Script,
}

/// Where results go. Once the reader has closed the pipe, the rest is dropped without a word.
pub(crate) struct Output {
    reader: Reader,
    destination: Box<dyn Write + Send>,
    closed: bool,
}

impl Output {
    /// Standard output, for people with colours where it is a terminal that wants them. What colours text leaves out bytes that
    /// are none: a program gets all of them.
    pub(crate) fn stdout(reader: Reader) -> Self {
        match reader {
            Reader::Person => Self::to(reader, Box::new(anstream::AutoStream::auto(io::stdout()))),
            Reader::Script => Self::to(reader, Box::new(io::stdout())),
        }
    }

    /// Any destination.
    pub(crate) fn to(reader: Reader, destination: Box<dyn Write + Send>) -> Self {
        Self { reader, destination, closed: false }
    }

    /// Who reads it.
    pub(crate) fn reader(&self) -> Reader {
        self.reader
    }

    /// Prints text; names in it have gone through [`super::printable::Printable`].
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }

    /// Prints the command's one document: `body`, an object, with its schema before its own keys.
    pub(crate) fn document<T: Serialize>(&mut self, schema: &'static str, body: &T) -> Result<(), Failure> {
        let line = line_of(schema, body)?;
        self.bytes(&line)
    }

    /// Begins a document with a list of which not all is known yet: `body`, an object, and after its own keys the list.
    pub(crate) fn list_document<T: Serialize>(
        &mut self,
        schema: &'static str,
        body: &T,
        list: &'static str,
    ) -> Result<ListDocument<'_>, Failure> {
        let mut buffer = line_of(schema, body)?;
        // The brace and the end of the line come when the list has ended.
        buffer.truncate(buffer.len() - 2);
        buffer.extend_from_slice(format!(",\"{list}\":[").as_bytes());
        Ok(ListDocument { output: self, schema, buffer, has_items: false })
    }

    /// Fails, as a quiet success, once the reader has closed the pipe: for what is undone, or not noted, where nobody read it.
    pub(crate) fn unless_closed(&self) -> Result<(), Failure> {
        if self.closed { Err(stdout_failure(&io::ErrorKind::BrokenPipe.into())) } else { Ok(()) }
    }

    /// Prints bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.closed {
            return Ok(());
        }
        let written = self.destination.write_all(bytes).and_then(|()| self.destination.flush());
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => Err(stdout_failure(&error)),
            Ok(()) => Ok(()),
        }
    }
}

fn line_of<T: Serialize>(schema: &'static str, body: &T) -> Result<Vec<u8>, Failure> {
    #[derive(Serialize)]
    struct Document<'a, T> {
        schema: &'static str,
        #[serde(flatten)]
        body: &'a T,
    }
    let mut line = serde_json::to_vec(&Document { schema, body }).map_err(|error| no_json(schema, error))?;
    line.push(b'\n');
    Ok(line)
}

fn no_json(schema: &'static str, error: serde_json::Error) -> Failure {
    Failure::new(FailureKind::Output, format!("cannot write {schema} as JSON")).because(error)
}

/// A document whose list is printed as it comes: one that fits into the buffer is printed whole or not at all.
pub(crate) struct ListDocument<'o> {
    output: &'o mut Output,
    schema: &'static str,
    buffer: Vec<u8>,
    has_items: bool,
}

impl ListDocument<'_> {
    /// Adds to the list.
    pub(crate) fn item<T: Serialize>(&mut self, item: &T) -> Result<(), Failure> {
        if self.has_items {
            self.buffer.push(b',');
        }
        self.has_items = true;
        serde_json::to_writer(&mut self.buffer, item).map_err(|error| no_json(self.schema, error))?;
        if self.buffer.len() >= BUFFER_BYTES {
            self.output.bytes(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Ends list and document.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        self.buffer.extend_from_slice(b"]}\n");
        self.output.bytes(&self.buffer)
    }
}

/// Standard output for a file's bytes. Unlike [`Output`] it says when the pipe is closed, so that work nobody wants
/// any more ends; [`output_failure`] then makes a quiet success of it.
#[derive(Debug)]
pub(crate) struct RawStdout(io::Stdout);

impl RawStdout {
    /// The process's standard output.
    pub(crate) fn new() -> Self {
        Self(io::stdout())
    }
}

impl Write for RawStdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(mark)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(mark)
    }
}

/// What stands under every error of [`RawStdout`], so that it is told from those of sockets and disks.
#[derive(Debug)]
struct StdoutError(io::Error);

impl fmt::Display for StdoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for StdoutError {}

fn mark(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), StdoutError(error))
}

/// The failure an error stands for when standard output itself is what failed; `None` for any other error.
pub(crate) fn output_failure(error: &(dyn Error + 'static)) -> Option<Failure> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(StdoutError(cause)) = inner.and_then(|inner| inner.downcast_ref()) {
            return Some(stdout_failure(cause));
        }
        next = error.source();
    }
    None
}

fn stdout_failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(FailureKind::ClosedPipe, "standard output was closed"),
        _ => Failure::new(FailureKind::Output, "cannot write to standard output").because(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic before").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Fails(io::ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_document_is_one_line_that_begins_with_its_schema() {
        #[derive(Serialize)]
        struct Body {
            files: Vec<u8>,
        }
        let memory = Memory::default();
        let mut output = Output::to(Reader::Script, Box::new(memory.clone()));
        output.document("shard.list/1", &Body { files: vec![1] }).expect("memory takes all");
        let bytes = memory.0.lock().expect("no panic before").clone();
        assert_eq!(bytes, b"{\"schema\":\"shard.list/1\",\"files\":[1]}\n");
    }

    #[test]
    fn a_list_that_is_printed_as_it_comes_is_the_document_that_it_would_be_at_once() {
        #[derive(Serialize)]
        struct Head {
            vault: &'static str,
        }
        for count in [0, 1, 2, 20_000] {
            let memory = Memory::default();
            let mut output = Output::to(Reader::Script, Box::new(memory.clone()));
            let mut list = output.list_document("shard.list/1", &Head { vault: "v" }, "keys").expect("a head");
            (0..count).for_each(|number| list.item(&number).expect("memory takes all"));
            let printed = memory.0.lock().expect("no panic before").len();
            assert_eq!(printed > 0, count > 2, "it is printed as it comes, and a short one at the end");
            list.end().expect("memory takes all");
            let bytes = memory.0.lock().expect("no panic before").clone();
            let keys: Vec<String> = (0..count).map(|number| number.to_string()).collect();
            let whole = format!("{{\"schema\":\"shard.list/1\",\"vault\":\"v\",\"keys\":[{}]}}\n", keys.join(","));
            assert!(bytes == whole.as_bytes(), "{count}");
        }
    }

    #[test]
    fn a_closed_pipe_is_silence_and_a_full_device_a_failure() {
        let mut closed = Output::to(Reader::Person, Box::new(Fails(io::ErrorKind::BrokenPipe)));
        assert_eq!(closed.unless_closed(), Ok(()));
        assert_eq!((closed.text("a"), closed.text("b")), (Ok(()), Ok(())));
        let failure = closed.unless_closed().expect_err("nobody read it");
        assert_eq!(failure.kind, FailureKind::ClosedPipe);
        let mut full = Output::to(Reader::Person, Box::new(Fails(io::ErrorKind::StorageFull)));
        let failure = full.text("a").expect_err("it is full");
        assert_eq!(failure.kind, FailureKind::Output);
        assert_eq!(failure.causes.len(), 1);
    }

    #[test]
    fn only_a_pipe_of_our_own_that_closed_is_a_quiet_success() {
        #[derive(Debug, thiserror::Error)]
        #[error("recovering a")]
        struct Operation(#[source] io::Error);
        let ours = Operation(mark(io::ErrorKind::BrokenPipe.into()));
        assert_eq!(output_failure(&ours).map(|failure| failure.kind), Some(FailureKind::ClosedPipe));
        let full = Operation(mark(io::ErrorKind::StorageFull.into()));
        assert_eq!(output_failure(&full).map(|failure| failure.kind), Some(FailureKind::Output));
        let socket = Operation(io::ErrorKind::BrokenPipe.into());
        assert_eq!(output_failure(&socket), None);
    }
}
