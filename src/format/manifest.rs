//! The manifest: what an object is, signed. A copy ends every shard.

mod data_key_text;
mod error;

pub use error::ManifestError;

use crate::crypto::{
    AccessKeys, Certificate, DataKey, KeyShare, MasterKey, PublicKey, RECIPIENT_RANDOM_BYTES, RecipientKey, Role,
    SealContext, SharedSecret, Signature, Signer, StripeCipher,
};
use crate::id::{Digest, Geometry, ObjectId, StoreId, WriterId};
use crate::merkle::{self, ObjectBinding};
use crate::stripe::{Layout, Seal, StripeShape};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A public part is at most this many bytes: 255 roots and share digests in hex, with room to spare.
pub const MAX_PUBLIC_BYTES: u64 = 64 * 1024;
/// A sealed part is at most this many bytes.
pub const MAX_SEALED_BYTES: u64 = 4 * 1024;
/// A removal names at most this many objects, so that their ids and the roots of the most shards fit into a public part.
pub const MAX_REMOVED_OBJECTS: usize = 512;
/// The code that every object of format 1 is made with, in words, for whoever reads this in twenty years.
pub const CODE: &str = "reed-solomon gf(2^8)/0x11d systematic vandermonde";

/// The derive-key context of the digest of a sealed part.
const SEALED_DIGEST_CONTEXT: &str = "shard v1 2026-11-21 sealed part digest";

/// A sealed part is filled up with spaces to a multiple of this many bytes before it is sealed, so that its length tells
/// nothing.
const SEALED_PART_STEP: usize = 256;

/// What an object is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// It holds pieces of files.
    Data,
    /// It says what is removed.
    Removal,
    /// It backs up the catalog: it says again what other objects are.
    Catalog,
}

/// The public part, as it is written: the order of the fields is the order in the JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicPart {
    format: u16,
    store: StoreId,
    object: ObjectId,
    kind: ObjectKind,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    removes: Vec<ObjectId>,
    code: String,
    data_shards: u8,
    total_shards: u8,
    block_bytes: u32,
    stripes: u64,
    payload_bytes: u64,
    seal: Seal,
    shard_roots: Vec<Digest>,
    object_root: Digest,
    sealed_digest: Digest,
    share_digests: Vec<Digest>,
    key_id: Digest,
    signer: PublicKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<Certificate>,
    #[serde(default, skip_serializing_if = "is_zero")]
    writer_generation: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What only the holder of the key can read: where the index is, when the object was made, and what its stripes are sealed
/// with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedPart {
    /// Where the index begins in the payload.
    pub index_offset: u64,
    /// How long the index is.
    pub index_bytes: u64,
    /// When the object was made, in nanoseconds since 1970-01-01T00:00:00Z; shown to people, never decided by.
    pub created_ns: i64,
    /// The key of the stripes; none where they are not sealed.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "data_key_text")]
    pub data_key: Option<DataKey>,
}

/// What a sealed part is sealed with.
#[derive(Debug, Clone, Copy)]
pub enum PartSealer<'a> {
    /// Nothing: anyone may read it.
    Nobody,
    /// The master key.
    Master(&'a MasterKey),
    /// What the object's key shares hold.
    Shared(&'a SharedSecret),
    /// The public half of a master key, with random bytes that are used for nothing else.
    Recipient(&'a RecipientKey, &'a [u8; RECIPIENT_RANDOM_BYTES]),
}

/// What may open a sealed part.
#[derive(Debug, Clone, Copy)]
pub enum PartOpener<'a> {
    /// Nothing is at hand: only what is not sealed can be read.
    Nobody,
    /// The keys that this machine has.
    Keys(&'a AccessKeys),
    /// What the object's key shares hold.
    Shared(&'a SharedSecret),
}

/// The bytes of a manifest, as they stand in a shard and in the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestBytes {
    /// The public part: JSON.
    pub public: Vec<u8>,
    /// The signature over it.
    pub signature: Vec<u8>,
    /// The sealed part.
    pub sealed: Vec<u8>,
}

/// What a new object's manifest is made from.
#[derive(Debug, Clone)]
pub struct ManifestDraft {
    /// The store.
    pub store: StoreId,
    /// The object.
    pub object: ObjectId,
    /// What it is for.
    pub kind: ObjectKind,
    /// The objects that a removal removes, for those who cannot open it; at most [`MAX_REMOVED_OBJECTS`], in the order of its
    /// index.
    pub removes: Vec<ObjectId>,
    /// The greatest generation in its index of a version that a writer put; 0 where there is none.
    pub writer_generation: u64,
    /// Its layout.
    pub layout: Layout,
    /// How its stripes are sealed.
    pub seal: Seal,
    /// The Merkle root of each shard.
    pub shard_roots: Vec<Digest>,
    /// The digest of each shard's key share; none but with the seal `dispersed`.
    pub share_digests: Vec<Digest>,
    /// Which master key.
    pub key_id: Digest,
    /// Where the index is, and what opens the stripes.
    pub sealed: SealedPart,
}

/// A manifest that can be trusted: its signature verified, its numbers agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    public: PublicPart,
    writer: Option<WriterId>,
    layout: Layout,
    bytes: ManifestBytes,
}

