//! Golden shards, made by `fixtures/generate.py` from `FORMAT.md` alone, held against what this crate writes and reads.

mod backup;
mod keys;

use backup::RecordInput;
use bytes::Bytes;
use keys::VerifyKeyInput;
use serde::Deserialize;
use shard::crypto::{
    AccessKeys, DataKey, KeyFile, KeyShare, Keyring, MasterKey, RECIPIENT_RANDOM_BYTES, RecipientKey, SharedSecret,
    StripeCipher, combine_shares, split_secret,
};
use shard::format::{
    BackupPart, FileName, HEADER_BYTES, Header, Index, Manifest, ManifestDraft, ObjectKind, PartOpener, PartSealer,
    Piece, Removal, SealedPart, ShardFileLayout, TRAILER_BYTES, Trailer, Whole, header_bytes, is_end, leaves_of,
    manifest_in_tail, seal_context, tail_bytes,
};
use shard::id::{Digest, Geometry, ObjectId, ShardId, VersionId};
use shard::merkle::{self, BlockPosition, VerifiedBlock};
use shard::stripe::{BufferPool, Check, FilledStripe, Layout, Seal, StripeDecoder, StripeEncoder, StripeShape};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Inputs {
    master_key: String,
    verify_key: VerifyKeyInput,
    versions: Vec<VersionInput>,
    objects: Vec<ObjectInput>,
}

#[derive(Deserialize)]
struct VersionInput {
    id: VersionId,
    name: FileName,
    seed: u64,
    bytes: usize,
    mtime_ns: i64,
    mode: u32,
    generation: u64,
    parents: Vec<VersionId>,
}

#[derive(Deserialize)]
struct ObjectInput {
    id: ObjectId,
    data_shards: usize,
    total_shards: usize,
    block_bytes: u32,
    created_ns: i64,
    #[serde(default = "unsealed")]
    seal: Seal,
    #[serde(default)]
    secrets: SecretsInput,
    #[serde(default)]
    pieces: Vec<PieceInput>,
    removal: Option<Removal>,
    catalog: Option<BackupPart>,
    #[serde(default)]
    records: Vec<RecordInput>,
}

/// What seals an object, in hex.
#[derive(Deserialize, Default)]
struct SecretsInput {
    data_key: String,
    #[serde(default)]
    secret: String,
    #[serde(default)]
    shares: Vec<String>,
    #[serde(default)]
    random: String,
}

/// The same, ready to seal with.
struct Secrets {
    data_key: Option<DataKey>,
    shared: Option<(SharedSecret, Vec<KeyShare>)>,
    recipient: Option<(RecipientKey, [u8; RECIPIENT_RANDOM_BYTES])>,
}

#[derive(Deserialize)]
struct PieceInput {
    version: VersionId,
    ordinal: u32,
    from: usize,
    to: usize,
}

fn unsealed() -> Seal {
    Seal::None
}

fn bytes_of<const N: usize>(hex_text: &str) -> [u8; N] {
    hex::decode(hex_text).expect("hex").try_into().expect("as many bytes as are asked for")
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display())).expect("a fixture")
}

fn inputs() -> Inputs {
    serde_json::from_slice(&read(&fixtures().join("inputs.json"))).expect("the inputs")
}

impl Inputs {
    fn key(&self) -> MasterKey {
        MasterKey::from_bytes(bytes_of(&self.master_key))
    }

    fn version(&self, id: VersionId) -> &VersionInput {
        self.versions.iter().find(|version| version.id == id).expect("a version of the inputs")
    }

    /// The content of an object, its index, and both as the payload.
    fn payload(&self, object: &ObjectInput) -> (Vec<u8>, Index, Vec<u8>) {
        let (mut content, mut pieces) = (self.records(object), Vec::new());
        for piece in &object.pieces {
            let version = self.version(piece.version);
            let whole = version.content();
            let bytes = &whole[piece.from..piece.to];
            pieces.push(Piece {
                version: version.id,
                name: version.name.clone(),
                ordinal: piece.ordinal,
                offset: content.len() as u64,
                bytes: bytes.len() as u64,
                last: (piece.to == whole.len()).then(|| version.whole(&whole)),
            });
            content.extend_from_slice(bytes);
        }
        let index = Index { pieces, removal: object.removal.clone(), catalog: object.catalog.clone() };
        let payload = [content.as_slice(), &index.to_bytes().expect("an index")].concat();
        (content, index, payload)
    }
}

