//! Manifests and shard files as an attacker or a bad disk would have them.

mod backups;
mod limits;
mod removes;
mod seals;

use super::manifest::{MAX_PUBLIC_BYTES, MAX_SEALED_BYTES};
use super::*;
use crate::crypto::{DataKey, Keyring, MasterKey, Signer, WriteKey};
use crate::id::{Digest, Geometry, ObjectId, StoreId, VersionId};
use crate::stripe::{Layout, Seal, StripeShape};
use serde_json::{Value, json};

fn key() -> MasterKey {
    MasterKey::from_bytes([1; 32])
}

fn layout(payload_bytes: u64) -> Layout {
    let shape = StripeShape::new(Geometry::new(3, 5).expect("a geometry"), 16, 0).expect("a shape");
    Layout::new(shape, payload_bytes).expect("a layout")
}

fn draft(payload_bytes: u64) -> ManifestDraft {
    ManifestDraft {
        store: key().store_id(),
        object: ObjectId([2; 16]),
        kind: ObjectKind::Data,
        removes: Vec::new(),
        writer_generation: 0,
        layout: layout(payload_bytes),
        seal: Seal::None,
        shard_roots: (0..5).map(|byte| Digest([byte; 32])).collect(),
        share_digests: Vec::new(),
        key_id: key().key_id(),
        sealed: SealedPart { index_offset: payload_bytes - 20, index_bytes: 20, created_ns: -7, data_key: None },
    }
}

fn manifest(payload_bytes: u64) -> Manifest {
    Manifest::sign(draft(payload_bytes), PartSealer::Nobody, &key().signer()).expect("a manifest")
}

fn open(bytes: &ManifestBytes) -> Result<Manifest, ManifestError> {
    Manifest::open(bytes.clone(), &key().store_id())
}

/// The manifest with its public part changed and signed anew, as only the store itself could.
fn resigned(change: impl FnOnce(&mut Value)) -> ManifestBytes {
    let bytes = manifest(100).bytes().clone();
    let mut public: Value = serde_json::from_slice(&bytes.public).expect("JSON");
    change(&mut public);
    signed(public.to_string().into_bytes(), bytes.sealed, &key().signer())
}

fn signed(public: Vec<u8>, sealed: Vec<u8>, signer: &Signer) -> ManifestBytes {
    ManifestBytes { signature: signer.sign_manifest(&public).0.to_vec(), public, sealed }
}

