//! Reads a file or a stream into stripes, hashing on the way, and notices when a file changes meanwhile.

use crate::error::{Error, ErrorKind, Result};
use crate::id::Digest;
use crate::ops::Controls;
use crate::ops::writer::PayloadSource;
use crate::stripe::Buffer;
use async_trait::async_trait;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;

/// How much is read at once where nothing is stored.
const REREAD_BYTES: usize = 1024 * 1024;

/// A file of at most so many bytes is read when it is opened.
const SHORT_FILE_BYTES: u64 = 64 * 1024;

/// What is remembered instead of the time of a file's last change where that says nothing: see [`Fingerprint::is_young`].
pub(super) const SAYS_NOTHING: i64 = i64::MIN;
/// A clock that gives fractions of a second gives them at least this often: the slowest kernels count hundredths.
const FINE_TICK_NS: i64 = 20_000_000;
/// One that gives whole seconds alone may give every second one (FAT).
const COARSE_TICK_NS: i64 = 3_000_000_000;

/// Whether a symbolic link may stand for the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// It is followed.
    Follow,
    /// It is refused: one came where a file was seen a moment ago.
    Refuse,
}

/// What shows that a file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// Its length.
    pub(super) bytes: u64,
    /// When it was last changed, in nanoseconds since 1970-01-01T00:00:00Z.
    pub(super) mtime_ns: i64,
    /// The permission bits of its mode.
    pub(super) mode: u32,
    /// When it was last changed in any way, name and mode included; no one can set it back. None of a stream.
    pub(super) ctime_ns: Option<i64>,
    inode: u64,
    /// It had been changed so shortly before it was opened that another change, after it was read, may have left the same
    /// times behind.
    is_young: bool,
}

impl Fingerprint {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        Self {
            bytes: metadata.len(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            mode: metadata.mode() & 0o7777,
            ctime_ns: Some(ns(metadata.ctime(), metadata.ctime_nsec())),
            inode: metadata.ino(),
            is_young: false,
        }
    }

    /// The same, of a file that was opened at this time, in nanoseconds since 1970.
    fn opened_at(self, now_ns: i64) -> Self {
        let is_whole = |time_ns: i64| time_ns % 1_000_000_000 == 0;
        let is_coarse = is_whole(self.mtime_ns) && self.ctime_ns.is_none_or(is_whole);
        let tick_ns = if is_coarse { COARSE_TICK_NS } else { FINE_TICK_NS };
        let is_young = self.ctime_ns.is_some_and(|ctime_ns| now_ns < ctime_ns.saturating_add(tick_ns));
        Self { is_young, ..self }
    }

    /// What is to be remembered of when it was last changed; nothing of a stream.
    pub(super) fn change_time(&self) -> Option<i64> {
        self.ctime_ns.map(|ctime_ns| if self.is_young { SAYS_NOTHING } else { ctime_ns })
    }

    /// Whether it is still the file it was, with the same bytes. That its name or its links changed does not count.
    fn is_still(&self, now: &Self) -> bool {
        *now == Self { ctime_ns: now.ctime_ns, is_young: now.is_young, ..*self }
    }

    /// What stands for it where there is no file: its length is not known yet.
    pub(super) fn of_stream(mtime_ns: i64, mode: u32) -> Self {
        Self { bytes: 0, mtime_ns, mode, ctime_ns: None, inode: 0, is_young: false }
    }
}

/// Whose bytes they are.
enum Origin {
    File {
        file: File,
        path: PathBuf,
        seen: Fingerprint,
    },
    Stream {
        reader: Box<dyn AsyncRead + Send + Unpin>,
        ahead: Option<u8>,
        cancel: CancellationToken,
    },
    /// A short file that was read to its end when it was opened, and what became of it since.
    Read {
        bytes: Vec<u8>,
        path: PathBuf,
        seen: Fingerprint,
        now: io::Result<Fingerprint>,
    },
    /// The file is with a task that did not come back.
    Gone,
}

/// The hash of everything read, and of the piece that is being read.
#[derive(Debug, Clone, Default)]
struct Hashes {
    whole: blake3::Hasher,
    piece: Option<Box<blake3::Hasher>>,
}

/// Something that is being read.
pub(super) struct Reading {
    origin: Origin,
    hashes: Hashes,
    bytes: u64,
    error: Option<io::Error>,
    has_failed: bool,
}