impl VersionInput {
    /// The linear congruence that `generate.py` fills files with.
    fn content(&self) -> Vec<u8> {
        let next = |state: &u64| Some((state * 1_103_515_245 + 12_345) % (1 << 31));
        std::iter::successors(Some(self.seed), next).skip(1).take(self.bytes).map(|state| (state >> 16) as u8).collect()
    }

    fn whole(&self, content: &[u8]) -> Whole {
        Whole {
            total_bytes: content.len() as u64,
            blake3: Digest(blake3::hash(content).into()),
            mtime_ns: self.mtime_ns,
            mode: self.mode,
            generation: self.generation,
            parents: self.parents.clone(),
        }
    }
}

impl ObjectInput {
    fn geometry(&self) -> Geometry {
        Geometry::new(self.data_shards, self.total_shards).expect("a geometry")
    }

    fn shape(&self) -> StripeShape {
        StripeShape::new(self.geometry(), self.block_bytes, self.seal.overhead_bytes()).expect("a shape")
    }

    fn secrets(&self, key: &MasterKey) -> Secrets {
        let random: Vec<_> = self.secrets.shares.iter().map(|share| bytes_of(share)).collect();
        let split = || split_secret(self.geometry(), bytes_of(&self.secrets.secret), &random).expect("k−1 shares");
        Secrets {
            data_key: (self.seal != Seal::None).then(|| DataKey::from_bytes(bytes_of(&self.secrets.data_key))),
            shared: (self.seal == Seal::Dispersed).then(split),
            recipient: (self.seal == Seal::Recipient)
                .then(|| (key.recipient(key.store_id()), bytes_of(&self.secrets.random))),
        }
    }

    fn shard_path(&self, index: u8) -> PathBuf {
        let shard = ShardId { object: self.id, index };
        fixtures().join("golden").join(shard::backend::shard_name(shard))
    }

    fn golden_shards(&self) -> Vec<Vec<u8>> {
        self.geometry().shard_indexes().map(|index| read(&self.shard_path(index))).collect()
    }

    /// The shard files as this crate writes them.
    fn written_shards(&self, inputs: &Inputs) -> Vec<Vec<u8>> {
        let (content, _, payload) = inputs.payload(self);
        let (shape, secrets) = (self.shape(), self.secrets(&inputs.key()));
        let stripe_count = payload.len().div_ceil(shape.capacity() as usize) as u64;
        let mut encoder = StripeEncoder::new(shape, self.id, Check::Full);
        if let Some(data_key) = &secrets.data_key {
            let context = seal_context(inputs.key().store_id(), self.id, &shape, self.seal);
            encoder = encoder.sealing_with(StripeCipher::new(data_key, &context));
        }
        let pool = BufferPool::new(StripeEncoder::buffer_bytes(shape));
        let mut blocks = vec![Vec::new(); self.total_shards];
        let mut leaves = vec![Vec::new(); self.total_shards];
        for (stripe_index, part) in (0..).zip(payload.chunks(shape.capacity() as usize)) {
            let mut buffer = pool.take();
            buffer.as_mut_slice()[..part.len()].copy_from_slice(part);
            let (payload_bytes, is_last) = (part.len() as u64, stripe_index + 1 == stripe_count);
            let mut filled = FilledStripe { stripe_index, buffer, payload_bytes, is_last, digest: None };
            filled.note_digest();
            let stripe = encoder.encode(filled).expect("a stripe");
            for index in self.geometry().shard_indexes() {
                blocks[usize::from(index)].extend_from_slice(&stripe.block(index));
                leaves[usize::from(index)].push(stripe.leaves()[usize::from(index)]);
            }
        }
        let manifest = self.sign(inputs, &leaves, (content.len() as u64, payload.len() as u64), &secrets);
        let file = |index: u8| {
            let (blocks, leaves) = (&blocks[usize::from(index)], &leaves[usize::from(index)]);
            let share = secrets.shared.as_ref().map(|(_, shares)| &shares[usize::from(index)]);
            [&header_bytes(&manifest, index)[..], blocks, &tail_bytes(&manifest, index, leaves, share)].concat()
        };
        self.geometry().shard_indexes().map(file).collect()
    }

