//! A backup in a file: whole under its name or not there, and read to its end before anything is believed of it.

use super::super::recover::{Existing, Folder, NewFile};
use super::load::Stager;
use super::records::{Extent, produce};
use super::{BackupKind, BackupReport};
use crate::catalog::Catalog;
use crate::crypto::CatalogKey;
use crate::error::{Error, ErrorKind, Result};
use crate::format::backup_file::{
    BACKUP_HEADER_BYTES, BackupFileError, BackupHeader, MAX_PIECE_BYTES, PIECE_FRAME_BYTES, PieceEnd, read_frame,
};
use crate::id::StoreId;
use crate::ops::Controls;
use crate::store::Store;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// How a file comes about piece by piece.
struct Pieces {
    file: NewFile,
    header: BackupHeader,
    key: CatalogKey,
    /// What is not written yet: at most one piece and a batch.
    waiting: Vec<u8>,
    piece: u64,
    bytes: u64,
}

impl Pieces {
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.waiting.extend_from_slice(bytes);
        // The last piece is not known before the end.
        while self.waiting.len() > MAX_PIECE_BYTES {
            let rest = self.waiting.split_off(MAX_PIECE_BYTES);
            let piece = std::mem::replace(&mut self.waiting, rest);
            self.write(&piece, PieceEnd::More)?;
        }
        Ok(())
    }

    fn write(&mut self, text: &[u8], end: PieceEnd) -> Result<()> {
        let stored = self.header.seal(&self.key, (self.piece, end), text);
        self.file.write(&stored)?;
        self.piece += 1;
        self.bytes += stored.len() as u64;
        Ok(())
    }
}

/// Writes the catalog as it is now.
pub(super) async fn write(
    store: &Store,
    path: PathBuf,
    existing: Existing,
    controls: &Controls,
) -> Result<BackupReport> {
    let begin = |catalog: &Catalog| Ok((catalog.snapshot()?, catalog.key().of_backup_files()));
    let (snapshot, key) = store.look(begin).await?;
    let header = BackupHeader::new(store.id(), store.random_bytes()?);
    let (keys, controls) = (Arc::clone(store.access()), controls.clone());
    let work = move || {
        let (folder, file) = new_file(&path, existing)?;
        let mut pieces = Pieces { file, header, key, waiting: Vec::new(), piece: 0, bytes: 0 };
        pieces.file.write(header.as_bytes())?;
        let mut report = BackupReport { kind: BackupKind::Full, ..BackupReport::default() };
        produce(&snapshot, Extent::everything(), &keys, &mut |batch| {
            controls.check_cancelled()?;
            report.added += batch.records;
            report.left_out += batch.left_out;
            pieces.take(&batch.bytes)
        })?;
        let rest = std::mem::take(&mut pieces.waiting);
        pieces.write(&rest, PieceEnd::Last)?;
        report.bytes_written = BACKUP_HEADER_BYTES as u64 + pieces.bytes;
        pieces.file.finish(None)?;
        folder.sync()?;
        report.records = report.added;
        report.file = Some(path.display().to_string());
        Ok(report)
    };
    off_reactor(work).await
}

fn new_file(path: &Path, existing: Existing) -> Result<(Arc<Folder>, NewFile)> {
    let no_name = || Error::new(ErrorKind::Invalid, format!("{} is no name for a file", path.display()));
    let name = path.file_name().ok_or_else(no_name)?;
    let (folder, _) = Folder::open(path.parent().unwrap_or(Path::new("")))?;
    let folder = Arc::new(folder);
    let file = NewFile::create_private(Arc::clone(&folder), name, existing)?;
    Ok((folder, file))
}

/// Reads a file to its end, and lets its records wait in the new catalog. With any error nothing of it is to be used.
pub(super) async fn read(path: &Path, store: StoreId, into: Arc<Mutex<Catalog>>, controls: &Controls) -> Result<u64> {
    let (path, controls) = (path.to_owned(), controls.clone());
    let work = move || {
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::new(ErrorKind::NotFound, format!("there is no {}", path.display())),
            _ => Error::local(format!("cannot read {}", path.display()), error),
        };
        let file = File::open(&path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(Error::new(ErrorKind::Invalid, format!("{} is no file", path.display())));
        }
        let key = into.lock().unwrap_or_else(PoisonError::into_inner).key().of_backup_files();
        let mut stager = Stager::new(into);
        let mut reading = BufReader::with_capacity(MAX_PIECE_BYTES, file);
        read_pieces(&mut reading, (&key, store), &mut |text| {
            controls.check_cancelled()?;
            stager.take(text)
        })
        .map_err(|unusable| unusable.about(&path))?;
        stager.finish()
    };
    off_reactor(work).await
}

/// Why a file cannot be used.
enum Unusable {
    Content(BackupFileError),
    Io(std::io::Error),
    Other(Error),
}

impl From<BackupFileError> for Unusable {
    fn from(error: BackupFileError) -> Self {
        Self::Content(error)
    }
}

