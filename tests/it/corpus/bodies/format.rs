//! Parsers of what lies on backends.

use shard::crypto::{Keyring, MasterKey, Signer};
use shard::format::{
    Ending, HEADER_BYTES, Header, Index, MAGIC, MAX_PUBLIC_BYTES, MAX_SEALED_BYTES, Manifest, ManifestBytes,
    ManifestError, ObjectKind, PartOpener, SealedPart, ShardFileLayout, TRAILER_BYTES, Trailer, claims, header_bytes,
    is_end, leaves_of, manifest_in_tail,
};
use shard::id::{Digest, MAX_TOTAL_SHARDS, StoreId};
use shard::merkle::{MAX_PROOF_BYTES, MerkleProof};
use std::path::{Component, Path};
use std::sync::OnceLock;

/// Where the checksums of header and trailer stand, and the magic bytes of a trailer.
const HEADER_CHECKSUM_AT: usize = 60;
const TRAILER_CHECKSUM_AT: usize = 116;
const TRAILER_MAGIC_AT: usize = 120;

/// The store of the golden shards, and who signs in it.
fn signer() -> &'static (Signer, StoreId) {
    static SIGNER: OnceLock<(Signer, StoreId)> = OnceLock::new();
    SIGNER.get_or_init(|| {
        let mut key = [0; 32];
        (0..).zip(&mut key).for_each(|(number, byte)| *byte = number);
        let keyring = Keyring::new(MasterKey::from_bytes(key));
        (keyring.signer(), keyring.store_id())
    })
}

