//! Finding an object's manifest: in the end of one shard, or in what is left of all of them.
//!
//! Every shard of an object ends with the same public part, signature and sealed part. Damage rarely hits the same bytes
//! of two copies, so parts may come from different copies; the signature says whether they belong together.

use super::ReadError;
use super::place::ShardPlace;
use crate::backend::{Backend, ErrorKind};
use crate::format::{
    FORMAT_VERSION, MAX_MANIFEST_BYTES, MAX_SEALED_BYTES, Manifest, ManifestBytes, ManifestError, SectionLengths,
    TRAILER_BYTES, TailError, Trailer, manifest_in_tail,
};
use crate::id::{ObjectId, ShardId, StoreId};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;

/// How much of a shard's end is read first: enough for the manifests of most geometries.
const FIRST_READ_BYTES: u64 = 8 * 1024;
/// The length of a signature.
const SIGNATURE_BYTES: usize = 64;
/// At most this many different readings of one part are tried, so that an attacker's copies cost little.
const MAX_READINGS: usize = 16;

/// The manifest in the end of one shard, whole and signed by the store that is trusted, or why it is not there.
///
/// The index of the shard is not in a manifest: a shard under the name of another passes here, and fails where its blocks
/// are verified.
pub async fn read_manifest(backend: &dyn Backend, shard: ShardId, trusted: &StoreId) -> Result<Manifest, ReadError> {
    let file_bytes = backend.head(shard).await?;
    let end = read_end(backend, shard, file_bytes, FIRST_READ_BYTES).await?;
    let bytes = match manifest_in_tail(&end, file_bytes) {
        Err(TailError::Short { needed, .. }) => {
            let end = read_end(backend, shard, file_bytes, needed.min(MAX_MANIFEST_BYTES)).await?;
            manifest_in_tail(&end, file_bytes)
        }
        outcome => outcome,
    };
    let bytes = bytes.map_err(|source| ReadError::Tail { shard, source })?;
    let object = shard.object;
    let manifest = Manifest::open(bytes, trusted).map_err(|source| ReadError::Manifest { object, source })?;
    let found = manifest.object();
    if found == object { Ok(manifest) } else { Err(ReadError::OtherObject { shard, found }) }
}

async fn read_end(backend: &dyn Backend, shard: ShardId, file_bytes: u64, bytes: u64) -> Result<Bytes, ReadError> {
    Ok(backend.read(shard, file_bytes.saturating_sub(bytes)..file_bytes).await?)
}

/// The manifest of an object, from the first copy that is whole, or else put together from parts of several.
///
/// Only bytes signed by the trusted store come back. [`ReadError::NoManifest`] says how many copies there were.
pub async fn gather_manifest(
    places: &[ShardPlace],
    object: ObjectId,
    trusted: &StoreId,
) -> Result<Manifest, ReadError> {
    let mut last_refusal = None;
    for place in places {
        let Some(source) = &place.source else { continue };
        match read_manifest(source.as_ref(), ShardId { object, index: place.index }, trusted).await {
            Ok(manifest) => return Ok(manifest),
            Err(ReadError::Manifest { source, .. }) => last_refusal = Some(source),
            Err(_) => {}
        }
    }
    let (ends, unreachable) = read_ends(places, object).await;
    let parts = Parts::from_ends(&ends);
    match parts.put_together(object, trusted) {
        Ok(manifest) => Ok(manifest),
        Err(refusal) => {
            let source = refusal.or(last_refusal);
            Err(ReadError::NoManifest { object, copies: ends.len(), unreachable, source })
        }
    }
}

/// The last bytes of each shard that answers, and how many shards are where nothing does.
async fn read_ends(places: &[ShardPlace], object: ObjectId) -> (Vec<Bytes>, usize) {
    let (mut ends, mut unreachable) = (Vec::new(), 0);
    for place in places {
        let Some(source) = &place.source else {
            unreachable += 1;
            continue;
        };
        match end_of(source.as_ref(), ShardId { object, index: place.index }).await {
            Ok(end) => ends.push(end),
            Err(ReadError::Backend(error)) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Failed) => {}
            Err(_) => unreachable += 1,
        }
    }
    (ends, unreachable)
}

async fn end_of(backend: &dyn Backend, shard: ShardId) -> Result<Bytes, ReadError> {
    let file_bytes = backend.head(shard).await?;
    read_end(backend, shard, file_bytes, MAX_MANIFEST_BYTES).await
}

/// Readings of each part of a manifest, each different one once, those that more copies agree on first.
#[derive(Debug, Default)]
struct Parts {
    publics: Readings,
    signatures: Readings,
    sealeds: Readings,
}

#[derive(Debug, Default)]
struct Readings(BTreeMap<Vec<u8>, usize>);

impl Readings {
    fn note(&mut self, reading: &[u8]) {
        *self.0.entry(reading.to_vec()).or_default() += 1;
    }

    fn best(&self) -> impl Iterator<Item = &Vec<u8>> {
        let mut readings: Vec<_> = self.0.iter().collect();
        readings.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        readings.into_iter().map(|(reading, _)| reading).take(MAX_READINGS)
    }
}

