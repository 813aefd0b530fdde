//! The manifest: what an object is, signed. A copy ends every shard.

use crate::crypto::{PublicKey, Signature, Signer};
use crate::id::{Digest, Geometry, ObjectId, StoreId};
use crate::merkle::{self, ObjectBinding};
use crate::stripe::{Layout, LayoutError, Seal, StripeShape};
use serde::{Deserialize, Serialize};

/// A public part is at most this many bytes: 255 roots and share digests in hex, with room to spare.
pub const MAX_PUBLIC_BYTES: u64 = 64 * 1024;
/// A sealed part is at most this many bytes.
pub const MAX_SEALED_BYTES: u64 = 4 * 1024;
/// The code that every object of format 1 is made with, in words, for whoever reads this in twenty years.
pub const CODE: &str = "reed-solomon gf(2^8)/0x11d systematic vandermonde";

/// The derive-key context of the digest of a sealed part.
const SEALED_DIGEST_CONTEXT: &str = "shard v1 2026-11-21 sealed part digest";

/// What an object is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// It holds pieces of files.
    Data,
    /// It says what is removed.
    Removal,
}

/// The public part, as it is written: the order of the fields is the order in the JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicPart {
    format: u16,
    store: StoreId,
    object: ObjectId,
    kind: ObjectKind,
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
}

/// What only the holder of the key can read, once sealing is there: where the index is and when the object was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedPart {
    /// Where the index begins in the payload.
    pub index_offset: u64,
    /// How long the index is.
    pub index_bytes: u64,
    /// When the object was made, in nanoseconds since 1970-01-01T00:00:00Z; shown to people, never decided by.
    pub created_ns: i64,
}

/// Why bytes are not a manifest that can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A part is longer than its limit.
    #[error("the {part} part has {bytes} bytes, at most {max_bytes} are allowed")]
    TooLong {
        /// Which part.
        part: &'static str,
        /// Its length.
        bytes: u64,
        /// Its limit.
        max_bytes: u64,
    },
    /// The signature does not have 64 bytes.
    #[error("a signature has 64 bytes, not {bytes}")]
    SignatureLength {
        /// How many there are.
        bytes: usize,
    },
    /// Not the JSON it should be.
    #[error("the manifest is not what the format says")]
    Json(#[from] serde_json::Error),
    /// A format or code this program does not know.
    #[error("format {format} with code {code:?} is not known here")]
    Unknown {
        /// The format version.
        format: u16,
        /// The code.
        code: String,
    },
    /// Signed for another store, or by a key that the store does not vouch for.
    #[error("the manifest belongs to store {found}, not {expected}, or its signer is not that store's")]
    ForeignStore {
        /// The store that is trusted.
        expected: StoreId,
        /// The store the manifest names.
        found: StoreId,
    },
    /// The signature is not the signer's over these bytes.
    #[error("the manifest's signature does not verify")]
    Signature,
    /// The numbers contradict each other.
    #[error("the manifest's geometry or roots contradict each other")]
    Contradiction,
    /// The lengths contradict each other.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The sealed part is not the one that was signed.
    #[error("the sealed part is not the one the manifest names")]
    Sealed,
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
    /// Its layout.
    pub layout: Layout,
    /// How its stripes are sealed.
    pub seal: Seal,
    /// The Merkle root of each shard.
    pub shard_roots: Vec<Digest>,
    /// Which master key.
    pub key_id: Digest,
    /// Where the index is.
    pub sealed: SealedPart,
}

/// A manifest that can be trusted: its signature verified, its numbers agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    public: PublicPart,
    layout: Layout,
    bytes: ManifestBytes,
}

fn sealed_digest(sealed: &[u8]) -> Digest {
    Digest(blake3::derive_key(SEALED_DIGEST_CONTEXT, sealed))
}

impl Manifest {
    /// Makes and signs the manifest of a new object.
    pub fn sign(draft: ManifestDraft, signer: &Signer) -> Result<Self, ManifestError> {
        let geometry = draft.layout.geometry();
        let sealed = serde_json::to_vec(&draft.sealed)?;
        let mut public = PublicPart {
            format: super::FORMAT_VERSION,
            store: draft.store,
            object: draft.object,
            kind: draft.kind,
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
            share_digests: Vec::new(),
            key_id: draft.key_id,
            signer: signer.public_key(),
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
        if public.store != *store || public.signer.store_id() != *store {
            return Err(ManifestError::ForeignStore { expected: *store, found: public.store });
        }
        if !public.signer.verifies_manifest(&bytes.public, &Signature(signature)) {
            return Err(ManifestError::Signature);
        }
        let layout = public.check()?;
        Ok(Self { public, layout, bytes })
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

    /// What only the holder of the key can read.
    pub fn sealed_part(&self) -> Result<SealedPart, ManifestError> {
        let sealed: SealedPart = serde_json::from_slice(&self.bytes.sealed)?;
        let end = sealed.index_offset.checked_add(sealed.index_bytes);
        let index_fits = end == Some(self.public.payload_bytes) && sealed.index_bytes <= super::index::MAX_INDEX_BYTES;
        if index_fits { Ok(sealed) } else { Err(ManifestError::Contradiction) }
    }
}

impl PublicPart {
    fn check(&self) -> Result<Layout, ManifestError> {
        if self.format != super::FORMAT_VERSION || self.code != CODE {
            return Err(ManifestError::Unknown { format: self.format, code: self.code.clone() });
        }
        let geometry = Geometry::new(self.data_shards.into(), self.total_shards.into())
            .map_err(|_| ManifestError::Contradiction)?;
        let shape = StripeShape::new(geometry, self.block_bytes, self.seal.overhead_bytes())?;
        let layout = Layout::new(shape, self.payload_bytes)?;
        let agrees = layout.stripe_count() == self.stripes
            && self.shard_roots.len() == geometry.total_shards()
            && self.share_digests.is_empty()
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
