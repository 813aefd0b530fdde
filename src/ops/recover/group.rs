//! Files that share an object, in the order of their bytes: each stripe is read once.

use super::plan::PlannedFile;
use crate::id::ObjectId;
use std::collections::BTreeMap;
use std::ops::Range;

/// Files of one object whose bytes lie close together.
#[derive(Debug)]
pub(super) struct Span {
    /// From the first file's first byte to the last one's last.
    pub(super) range: Range<u64>,
    /// In the order of their bytes; no two overlap.
    pub(super) files: Vec<PlannedFile>,
}

/// What is recovered how.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Files that are in one piece, by the object that it is in.
    pub(super) sharing: BTreeMap<ObjectId, Vec<PlannedFile>>,
    /// Files of several pieces, one by one.
    pub(super) single: Vec<PlannedFile>,
}

impl Groups {
    /// Each file on its own.
    pub(super) fn each(files: Vec<PlannedFile>) -> Self {
        Self { sharing: BTreeMap::new(), single: files }
    }

    /// Files of one piece with those that share its object.
    pub(super) fn of(files: Vec<PlannedFile>) -> Self {
        let mut groups = Self::default();
        for file in files {
            match file.pieces.first() {
                Some(piece) if file.is_one_piece() => groups.sharing.entry(piece.object).or_default().push(file),
                _ => groups.single.push(file),
            }
        }
        groups
    }
}

/// Where a file of one piece is in its object.
pub(super) fn place(file: &PlannedFile) -> Range<u64> {
    file.pieces.first().map_or(0..0, |piece| piece.offset..piece.offset.saturating_add(piece.bytes))
}

/// The files in runs without gaps of `max_gap_bytes` or more between them.
pub(super) fn spans(mut files: Vec<PlannedFile>, max_gap_bytes: u64) -> Vec<Span> {
    files.sort_by_key(|file| (place(file).start, place(file).end));
    let mut spans: Vec<Span> = Vec::new();
    for file in files {
        let range = place(&file);
        match spans.last_mut() {
            Some(span) if range.start >= span.range.end && range.start - span.range.end < max_gap_bytes => {
                span.range.end = range.end;
                span.files.push(file);
            }
            _ => spans.push(Span { range, files: vec![file] }),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::PieceRecord;
    use crate::format::{FileName, Whole};
    use crate::id::{Digest, VersionId};

    fn file(object: u8, range: Range<u64>) -> PlannedFile {
        let (version, digest) = (VersionId([0; 16]), Digest([0; 32]));
        let whole = Whole { total_bytes: 0, blake3: digest, mtime_ns: 0, mode: 0, generation: 1, parents: Vec::new() };
        let (object, bytes) = (ObjectId([object; 16]), range.end - range.start);
        let piece = PieceRecord { version, ordinal: 0, object, offset: range.start, bytes, blake3: None };
        let name = FileName::new("x").expect("a name");
        PlannedFile { name, version, whole, pieces: vec![piece], copies: Vec::new(), heads: 1, asked_bytes: 0 }
    }

    #[test]
    fn neighbours_are_read_together_and_far_ones_are_not() {
        let files = [300..310, 0..10, 10..10, 12..20, 120..121].map(|range| file(1, range)).to_vec();
        let ranges: Vec<_> = spans(files, 100).into_iter().map(|span| (span.range, span.files.len())).collect();
        assert_eq!(ranges, [(0..20, 3), (120..121, 1), (300..310, 1)]);
    }

    #[test]
    fn bytes_that_belong_to_two_files_are_read_for_each() {
        let files = [0..10, 5..15, 0..10].map(|range| file(1, range)).to_vec();
        assert_eq!(spans(files, 100).len(), 3);
    }

    #[test]
    fn files_are_grouped_by_object_unless_they_have_several_pieces() {
        let mut large = file(1, 0..5);
        large.pieces.extend(large.pieces.clone());
        let groups = Groups::of(vec![file(1, 0..1), file(2, 0..1), large, file(1, 1..2)]);
        assert_eq!(groups.sharing.values().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(groups.single.len(), 1);
    }
}