impl Parts {
    /// Reads the parts where a trailer says that they are, or another copy's trailer does, or where they look like it.
    fn from_ends(ends: &[Bytes]) -> Self {
        let trailers: Vec<Option<SectionLengths>> = ends.iter().map(|end| lengths_in(end)).collect();
        let mut parts = Self::default();
        for (end, own) in ends.iter().zip(&trailers) {
            match own {
                Some(lengths) => parts.note_by_lengths(end, lengths),
                None => trailers.iter().flatten().for_each(|lengths| parts.note_by_lengths(end, lengths)),
            }
            parts.note_by_look(end);
        }
        if let Some(end) = majority(ends) {
            trailers.iter().flatten().for_each(|lengths| parts.note_by_lengths(&end, lengths));
            parts.note_by_look(&end);
        }
        parts
    }

    fn note_by_lengths(&mut self, end: &[u8], lengths: &SectionLengths) {
        let Some(sections) = sections(end, lengths) else { return };
        self.publics.note(&end[sections.public]);
        self.signatures.note(&end[sections.signature]);
        self.sealeds.note(&end[sections.sealed]);
    }

    /// Looks for how a public part begins; where it ends, its JSON says. What follows the signature may begin with a
    /// sealed part of any length.
    fn note_by_look(&mut self, end: &[u8]) {
        let opening = format!("{{\"format\":{FORMAT_VERSION},");
        let starts = end.windows(opening.len()).enumerate().filter(|(_, window)| *window == opening.as_bytes());
        for (start, _) in starts.take(MAX_READINGS) {
            let mut json = serde_json::Deserializer::from_slice(&end[start..]).into_iter::<serde::de::IgnoredAny>();
            if !matches!(json.next(), Some(Ok(_))) {
                continue;
            }
            let public_end = start + json.byte_offset();
            self.publics.note(&end[start..public_end]);
            if let Some(signature) = end.get(public_end..public_end + SIGNATURE_BYTES) {
                self.signatures.note(signature);
                let rest = &end[public_end + SIGNATURE_BYTES..];
                self.sealeds.note(&rest[..rest.len().min(MAX_SEALED_BYTES as usize)]);
            }
        }
    }

    /// The first combination that verifies; the error is why the last public part did not.
    fn put_together(&self, object: ObjectId, trusted: &StoreId) -> Result<Manifest, Option<ManifestError>> {
        let mut refusal = None;
        for public in self.publics.best() {
            for signature in self.signatures.best() {
                let (public, signature) = (public.clone(), signature.clone());
                let bytes = ManifestBytes { public, signature, sealed: Vec::new() };
                match Manifest::open_public(bytes, trusted) {
                    Ok(manifest) if manifest.object() == object => match self.with_sealed(&manifest) {
                        Some(whole) => return Ok(whole),
                        None => refusal = Some(ManifestError::Sealed),
                    },
                    Ok(_) => {}
                    Err(error) => refusal = Some(error),
                }
            }
        }
        Err(refusal)
    }

    /// With a sealed part that is the signed one: a reading, or the beginning of one.
    fn with_sealed(&self, manifest: &Manifest) -> Option<Manifest> {
        let try_one = |sealed: &[u8]| manifest.clone().with_sealed(sealed.to_vec()).ok();
        let exact = self.sealeds.best().find_map(|reading| try_one(reading));
        let prefix = |reading: &Vec<u8>| (0..reading.len()).find_map(|bytes| try_one(&reading[..bytes]));
        exact.or_else(|| self.sealeds.best().find_map(prefix))
    }
}

/// Where a manifest's sections are in the end of a shard file.
struct Sections {
    public: Range<usize>,
    signature: Range<usize>,
    sealed: Range<usize>,
}

fn sections(end: &[u8], lengths: &SectionLengths) -> Option<Sections> {
    let manifest_bytes = usize::try_from(lengths.manifest()?).ok()?;
    let start = end.len().checked_sub(manifest_bytes.checked_add(TRAILER_BYTES)?)?;
    // Each length is at most their sum, which fits.
    let public = start..start + lengths.public as usize;
    let signature = public.end..public.end + lengths.signature as usize;
    let sealed = signature.end..signature.end + lengths.sealed as usize;
    Some(Sections { public, signature, sealed })
}

fn lengths_in(end: &[u8]) -> Option<SectionLengths> {
    let trailer = end.get(end.len().checked_sub(TRAILER_BYTES)?..)?;
    Trailer::from_bytes(trailer).ok().map(|trailer| trailer.lengths)
}

/// Byte by byte, counted from the end, what most copies say; for when each copy is damaged, but not in the same place.
fn majority(ends: &[Bytes]) -> Option<Vec<u8>> {
    if ends.len() < 3 {
        return None;
    }
    let length = ends.iter().map(Bytes::len).min()?;
    let byte = |from_end: usize| {
        let votes = ends.iter().map(|end| end[end.len() - from_end]);
        let mut counts = [0u8; 256];
        votes.clone().for_each(|byte| counts[usize::from(byte)] = counts[usize::from(byte)].saturating_add(1));
        votes.max_by_key(|byte| counts[usize::from(*byte)])
    };
    (1..=length).rev().map(byte).collect()
}
