//! What the catalog keeps sealed: names, and what is told of single files and their pieces. A row's sealed part is bound to
//! the row, so that it opens in no other.
//!
//! Lengths tell as little as contents: names are padded, everything else has one length.

use super::column::Count;
use super::error::{Error, Fault};
use crate::crypto::{CatalogKey, OpenError};
use crate::format::FileName;
use crate::format::index::{Piece, Whole};
use crate::id::{Digest, ObjectId, VersionId};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Type, ValueRef};

/// Names are padded to a multiple of this many bytes.
const NAME_STEP_BYTES: usize = 32;

/// What stands for a name or a folder where it is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tag([u8; 16]);

impl Tag {
    pub(super) fn of_name(key: &CatalogKey, name: &FileName) -> Self {
        Self(key.tag(b"name", name.as_str().as_bytes()))
    }

    /// Of a folder, without a slash at its end; the empty text is what everything is in.
    pub(super) fn of_folder(key: &CatalogKey, folder: &str) -> Self {
        Self(key.tag(b"folder", folder.as_bytes()))
    }
}

impl ToSql for Tag {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(&self.0)))
    }
}

impl FromSql for Tag {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?;
        let wrong = |_| FromSqlError::InvalidBlobSize { expected_size: 16, blob_size: bytes.len() };
        bytes.try_into().map(Self).map_err(wrong)
    }
}

/// Why a sealed part of a row says nothing.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("a sealed {what} does not open in its row")]
    Sealed { what: &'static str, source: OpenError },
    #[error("a sealed {what} is not what it should be")]
    Content { what: &'static str },
}

/// Which part of which row: what a sealed part is bound to.
struct Place {
    what: &'static str,
    row: Vec<u8>,
}

impl Place {
    fn new(what: &'static str, row: &[&[u8]]) -> Self {
        let mut bytes = [what.as_bytes(), b"\n"].concat();
        row.iter().for_each(|part| bytes.extend_from_slice(part));
        Self { what, row: bytes }
    }

    fn name(version: VersionId, tag: Tag) -> Self {
        Self::new("name", &[version.as_bytes(), &tag.0])
    }

    fn whole(version: VersionId, tag: Tag) -> Self {
        Self::new("file", &[version.as_bytes(), &tag.0])
    }

    fn piece(what: &'static str, (version, ordinal, object): PieceRow) -> Self {
        Self::new(what, &[version.as_bytes(), &ordinal.to_le_bytes(), object.as_bytes()])
    }

    fn open(&self, key: &CatalogKey, sealed: &[u8]) -> rusqlite::Result<Vec<u8>> {
        let opened = key.open(&self.row, sealed);
        opened.map(|text| text.to_vec()).map_err(|source| unreadable(Unreadable::Sealed { what: self.what, source }))
    }

    fn wrong(&self) -> rusqlite::Error {
        unreadable(Unreadable::Content { what: self.what })
    }
}

/// To whoever reads, it is a value in a column that means nothing: damage.
fn unreadable(why: Unreadable) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, Box::new(why))
}

/// What tells one row of `piece` from all others.
pub(super) type PieceRow = (VersionId, u32, ObjectId);

pub(super) fn seal_name(key: &CatalogKey, version: VersionId, (tag, name): (Tag, &FileName)) -> Vec<u8> {
    key.seal(&Place::name(version, tag).row, &padded(name))
}

pub(super) fn open_name(key: &CatalogKey, version: VersionId, tag: Tag, sealed: &[u8]) -> rusqlite::Result<FileName> {
    let place = Place::name(version, tag);
    unpadded(place.open(key, sealed)?).ok_or_else(|| place.wrong())
}

/// The name that a journal's entry is about.
pub(super) fn seal_journal_name(key: &CatalogKey, object: ObjectId, name: &FileName) -> Vec<u8> {
    key.seal(&Place::new("journal name", &[object.as_bytes()]).row, &padded(name))
}

pub(super) fn open_journal_name(key: &CatalogKey, object: ObjectId, sealed: &[u8]) -> rusqlite::Result<FileName> {
    let place = Place::new("journal name", &[object.as_bytes()]);
    unpadded(place.open(key, sealed)?).ok_or_else(|| place.wrong())
}

