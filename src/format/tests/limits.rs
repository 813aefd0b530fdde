//! Where each limit of the format lies, to the byte: the last value that is taken, and the first that is not.

use super::super::header::crc32c;
use super::super::index::{MAX_INDEX_BYTES, MAX_INDEX_PIECES};
use super::super::{BackupPart, MAX_NAME_BYTES, MAX_PART_BYTES, NameError};
use super::*;

fn header() -> Header {
    let geometry = Geometry::new(3, 5).expect("a geometry");
    Header { object: ObjectId([3; 16]), shard_index: 4, geometry, block_bytes: 1024 }
}

/// A header with one byte changed and a checksum that is right.
fn summed(byte: usize, value: u8) -> [u8; HEADER_BYTES] {
    let mut bytes = header().to_bytes();
    bytes[byte] = value;
    let checksum = crc32c(&bytes[..60]);
    bytes[60..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[test]
fn a_header_that_makes_no_sense_is_refused_though_its_checksum_is_right() {
    assert_eq!(Header::from_bytes(&summed(10, 4)), Ok(header()));
    assert_eq!(Header::from_bytes(&summed(8, 2)), Err(HeaderError::Version { found: 2 }));
    assert_eq!(Header::from_bytes(&summed(9, 1)), Err(HeaderError::Version { found: 257 }));
    assert_eq!(Header::from_bytes(&summed(0, 0)), Err(HeaderError::Magic));
    for (byte, value) in [(10, 5), (10, 255), (11, 5), (11, 0), (12, 3)] {
        assert_eq!(Header::from_bytes(&summed(byte, value)), Err(HeaderError::Content), "byte {byte} is {value}");
    }
    for byte in (13..16).chain(36..60) {
        assert_eq!(Header::from_bytes(&summed(byte, 1)), Err(HeaderError::Content), "byte {byte} is reserved");
    }
    let mut unsummed = header().to_bytes();
    unsummed[20] ^= 1;
    assert_eq!(Header::from_bytes(&unsummed), Err(HeaderError::Checksum));
}

#[test]
fn a_trailer_whose_reserve_is_not_zero_is_refused_though_its_checksum_is_right() {
    let lengths = SectionLengths { leaves: 32, public: 700, signature: 64, sealed: 90, share: 32 };
    let trailer = Trailer { lengths, shard_root: Digest([1; 32]), manifest_hash: Digest([2; 32]) };
    assert_eq!(trailer.lengths.manifest(), Some(886));
    for byte in 104..116 {
        let mut bytes = trailer.to_bytes();
        bytes[byte] = 1;
        let checksum = crc32c(&bytes[..116]);
        bytes[116..120].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(Trailer::from_bytes(&bytes), Err(TrailerError::Reserve), "byte {byte}");
    }
    let mut changed = trailer.to_bytes();
    changed[50] ^= 1;
    assert_eq!(Trailer::from_bytes(&changed), Err(TrailerError::Checksum));
    changed[127] ^= 1;
    assert_eq!(Trailer::from_bytes(&changed), Err(TrailerError::Magic));
}

#[test]
fn a_manifest_is_read_from_a_file_that_just_holds_it_and_from_none_that_is_a_byte_shorter() {
    let manifest = manifest(100);
    let tail = tail_bytes(&manifest, 0, &leaves(&manifest), None);
    let least = (HEADER_BYTES + tail.len()) as u64;
    assert_eq!(&manifest_in_tail(&tail, least).expect("it fits"), manifest.bytes());
    let refused = manifest_in_tail(&tail, least - 1);
    assert!(matches!(refused, Err(TailError::Lengths { file_bytes }) if file_bytes == least - 1), "{refused:?}");
}

#[test]
fn the_index_of_an_object_has_as_many_bytes_as_an_index_may_and_no_more() {
    let geometry = Geometry::new(3, 5).expect("a geometry");
    let shape = StripeShape::new(geometry, geometry.block_bytes(), 0).expect("a shape");
    let payload_bytes = MAX_INDEX_BYTES + 10;
    let part = |index_bytes| {
        let sealed = SealedPart { index_offset: payload_bytes - index_bytes, index_bytes, ..draft(100).sealed };
        let layout = Layout::new(shape, payload_bytes).expect("a layout");
        let signed =
            Manifest::sign(ManifestDraft { layout, sealed, ..draft(100) }, PartSealer::Nobody, &key().signer());
        signed.expect("a manifest").sealed_part(PartOpener::Nobody)
    };
    assert_eq!(part(MAX_INDEX_BYTES).expect("the longest index").index_offset, 10);
    assert!(matches!(part(MAX_INDEX_BYTES + 1), Err(ManifestError::Contradiction)));
}

#[test]
fn an_index_as_large_as_it_may_be_is_written_and_read_and_none_that_is_larger() {
    let full = Index { pieces: vec![piece(0, 0); MAX_INDEX_PIECES], ..Index::default() };
    assert_eq!(Index::from_bytes(&full.to_bytes().expect("as many as may be"), 0).expect("it reads back"), full);
    let mut spaces = b"{}".to_vec();
    spaces.resize(MAX_INDEX_BYTES as usize, b' ');
    assert_eq!(Index::from_bytes(&spaces, 0).expect("as long as may be"), Index::default());
    let longest = sized(MAX_INDEX_BYTES as usize).to_bytes().expect("as long as may be");
    assert_eq!(longest.len() as u64, MAX_INDEX_BYTES);
    let refused = sized(MAX_INDEX_BYTES as usize + 1).to_bytes();
    assert!(matches!(refused, Err(IndexError::TooLarge { bytes }) if bytes == MAX_INDEX_BYTES + 1), "{refused:?}");
}

/// A name of exactly this many bytes.
fn name_of(bytes: usize) -> FileName {
    let parts = "a/".repeat((bytes - 1) / 2);
    FileName::new(format!("{parts}{}", &"aa"[..bytes - parts.len()])).expect("a name")
}

/// An index of exactly this many bytes: the names make it so long.
fn sized(bytes: usize) -> Index {
    let named = |bytes| Piece { name: name_of(bytes), ..piece(0, 0) };
    // A piece takes a comma too, but for the last.
    let taken = |piece: &Piece| serde_json::to_vec(piece).expect("JSON").len() + 1;
    let around = r#"{"pieces":[]}"#.len() - 1;
    let left = bytes - around - taken(&named(1));
    let each = taken(&named(3900));
    let mut pieces = vec![named(3900); left / each];
    pieces.push(named(1 + left % each));
    Index { pieces, ..Index::default() }
}

#[test]
fn a_name_is_as_long_as_it_may_be_and_no_longer() {
    assert_eq!(name_of(MAX_NAME_BYTES).as_str().len(), MAX_NAME_BYTES);
    let longer = format!("{}a", name_of(MAX_NAME_BYTES));
    assert_eq!(FileName::new(longer), Err(NameError::TooLong { bytes: MAX_NAME_BYTES + 1 }));
    assert!(FileName::new("x".repeat(MAX_PART_BYTES)).is_ok());
    let part = format!("a/{}", "x".repeat(MAX_PART_BYTES + 1));
    assert_eq!(FileName::new(part), Err(NameError::PartTooLong { bytes: MAX_PART_BYTES + 1 }));
}

#[test]
fn a_name_is_the_same_text_and_path_wherever_it_goes() {
    let name: FileName = "folder/deeper/name.txt".parse().expect("a name");
    assert_eq!((name.as_str(), name.last_part()), ("folder/deeper/name.txt", "name.txt"));
    assert_eq!(name.to_path(), ["folder", "deeper", "name.txt"].iter().collect::<std::path::PathBuf>());
    assert_eq!((name.to_string(), String::from(name.clone())), (name.as_str().to_owned(), name.as_str().to_owned()));
    assert_eq!(FileName::new("name").expect("a name").last_part(), "name");
    for (text, wrong) in [
        ("", NameError::Empty),
        ("a\0b", NameError::Nul { name: "a\0b".to_owned() }),
        ("/a", NameError::Absolute { name: "/a".to_owned() }),
        ("a/../b", NameError::Part { name: "a/../b".to_owned(), part: "..".to_owned() }),
    ] {
        assert_eq!(text.parse::<FileName>(), Err(wrong.clone()));
        assert_eq!(FileName::try_from(text.to_owned()), Err(wrong));
    }
}

#[test]
fn an_index_and_its_manifest_agree_on_what_is_a_backup() {
    let part = |records| Some(BackupPart { generation: 1, records, whole: None });
    let backup = Index { catalog: part(1), ..Index::default() };
    assert!(backup.check_catalog(ObjectKind::Catalog).is_ok());
    assert!(backup.check_removal(ObjectKind::Catalog, &[]).is_ok());
    for kind in [ObjectKind::Data, ObjectKind::Removal] {
        assert!(matches!(backup.check_catalog(kind), Err(IndexError::Catalog)), "{kind:?}");
        assert!(Index::default().check_catalog(kind).is_ok(), "{kind:?}");
    }
    assert!(matches!(Index::default().check_catalog(ObjectKind::Catalog), Err(IndexError::Catalog)));
    let with_piece = Index { pieces: vec![piece(0, 0)], ..backup.clone() };
    assert!(matches!(with_piece.check_catalog(ObjectKind::Catalog), Err(IndexError::Catalog)));
    assert!(matches!(with_piece.check_removal(ObjectKind::Catalog, &[]), Err(IndexError::Removal)));
    let removes = backup.check_removal(ObjectKind::Catalog, &[ObjectId([1; 16])]);
    assert!(matches!(removes, Err(IndexError::Removal)));
    let unbounded = Index { catalog: part(u64::MAX), ..Index::default() };
    assert!(matches!(unbounded.check_catalog(ObjectKind::Catalog), Err(IndexError::Catalog)));
}

#[test]
fn a_removal_holds_no_piece_and_an_object_with_pieces_removes_nothing() {
    let removal = Index { removal: Some(Removal::default()), ..Index::default() };
    assert!(removal.check_removal(ObjectKind::Removal, &[]).is_ok());
    let with_piece = Index { pieces: vec![piece(0, 0)], ..removal };
    assert!(matches!(with_piece.check_removal(ObjectKind::Removal, &[]), Err(IndexError::Removal)));
    let data = Index { pieces: vec![piece(0, 0)], ..Index::default() };
    assert!(data.check_removal(ObjectKind::Data, &[]).is_ok());
    assert!(matches!(data.check_removal(ObjectKind::Data, &[ObjectId([1; 16])]), Err(IndexError::Removal)));
}

#[test]
fn the_manifest_says_the_greatest_generation_that_a_writer_put_and_no_other() {
    let writers = VersionId::given_by(Some(write_key().writer_id()), [1; 16]);
    let put = |version, generation| {
        let whole =
            Whole { total_bytes: 0, blake3: Digest([0; 32]), mtime_ns: 0, mode: 0, generation, parents: Vec::new() };
        Piece { version, last: Some(whole), ..piece(0, 0) }
    };
    let owners = put(VersionId([3; 16]), 9);
    let index =
        Index { pieces: vec![put(writers, 2), owners.clone(), put(writers, 5), put(writers, 4)], ..Index::default() };
    assert_eq!(index.writer_generation(), 5);
    assert!(index.check_writer_generation(5).is_ok());
    for said in [0, 4, 6, 9] {
        let refused = index.check_writer_generation(said);
        assert!(matches!(refused, Err(IndexError::WriterGeneration { index: 5, manifest }) if manifest == said));
    }
    let none = Index { pieces: vec![owners], ..Index::default() };
    assert!(none.writer_generation() == 0 && none.check_writer_generation(0).is_ok());
}