fn sealed_digest(sealed: &[u8]) -> Digest {
    Digest(blake3::derive_key(SEALED_DIGEST_CONTEXT, sealed))
}

impl Manifest {
    /// Makes, seals and signs the manifest of a new object.
    pub fn sign(draft: ManifestDraft, sealer: PartSealer<'_>, signer: &Signer) -> Result<Self, ManifestError> {
        let sealed = draft.seal_part(sealer)?;
        let geometry = draft.layout.geometry();
        let mut public = PublicPart {
            format: super::FORMAT_VERSION,
            store: draft.store,
            object: draft.object,
            kind: draft.kind,
            removes: draft.removes,
            code: CODE.to_owned(),
            data_shards: geometry.data_shards() as u8,
            total_shards: geometry.total_shards() as u8,
            block_bytes: draft.layout.shape().block_bytes(),
            stripes: draft.layout.stripe_count(),
            payload_bytes: draft.layout.payload_bytes(),
            seal: draft.seal,
            shard_roots: draft.shard_roots,
            object_root: Digest([0; 32]),
            sealed_digest: sealed_digest(&sealed),
            share_digests: draft.share_digests,
            key_id: draft.key_id,
            signer: signer.public_key(),
            certificate: signer.certificate(),
            writer_generation: draft.writer_generation,
        };
        public.object_root = public.compute_object_root(geometry)?;
        let public = serde_json::to_vec(&public)?;
        let signature = signer.sign_manifest(&public).0.to_vec();
        Self::open(ManifestBytes { public, signature, sealed }, &draft.store)
    }

    /// Checks everything there is to check of a manifest's bytes but its sealed part; to be trusted, they must be signed
    /// by the signer that the store id pins.
    pub fn open_public(bytes: ManifestBytes, store: &StoreId) -> Result<Self, ManifestError> {
        check_length("public", &bytes.public, MAX_PUBLIC_BYTES)?;
        let signature: [u8; 64] = bytes
            .signature
            .as_slice()
            .try_into()
            .map_err(|_| ManifestError::SignatureLength { bytes: bytes.signature.len() })?;
        let public: PublicPart = serde_json::from_slice(&bytes.public)?;
        let role =
            public.role_in(store).ok_or(ManifestError::ForeignStore { expected: *store, found: public.store })?;
        if !public.signer.verifies_manifest(&bytes.public, &Signature(signature)) {
            return Err(ManifestError::Signature);
        }
        let writer = public.check_role(role)?;
        let layout = public.check()?;
        Ok(Self { public, writer, layout, bytes })
    }

    /// Like [`Self::open_public`], and the sealed part is the one that was signed.
    pub fn open(bytes: ManifestBytes, store: &StoreId) -> Result<Self, ManifestError> {
        check_length("sealed", &bytes.sealed, MAX_SEALED_BYTES)?;
        let manifest = Self::open_public(bytes, store)?;
        if sealed_digest(&manifest.bytes.sealed) != manifest.public.sealed_digest {
            return Err(ManifestError::Sealed);
        }
        Ok(manifest)
    }

    /// Takes the sealed part of another copy, if it is the one that was signed.
    pub fn with_sealed(self, sealed: Vec<u8>) -> Result<Self, ManifestError> {
        check_length("sealed", &sealed, MAX_SEALED_BYTES)?;
        if sealed_digest(&sealed) != self.public.sealed_digest {
            return Err(ManifestError::Sealed);
        }
        Ok(Self { bytes: ManifestBytes { sealed, ..self.bytes }, ..self })
    }