    fn kind(&self) -> ObjectKind {
        match (&self.removal, &self.catalog) {
            (_, Some(_)) => ObjectKind::Catalog,
            (Some(_), None) => ObjectKind::Removal,
            (None, None) => ObjectKind::Data,
        }
    }

    fn sign(
        &self,
        inputs: &Inputs,
        leaves: &[Vec<Digest>],
        (index_offset, payload_bytes): (u64, u64),
        secrets: &Secrets,
    ) -> Manifest {
        let roots = (0..).zip(leaves).map(|(index, leaves)| merkle::shard_root(self.id, index, leaves)).collect();
        let index_bytes = payload_bytes - index_offset;
        let key = inputs.key();
        let draft = ManifestDraft {
            store: key.store_id(),
            object: self.id,
            kind: self.kind(),
            removes: self.removal.iter().flat_map(Removal::object_ids).collect(),
            writer_generation: 0,
            layout: Layout::new(self.shape(), payload_bytes).expect("a layout"),
            seal: self.seal,
            shard_roots: roots,
            share_digests: match &secrets.shared {
                Some((_, shares)) => shares.iter().map(|share| share.digest(self.id)).collect(),
                None => Vec::new(),
            },
            key_id: key.key_id(),
            sealed: SealedPart {
                index_offset,
                index_bytes,
                created_ns: self.created_ns,
                data_key: secrets.data_key.clone(),
            },
        };
        let sealer = match (&secrets.shared, &secrets.recipient) {
            (Some((secret, _)), _) => PartSealer::Shared(secret),
            (None, Some((recipient, random))) => PartSealer::Recipient(recipient, random),
            (None, None) if self.seal == Seal::None => PartSealer::Nobody,
            (None, None) => PartSealer::Master(&key),
        };
        Manifest::sign(draft, sealer, &key.signer()).expect("a manifest")
    }
}

/// An object read from its golden shards: every block verified, by stripe and shard.
struct ReadObject {
    manifest: Manifest,
    sealed: SealedPart,
    stripes: Vec<Vec<VerifiedBlock>>,
}

fn read_object(object: &ObjectInput, key: &MasterKey) -> ReadObject {
    let files = object.golden_shards();
    let bytes = manifest_in_tail(&files[0], files[0].len() as u64).expect("a manifest");
    let manifest = Manifest::open(bytes, &key.store_id()).expect("a signed manifest");
    let layout = manifest.layout();
    let mut stripes = vec![Vec::new(); layout.stripe_count() as usize];
    for (index, file) in (0..=u8::MAX).zip(files) {
        check_around_the_blocks(&manifest, index, &file);
        let sections = ShardFileLayout::of(&manifest);
        let leaves = leaves_of(&file[sections.leaves().start as usize..sections.leaves().end as usize]);
        assert_eq!(merkle::shard_root(object.id, index, &leaves), manifest.shard_roots()[usize::from(index)]);
        let file = Bytes::from(file);
        for (stripe_index, leaf) in (0_u64..).zip(&leaves) {
            let start = (sections.blocks().start + layout.block_offset(stripe_index)) as usize;
            let block = file.slice(start..start + layout.block_bytes(stripe_index) as usize);
            let position = BlockPosition { object: object.id, shard_index: index, stripe_index };
            stripes[stripe_index as usize].push(VerifiedBlock::check(position, block, leaf).expect("its leaf"));
        }
    }
    let sealed = open_sealed_part(&manifest, object);
    ReadObject { manifest, sealed, stripes }
}

