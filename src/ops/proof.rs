//! `proof`: shows that a shard or a block belongs to an object, to somebody who has nothing but the object root.

use super::Controls;
use super::ingest::Sources;
use super::reader::ObjectReader;
use crate::catalog::ObjectRecord;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FileName, HEADER_BYTES};
use crate::id::{Digest, ObjectId, VersionId};
use crate::merkle::{self, BlockPosition, MAX_PROOF_BYTES, MerkleProof, ProofError, ShardTree};
use crate::store::Store;
use crate::stripe::{Layout, Seal, StripeShape};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// What the document around a proof calls itself.
pub const PROOF_DOCUMENT_SCHEMA: &str = "shard.proof-document/1";
/// A proof's document is at most this many bytes.
const MAX_DOCUMENT_BYTES: usize = MAX_PROOF_BYTES + 1024;

/// What is proved.
#[derive(Debug, Clone)]
pub struct CreateProofOptions {
    /// The file; of one that spans several objects, the first is meant.
    pub name: FileName,
    /// A version of it; `None` for the newest.
    pub version: Option<VersionId>,
    /// Which shard.
    pub shard: u8,
    /// Which block of it; `None` for the whole shard.
    pub block: Option<u64>,
    /// Progress and cancelling.
    pub controls: Controls,
}

/// A proof with the root that it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofDocument {
    schema: String,
    /// The object root. Whoever checks should have it from elsewhere: the proof alone shows only that it fits.
    pub root: Digest,
    /// The proof.
    pub proof: MerkleProof,
}

/// What is checked.
#[derive(Debug, Clone)]
pub struct CheckProofOptions {
    /// The JSON of a [`ProofDocument`], or of a [`MerkleProof`] alone.
    pub json: Vec<u8>,
    /// The object root it must lead to; `None` for the one in the document.
    pub root: Option<Digest>,
    /// A shard file whose bytes are held against the proof.
    pub shard_file: Option<PathBuf>,
}

/// What the check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckProofReport {
    /// Whether everything that was checked is right.
    pub valid: bool,
    /// The object that the proof is about.
    pub object: ObjectId,
    /// Which shard of it.
    pub shard: u8,
    /// Which block; `None` for the whole shard.
    pub block: Option<u64>,
    /// The root it was held against.
    pub root: Digest,
    /// Whether that root came from whoever checks, and not with the proof.
    pub root_given: bool,
    /// How many blocks of the shard file were held against the proof.
    pub blocks_checked: u64,
    /// What is wrong, when something is.
    pub problem: Option<String>,
}

impl ProofDocument {
    /// A proof and its root.
    pub fn new(root: Digest, proof: MerkleProof) -> Self {
        Self { schema: PROOF_DOCUMENT_SCHEMA.to_owned(), root, proof }
    }
}

/// Makes a proof. For a block, the shard's leaves are read; if they are damaged, they are found out again.
pub async fn create_proof(store: &Store, options: CreateProofOptions) -> Result<ProofDocument> {
    options.controls.check_cancelled()?;
    let object = first_object(store, &options).await?;
    let id = object.id;
    let manifest = object.manifest(&store.id()).map_err(|error| {
        Error::new(ErrorKind::Damaged, format!("the catalog's manifest of object {id} cannot be used"))
            .with_source(error)
    })?;
    let (root, binding, roots) = (manifest.object_root(), manifest.binding(), manifest.shard_roots().to_vec());
    let refused = |error| Error::new(ErrorKind::NotFound, format!("object {id} has no such proof")).with_source(error);
    let Some(block) = options.block else {
        return Ok(ProofDocument::new(root, MerkleProof::of_shard(binding, options.shard, &roots).map_err(refused)?));
    };
    // Refused before anything is read.
    MerkleProof::of_shard(binding, options.shard, &roots).map_err(refused)?;
    let records = store.look(move |catalog| catalog.shards(id)).await?;
    let places = records.iter().map(|shard| (shard.index, shard.backend));
    let reader = ObjectReader::new(manifest, Sources::of(store).places(places));
    let leaves = reader.trusted_leaves(options.shard).await?.ok_or_else(|| {
        let doing = format!("the leaves of shard {} of object {id} cannot be had now", options.shard);
        Error::new(ErrorKind::Unavailable, doing)
    })?;
    let prove = move || {
        let tree = ShardTree::new(id, options.shard, leaves.to_vec());
        MerkleProof::of_block(binding, &roots, &tree, block)
    };
    let proved = tokio::task::spawn_blocking(prove).await;
    let stopped = |error| Error::new(ErrorKind::Cancelled, "proving was stopped").with_source(error);
    Ok(ProofDocument::new(root, proved.map_err(stopped)?.map_err(refused)?))
}

async fn first_object(store: &Store, options: &CreateProofOptions) -> Result<ObjectRecord> {
    let (name, wanted) = (options.name.clone(), options.version);
    let found = store
        .look(move |catalog| {
            let version = match wanted {
                Some(wanted) => catalog.version(wanted)?.filter(|version| version.name == name && !version.removed),
                None => catalog.heads(&name)?.into_iter().next(),
            };
            let Some(version) = version else { return Ok(None) };
            match catalog.pieces(version.id)?.first() {
                Some(piece) => catalog.object(piece.object),
                None => Ok(None),
            }
        })
        .await?;
    found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no file {}", options.name)))
}

