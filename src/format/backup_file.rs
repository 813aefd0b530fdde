//! A backup of a catalog in a file: its records, sealed piece by piece, so that no bit of it can change unseen.

use crate::crypto::CatalogKey;
use crate::id::StoreId;
use zeroize::Zeroizing;

/// The file begins with this.
pub const BACKUP_MAGIC: [u8; 8] = [0x89, b'S', b'H', b'B', b'A', b'C', b'K', 0x0A];
/// How long the header is.
pub const BACKUP_HEADER_BYTES: usize = 64;
/// What stands before each piece: its length, and whether it is the last.
pub const PIECE_FRAME_BYTES: usize = 5;
/// A piece has at most this many bytes of records.
pub const MAX_PIECE_BYTES: usize = 256 * 1024;
/// The version of this form.
const BACKUP_FILE_VERSION: u16 = 1;
/// What the place of a piece begins with.
const PURPOSE: &[u8] = b"backup file\n";

/// Why a file is no backup that can be used here.
#[derive(Debug, thiserror::Error)]
pub enum BackupFileError {
    /// It begins otherwise.
    #[error("the file is no backup of a catalog")]
    Magic,
    /// A later release wrote it.
    #[error("the backup has form {found}, this release knows {BACKUP_FILE_VERSION}")]
    Newer {
        /// Its form.
        found: u16,
    },
    /// It is of another store.
    #[error("the backup is of store {found}, not of {expected}")]
    OtherStore {
        /// Whose it should be.
        expected: StoreId,
        /// Whose it says it is.
        found: StoreId,
    },
    /// Bytes in it that say nothing are not zero.
    #[error("the header of the backup is damaged")]
    Header,
    /// It ends too early.
    #[error("the backup ends within piece {piece}")]
    Cut {
        /// Which, from 0.
        piece: u64,
    },
    /// A length that no piece has.
    #[error("piece {piece} of the backup says that it has {bytes} bytes")]
    Length {
        /// Which, from 0.
        piece: u64,
        /// What it says.
        bytes: u64,
    },
    /// It was changed, or sealed with another key.
    #[error("piece {piece} of the backup does not open: it is damaged, or was sealed with another key")]
    Sealed {
        /// Which, from 0.
        piece: u64,
    },
    /// Something follows the last piece.
    #[error("the backup goes on after its end")]
    Longer,
}

/// What a backup file begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupHeader {
    bytes: [u8; BACKUP_HEADER_BYTES],
}

impl BackupHeader {
    /// Of a new file, with 16 random bytes that tell it from all others.
    pub fn new(store: StoreId, random: [u8; 16]) -> Self {
        let mut bytes = [0; BACKUP_HEADER_BYTES];
        bytes[..8].copy_from_slice(&BACKUP_MAGIC);
        bytes[8..10].copy_from_slice(&BACKUP_FILE_VERSION.to_le_bytes());
        bytes[16..48].copy_from_slice(store.as_bytes());
        bytes[48..].copy_from_slice(&random);
        Self { bytes }
    }

    /// Reads one of a file of this store.
    pub fn read(bytes: [u8; BACKUP_HEADER_BYTES], expected: StoreId) -> Result<Self, BackupFileError> {
        if !bytes.starts_with(&BACKUP_MAGIC) {
            return Err(BackupFileError::Magic);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != BACKUP_FILE_VERSION {
            return Err(BackupFileError::Newer { found: version });
        }
        if bytes[10..16] != [0; 6] {
            return Err(BackupFileError::Header);
        }
        let found = StoreId::from_slice(&bytes[16..48]).ok_or(BackupFileError::Header)?;
        if found != expected {
            return Err(BackupFileError::OtherStore { expected, found });
        }
        Ok(Self { bytes })
    }

    /// The bytes that are stored.
    pub fn as_bytes(&self) -> &[u8; BACKUP_HEADER_BYTES] {
        &self.bytes
    }

    /// Seals a piece of at most [`MAX_PIECE_BYTES`]; gives the bytes that are stored, frame first.
    pub fn seal(&self, key: &CatalogKey, (piece, end): (u64, PieceEnd), text: &[u8]) -> Vec<u8> {
        let sealed = key.seal(&self.place(piece, end), text);
        // A piece has few bytes more than its text.
        let mut stored = (sealed.len() as u32).to_le_bytes().to_vec();
        stored.push(end.code());
        stored.extend_from_slice(&sealed);
        stored
    }

    /// Opens what follows the frame of a piece.
    pub fn open(
        &self,
        key: &CatalogKey,
        (piece, end): (u64, PieceEnd),
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, BackupFileError> {
        key.open(&self.place(piece, end), sealed).map_err(|_| BackupFileError::Sealed { piece })
    }

    fn place(&self, piece: u64, end: PieceEnd) -> Vec<u8> {
        let mut place = PURPOSE.to_vec();
        place.extend_from_slice(&self.bytes);
        place.extend_from_slice(&piece.to_le_bytes());
        place.push(end.code());
        place
    }
}

/// Whether a piece is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceEnd {
    /// Another follows.
    More,
    /// It is.
    Last,
}

impl PieceEnd {
    fn code(self) -> u8 {
        match self {
            Self::More => 0,
            Self::Last => 1,
        }
    }
}

/// What the frame of a piece says: how many bytes follow, within the limit, and whether it is the last.
pub fn read_frame(piece: u64, frame: [u8; PIECE_FRAME_BYTES]) -> Result<(usize, PieceEnd), BackupFileError> {
    let [a, b, c, d, end] = frame;
    let bytes = u32::from_le_bytes([a, b, c, d]);
    let fits = (CatalogKey::OVERHEAD_BYTES..=MAX_PIECE_BYTES + CatalogKey::OVERHEAD_BYTES).contains(&(bytes as usize));
    if !fits {
        return Err(BackupFileError::Length { piece, bytes: u64::from(bytes) });
    }
    match end {
        0 => Ok((bytes as usize, PieceEnd::More)),
        1 => Ok((bytes as usize, PieceEnd::Last)),
        _ => Err(BackupFileError::Sealed { piece }),
    }
}