/// Opens the sealed part with the key, or with the shares of the last k shards.
fn open_sealed_part(manifest: &Manifest, object: &ObjectInput) -> SealedPart {
    let sections = ShardFileLayout::of(manifest).share();
    let share = |(index, file): (u8, &Vec<u8>)| {
        manifest.key_share(index, &file[sections.start as usize..sections.end as usize]).expect("a key share")
    };
    let keys = AccessKeys::to_open(Keyring::new(inputs().key()));
    if object.seal != Seal::Dispersed {
        return manifest.sealed_part(PartOpener::Keys(&keys)).expect("a sealed part");
    }
    assert!(manifest.sealed_part(PartOpener::Keys(&keys)).is_err());
    let files = object.golden_shards();
    let shares: Vec<KeyShare> = (0..).zip(&files).skip(object.total_shards - object.data_shards).map(share).collect();
    let secret = combine_shares(object.geometry(), &shares).expect("k shares");
    manifest.sealed_part(PartOpener::Shared(&secret)).expect("a sealed part")
}

fn check_around_the_blocks(manifest: &Manifest, index: u8, file: &[u8]) {
    let header = Header::from_bytes(&file[..HEADER_BYTES]).expect("a header");
    assert_eq!((header.object, header.shard_index), (manifest.object(), index));
    assert_eq!((header.geometry, header.block_bytes), (manifest.geometry(), manifest.layout().shape().block_bytes()));
    let trailer = Trailer::from_bytes(&file[file.len() - TRAILER_BYTES..]).expect("a trailer");
    assert_eq!(trailer.shard_root, manifest.shard_roots()[usize::from(index)]);
    assert_eq!(&manifest_in_tail(file, file.len() as u64).expect("a manifest"), manifest.bytes());
    let layout = ShardFileLayout::of(manifest);
    assert_eq!(layout.file_bytes(), file.len() as u64);
    assert!(is_end(manifest, index, &file[layout.end().start as usize..]));
}

impl ReadObject {
    /// The payload, decoded from the shards of which `is_used` has the bit.
    fn decode(&self, decoder: &StripeDecoder, is_used: usize) -> Vec<u8> {
        let (mut payload, cipher) = (Vec::new(), self.manifest.stripe_cipher(&self.sealed));
        for (stripe_index, blocks) in (0..).zip(&self.stripes) {
            let used: Vec<Option<VerifiedBlock>> = blocks
                .iter()
                .enumerate()
                .map(|(index, block)| (is_used >> index & 1 == 1).then(|| block.clone()))
                .collect();
            let stripe = decoder.open(stripe_index, &used, cipher.as_ref()).expect("k blocks");
            stripe.parts().iter().for_each(|part| payload.extend_from_slice(part));
        }
        payload
    }

    fn index(&self, payload: &[u8]) -> Index {
        let (content, index) = payload.split_at(self.sealed.index_offset as usize);
        Index::from_bytes(index, content.len() as u64).expect("an index")
    }
}

#[test]
fn every_golden_shard_is_what_this_crate_writes_to_the_last_byte() {
    let inputs = inputs();
    for object in &inputs.objects {
        for (index, written) in (0..).zip(object.written_shards(&inputs)) {
            let path = object.shard_path(index);
            assert!(written == read(&path), "{} is not what is written here", path.display());
        }
    }
}

#[test]
fn every_k_of_the_golden_shards_give_payload_and_index_back() {
    let inputs = inputs();
    let key = inputs.key();
    let mut subset_count = 0;
    for object in &inputs.objects {
        let (_, index, payload) = inputs.payload(object);
        let found = read_object(object, &key);
        let decoder = StripeDecoder::new(found.manifest.layout());
        let subsets = (0..1_usize << object.total_shards).filter(|set| set.count_ones() as usize == object.data_shards);
        for subset in subsets {
            assert!(found.decode(&decoder, subset) == payload, "{} from shards {subset:b}", object.id);
            subset_count += 1;
        }
        assert_eq!(found.index(&payload), index, "{}", object.id);
        assert_eq!(found.manifest.kind(), object.kind());
        assert_eq!((found.sealed.created_ns, found.manifest.seal()), (object.created_ns, object.seal));
    }
    assert_eq!(subset_count, 3 + 10 + 10 + 126 + 6435 + 1001 + 2 + 10 + 10 + 6 + 126 + 3 + 10 + 2 + 10);
}

