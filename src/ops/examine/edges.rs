//! What stands around a copy's blocks: its length, header, leaves, manifest and trailer, each compared with the bytes that
//! the signed manifest and the verified blocks determine.

use super::{Defect, Depth};
use crate::backend::{self, Backend, ErrorKind};
use crate::format::{HEADER_BYTES, Manifest, ShardFileLayout, header_bytes, is_end};
use crate::id::{Digest, ShardId};
use std::ops::Range;
use std::sync::Arc;

/// What a copy should be.
pub(super) struct Edges<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) index: u8,
    /// The length its file has.
    pub(super) file_bytes: u64,
    /// What its leaves should be.
    pub(super) leaves: Leaves,
}

/// What is known of leaves, and whether they are looked at.
pub(super) enum Leaves {
    /// They are not looked at.
    Unasked,
    /// Those that lead to the signed root, where they are known.
    Expected(Option<Arc<[Digest]>>),
}

/// The first thing that is wrong beside the blocks, and how many bytes were read; an error when the place stops answering.
pub(super) async fn check(
    backend: &dyn Backend,
    edges: &Edges<'_>,
    depth: Depth,
) -> backend::Result<(Option<Defect>, u64)> {
    let (manifest, index) = (edges.manifest, edges.index);
    let file = ShardFileLayout::of(manifest);
    let expected = file.file_bytes();
    if edges.file_bytes != expected {
        return Ok((Some(Defect::Length { found: edges.file_bytes, expected }), 0));
    }
    let shard = ShardId { object: manifest.object(), index };
    let mut sections: Vec<(Defect, Range<u64>, Expected)> = Vec::new();
    if depth != Depth::Quick {
        let header = Expected::Bytes(header_bytes(manifest, index).to_vec());
        sections.push((Defect::Header, 0..HEADER_BYTES as u64, header));
    }
    if let Leaves::Expected(leaves) = &edges.leaves {
        let Some(leaves) = leaves else { return Ok((Some(Defect::Leaves), 0)) };
        let leaves = Expected::Bytes(leaves.iter().flat_map(|leaf| leaf.0).collect());
        sections.push((Defect::Leaves, file.leaves(), leaves));
    }
    sections.push((Defect::Manifest, file.end(), Expected::End));
    let mut bytes_read = 0;
    for (defect, range, expected) in sections {
        match backend.read(shard, range).await {
            Ok(bytes) => {
                bytes_read += bytes.len() as u64;
                let is_right = match expected {
                    Expected::Bytes(expected) => bytes == expected,
                    Expected::End => is_end(manifest, index, &bytes),
                };
                if !is_right {
                    return Ok((Some(defect), bytes_read));
                }
            }
            Err(error) if matches!(error.kind, ErrorKind::OutOfRange | ErrorKind::Failed) => {
                return Ok((Some(defect), bytes_read));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((None, bytes_read))
}

/// What a section should be.
enum Expected {
    /// These bytes.
    Bytes(Vec<u8>),
    /// What follows the leaves, with a key share that the manifest vouches for.
    End,
}
