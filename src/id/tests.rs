//! What ids, geometries and levels promise, one promise a test.

use super::*;

#[test]
fn an_id_says_whether_it_is_a_probes_and_no_other_looks_like_one() {
    let probe = ObjectId::of_probe([7; 16]);
    assert!(probe.is_probe() && probe != ObjectId::of_probe([8; 16]));
    assert_eq!(probe.writer(), None);
    let given = ObjectId::given_by(None, probe.0);
    assert!(!given.is_probe() && given == probe.or_no_probe() && given == given.or_no_probe());
    assert!(!ObjectId::given_by(Some(WriterId([1; 6])), probe.0).is_probe());
    assert_eq!(ObjectId([9; 16]).or_no_probe(), ObjectId([9; 16]));
}

#[test]
fn an_id_says_which_writer_gave_it_and_the_owners_never_look_like_one() {
    let (one, other) = (WriterId([1; 6]), WriterId([2; 6]));
    for byte in [0, 1, 0x7f, 0x80, 0xfe, 0xff] {
        let random = [byte; 16];
        assert_eq!(ObjectId::given_by(None, random).writer(), None, "{byte}");
        assert_eq!(VersionId::given_by(Some(one), random).writer(), Some(one), "{byte}");
        assert_ne!(VersionId::given_by(Some(one), random), VersionId::given_by(Some(other), random));
        let first = ObjectId::FIRST_OF_WRITERS;
        assert!(ObjectId::given_by(Some(one), random) >= first && ObjectId::given_by(None, random) < first);
    }
    assert_ne!(VersionId::given_by(Some(one), [1; 16]), VersionId::given_by(Some(one), [2; 16]));
}

#[test]
fn geometry_exists_only_when_valid() {
    for (data, total) in [(0, 3), (3, 3), (4, 3), (1, 256), (0, 0), (usize::MAX, 2)] {
        assert!(Geometry::new(data, total).is_err(), "{data}/{total}");
    }
    assert!(Geometry::new(1, 2).is_ok() && Geometry::new(254, 255).is_ok());
    assert!(serde_json::from_str::<Geometry>(r#"{"data_shards":3,"total_shards":3}"#).is_err());
}

#[test]
fn levels_have_the_geometry_and_quorum_they_promise() {
    let expected = [("2/3", 3), ("3/5", 4), ("5/9", 7), ("7/15", 11)];
    for (level, (geometry, quorum)) in RedundancyLevel::NAMED.into_iter().zip(expected) {
        assert_eq!(level.geometry().to_string(), geometry);
        assert_eq!(level.geometry().write_quorum(), quorum);
        assert_eq!(geometry.parse(), Ok(level));
        assert_eq!(level.to_string().parse(), Ok(level));
    }
}

#[test]
fn a_stripe_never_exceeds_its_limit() {
    for total in 2..=255 {
        let geometry = Geometry::new(1, total).expect("valid");
        assert!(u64::from(geometry.block_bytes()) * total as u64 <= MAX_STRIPE_BYTES);
        assert!(geometry.block_bytes() >= 16 * 1024);
    }
    for (total, block_bytes) in
        [(2, 1 << 18), (16, 1 << 18), (17, 1 << 17), (32, 1 << 17), (33, 1 << 16), (255, 1 << 14)]
    {
        assert_eq!(
            Geometry::new(1, total).expect("valid").block_bytes(),
            block_bytes,
            "the largest that fits, 1/{total}"
        );
    }
}

#[test]
fn a_level_is_read_in_any_case_and_a_geometry_of_none_is_its_own_level() {
    for (level, geometry) in RedundancyLevel::NAMED.into_iter().zip(["2/3", "3/5", "5/9", "7/15"]) {
        assert_eq!(level.to_string().to_ascii_uppercase().parse(), Ok(level));
        assert_eq!((RedundancyLevel::of(level.geometry()), level.geometry().to_string()), (level, geometry.to_owned()));
    }
    let own = Geometry::new(4, 6).expect("valid");
    assert_eq!(
        ("4/6".parse(), RedundancyLevel::of(own).to_string()),
        (Ok(RedundancyLevel::Custom(own)), "4/6".to_owned())
    );
    assert_eq!((own.parity_shards(), own.write_quorum()), (2, 5));
    for wrong in ["", "3", "3/", "/5", "3/5/7", "5/3", "a/b", "-1/2", "personal "] {
        assert!(wrong.parse::<RedundancyLevel>().is_err(), "{wrong:?}");
    }
}

#[test]
fn hexadecimal_digits_are_read_in_one_way_alone() {
    let read = |text: &str| {
        let mut bytes = [0; 2];
        read_hex(text, &mut bytes).map(|()| bytes)
    };
    assert_eq!(read("0aff"), Ok([10, 255]));
    for wrong in ["0AFF", "0aFf", "0af", "0aff0", "0aff00", "", "0xff", " aff", "0ag0", "0afé"] {
        assert_eq!(read(wrong), Err(NotLowerHex), "{wrong}");
    }
}

#[test]
fn a_shard_has_exactly_one_name() {
    let name = "000102030405060708090a0b0c0d0e0f.7";
    assert_eq!(name.parse::<ShardId>().expect("a name").to_string(), name);
    for wrong in [
        "000102030405060708090A0b0c0d0e0f.7",
        "000102030405060708090a0b0c0d0e0f.07",
        "00.7",
        "",
        "000102030405060708090a0b0c0d0e0f.256",
        "000102030405060708090a0b0c0d0e0f.+7",
    ] {
        assert!(matches!(wrong.parse::<ShardId>(), Err(Error::NotHex { expected_digits: 32, .. })), "{wrong}");
    }
}

#[test]
fn an_id_is_text_for_people_and_bytes_for_what_is_not_for_them() {
    let id = ObjectId([0xab; 16]);
    let text = serde_json::to_string(&id).expect("it is written");
    assert_eq!((text.as_str(), serde_json::from_str::<ObjectId>(&text).ok()), (format!("\"{id}\"").as_str(), Some(id)));
    let mut bytes = Vec::new();
    ciborium::into_writer(&id, &mut bytes).expect("it is written");
    assert_eq!((bytes.len(), ciborium::from_reader::<ObjectId, _>(bytes.as_slice()).ok()), (17, Some(id)));
    assert!(ciborium::from_reader::<VersionId, _>(&bytes[..16]).is_err());
    assert!(ciborium::from_reader::<Digest, _>(bytes.as_slice()).is_err(), "it has other than 32 bytes");
    let no_text = serde_json::from_str::<ObjectId>("7").expect_err("a number").to_string();
    assert!(no_text.contains("expected a string"), "{no_text}");
    assert!(serde_json::from_str::<ObjectId>("\"AB\"").is_err());
}