/// What a version's last piece says; generation and parents have columns of their own.
pub(super) fn seal_whole(key: &CatalogKey, version: VersionId, (tag, whole): (Tag, &Whole)) -> Result<Vec<u8>, Fault> {
    fits(whole.total_bytes)?;
    let mut text = whole.total_bytes.to_le_bytes().to_vec();
    text.extend_from_slice(&whole.mtime_ns.to_le_bytes());
    text.extend_from_slice(&whole.mode.to_le_bytes());
    text.extend_from_slice(whole.blake3.as_bytes());
    Ok(key.seal(&Place::whole(version, tag).row, &text))
}

/// When the file of a version last changed, in nanoseconds since 1970.
pub(super) fn seal_change_time(key: &CatalogKey, version: VersionId, ctime_ns: i64) -> Vec<u8> {
    key.seal(&Place::new("change time", &[version.as_bytes()]).row, &ctime_ns.to_le_bytes())
}

pub(super) fn open_change_time(key: &CatalogKey, version: VersionId, sealed: &[u8]) -> rusqlite::Result<i64> {
    let place = Place::new("change time", &[version.as_bytes()]);
    let text = place.open(key, sealed)?;
    text.as_slice().try_into().map(i64::from_le_bytes).map_err(|_| place.wrong())
}

/// Without the parents.
pub(super) fn open_whole(
    key: &CatalogKey,
    version: VersionId,
    (tag, generation): (Tag, Count),
    sealed: &[u8],
) -> rusqlite::Result<Whole> {
    let place = Place::whole(version, tag);
    let text = place.open(key, sealed)?;
    let whole = || {
        let (total_bytes, rest) = text.split_first_chunk()?;
        let (mtime_ns, rest) = rest.split_first_chunk()?;
        let (mode, rest) = rest.split_first_chunk()?;
        Some(Whole {
            total_bytes: u64::from_le_bytes(*total_bytes),
            blake3: Digest::from_slice(rest)?,
            mtime_ns: i64::from_le_bytes(*mtime_ns),
            mode: u32::from_le_bytes(*mode),
            generation: generation.0,
            parents: Vec::new(),
        })
    };
    whole().ok_or_else(|| place.wrong())
}

/// Where a piece is in its object's payload, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

pub(super) fn seal_extent(key: &CatalogKey, object: ObjectId, piece: &Piece) -> Result<Vec<u8>, Fault> {
    fits(piece.offset)?;
    fits(piece.bytes)?;
    let text = [piece.offset.to_le_bytes(), piece.bytes.to_le_bytes()].concat();
    Ok(key.seal(&Place::piece("piece", (piece.version, piece.ordinal, object)).row, &text))
}

pub(super) fn open_extent(key: &CatalogKey, row: PieceRow, sealed: &[u8]) -> rusqlite::Result<Extent> {
    let place = Place::piece("piece", row);
    let text = place.open(key, sealed)?;
    let number = |at: usize| text.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    match (number(0), number(8), text.len()) {
        (Some(offset), Some(bytes), 16) => Ok(Extent { offset, bytes }),
        _ => Err(place.wrong()),
    }
}

pub(super) fn seal_hash(key: &CatalogKey, row: PieceRow, hash: &Digest) -> Vec<u8> {
    key.seal(&Place::piece("piece hash", row).row, hash.as_bytes())
}

pub(super) fn open_hash(key: &CatalogKey, row: PieceRow, sealed: &[u8]) -> rusqlite::Result<Digest> {
    let place = Place::piece("piece hash", row);
    Digest::from_slice(&place.open(key, sealed)?).ok_or_else(|| place.wrong())
}

/// What is sealed is as large as what a column can hold, so that sums of it are too.
fn fits(value: u64) -> Result<(), Fault> {
    i64::try_from(value).map(drop).map_err(|_| Error::TooLarge { value }.into())
}

/// No name has a NUL in it, so that zeros can be told from it.
fn padded(name: &FileName) -> Vec<u8> {
    let mut text = name.as_str().as_bytes().to_vec();
    text.resize(text.len().next_multiple_of(NAME_STEP_BYTES), 0);
    text
}

fn unpadded(mut text: Vec<u8>) -> Option<FileName> {
    let length = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    text.truncate(length);
    FileName::new(String::from_utf8(text).ok()?).ok()
}
