//! The end of an object: manifest, tails, what was lost on the way rebuilt elsewhere, quorum, commit.

use super::journal::{Places, is_lasting};
use super::line::Delivered;
use super::sealing::Sealing;
use super::{Contents, ObjectOptions, ObjectWriter, StoredObject};
use crate::backend;
use crate::catalog::{Commit, ObjectKind, ObjectRecord, ShardRecord, ShardState};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{self, Manifest, ManifestDraft, Removal, SealedPart, tail_bytes};
use crate::id::{BackendId, Digest, ObjectId};
use crate::merkle;
use crate::ops::Controls;
use crate::ops::mend::{self, MendError, Target, WriteMode};
use crate::ops::reader::{ObjectReader, ShardPlace};
use crate::store::Store;
use crate::stripe::{Layout, StripeShape};
use bytes::Bytes;
use std::sync::Arc;

/// An object whose bytes are all written, and what is durable of it.
struct Ending<'a> {
    store: &'a Store,
    options: ObjectOptions,
    places: Places,
    manifest: Manifest,
    created_ns: i64,
    /// Index, place and length of each finished shard.
    finished: Vec<(u8, BackendId, u64)>,
}

/// Ends an object whose payload, index included, was all encoded and sent.
pub(super) async fn finish(writer: ObjectWriter<'_>, contents: Contents, index_bytes: u64) -> Result<StoredObject> {
    if let Err(error) = writer.options.controls.check_cancelled() {
        return Err(writer.abandon_for(error).await);
    }
    let ObjectWriter { store, options, object, shape, places, payload_bytes, sealing, encoding, lines, .. } = writer;
    let key_fingerprint = encoding.key_fingerprint();
    let (roots, leaves) = match shard_roots(object, encoding.into_leaves()).await {
        Ok(hashed) => hashed,
        Err(error) => {
            lines.give_up().await;
            return Err(give_up(store, &places, error).await);
        }
    };
    let (index_offset, created_ns, data_key) = (payload_bytes - index_bytes, store.now_ns(), sealing.data_key());
    let sealed = SealedPart { index_offset, index_bytes, created_ns, data_key };
    let removal = contents.index.removal.iter().filter(|_| options.kind == format::ObjectKind::Removal);
    let removes = removal.flat_map(Removal::object_ids).collect();
    let says = (options.kind, removes, contents.index.writer_generation());
    let signed = sign(store, (object, says), (shape, payload_bytes), (&sealing, sealed, roots));
    let proved = signed.and_then(|manifest| sealing.prove(store, &manifest, key_fingerprint).map(|()| manifest));
    let manifest = match proved {
        Ok(manifest) => manifest,
        Err(error) => {
            lines.give_up().await;
            return Err(give_up(store, &places, error).await);
        }
    };
    let tail = |index: u8| {
        Bytes::from(tail_bytes(&manifest, index, &leaves[usize::from(index)], sealing.shares().get(usize::from(index))))
    };
    let delivered = lines.finish(tail).await;
    let mut ending = Ending { store, options, places, manifest, created_ns, finished: Vec::new() };
    ending.take(delivered);
    ending.rebuild_lost().await;
    ending.conclude(contents).await
}

fn sign(
    store: &Store,
    (object, (kind, removes, writer_generation)): (ObjectId, (format::ObjectKind, Vec<ObjectId>, u64)),
    (shape, payload_bytes): (StripeShape, u64),
    (sealing, sealed, shard_roots): (&Sealing, SealedPart, Vec<Digest>),
) -> Result<Manifest> {
    let (sealer, signer) = (sealing.part_sealer(store)?, store.signer(kind)?);
    let (store_id, key_id) = (store.id(), sealing.key_id(store)?);
    let signed = Layout::new(shape, payload_bytes).map_err(format::ManifestError::from).and_then(|layout| {
        let (seal, share_digests) = (sealing.seal(), sealing.share_digests(object));
        let draft = ManifestDraft {
            store: store_id,
            object,
            kind,
            removes,
            writer_generation,
            layout,
            seal,
            shard_roots,
            share_digests,
            key_id,
            sealed,
        };
        Manifest::sign(draft, sealer, signer)
    });
    signed.map_err(|error| Error::new(ErrorKind::Invalid, "the object's manifest cannot be made").with_source(error))
}

