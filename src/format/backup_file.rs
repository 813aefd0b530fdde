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

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId([1; 32]);
    const MAX_SEALED_BYTES: usize = MAX_PIECE_BYTES + CatalogKey::OVERHEAD_BYTES;

    fn key(byte: u8) -> CatalogKey {
        CatalogKey::from_secret(STORE, &[byte; 32])
    }

    #[test]
    fn a_header_reads_back_and_one_that_says_anything_else_is_refused_for_what_it_says() {
        let header = BackupHeader::new(STORE, [7; 16]);
        assert_eq!(BackupHeader::read(*header.as_bytes(), STORE).expect("its own"), header);
        let changed = |byte: usize| {
            let mut bytes = *header.as_bytes();
            bytes[byte] ^= 1;
            BackupHeader::read(bytes, STORE)
        };
        for byte in 0..BACKUP_HEADER_BYTES {
            let read = changed(byte);
            match byte {
                0..8 => assert!(matches!(read, Err(BackupFileError::Magic)), "{byte}"),
                8 => assert!(matches!(read, Err(BackupFileError::Newer { found: 0 })), "{byte}"),
                9 => assert!(matches!(read, Err(BackupFileError::Newer { found: 257 })), "{byte}"),
                10..16 => assert!(matches!(read, Err(BackupFileError::Header)), "{byte}"),
                16..48 => {
                    let refused = matches!(read, Err(BackupFileError::OtherStore { expected: STORE, .. }));
                    assert!(refused, "{byte}");
                }
                // What tells it from other files: all pieces are bound to it.
                _ => assert_ne!(read.expect("a header"), header, "{byte}"),
            }
        }
    }

    #[test]
    fn a_piece_opens_in_its_own_place_of_its_own_file_and_nowhere_else() {
        let header = BackupHeader::new(STORE, [7; 16]);
        let stored = header.seal(&key(1), (3, PieceEnd::More), b"records");
        let (frame, sealed) = stored.split_first_chunk::<PIECE_FRAME_BYTES>().expect("a frame");
        assert_eq!(read_frame(3, *frame).expect("a frame"), (sealed.len(), PieceEnd::More));
        let open = |header: &BackupHeader, key: &CatalogKey, place| header.open(key, place, sealed);
        let text = open(&header, &key(1), (3, PieceEnd::More)).expect("in its place");
        assert_eq!(text.as_slice(), b"records");
        for place in [(2, PieceEnd::More), (4, PieceEnd::More), (3, PieceEnd::Last)] {
            let refused = open(&header, &key(1), place);
            assert!(matches!(refused, Err(BackupFileError::Sealed { piece }) if piece == place.0), "{place:?}");
        }
        assert!(open(&BackupHeader::new(STORE, [8; 16]), &key(1), (3, PieceEnd::More)).is_err(), "another file");
        assert!(open(&header, &key(2), (3, PieceEnd::More)).is_err(), "another key");
    }

    #[test]
    fn a_frame_says_a_length_that_a_piece_can_have_and_whether_it_is_the_last() {
        let frame = |bytes: usize, end: u8| {
            let [a, b, c, d] = (bytes as u32).to_le_bytes();
            read_frame(5, [a, b, c, d, end])
        };
        assert_eq!(MAX_PIECE_BYTES, 262_144, "what other programs that read this form reckon with");
        for bytes in [CatalogKey::OVERHEAD_BYTES, MAX_SEALED_BYTES] {
            assert_eq!(frame(bytes, 0).expect("a piece"), (bytes, PieceEnd::More));
            assert_eq!(frame(bytes, 1).expect("a piece"), (bytes, PieceEnd::Last));
            assert!(matches!(frame(bytes, 2), Err(BackupFileError::Sealed { piece: 5 })));
        }
        for wrong in [0, CatalogKey::OVERHEAD_BYTES - 1, MAX_SEALED_BYTES + 1, u32::MAX as usize] {
            let refused = frame(wrong, 0);
            assert!(matches!(refused, Err(BackupFileError::Length { piece: 5, bytes }) if bytes == wrong as u64));
        }
        let largest = BackupHeader::new(STORE, [7; 16]).seal(&key(1), (0, PieceEnd::Last), &vec![0; MAX_PIECE_BYTES]);
        assert_eq!(largest.len(), PIECE_FRAME_BYTES + MAX_SEALED_BYTES);
    }
}