/// Checks a proof; needs no store. What is wrong with it is in the report; an error is only for what is no proof at all,
/// or a file that cannot be read.
pub async fn check_proof(options: CheckProofOptions) -> Result<CheckProofReport> {
    let (proof, enclosed) = parse(&options.json)?;
    let Some(root) = options.root.or(enclosed) else {
        let doing = "this proof does not say which object root it leads to";
        return Err(Error::new(ErrorKind::Invalid, doing).with_hint("give the root with --root"));
    };
    let mut report = CheckProofReport {
        valid: false,
        object: proof.binding().object,
        shard: proof.shard_index(),
        block: proof.position().map(|position| position.stripe_index),
        root,
        root_given: options.root.is_some(),
        blocks_checked: 0,
        problem: proof.verify(&root).err().map(|error| error.to_string()),
    };
    if report.problem.is_none()
        && let Some(path) = options.shard_file
    {
        let doing = format!("cannot read the shard file {}", path.display());
        let checked = tokio::task::spawn_blocking(move || check_file(&proof, &root, &path)).await;
        let stopped = |error| Error::new(ErrorKind::Cancelled, "checking was stopped").with_source(error);
        match checked.map_err(stopped)?.map_err(|error| Error::local(doing, error))? {
            Ok(blocks) => report.blocks_checked = blocks,
            Err(problem) => report.problem = Some(problem),
        }
    }
    report.valid = report.problem.is_none();
    Ok(report)
}

fn parse(json: &[u8]) -> Result<(MerkleProof, Option<Digest>)> {
    let no_proof = |error: ProofError| Error::new(ErrorKind::Invalid, "this is not a proof").with_source(error);
    if json.len() <= MAX_DOCUMENT_BYTES
        && let Ok(document) = serde_json::from_slice::<ProofDocument>(json)
        && document.schema == PROOF_DOCUMENT_SCHEMA
    {
        return Ok((document.proof, Some(document.root)));
    }
    Ok((MerkleProof::from_json(json).map_err(no_proof)?, None))
}

/// How many blocks of the file are what the proof says, or what is wrong with it.
fn check_file(proof: &MerkleProof, root: &Digest, path: &Path) -> io::Result<Result<u64, String>> {
    let layout = match layout_of(proof) {
        Ok(layout) => layout,
        Err(problem) => return Ok(Err(problem)),
    };
    let mut file = File::open(path)?;
    let expected_bytes = HEADER_BYTES as u64 + layout.shard_blocks_bytes();
    let file_bytes = file.metadata()?.len();
    if file_bytes < expected_bytes {
        return Ok(Err(format!("the file has {file_bytes} bytes, its blocks alone end at {expected_bytes}")));
    }
    match proof.position() {
        Some(position) => {
            let block = read_block(&mut file, &layout, position.stripe_index)?;
            Ok(proof.verify_block(root, &block).map(|()| 1).map_err(|error| error.to_string()))
        }
        None => {
            let (object, shard_index) = (proof.binding().object, proof.shard_index());
            let mut leaves = Vec::new();
            for stripe_index in 0..layout.stripe_count() {
                let block = read_block(&mut file, &layout, stripe_index)?;
                leaves.push(merkle::leaf(BlockPosition { object, shard_index, stripe_index }, &block));
            }
            let is_right = proof.shard_root() == Ok(merkle::shard_root(object, shard_index, &leaves));
            let wrong = || format!("the file's blocks are not those of shard {shard_index} of object {object}");
            Ok(if is_right { Ok(layout.stripe_count()) } else { Err(wrong()) })
        }
    }
}

/// Called after the proof was verified: the binding is the object's.
fn layout_of(proof: &MerkleProof) -> Result<Layout, String> {
    let binding = proof.binding();
    let seal = Seal::from_code(binding.seal).ok_or_else(|| format!("seal {} is not known here", binding.seal))?;
    let shape = StripeShape::new(binding.geometry, binding.block_bytes, seal.overhead_bytes());
    let layout =
        shape.and_then(|shape| Layout::new(shape, binding.payload_bytes)).map_err(|error| error.to_string())?;
    if layout.stripe_count() != binding.stripe_count {
        return Err("the proof's lengths contradict each other".to_owned());
    }
    Ok(layout)
}