async fn give_up(store: &Store, places: &Places, error: Error) -> Error {
    // What cannot be taken back is still in the journal; the first error is the one to tell.
    let _ = places.take_back(store).await;
    error
}

/// The Merkle roots of the shards, and the leaves they are over.
async fn shard_roots(object: ObjectId, leaves: Vec<Vec<Digest>>) -> Result<(Vec<Digest>, Vec<Vec<Digest>>)> {
    let hash = move || {
        let roots =
            (0..=u8::MAX).zip(&leaves).map(|(index, leaves)| merkle::shard_root(object, index, leaves)).collect();
        (roots, leaves)
    };
    let stopped = |error| Error::new(ErrorKind::Memory, "hashing stopped in the middle").with_source(error);
    tokio::task::spawn_blocking(hash).await.map_err(stopped)
}

impl Ending<'_> {
    /// Sorts the deliveries into finished ones and failures.
    fn take(&mut self, delivered: Vec<Delivered>) {
        for Delivered { index, outcome } in delivered {
            match (outcome, self.places.of(index)) {
                (Ok(Some(bytes)), Some(place)) => self.finished.push((index, place, bytes)),
                (Err(error), Some(place)) => self.lose(place, error),
                _ => {}
            }
        }
    }

    fn lose(&self, place: BackendId, error: backend::Error) {
        let name = self.store.registry().get(place).map_or_else(|| place.to_string(), |place| place.name.clone());
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        self.options.controls.warn(format!("backend {name} failed while a shard was written: {error}{cause}"));
        self.options.failures.note(place, error);
    }

    fn lost(&self) -> Vec<u8> {
        let is_finished = |index: &u8| self.finished.iter().any(|shard| shard.0 == *index);
        self.options.geometry.shard_indexes().filter(|index| !is_finished(index)).collect()
    }

    /// Makes the lost shards again on other backends, as long as there are any and k shards stand.
    async fn rebuild_lost(&mut self) {
        // Each round fails at least one backend more, or is the last.
        for _ in 0..self.store.registry().len() {
            let lost = self.lost();
            if lost.is_empty() || self.finished.len() < self.options.geometry.data_shards() {
                return;
            }
            if let Err(error) = self.rebuild(&lost).await {
                self.options.controls.warn(format!("a lost shard could not be made again elsewhere: {error}"));
                return;
            }
        }
    }

    async fn rebuild(&mut self, lost: &[u8]) -> Result<()> {
        let (store, failures) = (self.store, self.options.failures.clone());
        let others = self.places.choose_others(store, lost, &failures).await?;
        if others.is_empty() {
            return Err(Error::new(ErrorKind::Backend, "no other backend takes it"));
        }
        let registry = store.registry();
        let target = |(index, place): &(u8, BackendId)| {
            let backend = Arc::clone(&registry.get(*place)?.backend);
            Some(Target { index: *index, place: *place, backend, mode: WriteMode::Create })
        };
        let source = |(index, place, _): &(u8, BackendId, u64)| {
            let source = registry.get(*place).map(|registered| Arc::clone(&registered.backend));
            ShardPlace { index: *index, backend: *place, source }
        };
        let targets = others.iter().filter_map(target).collect();
        let reader = ObjectReader::new(self.manifest.clone(), self.finished.iter().map(source).collect());
        // Bytes that are read again are no progress of the put.
        let controls = Controls { progress: None, cancel: self.options.controls.cancel.clone() };
        let rebuilt = mend::rebuild_shards(&reader, targets, &controls).await?;
        for ((index, place), outcome) in others.into_iter().zip(rebuilt.outcomes) {
            match outcome {
                Ok(bytes) => self.finished.push((index, place, bytes)),
                Err(MendError::Write { source, .. }) => self.lose(place, source),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Commits what is durable if it is the quorum, else takes it back.
    async fn conclude(mut self, contents: Contents) -> Result<StoredObject> {
        self.finished.sort_unstable();
        let geometry = self.options.geometry;
        let lasting = self.finished.iter().filter(|shard| is_lasting(self.store, shard.1)).count();
        if lasting < geometry.write_quorum() {
            let doing = format!(
                "{lasting} of {} shards could be made durable, and {} must be",
                geometry.total_shards(),
                geometry.write_quorum()
            );
            let error = self.options.failures.explain(Error::new(ErrorKind::BelowQuorum, doing));
            return Err(give_up(self.store, &self.places, error).await);
        }
        // What was written of it came from this memory: as long as it is what was signed, so is that.
        if let Err(error) = Manifest::open(self.manifest.bytes().clone(), &self.store.id()) {
            let doing = "the manifest changed in memory after it was signed: this machine's memory is at fault";
            let error = Error::new(ErrorKind::Memory, doing).with_source(error);
            return Err(give_up(self.store, &self.places, error).await);
        }
        let kept: Vec<(u8, BackendId)> = self.finished.iter().map(|shard| (shard.0, shard.1)).collect();
        let left = self.places.clear_all_but(self.store, &kept).await;
        self.commit(contents, left).await?;
        let object = StoredObject {
            id: self.manifest.object(),
            root: self.manifest.object_root(),
            data_shards: geometry.data_shards(),
            total_shards: geometry.total_shards(),
            size: self.manifest.layout().payload_bytes(),
            margin: None,
            backend_margin: None,
            shards: Vec::new(),
            lasting_shards: 0,
            in_best_places: false,
        };
        Ok(object.with_places(self.store, &self.finished))
    }

    /// From here on it is true. A commit that fails leaves the journal, and whoever reads that finds a whole object.
    async fn commit(&self, contents: Contents, left: Vec<(u8, BackendId)>) -> Result<()> {
        let shard = |(index, backend, bytes): &(u8, BackendId, u64)| ShardRecord {
            index: *index,
            backend: *backend,
            bytes: *bytes,
            state: ShardState::Ok,
            bad_blocks: 0,
            verified_ns: None,
        };
        let commit = Commit {
            object: object_record(&self.manifest, self.created_ns),
            shards: self.finished.iter().map(shard).collect(),
            index: contents.index,
            piece_hashes: contents.piece_hashes,
        };
        let succeeded: Vec<BackendId> = self.finished.iter().map(|shard| shard.1).collect();
        let failures = self.options.failures.clone();
        let work = move |catalog: &mut crate::catalog::Catalog| {
            catalog.commit_put(&commit, &left)?;
            // It is stored, whatever becomes of this.
            if let Err(error) = failures.write_down(catalog, &succeeded) {
                tracing::warn!(%error, "which backends failed could not be noted");
            }
            Ok(())
        };
        self.store.catalog(work).await
    }
}

/// What the catalog keeps of an object that was made at this time, in nanoseconds since 1970.
pub fn object_record(manifest: &Manifest, created_ns: i64) -> ObjectRecord {
    let layout = manifest.layout();
    let bytes = manifest.bytes();
    ObjectRecord {
        id: manifest.object(),
        kind: match manifest.kind() {
            format::ObjectKind::Data => ObjectKind::Data,
            format::ObjectKind::Removal => ObjectKind::Removal,
            format::ObjectKind::Catalog => ObjectKind::Catalog,
        },
        geometry: manifest.geometry(),
        block_bytes: layout.shape().block_bytes(),
        stripe_count: layout.stripe_count(),
        payload_bytes: layout.payload_bytes(),
        seal: manifest.seal().code(),
        root: manifest.object_root(),
        created_ns: Some(created_ns),
        public: bytes.public.clone(),
        signature: bytes.signature.clone(),
        sealed: bytes.sealed.clone(),
    }
}
