//! Reads several consecutive blocks of one shard file at a time, whatever is left of the file.

use crate::backend::{self, Backend, ErrorKind};
use crate::format::HEADER_BYTES;
use crate::id::ShardId;
use crate::stripe::Layout;
use bytes::Bytes;
use std::ops::Range;

/// The blocks of all shards in one chunk of stripes are together at most this many bytes, unless one stripe has more;
/// a few chunks are in memory at once.
const CHUNK_BYTES: u64 = 4 * 1024 * 1024;
/// One request to a backend asks for at most this many bytes, unless one block has more.
const REQUEST_BYTES: u64 = 1024 * 1024;

/// All stripes of an object, cut into chunks that are read with one request for each shard.
pub(in crate::ops) fn chunks(layout: Layout) -> impl Iterator<Item = Range<u64>> + Send {
    let block_bytes = u64::from(layout.shape().block_bytes());
    let by_memory = CHUNK_BYTES / (block_bytes * layout.geometry().total_shards() as u64);
    let stripes = by_memory.min(REQUEST_BYTES / block_bytes).max(1);
    let count = layout.stripe_count();
    (0..count.div_ceil(stripes)).map(move |chunk| chunk * stripes..count.min((chunk + 1) * stripes))
}

/// Where the blocks of these stripes lie in a shard file.
pub(in crate::ops) fn file_range(layout: Layout, stripes: &Range<u64>) -> Range<u64> {
    if stripes.is_empty() {
        return HEADER_BYTES as u64..HEADER_BYTES as u64;
    }
    let last = stripes.end - 1;
    let start = HEADER_BYTES as u64 + layout.block_offset(stripes.start);
    let end = HEADER_BYTES as u64 + layout.block_offset(last) + u64::from(layout.block_bytes(last));
    start..end
}

/// The blocks of these stripes, unverified; `None` for each that the file is too short for or that cannot be read.
///
/// An error when the place does not answer for the shard: it is absent, out of reach, or refuses.
pub(in crate::ops) async fn read_blocks(
    backend: &dyn Backend,
    shard: ShardId,
    layout: Layout,
    stripes: Range<u64>,
) -> backend::Result<Vec<Option<Bytes>>> {
    match backend.read(shard, file_range(layout, &stripes)).await {
        Ok(bytes) => Ok(cut(layout, &stripes, &bytes)),
        Err(error) if !is_about_bytes(error.kind) => Err(error),
        Err(_) if stripes.end - stripes.start == 1 => Ok(vec![None]),
        Err(_) => read_one_by_one(backend, shard, layout, stripes).await,
    }
}

/// Whether an error is about the bytes that were asked for, and not about the whole shard or its place: the file is
/// shorter, or the medium does not give them back.
pub(in crate::ops) fn is_about_bytes(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::OutOfRange | ErrorKind::Failed)
}

async fn read_one_by_one(
    backend: &dyn Backend,
    shard: ShardId,
    layout: Layout,
    stripes: Range<u64>,
) -> backend::Result<Vec<Option<Bytes>>> {
    let mut blocks = Vec::new();
    for stripe in stripes {
        match backend.read(shard, file_range(layout, &(stripe..stripe + 1))).await {
            Ok(bytes) => blocks.push(Some(bytes)),
            Err(error) if is_about_bytes(error.kind) => blocks.push(None),
            Err(error) => return Err(error),
        }
    }
    Ok(blocks)
}

/// Cuts what was read into blocks; one that the bytes do not reach is `None`.
fn cut(layout: Layout, stripes: &Range<u64>, bytes: &Bytes) -> Vec<Option<Bytes>> {
    let start = layout.block_offset(stripes.start);
    let block = |stripe: u64| {
        let from = (layout.block_offset(stripe) - start) as usize;
        let to = from + layout.block_bytes(stripe) as usize;
        (to <= bytes.len()).then(|| bytes.slice(from..to))
    };
    stripes.clone().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Geometry;
    use crate::stripe::StripeShape;

    fn layout(data: usize, total: usize, block_bytes: u32, payload_bytes: u64) -> Layout {
        let geometry = Geometry::new(data, total).expect("geometry");
        Layout::new(StripeShape::new(geometry, block_bytes, 0).expect("shape"), payload_bytes).expect("layout")
    }

    #[test]
    fn chunks_cover_every_stripe_once_and_keep_their_size() {
        for (data, total) in [(1, 2), (2, 3), (3, 5), (7, 15), (100, 255)] {
            let block_bytes = Geometry::new(data, total).expect("geometry").block_bytes();
            for stripes in [1, 2, 3, 7, 31] {
                let payload = u64::from(block_bytes) * data as u64 * stripes - 1;
                let layout = layout(data, total, block_bytes, payload);
                let all: Vec<u64> = chunks(layout).flatten().collect();
                assert_eq!(all, (0..stripes).collect::<Vec<_>>());
                for chunk in chunks(layout) {
                    let range = file_range(layout, &chunk);
                    assert!(range.end - range.start <= REQUEST_BYTES.max(block_bytes.into()));
                    let one = chunk.end - chunk.start == 1;
                    assert!(one || (range.end - range.start) * total as u64 <= CHUNK_BYTES);
                }
            }
        }
    }

    #[test]
    fn what_was_read_is_cut_where_the_blocks_are() {
        let layout = layout(2, 3, 4, 21);
        let bytes = Bytes::from_static(b"aaaabbbbccc");
        let whole = ["aaaa", "bbbb", "ccc"].map(|text| Some(Bytes::from(text)));
        assert_eq!(cut(layout, &(0..3), &bytes), whole);
        assert_eq!(cut(layout, &(0..3), &bytes.slice(..9)), [whole[0].clone(), whole[1].clone(), None]);
        assert_eq!(file_range(layout, &(0..3)), 64..75);
        assert_eq!(file_range(layout, &(2..3)), 72..75);
    }
}