    /// The stored bytes.
    pub fn bytes(&self) -> &ManifestBytes {
        &self.bytes
    }

    /// The object.
    pub fn object(&self) -> ObjectId {
        self.public.object
    }

    /// What it is for.
    pub fn kind(&self) -> ObjectKind {
        self.public.kind
    }

    /// The objects that it removes: none, unless it is of a removal.
    pub fn removes(&self) -> &[ObjectId] {
        &self.public.removes
    }

    /// The greatest generation in it of a version that a writer put, for writers, which cannot read it; 0 where there is none.
    pub fn writer_generation(&self) -> u64 {
        self.public.writer_generation
    }

    /// The writer that signed it; `None` where one signed it that signs for the owner.
    pub fn writer(&self) -> Option<WriterId> {
        self.writer
    }

    /// Where its bytes lie.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// k and n.
    pub fn geometry(&self) -> Geometry {
        self.layout.geometry()
    }

    /// How its stripes are sealed.
    pub fn seal(&self) -> Seal {
        self.public.seal
    }

    /// The Merkle root of each shard, in their order.
    pub fn shard_roots(&self) -> &[Digest] {
        &self.public.shard_roots
    }

    /// The root over everything.
    pub fn object_root(&self) -> Digest {
        self.public.object_root
    }

    /// What the object root binds beside the shard roots.
    pub fn binding(&self) -> ObjectBinding {
        self.public.binding(self.geometry())
    }

    /// The master key that was in use.
    pub fn key_id(&self) -> Digest {
        self.public.key_id
    }

    /// The digest of each shard's key share; none but with the seal `dispersed`.
    pub fn share_digests(&self) -> &[Digest] {
        &self.public.share_digests
    }

    /// The key share in these bytes, if they are this shard's.
    pub fn key_share(&self, shard_index: u8, bytes: &[u8]) -> Option<KeyShare> {
        let share = KeyShare { shard_index, bytes: bytes.try_into().ok()? };
        let signed = self.public.share_digests.get(usize::from(shard_index))?;
        (share.digest(self.public.object) == *signed).then_some(share)
    }

    /// What only the holder of the key can read. [`ManifestError::NoKey`] where the opener is not what the seal takes.
    pub fn sealed_part(&self, opener: PartOpener<'_>) -> Result<SealedPart, ManifestError> {
        let text = self.open_part(opener)?;
        let sealed: SealedPart = serde_json::from_slice(&text)?;
        let end = sealed.index_offset.checked_add(sealed.index_bytes);
        let index_fits = end == Some(self.public.payload_bytes) && sealed.index_bytes <= super::index::MAX_INDEX_BYTES;
        let has_key = sealed.data_key.is_some() == (self.seal() != Seal::None);
        if index_fits && has_key { Ok(sealed) } else { Err(ManifestError::Contradiction) }
    }

    fn open_part(&self, opener: PartOpener<'_>) -> Result<Zeroizing<Vec<u8>>, ManifestError> {
        let (bytes, context) = (&self.bytes.sealed, self.seal_context());
        let no_key = ManifestError::NoKey { seal: self.seal(), key_id: self.public.key_id };
        match (self.seal(), opener) {
            (Seal::None, _) => Ok(Zeroizing::new(bytes.clone())),
            (Seal::Key, PartOpener::Keys(keys)) => {
                Ok(keys.key(&self.public.key_id).ok_or(no_key)?.open_part(&context, bytes)?)
            }
            (Seal::Recipient, PartOpener::Keys(keys)) => {
                Ok(keys.key(&self.public.key_id).ok_or(no_key)?.open_recipient_part(&context, bytes)?)
            }
            (Seal::Dispersed, PartOpener::Shared(secret)) => Ok(secret.open_part(&context, bytes)?),
            _ => Err(no_key),
        }
    }

    /// What opens this object's stripes, given its sealed part; `None` where they are not sealed.
    pub fn stripe_cipher(&self, sealed: &SealedPart) -> Option<StripeCipher> {
        Some(StripeCipher::new(sealed.data_key.as_ref()?, &self.seal_context()))
    }

    fn seal_context(&self) -> SealContext {
        seal_context(self.public.store, self.public.object, &self.layout.shape(), self.public.seal)
    }
}