impl Reading {
    /// Opens a regular file.
    pub(super) async fn open(path: PathBuf, links: Links) -> Result<Self> {
        let shown = path.display().to_string();
        let opened = off_reactor(move || open_regular(&path, links).map(|(file, seen)| (file, path, seen))).await?;
        let (file, path, seen) = opened.map_err(|error| Error::local(format!("cannot read {shown}"), error))?;
        Ok(Self::of(Origin::File { file, path, seen }))
    }

    /// Opens regular files and reads the short ones, in one go.
    pub(super) async fn open_all(paths: Vec<PathBuf>, links: Links) -> Result<Vec<Result<Self>>> {
        let open = move |path: PathBuf| {
            let failed = |error| Error::local(format!("cannot read {}", path.display()), error);
            let (mut file, seen) = open_regular(&path, links).map_err(failed)?;
            if seen.bytes > SHORT_FILE_BYTES {
                return Ok(Self::of(Origin::File { file, path, seen }));
            }
            let mut bytes = vec![0; seen.bytes as usize];
            let (filled, error) = read_fully(&mut file, &mut bytes);
            bytes.truncate(filled);
            let now = file.metadata().map(|found| Fingerprint::of(&found));
            let mut reading = Self::of(Origin::Read { bytes, path, seen, now });
            reading.error = error;
            Ok(reading)
        };
        off_reactor(move || paths.into_iter().map(open).collect()).await
    }

    /// Reads a stream until it ends or is cancelled.
    pub(super) fn stream(reader: Box<dyn AsyncRead + Send + Unpin>, cancel: CancellationToken) -> Self {
        Self::of(Origin::Stream { reader, ahead: None, cancel })
    }

    fn of(origin: Origin) -> Self {
        Self { origin, hashes: Hashes::default(), bytes: 0, error: None, has_failed: false }
    }

    /// What the file looked like when it was opened; nothing for a stream.
    pub(super) fn seen(&self) -> Option<Fingerprint> {
        match &self.origin {
            Origin::File { seen, .. } | Origin::Read { seen, .. } => Some(*seen),
            Origin::Stream { .. } | Origin::Gone => None,
        }
    }

    /// How many bytes were read.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The hash of all bytes read so far.
    pub(super) fn whole_hash(&self) -> Digest {
        Digest(self.hashes.whole.finalize().into())
    }

    /// From here on the bytes are also hashed as one piece.
    pub(super) fn begin_piece(&mut self) {
        self.hashes.piece = Some(Box::default());
    }

    /// The hash of the bytes since [`Self::begin_piece`].
    pub(super) fn piece_hash(&self) -> Option<Digest> {
        self.hashes.piece.as_ref().map(|piece| Digest(piece.finalize().into()))
    }

    /// Whether no more bytes come; a stream is asked for one, which is kept for the next to read.
    pub(super) async fn is_at_end(&mut self) -> bool {
        let bytes = self.bytes;
        match &mut self.origin {
            Origin::File { seen, .. } | Origin::Read { seen, .. } => bytes >= seen.bytes,
            Origin::Gone => true,
            Origin::Stream { ahead: Some(_), .. } => false,
            Origin::Stream { reader, ahead, cancel } => {
                let mut byte = [0];
                match read_or_cancel(reader, &mut byte, cancel).await {
                    Ok(0) => true,
                    Ok(_) => {
                        *ahead = Some(byte[0]);
                        false
                    }
                    Err(error) => {
                        self.error = Some(error);
                        true
                    }
                }
            }
        }
    }

    /// Whether it could not be read, or changed: what went wrong is not the store's fault.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// That all there is was read, and the file is still the one that was opened: nobody wrote to it meanwhile.
    pub(super) async fn check_whole(&mut self) -> Result<()> {
        let checked = self.look_again().await;
        self.has_failed |= checked.is_err();
        checked
    }

