//! Blocking pipes as the library wants them: standard input and output read and written beside the reactor.
//!
//! One block is under way at a time, so that memory stays small and an error is known before the next write. Whoever
//! stops waiting leaves at most one blocked thread behind, which ends with the process.

use std::io::{self, Read, Write};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

/// How much is read or written at a time, in bytes: pipes hold 64 KiB, files gain nothing above.
const BLOCK_BYTES: usize = 256 * 1024;

/// A blocking reader, read beside the reactor.
pub(crate) struct BlockingInput<R> {
    state: InputState<R>,
}

enum InputState<R> {
    /// Bytes that were read and not yet taken, from `taken` on.
    Idle { reader: R, block: Vec<u8>, taken: usize },
    /// A block is being read.
    Busy(JoinHandle<(R, Vec<u8>, io::Result<usize>)>),
    /// It failed; what failed once is not read again.
    Failed,
}

impl<R: Read + Send + 'static> BlockingInput<R> {
    /// Reads from `reader`.
    pub(crate) fn new(reader: R) -> Self {
        Self { state: InputState::Idle { reader, block: Vec::new(), taken: 0 } }
    }
}

impl<R: Read + Send + Unpin + 'static> AsyncRead for BlockingInput<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, target: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match mem::replace(&mut self.state, InputState::Failed) {
                InputState::Idle { reader, block, taken } if taken < block.len() => {
                    let count = target.remaining().min(block.len() - taken);
                    target.put_slice(&block[taken..taken + count]);
                    self.state = InputState::Idle { reader, block, taken: taken + count };
                    return Poll::Ready(Ok(()));
                }
                InputState::Idle { reader, block, .. } => {
                    self.state = InputState::Busy(spawn_blocking(move || read_block(reader, block)));
                }
                InputState::Busy(mut handle) => {
                    let Poll::Ready(done) = Pin::new(&mut handle).poll(cx) else {
                        self.state = InputState::Busy(handle);
                        return Poll::Pending;
                    };
                    let (reader, mut block, read) = done.map_err(stopped)?;
                    let count = read?;
                    block.truncate(count);
                    self.state = InputState::Idle { reader, block, taken: 0 };
                    if count == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                InputState::Failed => return Poll::Ready(Err(io::Error::other("the input has failed before"))),
            }
        }
    }
}

fn read_block<R: Read>(mut reader: R, mut block: Vec<u8>) -> (R, Vec<u8>, io::Result<usize>) {
    block.resize(BLOCK_BYTES, 0);
    loop {
        match reader.read(&mut block) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return (reader, block, read),
        }
    }
}

/// A blocking writer, written to beside the reactor.
pub(crate) struct BlockingOutput<W> {
    state: OutputState<W>,
}

enum OutputState<W> {
    Idle(W, Vec<u8>),
    /// A block is being written.
    Busy(JoinHandle<(W, Vec<u8>, io::Result<()>)>),
    /// It failed; what failed once is not written to again.
    Failed,
}

impl<W: Write + Send + 'static> BlockingOutput<W> {
    /// Writes to `writer`.
    pub(crate) fn new(writer: W) -> Self {
        Self { state: OutputState::Idle(writer, Vec::new()) }
    }

    /// Waits until the block that is being written is.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let OutputState::Busy(handle) = &mut self.state else { return Poll::Ready(Ok(())) };
        let done = ready!(Pin::new(handle).poll(cx));
        self.state = OutputState::Failed;
        let (writer, block, written) = done.map_err(stopped)?;
        written?;
        self.state = OutputState::Idle(writer, block);
        Poll::Ready(Ok(()))
    }
}

impl<W: Write + Send + Unpin + 'static> AsyncWrite for BlockingOutput<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_idle(cx))?;
        match mem::replace(&mut self.state, OutputState::Failed) {
            OutputState::Idle(writer, mut block) => {
                let count = bytes.len().min(BLOCK_BYTES);
                block.clear();
                block.extend_from_slice(&bytes[..count]);
                self.state = OutputState::Busy(spawn_blocking(move || write_block(writer, block)));
                Poll::Ready(Ok(count))
            }
            _ => Poll::Ready(Err(io::Error::other("the output has failed before"))),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_idle(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_idle(cx)
    }
}

fn write_block<W: Write>(mut writer: W, block: Vec<u8>) -> (W, Vec<u8>, io::Result<()>) {
    let written = writer.write_all(&block).and_then(|()| writer.flush());
    (writer, block, written)
}

fn stopped(error: JoinError) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(1000);
            self.0.lock().expect("no panic before").extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn bytes() -> Vec<u8> {
        (0..BLOCK_BYTES * 2 + 77).map(|i| (i % 251) as u8).collect()
    }

    #[tokio::test]
    async fn everything_that_is_read_arrives_and_then_the_end() {
        let mut read = Vec::new();
        BlockingInput::new(Cursor::new(bytes())).read_to_end(&mut read).await.expect("read");
        assert_eq!(read, bytes());
    }

    #[tokio::test]
    async fn everything_that_is_written_arrives_in_order() {
        let memory = Memory::default();
        let mut output = BlockingOutput::new(memory.clone());
        output.write_all(&bytes()).await.expect("written");
        output.flush().await.expect("flushed");
        assert_eq!(*memory.0.lock().expect("no panic before"), bytes());
    }

    #[tokio::test]
    async fn a_failed_write_is_known_at_the_flush_and_never_tried_again() {
        let mut output = BlockingOutput::new(Full);
        output.write_all(b"a").await.expect("taken");
        assert_eq!(output.flush().await.expect_err("full").kind(), io::ErrorKind::StorageFull);
        assert!(output.write_all(b"b").await.is_err());
    }
}