/// What everything that is sealed of an object is bound to.
pub fn seal_context(store: StoreId, object: ObjectId, shape: &StripeShape, seal: Seal) -> SealContext {
    let (geometry, block_bytes) = (shape.geometry(), shape.block_bytes());
    SealContext { store, object, geometry, block_bytes, seal: seal.code() }
}

impl ManifestDraft {
    fn seal_part(&self, sealer: PartSealer<'_>) -> Result<Vec<u8>, ManifestError> {
        let mut text = Zeroizing::new(Vec::with_capacity(2 * SEALED_PART_STEP));
        serde_json::to_writer(&mut *text, &self.sealed)?;
        let context = seal_context(self.store, self.object, &self.layout.shape(), self.seal);
        if self.seal != Seal::None {
            let padded_bytes = text.len().next_multiple_of(SEALED_PART_STEP);
            text.resize(padded_bytes, b' ');
        }
        match (self.seal, sealer) {
            (Seal::None, PartSealer::Nobody) => Ok(text.to_vec()),
            (Seal::Key, PartSealer::Master(key)) => Ok(key.seal_part(&context, &text)),
            (Seal::Dispersed, PartSealer::Shared(secret)) => Ok(secret.seal_part(&context, &text)),
            (Seal::Recipient, PartSealer::Recipient(key, random)) => Ok(key.seal_part(&context, &text, random)),
            (seal, _) => Err(ManifestError::Sealer { seal }),
        }
    }
}

impl PublicPart {
    /// What the signer may do in this store; `None` where the store does not vouch for it.
    fn role_in(&self, store: &StoreId) -> Option<Role> {
        if self.store != *store {
            return None;
        }
        match &self.certificate {
            None => (self.signer.store_id() == *store).then_some(Role::Owner),
            Some(certificate) => certificate.role_of(&self.signer, store),
        }
    }

    /// The writer that signed it, where one did and may: files in objects of its own ids, and nothing else.
    fn check_role(&self, role: Role) -> Result<Option<WriterId>, ManifestError> {
        if role == Role::Owner {
            return Ok(None);
        }
        let writer = self.signer.writer_id();
        if self.kind != ObjectKind::Data {
            return Err(ManifestError::Role { kind: self.kind });
        }
        match self.object.writer() == Some(writer) {
            true => Ok(Some(writer)),
            false => Err(ManifestError::NotItsOwn { object: self.object, writer }),
        }
    }

    fn check(&self) -> Result<Layout, ManifestError> {
        if self.format != super::FORMAT_VERSION || self.code != CODE {
            return Err(ManifestError::Unknown { format: self.format, code: self.code.clone() });
        }
        let geometry = Geometry::new(self.data_shards.into(), self.total_shards.into())
            .map_err(|_| ManifestError::Contradiction)?;
        let shape = StripeShape::new(geometry, self.block_bytes, self.seal.overhead_bytes())?;
        let layout = Layout::new(shape, self.payload_bytes)?;
        let removes_rightly = self.removes.is_empty() || self.kind == ObjectKind::Removal;
        let agrees = removes_rightly
            && self.object.is_backup() == (self.kind == ObjectKind::Catalog)
            && self.removes.len() <= MAX_REMOVED_OBJECTS
            && layout.stripe_count() == self.stripes
            && self.shard_roots.len() == geometry.total_shards()
            && self.share_digests.len() == self.seal.share_count(geometry)
            && self.compute_object_root(geometry)? == self.object_root;
        if agrees { Ok(layout) } else { Err(ManifestError::Contradiction) }
    }

    fn binding(&self, geometry: Geometry) -> ObjectBinding {
        ObjectBinding {
            object: self.object,
            geometry,
            block_bytes: self.block_bytes,
            seal: self.seal.code(),
            stripe_count: self.stripes,
            payload_bytes: self.payload_bytes,
        }
    }

    fn compute_object_root(&self, geometry: Geometry) -> Result<Digest, ManifestError> {
        merkle::object_root(&self.binding(geometry), &self.shard_roots).map_err(|_| ManifestError::Contradiction)
    }
}

fn check_length(part: &'static str, bytes: &[u8], max_bytes: u64) -> Result<(), ManifestError> {
    let bytes = bytes.len() as u64;
    if bytes > max_bytes { Err(ManifestError::TooLong { part, bytes, max_bytes }) } else { Ok(()) }
}
