//! One stream to a node: a request, its answer, and the bytes that go with either.

use super::super::{Error, ErrorKind, Result};
use crate::peer::storage::{MAX_ANSWER_BYTES, MAX_PIECE_BYTES, STORAGE_SERVICE, StorageAnswer, StorageCall};
use crate::peer::transport::{PeerError, PeerStream, Session};
use crate::peer::{FrameReader, StreamPurpose};
use bytes::{Bytes, BytesMut};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// Room that is made at once for what is read; more is made when it came.
const FIRST_ROOM_BYTES: u64 = 1024 * 1024;

/// A request that is under way.
pub(super) struct Exchange {
    stream: PeerStream,
    answers: FrameReader,
    doing: String,
}

impl Exchange {
    /// Sends a request.
    pub(super) async fn begin(session: &Session, call: &StorageCall, doing: &str) -> Result<Self> {
        let opened = session.open(StreamPurpose::Service(STORAGE_SERVICE)).await;
        let stream = opened.map_err(|error| cut(doing, error))?;
        let mut exchange = Self { stream, answers: FrameReader::new(MAX_ANSWER_BYTES), doing: doing.to_owned() };
        exchange.send(&call.to_bytes()).await?;
        Ok(exchange)
    }

    /// What is being done, for errors.
    pub(super) fn doing(&self) -> &str {
        &self.doing
    }

    /// The next answer; a refusal is an error of its kind.
    pub(super) async fn answer(&mut self) -> Result<StorageAnswer> {
        let frame = self.stream.receive.next_frame(&mut self.answers).await;
        let bytes = self.came(frame)?;
        match StorageAnswer::parse(&bytes) {
            Ok(StorageAnswer::Refused { kind, reason }) => {
                Err(Error::with_source(kind.into(), self.doing.as_str(), reason))
            }
            Ok(answer) => Ok(answer),
            Err(error) => Err(Error::with_source(ErrorKind::Failed, self.doing.as_str(), error)),
        }
    }

    /// An answer that says no more than that it goes on.
    pub(super) async fn ready(&mut self) -> Result<()> {
        match self.answer().await? {
            StorageAnswer::Ready => Ok(()),
            _ => Err(broken(&self.doing, "it answered something else than was asked")),
        }
    }

    /// Sends a frame.
    pub(super) async fn send(&mut self, content: &[u8]) -> Result<()> {
        self.stream.send.send_frame(content).await.map_err(|error| cut(&self.doing, error))
    }

    /// So many bytes, from as many frames as they take.
    pub(super) async fn pieces(&mut self, wanted_bytes: u64) -> Result<Bytes> {
        let mut reader = FrameReader::new(MAX_PIECE_BYTES);
        let (mut whole, mut had_bytes) = (BytesMut::new(), 0);
        while had_bytes < wanted_bytes {
            let frame = self.stream.receive.next_frame(&mut reader).await;
            let piece = self.came(frame)?;
            if piece.is_empty() {
                // The rest does not come, and here is why.
                self.answer().await?;
                return Err(broken(&self.doing, "it stopped without a reason"));
            }
            had_bytes += piece.len() as u64;
            if had_bytes > wanted_bytes {
                return Err(broken(&self.doing, "it sent more bytes than were asked for"));
            }
            if piece.len() as u64 == wanted_bytes {
                return Ok(piece);
            }
            if whole.is_empty() {
                whole.reserve(usize::try_from(wanted_bytes.min(FIRST_ROOM_BYTES)).unwrap_or(0));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    /// Ends the stream early and waits until the node knows.
    pub(super) async fn give_up(mut self) {
        if self.stream.send.shutdown().await.is_ok() {
            // What it said of pieces that it took comes first.
            while let Ok(Some(_)) = self.stream.receive.next_frame(&mut self.answers).await {}
        }
    }

    fn came(&self, frame: Result<Option<Bytes>, PeerError>) -> Result<Bytes> {
        match frame {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(cut(&self.doing, PeerError::Cut)),
            Err(error) => Err(cut(&self.doing, error)),
        }
    }
}

/// A stream that ended early. Most likely another finds the node again; what breaks the protocol does so every time.
fn cut(doing: &str, error: PeerError) -> Error {
    let kind = if matches!(error, PeerError::Wire(_)) { ErrorKind::Failed } else { ErrorKind::Transient };
    Error::with_source(kind, doing, error)
}

/// A node that does not keep to the protocol.
pub(super) fn broken(doing: &str, why: &'static str) -> Error {
    Error::with_source(ErrorKind::Failed, doing, why)
}

/// Gives up on a node that does not answer.
pub(super) async fn within<T>(
    deadline: Duration,
    doing: &str,
    work: impl Future<Output = Result<T>> + Send,
) -> Result<T> {
    match timeout(deadline, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::with_source(ErrorKind::Unreachable, doing, format!("no answer within {deadline:?}"))),
    }
}
