//! Small objects for the tests of this floor, made without a store, and backends that hold them.

use crate::backend::{Backend, MemoryBackend};
use crate::crypto::{DataKey, KeyShare, MasterKey, SHARE_BYTES, SharedSecret, split_secret};
use crate::format::{Manifest, ManifestDraft, ObjectKind, PartSealer, SealedPart, header_bytes, tail_bytes};
use crate::id::{BackendId, Digest, Geometry, ObjectId, ShardId};
use crate::merkle;
use crate::stripe::{BufferPool, Check, FilledStripe, Layout, Seal, StripeEncoder, StripeShape};
use bytes::Bytes;
use std::sync::Arc;

/// An object with every byte of its shard files.
pub(in crate::ops) struct SampleObject {
    pub(in crate::ops) manifest: Manifest,
    pub(in crate::ops) files: Vec<Vec<u8>>,
}

impl SampleObject {
    /// An object of k of n shards with small blocks and a last stripe that is not full.
    pub(in crate::ops) fn new(data: usize, total: usize, stripes: u64) -> Self {
        let blocks = Blocks::new(data, total, (stripes, Seal::None));
        let manifest = sign(blocks.draft(), PartSealer::Nobody);
        let files = blocks.files(&manifest, &[]);
        Self { manifest, files }
    }

    /// The same under the seal `dispersed`. The signed digest of one share may be that of another shard's, as when the
    /// memory of who made it was at fault.
    pub(in crate::ops) fn dispersed(data: usize, total: usize, wrong_share: Option<u8>) -> Self {
        let blocks = Blocks::new(data, total, (3, Seal::Dispersed));
        let random: Vec<[u8; SHARE_BYTES]> = (1..data).map(|i| [i as u8; SHARE_BYTES]).collect();
        let geometry = blocks.layout.geometry();
        let (secret, shares): (SharedSecret, Vec<KeyShare>) =
            split_secret(geometry, [77; SHARE_BYTES], &random).expect("shares");
        let mut draft = blocks.draft();
        draft.share_digests = shares.iter().map(|share| share.digest(blocks.object)).collect();
        if let Some(wrong) = wrong_share {
            draft.share_digests[usize::from(wrong)] = Digest([1; 32]);
        }
        draft.sealed.data_key = Some(DataKey::from_bytes([4; 32]));
        let manifest = sign(draft, PartSealer::Shared(&secret));
        let files = blocks.files(&manifest, &shares);
        Self { manifest, files }
    }

    /// The name of one of its shards.
    pub(in crate::ops) fn shard(&self, index: u8) -> ShardId {
        ShardId { object: self.manifest.object(), index }
    }

    /// One memory backend for each shard, with its shard on it.
    pub(in crate::ops) async fn spread(&self) -> Vec<Arc<dyn Backend>> {
        let mut backends: Vec<Arc<dyn Backend>> = Vec::new();
        for (index, file) in (0..).zip(&self.files) {
            let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
            overwrite(backend.as_ref(), self.shard(index), file).await;
            backends.push(backend);
        }
        backends
    }
}

/// The id of the backend at a position.
pub(in crate::ops) fn place(position: usize) -> BackendId {
    BackendId([position as u8 + 1; 16])
}

/// Puts these bytes where the shard is.
pub(in crate::ops) async fn overwrite(backend: &dyn Backend, shard: ShardId, bytes: &[u8]) {
    let mut writer = backend.replace(shard).await.expect("a writer");
    writer.write(Bytes::copy_from_slice(bytes)).await.expect("written");
    writer.finish().await.expect("finished");
}

/// All bytes of a shard.
pub(in crate::ops) async fn whole(backend: &dyn Backend, shard: ShardId) -> Vec<u8> {
    let bytes = backend.head(shard).await.expect("there");
    backend.read(shard, 0..bytes).await.expect("readable").to_vec()
}

/// The blocks of an object, and their leaves, by shard.
struct Blocks {
    object: ObjectId,
    layout: Layout,
    seal: Seal,
    blocks: Vec<Vec<u8>>,
    leaves: Vec<Vec<Digest>>,
}

impl Blocks {
    fn new(data: usize, total: usize, (stripes, seal): (u64, Seal)) -> Self {
        let geometry = Geometry::new(data, total).expect("geometry");
        let shape = StripeShape::new(geometry, 32, seal.overhead_bytes()).expect("shape");
        let layout = Layout::new(shape, (stripes - 1) * shape.capacity() + 5).expect("layout");
        let object = ObjectId([total as u8; 16]);
        let payload: Vec<u8> = (0..layout.payload_bytes()).map(|i| (i * i % 251) as u8).collect();
        // Nothing here is opened: what is sealed is as long as this, and comes back as it was.
        let sealed_shape = StripeShape::new(geometry, 32, 0).expect("shape");
        let encoder = StripeEncoder::new(sealed_shape, object, Check::Full);
        let pool = BufferPool::new(StripeEncoder::buffer_bytes(sealed_shape));
        let mut blocks = vec![Vec::new(); total];
        let mut leaves = vec![Vec::new(); total];
        for (stripe_index, part) in (0..).zip(payload.chunks(shape.capacity() as usize)) {
            let mut buffer = pool.take();
            buffer.as_mut_slice()[..part.len()].copy_from_slice(part);
            let payload_bytes = part.len() as u64 + u64::from(seal.overhead_bytes());
            let stripe =
                encoder.encode(FilledStripe { stripe_index, buffer, payload_bytes, is_last: false, digest: None });
            let stripe = stripe.expect("a stripe");
            for index in geometry.shard_indexes() {
                blocks[usize::from(index)].extend_from_slice(&stripe.block(index));
                leaves[usize::from(index)].push(stripe.leaves()[usize::from(index)]);
            }
        }
        Self { object, layout, seal, blocks, leaves }
    }

    fn draft(&self) -> ManifestDraft {
        let (key, object) = (key(), self.object);
        let root = |(index, leaves): (u8, &Vec<Digest>)| merkle::shard_root(object, index, leaves);
        ManifestDraft {
            store: key.store_id(),
            object,
            kind: ObjectKind::Data,
            removes: Vec::new(),
            writer_generation: 0,
            layout: self.layout,
            seal: self.seal,
            shard_roots: (0..).zip(&self.leaves).map(root).collect(),
            share_digests: Vec::new(),
            key_id: key.key_id(),
            sealed: SealedPart {
                index_offset: self.layout.payload_bytes() - 1,
                index_bytes: 1,
                created_ns: 0,
                data_key: None,
            },
        }
    }

    fn files(&self, manifest: &Manifest, shares: &[KeyShare]) -> Vec<Vec<u8>> {
        let file = |index: u8| {
            let index_ = usize::from(index);
            let tail = tail_bytes(manifest, index, &self.leaves[index_], shares.get(index_));
            [&header_bytes(manifest, index)[..], &self.blocks[index_], &tail].concat()
        };
        self.layout.geometry().shard_indexes().map(file).collect()
    }
}

fn key() -> MasterKey {
    MasterKey::from_bytes([5; 32])
}

fn sign(draft: ManifestDraft, sealer: PartSealer<'_>) -> Manifest {
    Manifest::sign(draft, sealer, &key().signer()).expect("a manifest")
}