    async fn look_again(&mut self) -> Result<()> {
        let shown = self.shown();
        if let Some(error) = self.error.take() {
            return Err(Error::local(format!("cannot read {shown}"), error));
        }
        let (seen, found) = match std::mem::replace(&mut self.origin, Origin::Gone) {
            Origin::File { file, path, seen } => {
                let look = move || (file.metadata().map(|found| Fingerprint::of(&found)), file);
                let (found, file) = off_reactor(look).await?;
                self.origin = Origin::File { file, path, seen };
                (seen, found)
            }
            // Each is checked once.
            Origin::Read { seen, now, .. } => (seen, now),
            origin => {
                self.origin = origin;
                return Ok(());
            }
        };
        let found = found.map_err(|error| Error::local(format!("cannot read {shown}"), error))?;
        if self.bytes == seen.bytes && seen.is_still(&found) {
            return Ok(());
        }
        let doing = if found.bytes == seen.bytes && self.bytes == seen.bytes {
            format!("{shown} was changed while it was read; it was not stored")
        } else {
            let now = found.bytes;
            format!("{shown} changed from {} to {now} bytes while it was read; it was not stored", seen.bytes)
        };
        Err(Error::new(ErrorKind::Changed, doing).with_hint("put it again when nothing writes to it"))
    }

    /// Reads the next bytes of a file for their hashes alone; fewer only at its end.
    pub(super) async fn pass_over(&mut self, bytes: u64) -> Result<u64> {
        let Origin::File { mut file, path, seen } = std::mem::replace(&mut self.origin, Origin::Gone) else {
            return Ok(0);
        };
        let mut hashes = std::mem::take(&mut self.hashes);
        let pass = move || {
            let mut buffer = vec![0; REREAD_BYTES.min(usize::try_from(bytes).unwrap_or(REREAD_BYTES))];
            let outcome = read_fully(&mut file, &mut buffer);
            hashes.update(&buffer[..outcome.0]);
            (outcome, file, hashes)
        };
        let ((passed, failure), file, hashes) = off_reactor(pass).await?;
        self.hashes = hashes;
        self.bytes += passed as u64;
        self.error = failure;
        self.origin = Origin::File { file, path, seen };
        Ok(passed as u64)
    }

    /// Reads all of a file for its hash alone, and sees that it did not change meanwhile.
    pub(super) async fn hash_all(&mut self, controls: &Controls) -> Result<Digest> {
        let bytes = self.seen().map_or(0, |seen| seen.bytes);
        while self.bytes < bytes && self.pass_over(bytes - self.bytes).await? > 0 {
            controls.check_cancelled()?;
        }
        self.check_whole().await?;
        Ok(self.whole_hash())
    }

    /// Begins a file anew.
    pub(super) async fn rewind(&mut self) -> Result<()> {
        let shown = self.shown();
        let origin = std::mem::replace(&mut self.origin, Origin::Gone);
        let Origin::File { mut file, path, seen } = origin else {
            self.origin = origin;
            return Ok(());
        };
        let (outcome, file) = off_reactor(move || (file.seek(SeekFrom::Start(0)), file)).await?;
        *self = Self::of(Origin::File { file, path, seen });
        outcome.map(drop).map_err(|error| Error::local(format!("cannot read {shown}"), error))
    }

    fn shown(&self) -> String {
        match &self.origin {
            Origin::File { path, .. } | Origin::Read { path, .. } => path.display().to_string(),
            Origin::Stream { .. } | Origin::Gone => "the input".to_owned(),
        }
    }

    async fn fill_from_file(&mut self, mut buffer: Buffer, range: Range<usize>) -> Result<(Buffer, usize)> {
        let Origin::File { mut file, path, seen } = std::mem::replace(&mut self.origin, Origin::Gone) else {
            return Ok((buffer, 0));
        };
        let mut hashes = std::mem::take(&mut self.hashes);
        let read = move || {
            let target = &mut buffer.as_mut_slice()[range];
            let outcome = read_fully(&mut file, target);
            hashes.update(&target[..outcome.0]);
            (outcome, buffer, file, hashes)
        };
        let ((bytes, failure), buffer, file, hashes) = off_reactor(read).await?;
        self.hashes = hashes;
        self.error = failure;
        self.origin = Origin::File { file, path, seen };
        Ok((buffer, bytes))
    }

    fn fill_from_memory(&mut self, mut buffer: Buffer, range: Range<usize>) -> (Buffer, usize) {
        let Origin::Read { bytes, .. } = &self.origin else { return (buffer, 0) };
        let rest = bytes.get(self.bytes as usize..).unwrap_or_default();
        let taken = &rest[..rest.len().min(range.len())];
        buffer.as_mut_slice()[range][..taken.len()].copy_from_slice(taken);
        self.hashes.update(taken);
        (buffer, taken.len())
    }