/// With the checksum that the bytes before it have: chance finds none.
fn with_checksum(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    let checksum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[..at]) as u32;
    bytes[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

pub(crate) fn header(bytes: &[u8]) -> bool {
    let read = |bytes: &[u8]| {
        let Ok(header) = Header::from_bytes(bytes) else { return false };
        assert_eq!(header.to_bytes(), bytes, "what is read is written the same");
        assert!(usize::from(header.shard_index) < header.geometry.total_shards());
        true
    };
    let is_read = read(bytes);
    if bytes.len() == HEADER_BYTES {
        let mut mended = bytes.to_vec();
        mended[..MAGIC.len()].copy_from_slice(&MAGIC);
        read(&with_checksum(mended, HEADER_CHECKSUM_AT));
    }
    is_read
}

/// Eight bytes say how long the file is; the rest is its end.
pub(crate) fn tail(bytes: &[u8]) -> bool {
    let Some((length, end)) = bytes.split_first_chunk() else { return false };
    let file_bytes = u64::from_le_bytes(*length);
    let is_read = read_tail(end, file_bytes);
    if let Some(start) = end.len().checked_sub(TRAILER_BYTES) {
        let mut trailer = end[start..].to_vec();
        trailer[TRAILER_MAGIC_AT..].copy_from_slice(&MAGIC);
        let mended = [&end[..start], &with_checksum(trailer, TRAILER_CHECKSUM_AT)].concat();
        read_tail(&mended, file_bytes);
    }
    is_read
}

fn read_tail(end: &[u8], file_bytes: u64) -> bool {
    let trailer = &end[end.len().saturating_sub(TRAILER_BYTES)..];
    if let Ok(read) = Trailer::from_bytes(trailer) {
        assert_eq!(read.to_bytes(), trailer, "what is read is written the same");
    }
    let parts = manifest_in_tail(end, file_bytes);
    if let Ok(parts) = &parts {
        let taken = parts.public.len() + parts.signature.len() + parts.sealed.len();
        assert!(taken + TRAILER_BYTES <= end.len() && taken as u64 <= file_bytes);
        assert!(parts.public.len() as u64 <= MAX_PUBLIC_BYTES && parts.sealed.len() as u64 <= MAX_SEALED_BYTES);
    }
    assert_eq!(leaves_of(end).len(), end.len() / Digest::BYTES);
    let ending = Ending::find(end);
    let said = claims(end, ending.as_ref());
    assert!(said.shards.len() <= MAX_TOTAL_SHARDS + 1);
    let Some(ending) = ending else { return parts.is_ok() };
    if let Some(leaves) = ending.telling_leaves(file_bytes) {
        assert!(leaves.start <= leaves.end && leaves.end <= file_bytes);
    }
    let told = claims(end, Some(&ending.with_leaves(end)));
    assert!(told.shards.len() <= MAX_TOTAL_SHARDS + 1);
    parts.is_ok()
}

/// The public part, signed: so what comes after the signature is reached too.
pub(crate) fn manifest(bytes: &[u8]) -> bool {
    let (signer, store) = signer();
    let parts = |public: &[u8]| ManifestBytes {
        public: public.to_vec(),
        signature: signer.sign_manifest(public).0.to_vec(),
        sealed: Vec::new(),
    };
    let Ok(manifest) = Manifest::open_public(parts(bytes), store) else { return false };
    assert_eq!(manifest.bytes().public, bytes);
    assert_eq!(manifest.shard_roots().len(), manifest.geometry().total_shards());
    let layout = ShardFileLayout::of(&manifest);
    assert!(layout.blocks().start == HEADER_BYTES as u64 && layout.blocks().end <= layout.leaves().start);
    assert!(layout.leaves().end <= layout.share().start && layout.share().end <= layout.file_bytes());
    let header = Header::from_bytes(&header_bytes(&manifest, 0)).expect("what is written is read");
    assert_eq!((header.object, header.geometry), (manifest.object(), manifest.geometry()));
    assert!(!is_end(&manifest, 0, bytes), "a public part alone is no end");
    assert!(manifest.sealed_part(PartOpener::Nobody).is_err(), "an empty sealed part says nothing");
    let other = StoreId([0; StoreId::BYTES]);
    let foreign = Manifest::open_public(parts(bytes), &other);
    assert!(matches!(foreign, Err(ManifestError::ForeignStore { .. })));
    true
}

pub(crate) fn sealed_part(bytes: &[u8]) -> bool {
    let Ok(part) = serde_json::from_slice::<SealedPart>(bytes) else { return false };
    let text = serde_json::to_vec(&part).expect("numbers and a key are text");
    assert_eq!(serde_json::from_slice::<SealedPart>(&text).expect("what is written is read"), part);
    true
}

/// Eight bytes say where the index begins.
pub(crate) fn index(bytes: &[u8]) -> bool {
    let Some((content, text)) = bytes.split_first_chunk() else { return false };
    let content_bytes = u64::from_le_bytes(*content);
    let Ok(index) = Index::from_bytes(text, content_bytes) else { return false };
    let written = index.to_bytes().expect("what was read can be written");
    assert_eq!(Index::from_bytes(&written, content_bytes).expect("what is written is read"), index);
    assert!(index.pieces.iter().all(|piece| piece.offset + piece.bytes <= content_bytes));
    let removed = index.removal.iter().flat_map(|removal| &removal.versions).map(|removed| &removed.name);
    for name in index.pieces.iter().map(|piece| &piece.name).chain(removed) {
        assert!(stays_below(&name.to_path()), "{name} leads elsewhere");
    }
    let removes: Vec<_> = index.removal.iter().flat_map(|removal| removal.object_ids()).collect();
    let agrees = index.check_removal(ObjectKind::Removal, &removes).is_ok();
    assert_eq!(agrees, index.removal.is_some() && index.pieces.is_empty());
    assert!(index.check_writer_generation(index.writer_generation()).is_ok());
    for writer in index.pieces.iter().filter_map(|piece| piece.version.writer()).take(2) {
        if index.check_writer(writer).is_ok() {
            assert!(index.pieces.iter().all(|piece| piece.version.writer() == Some(writer)));
        }
    }
    true
}

/// Whether a path, joined to a folder, is in it.
pub(super) fn stays_below(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}

pub(crate) fn proof(bytes: &[u8]) -> bool {
    let Ok(proof) = MerkleProof::from_json(bytes) else { return false };
    assert!(bytes.len() <= MAX_PROOF_BYTES);
    let text = proof.to_json();
    assert_eq!(MerkleProof::from_json(text.as_bytes()).as_ref(), Ok(&proof), "what is written is read");
    let nothing = Digest([0; 32]);
    assert!(proof.verify(&nothing).is_err(), "no proof leads to a root of zeros");
    assert!(proof.verify_block(&nothing, bytes).is_err());
    let _root_or_why_not = proof.shard_root();
    assert!(proof.position().is_none_or(|position| position.object == proof.binding().object));
    true
}