fn read_block(file: &mut File, layout: &Layout, stripe_index: u64) -> io::Result<Vec<u8>> {
    let mut block = vec![0; layout.block_bytes(stripe_index.min(layout.stripe_count() - 1)) as usize];
    file.seek(SeekFrom::Start(HEADER_BYTES as u64 + layout.block_offset(stripe_index)))?;
    file.read_exact(&mut block)?;
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Geometry;
    use crate::merkle::ObjectBinding;

    const OBJECT: ObjectId = ObjectId([5; 16]);

    /// An object of 3 stripes of 2/3 whose blocks are `[shard * 16 + stripe; 8]`, and its shard files' beginnings.
    struct Sample {
        binding: ObjectBinding,
        trees: Vec<ShardTree>,
        roots: Vec<Digest>,
        root: Digest,
        files: Vec<Vec<u8>>,
    }

    fn sample() -> Sample {
        let geometry = Geometry::new(2, 3).expect("a geometry");
        let binding = ObjectBinding {
            object: OBJECT,
            geometry,
            block_bytes: 8,
            seal: Seal::None.code(),
            stripe_count: 3,
            payload_bytes: 48,
        };
        let block = |shard: u8, stripe: u8| [shard * 16 + stripe; 8];
        let leaf = |shard_index: u8, stripe: u8| {
            let position = BlockPosition { object: OBJECT, shard_index, stripe_index: stripe.into() };
            merkle::leaf(position, &block(shard_index, stripe))
        };
        let tree = |shard| ShardTree::new(OBJECT, shard, (0..3).map(|stripe| leaf(shard, stripe)).collect());
        let trees: Vec<ShardTree> = (0..3).map(tree).collect();
        let roots: Vec<Digest> = trees.iter().map(ShardTree::root).collect();
        let root = merkle::object_root(&binding, &roots).expect("a root");
        let file = |shard| [vec![0; HEADER_BYTES], (0..3).flat_map(|stripe| block(shard, stripe)).collect()].concat();
        Sample { binding, trees, roots, root, files: (0..3).map(file).collect() }
    }

    fn shard_file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), bytes).expect("written");
        file
    }

    async fn check(json: Vec<u8>, root: Option<Digest>, file: Option<&Path>) -> Result<CheckProofReport> {
        check_proof(CheckProofOptions { json, root, shard_file: file.map(Path::to_owned) }).await
    }

    fn block_proof(sample: &Sample, shard: u8, stripe: u64) -> MerkleProof {
        let tree = &sample.trees[usize::from(shard)];
        MerkleProof::of_block(sample.binding, &sample.roots, tree, stripe).expect("a proof")
    }

    #[tokio::test]
    async fn a_proof_is_checked_with_its_own_root_or_a_given_one() {
        let sample = sample();
        let proof = block_proof(&sample, 1, 2);
        let document = serde_json::to_vec(&ProofDocument::new(sample.root, proof.clone())).expect("json");
        let report = check(document.clone(), None, None).await.expect("a report");
        assert!(report.valid && !report.root_given && (report.shard, report.block) == (1, Some(2)));
        assert!(check(document.clone(), Some(sample.root), None).await.expect("a report").valid);
        let wrong = check(document, Some(Digest([1; 32])), None).await.expect("a report");
        assert!(!wrong.valid && wrong.problem.is_some() && wrong.root_given);
        let bare = proof.to_json().into_bytes();
        assert!(check(bare.clone(), Some(sample.root), None).await.expect("a report").valid);
        assert_eq!(check(bare, None, None).await.expect_err("no root").kind, ErrorKind::Invalid);
    }

    #[tokio::test]
    async fn a_shard_file_is_held_against_the_proof_block_by_block() {
        let sample = sample();
        let whole = MerkleProof::of_shard(sample.binding, 1, &sample.roots).expect("a proof");
        let right = shard_file(&sample.files[1]);
        for (proof, blocks) in [(whole, 3), (block_proof(&sample, 1, 2), 1)] {
            let json = proof.to_json().into_bytes();
            let report = check(json.clone(), Some(sample.root), Some(right.path())).await.expect("a report");
            assert!(report.valid && report.blocks_checked == blocks);
            let other = shard_file(&sample.files[2]);
            assert!(!check(json.clone(), Some(sample.root), Some(other.path())).await.expect("a report").valid);
            let mut flipped = sample.files[1].clone();
            flipped[HEADER_BYTES + 20] ^= 1;
            let flipped = shard_file(&flipped);
            assert!(!check(json.clone(), Some(sample.root), Some(flipped.path())).await.expect("a report").valid);
            let short = shard_file(&sample.files[1][..HEADER_BYTES + 23]);
            assert!(!check(json.clone(), Some(sample.root), Some(short.path())).await.expect("a report").valid);
            let missing = check(json, Some(sample.root), Some(Path::new("/nowhere/at/all"))).await;
            assert_eq!(missing.expect_err("no file").kind, ErrorKind::NotFound);
        }
    }

    #[tokio::test]
    async fn what_is_no_proof_is_an_error_and_a_block_that_is_not_the_last_is_not_misread() {
        let sample = sample();
        for wrong in [&b""[..], b"{}", b"[]", &vec![b' '; MAX_DOCUMENT_BYTES + 1]] {
            assert_eq!(check(wrong.to_vec(), None, None).await.expect_err("no proof").kind, ErrorKind::Invalid);
        }
        let file = shard_file(&sample.files[0]);
        for stripe in 0..3 {
            let json = block_proof(&sample, 0, stripe).to_json().into_bytes();
            assert!(check(json, Some(sample.root), Some(file.path())).await.expect("a report").valid, "{stripe}");
        }
    }
}
