//! Which files are recovered, in which version, and from which pieces.

use super::RecoverWhat;
use super::origin::Origin;
use super::session::Request;
use crate::catalog::{self, Catalog, ObjectState, PieceRecord, VersionRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FileName, Whole};
use crate::id::VersionId;
use std::ops::Range;

/// How many names are planned at a time: memory is for these, not for all files.
const PAGE_FILES: usize = 2048;

/// A file that is to be recovered.
#[derive(Debug, Clone)]
pub(super) struct PlannedFile {
    pub(super) name: FileName,
    pub(super) version: VersionId,
    pub(super) whole: Whole,
    pub(super) pieces: Vec<PieceRecord>,
    /// What other objects hold of the same pieces: read where the first choice falls short.
    pub(super) copies: Vec<PieceRecord>,
    /// How many heads the name has.
    pub(super) heads: u64,
    /// How many bytes of the name the folder that was asked for takes, its slash included; 0 for a file.
    pub(super) asked_bytes: usize,
}

/// What a name that was asked for turned out to be.
#[derive(Debug)]
pub(super) enum Asked {
    /// A file.
    File(Box<PlannedFile>),
    /// A folder: the prefix, and how many files and bytes there are in it.
    Folder { prefix: String, files: u64, bytes: u64 },
}

impl PlannedFile {
    /// Whether all of it is in one piece.
    pub(super) fn is_one_piece(&self) -> bool {
        self.pieces.len() == 1
    }

    /// That the pieces are all there is.
    pub(super) fn check_pieces(&self) -> Result<()> {
        let found = self.pieces.iter().fold(0u64, |sum, piece| sum.saturating_add(piece.bytes));
        if found == self.whole.total_bytes {
            return Ok(());
        }
        let (name, total_bytes) = (self.name.as_str(), self.whole.total_bytes);
        let doing = format!("the catalog has {found} of the {total_bytes} bytes of {name:?}: it contradicts itself");
        Err(Error::new(ErrorKind::Damaged, doing).with_hint("`shard catalog rebuild` makes it anew"))
    }

    /// The piece in every object that has it, the first choice first.
    pub(super) fn copies_of<'s>(&'s self, piece: &'s PieceRecord) -> impl Iterator<Item = &'s PieceRecord> {
        let others = self.copies.iter().filter(|other| other.ordinal == piece.ordinal);
        std::iter::once(piece).chain(others.filter(|other| other.bytes == piece.bytes))
    }

    /// The parts of pieces that make up a range of the file, as ranges of the pieces.
    pub(super) fn parts(&self, range: Range<u64>) -> Vec<(&PieceRecord, Range<u64>)> {
        let mut start = 0;
        let mut parts = Vec::new();
        for piece in &self.pieces {
            let from = range.start.clamp(start, start + piece.bytes) - start;
            let to = range.end.clamp(start, start + piece.bytes) - start;
            if from < to {
                parts.push((piece, from..to));
            }
            start += piece.bytes;
        }
        parts
    }
}

/// Finds out what was asked for; a name of which there is nothing is an error in its place.
pub(super) async fn ask(origin: &Origin<'_>, request: &Request) -> Result<Vec<(String, Result<Asked>)>> {
    let names = match &request.what {
        RecoverWhat::All => {
            let (files, bytes) = count(origin, String::new()).await?;
            return Ok(vec![(String::new(), Ok(Asked::Folder { prefix: String::new(), files, bytes }))]);
        }
        RecoverWhat::Names(names) => names,
    };
    let mut asked = Vec::new();
    for name in names {
        let found = match request.version {
            Some(version) => version_of(origin, name, version).await,
            None => newest_of(origin, name).await,
        };
        match found {
            Err(error) if is_absence(error.kind) => asked.push((name.to_string(), Err(error))),
            found => asked.push((name.to_string(), Ok(found?))),
        }
    }
    Ok(asked)
}

/// Whether it is about one name, and others may be had. (Without a store a name may be in what cannot be read.)
fn is_absence(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::Lost | ErrorKind::Unavailable | ErrorKind::WrongKey)
}

