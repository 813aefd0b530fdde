//! Why a manifest is refused.

use super::ObjectKind;
use crate::crypto::OpenError;
use crate::id::{Digest, ObjectId, StoreId, WriterId};
use crate::stripe::{LayoutError, Seal};

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
    /// Signed by one who may not make such objects.
    #[error("the manifest is of a {kind:?} object, which its signer may not make")]
    Role {
        /// What the object is for.
        kind: ObjectKind,
    },
    /// Signed by a writer that does not give such an id.
    #[error("object {object} has an id that its signer, writer {writer}, does not give")]
    NotItsOwn {
        /// The object.
        object: ObjectId,
        /// Who signed it.
        writer: WriterId,
    },
    /// What would open the object is not at hand.
    #[error("the object is sealed with {seal}, and the key {key_id} is not here")]
    NoKey {
        /// How it is sealed.
        seal: Seal,
        /// Which master key was in use.
        key_id: Digest,
    },
    /// The right key does not open the sealed part: it was not made as the format says.
    #[error("the sealed part does not open")]
    Unopened(#[from] OpenError),
    /// Sealer and seal do not go together.
    #[error("the seal {seal} takes another key than was given")]
    Sealer {
        /// How it should be sealed.
        seal: Seal,
    },
}
