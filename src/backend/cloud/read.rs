//! Ranged reads that never hand on a byte too few, too many or from elsewhere.

use super::Remote;
use super::fault::{Cause, answered_whole};
use crate::backend::{Error, ErrorKind, Result};
use crate::id::ShardId;
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt};
use std::ops::Range;
use std::sync::atomic::Ordering;

/// Room is made for at most this many bytes before they have come.
const MAX_PROMISED_BYTES: u64 = 8 * 1024 * 1024;

/// No object ends after this; servers read the numbers of a range as signed ones and take larger ones for nonsense.
const MAX_RANGE_END: u64 = i64::MAX as u64;

/// Exactly these bytes of a shard.
pub(super) async fn read(remote: &Remote, shard: ShardId, range: Range<u64>) -> Result<Bytes> {
    let doing = format!("{}, bytes {}..{}", remote.place.doing("reading", shard), range.start, range.end);
    if range.start > range.end {
        return Err(Error::new(ErrorKind::OutOfRange, doing));
    }
    if range.is_empty() || range.end > MAX_RANGE_END {
        // No server answers such a range, but its place can be checked.
        let stored = remote.head(shard).await?;
        return if range.is_empty() && range.end <= stored {
            Ok(Bytes::new())
        } else {
            Err(Error::new(ErrorKind::OutOfRange, doing))
        };
    }
    let path = remote.place.shard_path(shard);
    if !remote.whole_answers.load(Ordering::Relaxed) {
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        match remote.store.get_opts(&path, options).await {
            Ok(answer) => return take(answer, range, &doing).await,
            Err(error) if answered_whole(&error) => remote.whole_answers.store(true, Ordering::Relaxed),
            Err(error) => return Err(remote.absent_or(&error, doing).await),
        }
    }
    read_from_whole(remote, &path, range, &doing).await
}

/// A server that does no ranges sends the whole: what lies before is passed over, what lies behind is not waited for.
async fn read_from_whole(remote: &Remote, path: &Path, range: Range<u64>, doing: &str) -> Result<Bytes> {
    match remote.store.get(path).await {
        Ok(answer) => take(answer, range, doing).await,
        Err(error) => Err(remote.absent_or(&error, doing.to_owned()).await),
    }
}

/// Takes the range out of an answer that says which bytes it brings.
async fn take(answer: GetResult, range: Range<u64>, doing: &str) -> Result<Bytes> {
    if range.end > answer.meta.size {
        return Err(Error::new(ErrorKind::OutOfRange, doing));
    }
    let brought = answer.range.clone();
    let expected = range.end - range.start;
    if brought.start > range.start || brought.end < range.end {
        let received = brought.end.saturating_sub(brought.start);
        return Err(Cause::WrongLength { expected, received }.doing(doing));
    }
    let mut skip = range.start - brought.start;
    let exact = brought == range;
    let mut chunks = answer.into_stream();
    let mut taken = Taken { expected, bytes: BytesMut::new(), only: None };
    while let Some(mut chunk) = chunks.try_next().await.map_err(|error| Cause::of(&error).doing(doing))? {
        let passed = skip.min(chunk.len() as u64);
        skip -= passed;
        // It is at most the chunk's length.
        let mut chunk = chunk.split_off(passed as usize);
        if !exact && taken.missing() <= chunk.len() as u64 {
            chunk.truncate(taken.missing() as usize);
            taken.push(chunk);
            break;
        }
        taken.push(chunk);
    }
    taken.whole().map_err(|received| Cause::WrongLength { expected, received }.doing(doing))
}

/// The bytes that have come; a single chunk is handed on as it is.
struct Taken {
    expected: u64,
    bytes: BytesMut,
    only: Option<Bytes>,
}

impl Taken {
    fn received(&self) -> u64 {
        self.only.as_ref().map_or(self.bytes.len(), Bytes::len) as u64
    }

    fn missing(&self) -> u64 {
        self.expected.saturating_sub(self.received())
    }

    /// Keeps the chunk; of an answer that is too long only so much that it is seen to be.
    fn push(&mut self, mut chunk: Bytes) {
        let enough = usize::try_from(self.missing() + 1).unwrap_or(usize::MAX);
        chunk.truncate(enough);
        if chunk.is_empty() {
            return;
        }
        if self.received() == 0 {
            self.only = Some(chunk);
            return;
        }
        if let Some(first) = self.only.take() {
            self.bytes.reserve(self.expected.min(MAX_PROMISED_BYTES) as usize);
            self.bytes.extend_from_slice(&first);
        }
        self.bytes.extend_from_slice(&chunk);
    }

    fn whole(self) -> std::result::Result<Bytes, u64> {
        let received = self.received();
        if received == self.expected { Ok(self.only.unwrap_or_else(|| self.bytes.freeze())) } else { Err(received) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream::{self, StreamExt};
    use object_store::{GetResultPayload, ObjectMeta};

    fn answer(size: u64, range: Range<u64>, chunks: &[&'static [u8]]) -> GetResult {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk))).collect();
        GetResult {
            payload: GetResultPayload::Stream(stream::iter(chunks).boxed()),
            meta: ObjectMeta {
                location: Path::from("x"),
                last_modified: std::time::SystemTime::UNIX_EPOCH.into(),
                size,
                e_tag: None,
                version: None,
            },
            range,
            attributes: Default::default(),
            extensions: Default::default(),
        }
    }

    #[tokio::test]
    async fn a_range_is_taken_whole_or_not_at_all() {
        let ok = |bytes: &'static [u8]| Ok(Bytes::from_static(bytes));
        type Case = (u64, Range<u64>, Vec<&'static [u8]>, std::result::Result<Bytes, ErrorKind>);
        let cases: Vec<Case> = vec![
            (9, 2..5, vec![b"cde"], ok(b"cde")),
            (9, 2..5, vec![b"c", b"", b"de"], ok(b"cde")),
            (9, 0..9, vec![b"abcdefghi"], ok(b"cde")),
            (9, 0..9, vec![b"a", b"bc", b"d", b"e", b"fghi"], ok(b"cde")),
            (9, 2..5, vec![b"cd"], Err(ErrorKind::Transient)),
            (9, 2..5, vec![], Err(ErrorKind::Transient)),
            (9, 2..5, vec![b"cdef"], Err(ErrorKind::Transient)),
            (9, 2..5, vec![b"cde", b"f"], Err(ErrorKind::Transient)),
            (9, 0..9, vec![b"abcd"], Err(ErrorKind::Transient)),
            (9, 3..6, vec![b"def"], Err(ErrorKind::Transient)),
            (4, 2..4, vec![b"cd"], Err(ErrorKind::OutOfRange)),
        ];
        for (size, brought, chunks, expected) in cases {
            let shown = format!("{size} {brought:?} {chunks:?}");
            let taken = take(answer(size, brought, &chunks), 2..5, "reading").await;
            assert_eq!(taken.map_err(|error| error.kind), expected, "{shown}");
        }
    }
}