async fn newest_of(origin: &Origin<'_>, name: &FileName) -> Result<Asked> {
    let wanted = name.clone();
    let look = move |catalog: &Catalog| {
        let heads = catalog.heads(&wanted)?;
        let count = heads.len() as u64;
        best_of(catalog, heads)?.map_or(Ok(None), |best| plan(catalog, best, (count, 0)))
    };
    if let Some(file) = origin.look(look).await? {
        return Ok(Asked::File(Box::new(file)));
    }
    let prefix = format!("{name}/");
    let (files, bytes) = count(origin, prefix.clone()).await?;
    if files > 0 {
        return Ok(Asked::Folder { prefix, files, bytes });
    }
    let wanted = name.clone();
    let is_unfinished = origin.look(move |catalog| Ok(!catalog.unfinished_of(&wanted)?.is_empty())).await?;
    let error = origin.not_found(name.as_str()).await?;
    let hint = "it was never stored to its end: put it again, and what is there already is used";
    Err(if is_unfinished { error.with_hint(hint) } else { error })
}

/// Of heads that do not know each other, the newest that is not lost; the newest, where all are.
fn best_of(catalog: &Catalog, mut heads: Vec<VersionRecord>) -> catalog::Result<Option<VersionRecord>> {
    let mut best = 0;
    for (number, head) in heads.iter().enumerate().filter(|_| heads.len() > 1) {
        if !is_lost(catalog, head.id)? {
            best = number;
            break;
        }
    }
    Ok((best < heads.len()).then(|| heads.swap_remove(best)))
}

fn is_lost(catalog: &Catalog, version: VersionId) -> catalog::Result<bool> {
    for object in catalog.objects_of_version(version)? {
        if catalog.health(object)?.is_some_and(|health| health.state == ObjectState::Lost) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn version_of(origin: &Origin<'_>, name: &FileName, version: VersionId) -> Result<Asked> {
    let wanted = name.clone();
    let look = move |catalog: &Catalog| {
        let heads = catalog.heads(&wanted)?.len() as u64;
        let found = catalog.version(version)?.filter(|found| found.name == wanted && !found.removed && found.complete);
        found.map_or(Ok(None), |found| plan(catalog, found, (heads, 0)))
    };
    let none = || {
        Error::new(ErrorKind::NotFound, format!("there is no version {version} of {:?}", name.as_str()))
            .with_hint(format!("`shard list --versions {name}` shows those there are"))
    };
    Ok(Asked::File(Box::new(origin.look(look).await?.ok_or_else(none)?)))
}

/// How many files there are in a folder, and their bytes.
async fn count(origin: &Origin<'_>, prefix: String) -> Result<(u64, u64)> {
    let (mut files, mut bytes, mut after) = (0, 0u64, None::<FileName>);
    loop {
        let (from, wanted) = (after.clone(), prefix.clone());
        let page = origin.look(move |catalog| catalog.list(&wanted, from.as_ref(), PAGE_FILES)).await?;
        files += page.len() as u64;
        let sizes = page.iter().filter_map(|listed| Some(listed.newest.whole.as_ref()?.total_bytes));
        bytes = sizes.fold(bytes, u64::saturating_add);
        match page.into_iter().next_back() {
            Some(last) => after = Some(last.newest.name),
            None => return Ok((files, bytes)),
        }
    }
}

/// The next files of a folder, after `after`, in the order of their names; empty at the end.
pub(super) async fn page(origin: &Origin<'_>, prefix: &str, after: Option<FileName>) -> Result<Vec<PlannedFile>> {
    let prefix = prefix.to_owned();
    let look = move |catalog: &Catalog| {
        let mut planned = Vec::new();
        for listed in catalog.list(&prefix, after.as_ref(), PAGE_FILES)? {
            let heads = if listed.head_count > 1 { catalog.heads(&listed.newest.name)? } else { vec![listed.newest] };
            let Some(best) = best_of(catalog, heads)? else { continue };
            planned.extend(plan(catalog, best, (listed.head_count, prefix.len()))?);
        }
        Ok(planned)
    };
    origin.look(look).await
}

fn plan(
    catalog: &Catalog,
    version: VersionRecord,
    (heads, asked_bytes): (u64, usize),
) -> catalog::Result<Option<PlannedFile>> {
    let VersionRecord { id, name, whole: Some(whole), .. } = version else { return Ok(None) };
    let (mut pieces, mut copies) = (Vec::<PieceRecord>::new(), Vec::new());
    for piece in catalog.piece_copies(id)? {
        let is_copy = pieces.last().is_some_and(|last| last.ordinal == piece.ordinal);
        if is_copy { copies.push(piece) } else { pieces.push(piece) }
    }
    Ok(Some(PlannedFile { name, version: id, whole, pieces, copies, heads, asked_bytes }))
}