    async fn fill_from_stream(&mut self, mut buffer: Buffer, range: Range<usize>) -> Result<(Buffer, usize)> {
        let Origin::Stream { reader, ahead, cancel } = &mut self.origin else { return Ok((buffer, 0)) };
        let target = &mut buffer.as_mut_slice()[range.clone()];
        let mut filled = 0;
        if let (Some(slot), Some(byte)) = (target.first_mut(), ahead.take()) {
            *slot = byte;
            filled = 1;
        }
        while filled < target.len() {
            match read_or_cancel(reader, &mut target[filled..], cancel).await {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) => {
                    self.error = Some(error);
                    break;
                }
            }
        }
        let mut hashes = std::mem::take(&mut self.hashes);
        let hash = move || {
            hashes.update(&buffer.as_mut_slice()[range.start..range.start + filled]);
            (buffer, hashes)
        };
        let (buffer, hashes) = off_reactor(hash).await?;
        self.hashes = hashes;
        Ok((buffer, filled))
    }
}

#[async_trait]
impl PayloadSource for Reading {
    async fn fill(&mut self, buffer: Buffer, range: Range<usize>) -> Result<(Buffer, usize)> {
        let (buffer, bytes) = match &self.origin {
            Origin::File { .. } => self.fill_from_file(buffer, range).await?,
            Origin::Stream { .. } => self.fill_from_stream(buffer, range).await?,
            Origin::Read { .. } => self.fill_from_memory(buffer, range),
            Origin::Gone => (buffer, 0),
        };
        self.bytes += bytes as u64;
        Ok((buffer, bytes))
    }
}

impl Hashes {
    fn update(&mut self, bytes: &[u8]) {
        self.whole.update(bytes);
        if let Some(piece) = &mut self.piece {
            piece.update(bytes);
        }
    }
}

fn open_regular(path: &Path, links: Links) -> io::Result<(File, Fingerprint)> {
    use rustix::fs::OFlags;
    // A pipe in the place of a file must not be waited for.
    let mut flags = OFlags::NONBLOCK;
    if links == Links::Refuse {
        flags |= OFlags::NOFOLLOW;
    }
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ns = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
    Ok((file, Fingerprint::of(&metadata).opened_at(now_ns)))
}

/// Reads until the target is full, the file ends or fails.
fn read_fully(file: &mut File, target: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut filled = 0;
    while filled < target.len() {
        match file.read(&mut target[filled..]) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Some(error)),
        }
    }
    (filled, None)
}

async fn read_or_cancel(
    reader: &mut (dyn AsyncRead + Send + Unpin),
    target: &mut [u8],
    cancel: &CancellationToken,
) -> io::Result<usize> {
    tokio::select! {
        biased;
        // The writer sees the cancellation itself; here nothing may wait any longer.
        () = cancel.cancelled() => Ok(0),
        read = reader.read(target) => read,
    }
}

async fn off_reactor<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let stopped = |error| Error::new(ErrorKind::Local, "reading stopped in the middle").with_source(error);
    tokio::task::spawn_blocking(work).await.map_err(stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is remembered of a file that was changed at one time and opened at another.
    fn remembered(changed_ns: i64, opened_ns: i64) -> Option<i64> {
        let seen = Fingerprint { ctime_ns: Some(changed_ns), ..Fingerprint::of_stream(changed_ns, 0o644) };
        seen.opened_at(opened_ns).change_time()
    }

    #[test]
    fn the_time_of_a_change_is_remembered_only_where_the_next_one_must_show() {
        const SECOND: i64 = 1_000_000_000;
        let changed = 1_700_000_000 * SECOND;
        for after in [-SECOND, 0, 2 * SECOND] {
            assert_eq!(remembered(changed, changed + after), Some(SAYS_NOTHING), "whole seconds, {after}");
        }
        assert_eq!(remembered(changed, changed + COARSE_TICK_NS), Some(changed));
        let changed = changed + 4_000_001;
        for after in [-SECOND, 0, 10_000_000] {
            assert_eq!(remembered(changed, changed + after), Some(SAYS_NOTHING), "fractions, {after}");
        }
        assert_eq!(remembered(changed, changed + FINE_TICK_NS), Some(changed));
        assert_eq!(Fingerprint::of_stream(changed, 0o644).opened_at(changed).change_time(), None);
    }
}
