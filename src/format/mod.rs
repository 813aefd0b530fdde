//! Format version 1: the shard file, its manifest and the index, as bytes.
//!
//! *What it is.* Pure encoders and decoders of everything that is stored on a backend. `FORMAT.md` beside this file
//! describes the same byte by byte, well enough to write a reader without this code.
//!
//! *What it knows.* Layouts, roots, signatures.
//!
//! *What it does not know.* Where the bytes are kept, who asks for them, what time it is.
//!
//! *Invariants.* Nothing is trusted but a [`Manifest`], which exists only with a signature that the store id vouches for.
//! Lengths that come from a file are checked against the file and a limit before anything is allocated.
//!
//! ```text
//! ┌────────┬───────────────────────────────┬────────┬────────────────────────────────┬─────────┐
//! │ header │ block 0 · block 1 · block 2 … │ leaves │ public · signature · sealed    │ trailer │
//! │  64 B  │ this shard's of each stripe   │ 32 B … │ the manifest: a copy per shard │  128 B  │
//! └────────┴───────────────────────────────┴────────┴────────────────────────────────┴─────────┘
//! ```

pub mod backup;
pub mod backup_file;
mod claim;
mod header;
pub mod index;
mod manifest;
mod name;
mod shard_file;
#[cfg(test)]
mod tests;
mod trailer;

pub use backup::{BackupPart, WholeBackup};
pub use claim::{Claims, Ending, claims, has_magic};
pub use header::{FORMAT_VERSION, HEADER_BYTES, Header, HeaderError, MAGIC};
pub use index::{Index, IndexError, Piece, Removal, RemovedObject, RemovedShard, RemovedVersion, Whole};
pub use manifest::{
    CODE, MAX_PUBLIC_BYTES, MAX_REMOVED_OBJECTS, MAX_SEALED_BYTES, Manifest, ManifestBytes, ManifestDraft,
    ManifestError, ObjectKind, PartOpener, PartSealer, SealedPart, seal_context,
};
pub use name::{FileName, MAX_NAME_BYTES, MAX_PART_BYTES, NameError};
pub use shard_file::{
    MAX_MANIFEST_BYTES, ShardFileLayout, TailError, header_bytes, is_end, leaves_of, manifest_in_tail, tail_bytes,
};
pub use trailer::{SectionLengths, TRAILER_BYTES, Trailer, TrailerError};