fn flip(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

#[test]
fn a_manifest_reads_back_and_no_flipped_bit_of_it_is_accepted() {
    let manifest = manifest(100);
    let bytes = manifest.bytes();
    assert_eq!(open(bytes).expect("signed"), manifest);
    for bit in 0..bytes.public.len() * 8 {
        let changed = ManifestBytes { public: flip(&bytes.public, bit), ..bytes.clone() };
        assert!(open(&changed).is_err(), "bit {bit} of the public part");
    }
    for bit in 0..bytes.signature.len() * 8 {
        let changed = ManifestBytes { signature: flip(&bytes.signature, bit), ..bytes.clone() };
        assert!(matches!(open(&changed), Err(ManifestError::Signature)), "bit {bit} of the signature");
    }
    for bit in 0..bytes.sealed.len() * 8 {
        let changed = ManifestBytes { sealed: flip(&bytes.sealed, bit), ..bytes.clone() };
        assert!(matches!(open(&changed), Err(ManifestError::Sealed)), "bit {bit} of the sealed part");
    }
}

#[test]
fn a_manifest_that_was_cut_is_refused() {
    let manifest = manifest(100);
    let bytes = manifest.bytes();
    for end in 0..bytes.public.len() {
        assert!(open(&ManifestBytes { public: bytes.public[..end].to_vec(), ..bytes.clone() }).is_err());
    }
    for end in (0..64).chain([65]) {
        let signature = [&bytes.signature[..], b"x"].concat()[..end].to_vec();
        let refused = open(&ManifestBytes { signature, ..bytes.clone() });
        assert!(matches!(refused, Err(ManifestError::SignatureLength { bytes }) if bytes == end));
    }
    for end in 0..bytes.sealed.len() {
        assert!(open(&ManifestBytes { sealed: bytes.sealed[..end].to_vec(), ..bytes.clone() }).is_err());
    }
}

#[test]
fn a_manifest_of_another_store_or_signer_is_refused() {
    let foreign = MasterKey::from_bytes([9; 32]);
    let theirs = ManifestDraft { store: foreign.store_id(), ..draft(100) };
    let theirs = Manifest::sign(theirs, PartSealer::Nobody, &foreign.signer()).expect("their manifest");
    assert!(matches!(open(theirs.bytes()), Err(ManifestError::ForeignStore { .. })));
    // In our store's name, by their key: once with their key named as the signer, once with ours.
    let disguised =
        Manifest::sign(draft(100), PartSealer::Nobody, &foreign.signer()).expect_err("their key is not our store's");
    assert!(matches!(disguised, ManifestError::ForeignStore { .. }));
    let ours = manifest(100).bytes().clone();
    let by_them = signed(ours.public, ours.sealed, &foreign.signer());
    assert!(matches!(open(&by_them), Err(ManifestError::Signature)));
    let named = resigned(|public| public["signer"] = json!(hex::encode(foreign.signer().public_key().0)));
    assert!(matches!(open(&named), Err(ManifestError::ForeignStore { .. })));
    let elsewhere = resigned(|public| public["store"] = json!(StoreId([0; 32]).to_string()));
    assert!(matches!(open(&elsewhere), Err(ManifestError::ForeignStore { .. })));
}

#[test]
fn a_manifest_whose_numbers_contradict_each_other_is_refused_though_it_is_signed() {
    assert!(open(&resigned(|_| {})).is_ok());
    let root = |byte: u8| json!(Digest([byte; 32]).to_string());
    let changes: Vec<(&str, Value)> = vec![
        ("stripes", json!(2)),
        ("stripes", json!(4)),
        ("payload_bytes", json!(101)),
        ("payload_bytes", json!(0)),
        ("payload_bytes", json!(u64::MAX)),
        ("data_shards", json!(2)),
        ("data_shards", json!(0)),
        ("data_shards", json!(5)),
        ("total_shards", json!(6)),
        ("block_bytes", json!(17)),
        ("block_bytes", json!(0)),
        ("block_bytes", json!(1 << 20)),
        ("object", json!(ObjectId([3; 16]).to_string())),
        ("object_root", root(0)),
        ("shard_roots", json!([])),
        ("shard_roots", json!([root(0), root(1), root(2), root(4), root(3)])),
        ("shard_roots", json!([root(0), root(1), root(2), root(3)])),
        ("shard_roots", json!([root(0), root(1), root(2), root(3), root(4), root(5)])),
        ("share_digests", json!([root(0)])),
        ("format", json!(2)),
        ("code", json!("reed-solomon gf(2^8)/0x11d cauchy")),
        ("seal", json!("key")),
        ("kind", json!("other")),
        ("sealed_digest", root(0)),
        ("stripes", json!("3")),
        ("stripes", json!(3.0)),
        ("stripes", json!(-3)),
        ("store", json!(key().store_id().to_string().to_uppercase())),
        ("unknown", json!(1)),
    ];
    for (name, value) in changes {
        let changed = resigned(|public| public[name] = value.clone());
        assert!(open(&changed).is_err(), "{name} {value}");
    }
    let names: Vec<String> = {
        let public: Value = serde_json::from_slice(&manifest(100).bytes().public).expect("JSON");
        public.as_object().expect("an object").keys().cloned().collect()
    };
    for name in names {
        let without = resigned(|public| drop(public.as_object_mut().expect("an object").remove(&name)));
        assert!(matches!(open(&without), Err(ManifestError::Json(_))), "without {name}");
    }
}

#[test]
fn json_that_is_said_twice_or_goes_on_is_refused_though_it_is_signed() {
    let bytes = manifest(100).bytes().clone();
    let text = String::from_utf8(bytes.public.clone()).expect("text");
    for changed in
        [text.replacen("\"format\":1", "\"format\":1,\"format\":1", 1), format!("{text}{{}}"), format!("[{text}]")]
    {
        let signed = signed(changed.clone().into_bytes(), bytes.sealed.clone(), &key().signer());
        assert!(matches!(open(&signed), Err(ManifestError::Json(_))), "{changed}");
    }
}

#[test]
fn parts_over_their_limits_are_refused_though_they_are_signed() {
    let bytes = manifest(100).bytes().clone();
    let mut public = bytes.public.clone();
    public.resize(MAX_PUBLIC_BYTES as usize, b' ');
    assert!(open(&signed(public.clone(), bytes.sealed.clone(), &key().signer())).is_ok());
    public.push(b' ');
    let refused = open(&signed(public, bytes.sealed.clone(), &key().signer()));
    assert!(matches!(refused, Err(ManifestError::TooLong { part: "public", .. })));
    let sealed = vec![b' '; MAX_SEALED_BYTES as usize + 1];
    let refused = manifest(100).with_sealed(sealed.clone());
    assert!(matches!(refused, Err(ManifestError::TooLong { part: "sealed", .. })));
    assert!(matches!(open(&ManifestBytes { sealed, ..bytes }), Err(ManifestError::TooLong { part: "sealed", .. })));
}

#[test]
fn the_widest_manifest_there_is_stays_within_its_limit() {
    let geometry = Geometry::new(254, 255).expect("a geometry");
    let shape = StripeShape::new(geometry, geometry.block_bytes(), 0).expect("a shape");
    let layout = Layout::new(shape, shape.max_payload_bytes()).expect("a layout");
    let shard_roots = vec![Digest([255; 32]); 255];
    let sealed =
        SealedPart { index_offset: layout.payload_bytes() - 2, index_bytes: 2, created_ns: i64::MIN, data_key: None };
    let widest = Manifest::sign(
        ManifestDraft { layout, shard_roots, sealed, ..draft(100) },
        PartSealer::Nobody,
        &key().signer(),
    );
    let bytes = widest.expect("a manifest").bytes().clone();
    assert!(bytes.public.len() as u64 * 2 < MAX_PUBLIC_BYTES && bytes.sealed.len() as u64 * 2 < MAX_SEALED_BYTES);
}

#[test]
fn a_sealed_part_is_taken_from_another_copy_only_if_it_is_the_one_that_was_signed() {
    let whole = manifest(100);
    let bytes = ManifestBytes { sealed: b"damaged".to_vec(), ..whole.bytes().clone() };
    let without = Manifest::open_public(bytes, &key().store_id()).expect("the public part is whole");
    assert!(without.sealed_part(PartOpener::Nobody).is_err());
    assert!(matches!(without.clone().with_sealed(b"{}".to_vec()), Err(ManifestError::Sealed)));
    assert_eq!(without.with_sealed(whole.bytes().sealed.clone()).expect("the signed one"), whole);
}

#[test]
fn a_data_key_is_read_in_lower_case_digits_alone() {
    let sealed = SealedPart { data_key: Some(DataKey::from_bytes([0xAB; 32])), ..draft(100).sealed };
    let text = serde_json::to_string(&sealed).expect("JSON");
    assert_eq!(serde_json::from_str::<SealedPart>(&text).expect("it reads back"), sealed);
    let digits = "ab".repeat(32);
    for wrong in ["AB".repeat(32), format!("{}aB", &digits[2..]), digits[2..].to_owned(), format!("{digits}ab")] {
        let refused = serde_json::from_str::<SealedPart>(&text.replace(&digits, &wrong)).expect_err("refused");
        assert!(!refused.to_string().contains(&wrong[..8]), "a secret is not quoted");
    }
}

#[test]
fn an_index_that_is_not_the_end_of_the_payload_is_refused() {
    for (index_offset, index_bytes) in [(80, 19), (80, 21), (101, 0), (0, 101), (u64::MAX, 101), (1, u64::MAX)] {
        let sealed = SealedPart { index_offset, index_bytes, created_ns: 0, data_key: None };
        let signed = Manifest::sign(ManifestDraft { sealed, ..draft(100) }, PartSealer::Nobody, &key().signer())
            .expect("a manifest");
        assert!(
            matches!(signed.sealed_part(PartOpener::Nobody), Err(ManifestError::Contradiction)),
            "{index_offset} + {index_bytes}"
        );
    }
    assert_eq!(manifest(100).sealed_part(PartOpener::Nobody).expect("it fits").index_offset, 80);
}

fn leaves(manifest: &Manifest) -> Vec<Digest> {
    (0..manifest.layout().stripe_count()).map(|stripe| Digest([stripe as u8; 32])).collect()
}

fn shard_file(manifest: &Manifest, shard_index: u8) -> Vec<u8> {
    let blocks = vec![0xB1; manifest.layout().shard_blocks_bytes() as usize];
    let tail = tail_bytes(manifest, shard_index, &leaves(manifest), None);
    [&header_bytes(manifest, shard_index)[..], &blocks, &tail].concat()
}

#[test]
fn sections_lie_where_the_layout_says_at_every_payload_length() {
    for payload_bytes in 20..=150 {
        let manifest = manifest(payload_bytes);
        let file = shard_file(&manifest, 3);
        let layout = ShardFileLayout::of(&manifest);
        let section = |range: std::ops::Range<u64>| &file[range.start as usize..range.end as usize];
        assert_eq!(layout.file_bytes(), file.len() as u64);
        assert_eq!((layout.blocks().start, layout.blocks().end), (HEADER_BYTES as u64, layout.leaves().start));
        assert!(section(layout.blocks()).iter().all(|byte| *byte == 0xB1));
        assert_eq!(leaves_of(section(layout.leaves())), leaves(&manifest));
        assert_eq!(layout.tail(), layout.leaves().start..file.len() as u64);
        assert_eq!(section(layout.tail()), tail_bytes(&manifest, 3, &leaves(&manifest), None));
        assert_eq!(Header::from_bytes(&file[..HEADER_BYTES]).expect("a header").shard_index, 3);
        let trailer = Trailer::from_bytes(&file[file.len() - TRAILER_BYTES..]).expect("a trailer");
        assert_eq!(
            (trailer.shard_root, trailer.lengths.leaves),
            (Digest([3; 32]), leaves(&manifest).len() as u64 * 32)
        );
        assert!(file.len() as u64 - layout.leaves().end <= MAX_MANIFEST_BYTES);
    }
}

#[test]
fn a_manifest_is_found_in_every_end_of_the_file_that_holds_it_and_in_no_shorter_one() {
    let manifest = manifest(100);
    let file = shard_file(&manifest, 0);
    let file_bytes = file.len() as u64;
    let needed = file_bytes - ShardFileLayout::of(&manifest).leaves().end;
    for end_bytes in 0..=file.len() {
        let found = manifest_in_tail(&file[file.len() - end_bytes..], file_bytes);
        match (end_bytes as u64) < needed {
            false => assert_eq!(&found.expect("a manifest"), manifest.bytes()),
            true if end_bytes < TRAILER_BYTES => assert!(matches!(found, Err(TailError::Trailer(_)))),
            true => {
                let Err(TailError::Short { needed: said, given }) = found else { unreachable!("{found:?}") };
                assert_eq!((said, given), (needed, end_bytes as u64));
            }
        }
    }
}

#[test]
fn lengths_that_do_not_fit_file_or_limits_are_refused_before_anything_is_taken() {
    let manifest = manifest(100);
    let file = shard_file(&manifest, 0);
    let (body, trailer) = file.split_at(file.len() - TRAILER_BYTES);
    let trailer = Trailer::from_bytes(trailer).expect("a trailer");
    let with = |change: &dyn Fn(&mut SectionLengths)| {
        let mut lengths = trailer.lengths;
        change(&mut lengths);
        manifest_in_tail(&[body, &Trailer { lengths, ..trailer }.to_bytes()].concat(), file.len() as u64)
    };
    for hostile in [u64::MAX, u64::MAX / 2, 1 << 40, file.len() as u64] {
        let setters: [&dyn Fn(&mut SectionLengths); 5] = [
            &|lengths| lengths.leaves = hostile,
            &|lengths| lengths.public = hostile,
            &|lengths| lengths.signature = hostile,
            &|lengths| lengths.sealed = hostile,
            &|lengths| lengths.share = hostile,
        ];
        for (section, set) in setters.iter().enumerate() {
            assert!(matches!(with(*set), Err(TailError::Lengths { .. })), "{hostile} in section {section}");
        }
    }
    for wrong in [0, 63, 65] {
        assert!(matches!(with(&|lengths| lengths.signature = wrong), Err(TailError::Lengths { .. })));
    }
    assert!(matches!(with(&|lengths| lengths.leaves += 1 + file.len() as u64), Err(TailError::Lengths { .. })));
    assert!(matches!(manifest_in_tail(&file, file.len() as u64 - 97), Err(TailError::Lengths { .. })));
    // Lengths that fit but are not the true ones give other bytes, which no signature covers.
    let shifted = with(&|lengths| (lengths.public, lengths.sealed) = (lengths.public - 1, lengths.sealed + 1));
    assert!(open(&shifted.expect("some bytes")).is_err());
}

#[test]
fn no_flipped_bit_of_a_shard_files_tail_gives_another_manifest() {
    let manifest = manifest(100);
    let tail = tail_bytes(&manifest, 0, &leaves(&manifest), None);
    let file_bytes = ShardFileLayout::of(&manifest).file_bytes();
    let mut still_good = 0;
    for bit in 0..tail.len() * 8 {
        let found = manifest_in_tail(&flip(&tail, bit), file_bytes);
        if let Ok(Ok(found)) = found.map(|bytes| open(&bytes)) {
            assert_eq!(found, manifest, "bit {bit}");
            still_good += 1;
        }
    }
    assert_eq!(still_good, leaves(&manifest).len() * Digest::BYTES * 8, "a bad leaf costs no manifest");
}

#[test]
fn a_section_over_its_limit_is_refused_in_a_file_that_is_large_enough_for_it() {
    let trailer = |lengths| Trailer { lengths, shard_root: Digest([0; 32]), manifest_hash: Digest([0; 32]) }.to_bytes();
    let at_limits = SectionLengths {
        leaves: 1 << 40,
        public: MAX_PUBLIC_BYTES,
        signature: 64,
        sealed: MAX_SEALED_BYTES,
        share: MAX_MANIFEST_BYTES - MAX_PUBLIC_BYTES - 64 - MAX_SEALED_BYTES - TRAILER_BYTES as u64,
    };
    let found = manifest_in_tail(&trailer(at_limits), u64::MAX);
    assert!(matches!(found, Err(TailError::Short { needed: MAX_MANIFEST_BYTES, given: 128 })), "{found:?}");
    for over in [
        SectionLengths { public: at_limits.public + 1, ..at_limits },
        SectionLengths { sealed: at_limits.sealed + 1, ..at_limits },
        SectionLengths { share: at_limits.share + 1, ..at_limits },
        SectionLengths { signature: 65, ..at_limits },
    ] {
        let found = manifest_in_tail(&trailer(over), u64::MAX);
        assert!(matches!(found, Err(TailError::Lengths { file_bytes: u64::MAX })), "{over:?}");
    }
}

fn piece(offset: u64, bytes: u64) -> Piece {
    let name = FileName::new("folder/name").expect("a name");
    Piece { version: VersionId([1; 16]), name, ordinal: 0, offset, bytes, last: None }
}

#[test]
fn an_index_reads_back_and_a_piece_outside_the_content_is_refused() {
    let index = Index { pieces: vec![piece(0, 7), piece(7, 3), piece(10, 0)], ..Index::default() };
    let bytes = index.to_bytes().expect("an index");
    assert_eq!(Index::from_bytes(&bytes, 10).expect("it fits"), index);
    assert!(matches!(Index::from_bytes(&bytes, 9), Err(IndexError::Outside { .. })));
    for (offset, length) in [(u64::MAX, 1), (1, u64::MAX), (11, 0), (0, 11)] {
        let bytes = Index { pieces: vec![piece(offset, length)], ..Index::default() }.to_bytes().expect("an index");
        assert!(matches!(Index::from_bytes(&bytes, 10), Err(IndexError::Outside { .. })), "{offset} + {length}");
    }
}

#[test]
fn a_number_that_no_signed_one_holds_makes_an_index_unusable() {
    let saying = |total_bytes: u64, generation: u64, removed: u64| {
        let (blake3, parents) = (Digest([0; 32]), Vec::new());
        let last = Some(Whole { total_bytes, blake3, mtime_ns: 0, mode: 0, generation, parents });
        let (version, name) = (VersionId([2; 16]), FileName::new("a").expect("a name"));
        let versions = vec![RemovedVersion { version, name, generation: removed }];
        let removal = Some(Removal { versions, objects: Vec::new() });
        Index { pieces: vec![Piece { last, ..piece(0, 0) }], removal, ..Index::default() }.to_bytes().expect("an index")
    };
    let most = index::MAX_NUMBER;
    assert!(Index::from_bytes(&saying(most, most, most), 0).is_ok());
    for over in [saying(most + 1, 1, 1), saying(1, u64::MAX, 1), saying(1, 1, most + 1)] {
        let refused = Index::from_bytes(&over, 0).expect_err("too great");
        assert!(matches!(refused, IndexError::Number { value, .. } if value > most), "{refused}");
    }
}

#[test]
fn an_index_over_its_limits_or_with_names_that_lead_elsewhere_is_refused() {
    let pieces = vec![piece(0, 0); index::MAX_INDEX_PIECES + 1];
    let bytes = serde_json::to_vec(&json!({ "pieces": pieces })).expect("JSON");
    assert!(matches!(Index::from_bytes(&bytes, 0), Err(IndexError::TooManyPieces { pieces: 65_537 })));
    assert!(matches!(Index { pieces, ..Index::default() }.to_bytes(), Err(IndexError::TooManyPieces { .. })));
    let long = vec![b' '; index::MAX_INDEX_BYTES as usize + 1];
    assert!(matches!(Index::from_bytes(&long, 0), Err(IndexError::TooLarge { .. })));
    let text = String::from_utf8(Index { pieces: vec![piece(0, 0)], ..Index::default() }.to_bytes().expect("an index"));
    let text = text.expect("text");
    for name in ["../name", "/name", "folder/../../name", "", "folder//name", "folder/\\u0000"] {
        let changed = text.replace("folder/name", name);
        assert!(matches!(Index::from_bytes(changed.as_bytes(), 0), Err(IndexError::Json(_))), "{name}");
    }
    for changed in
        [text.replace("ordinal", "ordinals"), format!("{text} x"), text.replace("\"ordinal\":0", "\"ordinal\":-1")]
    {
        assert!(Index::from_bytes(changed.as_bytes(), 0).is_err(), "{changed}");
    }
}

fn write_key() -> WriteKey {
    WriteKey::of(&Keyring::new(key()), ([7; 32], [8; 32]), None)
}

/// The draft with an id that the writer gives.
fn writers_draft() -> ManifestDraft {
    let object = ObjectId::given_by(Some(write_key().writer_id()), [2; 16]);
    ManifestDraft { object, ..draft(100) }
}

/// What the writer signed, with its public part changed and signed anew by the writer.
fn resigned_by_writer(change: impl FnOnce(&mut Value)) -> ManifestBytes {
    let signer = write_key().signer();
    let bytes = Manifest::sign(writers_draft(), PartSealer::Nobody, &signer).expect("a manifest").bytes().clone();
    let mut public: Value = serde_json::from_slice(&bytes.public).expect("JSON");
    change(&mut public);
    signed(public.to_string().into_bytes(), bytes.sealed, &signer)
}

#[test]
fn a_writer_signs_files_under_its_own_ids_and_nothing_else() {
    let writer = write_key().writer_id();
    assert_eq!(open(&resigned_by_writer(|_| {})).expect("it may").writer(), Some(writer));
    assert_eq!(manifest(100).writer(), None);
    let removal = resigned_by_writer(|public| public["kind"] = json!("removal"));
    assert!(matches!(open(&removal), Err(ManifestError::Role { kind: ObjectKind::Removal })));
    // An id that the owner gave, or another writer: refused before the roots that bind it are looked at.
    let other = WriteKey::of(&Keyring::new(key()), ([9; 32], [8; 32]), None).writer_id();
    for foreign in [ObjectId([2; 16]), ObjectId([0xff; 16]), ObjectId::given_by(Some(other), [2; 16])] {
        let forged = resigned_by_writer(|public| public["object"] = json!(foreign.to_string()));
        assert!(matches!(open(&forged), Err(ManifestError::NotItsOwn { object, .. }) if object == foreign));
    }
    // The certificate is the signer's alone, and says what it says.
    let raised = resigned_by_writer(|public| public["certificate"]["role"] = json!("owner"));
    assert!(matches!(open(&raised), Err(ManifestError::ForeignStore { .. })));
    let without = resigned_by_writer(|public| drop(public.as_object_mut().expect("an object").remove("certificate")));
    assert!(matches!(open(&without), Err(ManifestError::ForeignStore { .. })));
}

#[test]
fn a_writer_names_its_own_versions_alone_and_removes_none() {
    let writer = write_key().writer_id();
    let own = |byte: u8| VersionId::given_by(Some(writer), [byte; 16]);
    let piece = |version: VersionId, parents: Vec<VersionId>, generation: u64| {
        let whole = Whole { total_bytes: 1, blake3: Digest([0; 32]), mtime_ns: 0, mode: 0, generation, parents };
        let name = FileName::new("a").expect("a name");
        Index {
            pieces: vec![Piece { version, name, ordinal: 0, offset: 0, bytes: 1, last: Some(whole) }],
            ..Index::default()
        }
    };
    let most = index::MAX_WRITER_GENERATION;
    assert!(piece(own(1), vec![own(2)], most).check_writer(writer).is_ok());
    let owners = VersionId([3; 16]);
    let removal = Index { removal: Some(Removal::default()), ..Index::default() };
    for overreach in [
        piece(owners, Vec::new(), 1),
        piece(own(1), vec![own(2), owners], 1),
        piece(own(1), Vec::new(), most + 1),
        piece(own(1), Vec::new(), u64::MAX),
        removal,
    ] {
        assert!(overreach.check_writer(writer).is_err(), "{overreach:?}");
    }
}