#[test]
fn a_file_in_two_objects_comes_back_whole() {
    let inputs = inputs();
    let key = inputs.key();
    let mut pieces: BTreeMap<(VersionId, u32), (Piece, Vec<u8>)> = BTreeMap::new();
    for object in &inputs.objects {
        let found = read_object(object, &key);
        let all = (1 << object.total_shards) - 1;
        let payload = found.decode(&StripeDecoder::new(found.manifest.layout()), all);
        for piece in found.index(&payload).pieces {
            let bytes = payload[piece.offset as usize..(piece.offset + piece.bytes) as usize].to_vec();
            pieces.insert((piece.version, piece.ordinal), (piece, bytes));
        }
    }
    for version in &inputs.versions {
        let own: Vec<_> = pieces.range((version.id, 0)..=(version.id, u32::MAX)).map(|(_, piece)| piece).collect();
        let content: Vec<u8> = own.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
        assert_eq!(own.len(), if version.name.as_str() == "film.bin" { 2 } else { 1 });
        assert_eq!(own[own.len() - 1].0.last, Some(version.whole(&content)), "{}", version.name);
        assert!(own[..own.len() - 1].iter().all(|(piece, _)| piece.last.is_none()));
        assert_eq!(content, version.content());
    }
}

#[test]
fn the_golden_key_file_is_what_this_crate_writes_and_reads() {
    let golden = read(&fixtures().join("golden/master.key"));
    let keyring = Keyring::new(inputs().key());
    assert_eq!(keyring.to_key_file().as_bytes(), golden);
    let Ok(KeyFile::Plain(read)) = KeyFile::parse(&golden) else { unreachable!("it is under no passphrase") };
    assert_eq!(read.store_id(), keyring.store_id());
}

#[test]
fn the_checksum_list_names_every_golden_file_and_no_other() {
    let sums = String::from_utf8(read(&fixtures().join("SHA256SUMS"))).expect("text");
    let listed: Vec<(&str, &str)> = sums.lines().map(|line| line.split_once("  ").expect("two columns")).collect();
    for (sum, path) in &listed {
        let found = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &read(&fixtures().join(path)));
        assert_eq!(hex::encode(found), *sum, "{path}");
    }
    let files = walkdir::WalkDir::new(fixtures().join("golden"));
    let count = files.into_iter().filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_type().is_file())).count();
    assert_eq!(listed.len(), count);
}

#[test]
fn the_worked_example_of_the_format_is_the_golden_shard() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/format/FORMAT.md");
    let page = String::from_utf8(read(&path)).expect("text");
    let inputs = inputs();
    let object = &inputs.objects[0];
    let (_, index, _) = inputs.payload(object);
    let file = &object.golden_shards()[2];
    let manifest = read_object(object, &inputs.key()).manifest;
    let parts = manifest.bytes();
    for text in [index.to_bytes().expect("an index"), parts.public.clone(), parts.sealed.clone()] {
        let text = String::from_utf8(text).expect("text");
        assert!(page.contains(&format!("\n{text}\n")), "{text}");
    }
    let leaves = ShardFileLayout::of(&manifest).leaves();
    for at in [leaves.start, leaves.end - 32] {
        let leaf = hex::encode(&file[at as usize..][..32]);
        assert!(page.contains(&leaf), "{leaf}");
    }
    let signature = hex::encode(&parts.signature);
    assert!(page.contains(&format!("\n{}\n{}\n", &signature[..64], &signature[64..])));
    let shown: Vec<usize> = hex_rows(&page)
        .into_iter()
        .flat_map(|(start, row)| {
            assert_eq!(row, file[start..start + row.len()], "at {start:04x}");
            start..start + row.len()
        })
        .collect();
    assert!(shown.into_iter().eq((0..HEADER_BYTES).chain(file.len() - TRAILER_BYTES..file.len())));
}

/// The lines of a page that show bytes of a file: four digits of offset, then the bytes, then words.
fn hex_rows(page: &str) -> Vec<(usize, Vec<u8>)> {
    let row = |line: &str| {
        let (offset, rest) = line.split_once("  ")?;
        let start = (offset.len() == 4).then(|| usize::from_str_radix(offset, 16).ok())??;
        let bytes = rest.split("   ").next()?.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).ok());
        Some((start, bytes.collect::<Option<Vec<u8>>>()?))
    };
    page.lines().filter_map(row).collect()
}
