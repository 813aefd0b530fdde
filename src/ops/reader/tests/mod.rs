//! The reader against shards that a small writer of its own made: lost, damaged, cut, swapped.

mod damage;
mod losses;
mod manifests;
mod removals;
mod sources;

use super::{ObjectReader, ReadError, ShardPlace, gather_manifest};
use crate::backend::{Backend, MemoryBackend};
use crate::crypto::MasterKey;
use crate::format::{
    FileName, Index, Manifest, ManifestDraft, ObjectKind, PartSealer, Piece, SealedPart, ShardFileLayout, Whole,
    header_bytes, tail_bytes,
};
use crate::id::{BackendId, Digest, Geometry, ObjectId, ShardId, StoreId, VersionId};
use crate::merkle;
use crate::stripe::{BufferPool, Check, FilledStripe, Layout, Seal, StripeEncoder, StripeShape};
use bytes::Bytes;
use futures_util::TryStreamExt;
use std::sync::Arc;

/// An object and its n shard files as they should be.
pub(super) struct Specimen {
    pub(super) manifest: Manifest,
    pub(super) payload: Vec<u8>,
    pub(super) shards: Vec<Vec<u8>>,
}

pub(super) fn geometry(data: usize, total: usize) -> Geometry {
    Geometry::new(data, total).expect("a geometry")
}

pub(super) fn shape(data: usize, total: usize, block_bytes: u32) -> StripeShape {
    StripeShape::new(geometry(data, total), block_bytes, 0).expect("a shape")
}

pub(super) fn key() -> MasterKey {
    MasterKey::from_bytes([42; 32])
}

pub(super) fn trusted() -> StoreId {
    key().store_id()
}

/// Bytes that follow from a seed.
pub(super) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut output = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut output);
    output
}

impl Specimen {
    /// An object whose payload is these bytes; the last of them are called the index.
    pub(super) fn of_payload(shape: StripeShape, id: u8, payload: Vec<u8>) -> Self {
        let index_offset = payload.len() as u64;
        Self::build(shape, ObjectId([id; 16]), (payload, index_offset))
    }

    /// An object that holds one file of these bytes.
    pub(super) fn of_file(shape: StripeShape, id: u8, content: Vec<u8>) -> Self {
        let (bytes, blake3) = (content.len() as u64, Digest(blake3::hash(&content).into()));
        let (version, name) = (VersionId([id; 16]), FileName::new("file").expect("a name"));
        let whole = Whole { total_bytes: bytes, blake3, mtime_ns: 0, mode: 0o644, generation: 1, parents: Vec::new() };
        let piece = Piece { version, name, ordinal: 0, offset: 0, bytes, last: Some(whole) };
        let index = Index { pieces: vec![piece], ..Index::default() };
        let mut payload = content;
        payload.extend(index.to_bytes().expect("an index"));
        Self::build(shape, ObjectId([id; 16]), (payload, bytes))
    }

    fn build(shape: StripeShape, object: ObjectId, (payload, index_offset): (Vec<u8>, u64)) -> Self {
        let layout = Layout::new(shape, payload.len() as u64).expect("a layout");
        let encoder = StripeEncoder::new(shape, object, Check::Parity);
        let pool = BufferPool::new(StripeEncoder::buffer_bytes(shape));
        let total = shape.geometry().total_shards();
        let (mut blocks, mut leaves) = (vec![Vec::new(); total], vec![Vec::new(); total]);
        for (stripe_index, part) in (0..).zip(payload.chunks(shape.capacity() as usize)) {
            let mut buffer = pool.take();
            buffer.as_mut_slice()[..part.len()].copy_from_slice(part);
            let stripe =
                FilledStripe { stripe_index, buffer, payload_bytes: part.len() as u64, is_last: false, digest: None };
            let encoded = encoder.encode(stripe).expect("encodes");
            for index in shape.geometry().shard_indexes() {
                blocks[usize::from(index)].extend_from_slice(&encoded.block(index));
                leaves[usize::from(index)].push(encoded.leaves()[usize::from(index)]);
            }
        }
        let roots = (0..=u8::MAX).zip(&leaves).map(|(index, leaves)| merkle::shard_root(object, index, leaves));
        let sealed = SealedPart {
            index_offset,
            index_bytes: payload.len() as u64 - index_offset,
            created_ns: 0,
            data_key: None,
        };
        let draft = ManifestDraft {
            store: trusted(),
            object,
            kind: ObjectKind::Data,
            removes: Vec::new(),
            writer_generation: 0,
            layout,
            seal: Seal::None,
            shard_roots: roots.collect(),
            share_digests: Vec::new(),
            key_id: key().key_id(),
            sealed,
        };
        let manifest = Manifest::sign(draft, PartSealer::Nobody, &key().signer()).expect("signs");
        let file = |(index, blocks): (usize, Vec<u8>)| {
            let header = header_bytes(&manifest, index as u8);
            [&header[..], &blocks, &tail_bytes(&manifest, index as u8, &leaves[index], None)].concat()
        };
        let shards = blocks.into_iter().enumerate().map(file).collect();
        Self { manifest, payload, shards }
    }

    pub(super) fn layout(&self) -> ShardFileLayout {
        ShardFileLayout::of(&self.manifest)
    }

    /// Where a block is in its shard file.
    pub(super) fn block(&self, stripe_index: u64) -> std::ops::Range<usize> {
        let start = (self.layout().blocks().start + self.manifest.layout().block_offset(stripe_index)) as usize;
        start..start + self.manifest.layout().block_bytes(stripe_index) as usize
    }

    /// A reader of shard files that may be damaged or gone, each on a backend of its own.
    pub(super) async fn reader(&self, shards: &[Option<Vec<u8>>]) -> ObjectReader {
        ObjectReader::new(self.manifest.clone(), places(self.manifest.object(), shards).await)
    }

    /// All shard files, as they should be.
    pub(super) fn all(&self) -> Vec<Option<Vec<u8>>> {
        self.shards.iter().cloned().map(Some).collect()
    }
}

/// Backends that hold these files under the names of the object's shards.
pub(super) async fn places(object: ObjectId, shards: &[Option<Vec<u8>>]) -> Vec<ShardPlace> {
    let mut places = Vec::new();
    for (index, file) in (0..=u8::MAX).zip(shards) {
        let backend = MemoryBackend::new();
        if let Some(file) = file {
            store(&backend, ShardId { object, index }, file).await;
        }
        places.push(ShardPlace { index, backend: BackendId([index; 16]), source: Some(Arc::new(backend)) });
    }
    places
}

pub(super) async fn store(backend: &dyn Backend, shard: ShardId, file: &[u8]) {
    let mut writer = backend.create(shard).await.expect("creates");
    writer.write(Bytes::copy_from_slice(file)).await.expect("writes");
    writer.finish().await.expect("finishes");
}

/// The whole payload.
pub(super) async fn payload(reader: &ObjectReader) -> Result<Vec<u8>, ReadError> {
    let bytes = reader.manifest().layout().payload_bytes();
    reader.payload(0..bytes).try_fold(Vec::new(), async |all, part| Ok([&all[..], &part].concat())).await
}

/// As somebody reads who has nothing but the shard files and the store id: manifest, index, payload.
pub(super) async fn read_with_nothing_else(object: ObjectId, shards: &[Option<Vec<u8>>]) -> Result<Vec<u8>, ReadError> {
    let places = places(object, shards).await;
    let manifest = gather_manifest(&places, object, &trusted()).await?;
    let reader = ObjectReader::new(manifest, places);
    reader.index().await?;
    payload(&reader).await
}