impl Unusable {
    fn about(self, path: &Path) -> Error {
        match self {
            Self::Content(error) => {
                let kind = match &error {
                    BackupFileError::OtherStore { .. } => ErrorKind::WrongKey,
                    BackupFileError::Newer { .. } => ErrorKind::Invalid,
                    _ => ErrorKind::Damaged,
                };
                Error::new(kind, format!("{} cannot be used; nothing was changed", path.display()))
                    .with_source(error)
                    .with_hint("`shard catalog rebuild` reads what the backends have")
            }
            Self::Io(error) => Error::local(format!("cannot read {}", path.display()), error),
            Self::Other(error) => error,
        }
    }
}

fn read_pieces(
    reading: &mut impl Read,
    (key, store): (&CatalogKey, StoreId),
    take: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<(), Unusable> {
    let mut header = [0; BACKUP_HEADER_BYTES];
    fill(reading, &mut header, BackupFileError::Magic)?;
    let header = BackupHeader::read(header, store)?;
    for piece in 0.. {
        let mut frame = [0; PIECE_FRAME_BYTES];
        fill(reading, &mut frame, BackupFileError::Cut { piece })?;
        let (bytes, end) = read_frame(piece, frame)?;
        // Within the limit of a piece.
        let mut sealed = vec![0; bytes];
        fill(reading, &mut sealed, BackupFileError::Cut { piece })?;
        let text = header.open(key, (piece, end), &sealed)?;
        take(&text).map_err(Unusable::Other)?;
        if end == PieceEnd::Last {
            break;
        }
    }
    match reading.read(&mut [0]).map_err(Unusable::Io)? {
        0 => Ok(()),
        _ => Err(BackupFileError::Longer.into()),
    }
}

fn fill(reading: &mut impl Read, bytes: &mut [u8], cut: BackupFileError) -> Result<(), Unusable> {
    reading.read_exact(bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Unusable::Content(cut),
        _ => Unusable::Io(error),
    })
}

async fn off_reactor<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let stopped = |error| Error::new(ErrorKind::Memory, "the backup stopped in the middle").with_source(error);
    tokio::task::spawn_blocking(work).await.map_err(stopped)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    const STORE: StoreId = StoreId([7; 32]);

    fn key() -> CatalogKey {
        CatalogKey::from_secret(STORE, &[9; 32]).of_backup_files()
    }

    /// A file of three pieces, and where each begins.
    fn file(random: u8) -> (Vec<u8>, Vec<usize>) {
        let header = BackupHeader::new(STORE, [random; 16]);
        let (mut bytes, mut begins) = (header.as_bytes().to_vec(), Vec::new());
        for (piece, text) in [b"one".as_slice(), b"", b"three"].into_iter().enumerate() {
            begins.push(bytes.len());
            let end = if piece == 2 { PieceEnd::Last } else { PieceEnd::More };
            bytes.extend_from_slice(&header.seal(&key(), (piece as u64, end), text));
        }
        (bytes, begins)
    }

    fn read(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        let mut take = |piece: &[u8]| {
            text.extend_from_slice(piece);
            Ok(())
        };
        read_pieces(&mut Cursor::new(bytes), (&key(), STORE), &mut take).is_ok().then_some(text)
    }

    #[test]
    fn no_flipped_bit_and_no_other_length_of_a_backup_file_is_read_to_its_end() {
        let (whole, _) = file(1);
        assert_eq!(read(&whole).as_deref(), Some(b"onethree".as_slice()));
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&flipped), None, "bit {bit}");
        }
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]), None, "{length} bytes");
        }
        assert_eq!(read(&[whole.as_slice(), &[0]].concat()), None);
    }

    #[test]
    fn pieces_left_out_swapped_or_of_another_file_are_refused() {
        let ((whole, begins), (other, _)) = (file(1), file(2));
        let piece = |bytes: &[u8], number: usize| {
            bytes[begins[number]..begins.get(number + 1).copied().unwrap_or(bytes.len())].to_vec()
        };
        let join = |pieces: &[Vec<u8>]| [&whole[..BACKUP_HEADER_BYTES], &pieces.concat()].concat();
        let [one, two, three] = [0, 1, 2].map(|number| piece(&whole, number));
        assert!(read(&join(&[one.clone(), two.clone(), three.clone()])).is_some());
        for wrong in [
            vec![one.clone(), three.clone()],
            vec![two.clone(), one.clone(), three.clone()],
            vec![one.clone(), two.clone()],
            vec![one.clone(), two.clone(), three.clone(), three.clone()],
            vec![one, two, piece(&other, 2)],
        ] {
            assert_eq!(read(&join(&wrong)), None);
        }
        // With the key of the catalog itself, which seals its records.
        let catalog = CatalogKey::from_secret(STORE, &[9; 32]);
        assert!(read_pieces(&mut Cursor::new(&whole), (&catalog, STORE), &mut |_| Ok(())).is_err());
    }
}
