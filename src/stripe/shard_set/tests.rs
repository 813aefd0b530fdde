//! Sets of shards with everything lost, cut, changed and swapped that can be.

use super::*;
use crate::id::RedundancyLevel;
use crate::merkle::ProofError;
use proptest::prelude::*;

const OBJECT: ObjectId = ObjectId([5; 16]);
const BLOCK_BYTES: u32 = 16;

fn codec(data_shards: usize, total_shards: usize) -> ErasureCodec {
    ErasureCodec::new(Geometry::new(data_shards, total_shards).expect("a geometry"))
}

/// Bytes that look random and depend on their number alone.
fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().update(&bytes.to_le_bytes()).finalize_xof().fill(&mut noise);
    noise
}

fn small_set(codec: &ErasureCodec, data: &[u8]) -> ShardSet {
    codec.encode_blocks(OBJECT, data, BLOCK_BYTES).expect("a set")
}

fn flip(set: &mut ShardSet, index: u8, byte_index: usize) {
    let mut shard = set.remove(index).expect("a shard").to_vec();
    shard[byte_index] ^= 0x10;
    set.insert(index, shard).expect("its place");
}

/// The boundary sizes: around nothing, k, a block, a stripe and several stripes.
fn boundary_sizes(k: usize) -> Vec<usize> {
    let (block, stripe) = (BLOCK_BYTES as usize, BLOCK_BYTES as usize * k);
    let around = [1, k, block, stripe, 2 * stripe, 3 * stripe].map(|size| [size - 1, size, size + 1]);
    let mut sizes = around.concat();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

#[test]
fn every_size_comes_back_from_every_k_shards_and_from_no_fewer() {
    for (k, n) in [(1, 2), (2, 3), (3, 5), (4, 6)] {
        let codec = codec(k, n);
        for size in boundary_sizes(k) {
            let data = noise(size);
            let whole = small_set(&codec, &data);
            for present in 0..1_u32 << n {
                let mut set = whole.clone();
                (0..n as u8).filter(|index| present >> index & 1 == 0).for_each(|index| drop(set.remove(index)));
                let count = present.count_ones() as usize;
                let report = codec.verify(&set).expect("a report");
                assert_eq!((report.valid, report.recoverable), (count == n, count >= k), "{size} at {k}/{n}");
                assert_eq!((report.margin, report.missing.len()), (count.checked_sub(k), n - count));
                if count >= k {
                    assert_eq!(codec.decode(&set).expect("the data"), data, "{size} at {k}/{n}");
                    assert_eq!(codec.repair(&mut set).expect("a repair").rebuilt, report.missing);
                    assert_eq!(set, whole);
                } else {
                    assert_eq!(codec.decode(&set).is_ok(), size == 0, "{size} at {k}/{n}");
                    let before = set.clone();
                    assert!(matches!(codec.repair(&mut set), Err(ShardSetError::Lost { stripe_index: 0, .. })));
                    assert_eq!(set, before);
                }
            }
        }
    }
}

#[test]
fn a_set_with_every_shard_damaged_in_another_stripe_is_whole_again_after_repair() {
    let codec = codec(3, 5);
    let data = noise(5 * 48);
    let whole = small_set(&codec, &data);
    let mut set = whole.clone();
    (0..5).for_each(|index| flip(&mut set, index, usize::from(index) * 16 + 3));
    let report = codec.verify(&set).expect("a report");
    assert_eq!((report.valid, report.recoverable, report.margin), (false, true, Some(1)));
    assert_eq!((report.damaged, report.missing, report.bad_blocks), (vec![0, 1, 2, 3, 4], vec![], 5));
    assert_eq!(codec.decode(&set).expect("the data"), data);
    let repaired = codec.repair(&mut set).expect("a repair");
    assert_eq!((repaired.rebuilt, repaired.rebuilt_blocks, repaired.rebuilt_bytes), (vec![0, 1, 2, 3, 4], 5, 80));
    assert_eq!(set, whole);
}

#[test]
fn what_lies_outside_a_lost_stripe_is_still_given() {
    let codec = codec(2, 3);
    let data = noise(3 * 32 + 5);
    let mut set = small_set(&codec, &data);
    (0..2).for_each(|index| flip(&mut set, index, 16));
    let report = codec.verify(&set).expect("a report");
    assert_eq!((report.recoverable, report.margin, report.lost_stripes), (false, None, vec![1]));
    let lost = codec.decode(&set).expect_err("stripe 1 is lost");
    assert!(matches!(lost, ShardSetError::Lost { stripe_index: 1, good_blocks: 1, needed: 2 }), "{lost}");
    assert_eq!(codec.decode_range(&set, 0..32).expect("stripe 0"), data[..32]);
    assert_eq!(codec.decode_range(&set, 64..101).expect("stripes 2 and 3"), data[64..]);
    assert!(codec.decode_range(&set, 31..33).is_err());
}

#[test]
fn every_range_of_the_data_comes_back_and_none_outside() {
    let codec = codec(3, 4);
    let data = noise(107);
    let mut set = small_set(&codec, &data);
    set.remove(1);
    for start in 0..=data.len() {
        for end in start..=data.len() {
            let found = codec.decode_range(&set, start as u64..end as u64).expect("a range");
            assert_eq!(found, data[start..end], "{start}..{end}");
        }
    }
    for (start, end) in [(0, 108), (108, 108), (5, 4), (u64::MAX, u64::MAX), (0, u64::MAX)] {
        assert!(matches!(codec.decode_range(&set, start..end), Err(ShardSetError::Range { .. })), "{start}..{end}");
    }
}

#[test]
fn no_flipped_bit_goes_unseen_or_reaches_the_data() {
    let codec = codec(2, 3);
    let data = noise(75);
    let whole = small_set(&codec, &data);
    for index in 0..3 {
        for bit in 0..whole.shard(index).expect("a shard").len() * 8 {
            let mut set = whole.clone();
            let mut shard = set.remove(index).expect("a shard").to_vec();
            shard[bit / 8] ^= 1 << (bit % 8);
            set.insert(index, shard).expect("its place");
            assert_eq!(codec.verify(&set).expect("a report").damaged, [index], "bit {bit}");
            assert_eq!(codec.decode(&set).expect("the data"), data, "bit {bit}");
            assert_eq!(codec.repair(&mut set).expect("a repair").rebuilt_blocks, 1);
            assert_eq!(set, whole);
        }
    }
}

#[test]
fn a_shard_cut_lengthened_or_swapped_is_damaged_and_made_whole() {
    let codec = codec(3, 5);
    let data = noise(100);
    let whole = small_set(&codec, &data);
    let shard = whole.shard(2).expect("a shard").clone();
    let other = whole.shard(3).expect("a shard").clone();
    let cut = (0..shard.len()).map(|bytes| shard.slice(..bytes));
    let longer = [&shard[..], b"\0"].concat();
    for wrong in cut.chain([Bytes::from(longer), other, Bytes::new()]) {
        let mut set = whole.clone();
        set.insert(2, wrong.clone()).expect("its place");
        let report = codec.verify(&set).expect("a report");
        assert_eq!((report.damaged, report.recoverable), (vec![2], true), "{} bytes", wrong.len());
        assert_eq!(codec.decode(&set).expect("the data"), data);
        codec.repair(&mut set).expect("a repair");
        assert_eq!(set, whole);
    }
}

#[test]
fn a_set_says_how_much_there_is_of_it_and_gives_its_shards_away() {
    let mut set = small_set(&codec(3, 5), &noise(96));
    assert_eq!((set.stats().stored_bytes, set.stats().overhead), (5 * 32, Some(5.0 * 32.0 / 96.0)));
    set.remove(1);
    assert_eq!((set.stats().present_shards, set.stats().overhead), (4, Some(4.0 * 32.0 / 96.0)));
    let shards = set.shards().to_vec();
    assert_eq!((shards.len(), shards.iter().flatten().count()), (5, 4));
    assert_eq!(set.into_shards(), shards);
}

#[test]
fn a_repair_of_a_healthy_set_makes_nothing() {
    let codec = codec(3, 5);
    let whole = small_set(&codec, &noise(200));
    let mut set = whole.clone();
    let report = codec.repair(&mut set).expect("a repair");
    assert_eq!((report.rebuilt, report.rebuilt_blocks, report.rebuilt_bytes), (vec![], 0, 0));
    let same = |index| set.shard(index).map(|shard| shard.as_ptr()) == whole.shard(index).map(|shard| shard.as_ptr());
    assert!((0..5).all(same));
}

#[test]
fn leaves_of_blocks_that_were_not_encoded_are_found_out_by_a_repair() {
    let codec = codec(2, 3);
    let set = small_set(&codec, &noise(64));
    let mut shards = set.shards().to_vec();
    shards[2] = Some(Bytes::from(noise(32)));
    let leaf = |stripe_index: u64| {
        let position = merkle::BlockPosition { object: OBJECT, shard_index: 2, stripe_index };
        merkle::leaf(position, &noise(32)[stripe_index as usize * 16..][..16])
    };
    let mut leaves: Vec<Vec<Digest>> =
        (0..3).map(|index| set.description().leaves(index).expect("leaves").to_vec()).collect();
    leaves[2] = vec![leaf(0), leaf(1)];
    let description = ShardSetDescription::new(OBJECT, set.layout(), leaves).expect("a description");
    let mut forged = ShardSet::from_parts(description, shards).expect("a set");
    assert!(codec.verify(&forged).expect("a report").valid);
    forged.remove(2);
    let error = codec.repair(&mut forged).expect_err("not encoded");
    assert!(matches!(error, ShardSetError::NotCoded { shard_index: 2, stripe_index: 0 }), "{error}");
    assert_eq!(forged.shard(2), None);
}

#[test]
fn empty_data_is_never_taken_for_anything_else() {
    for level in RedundancyLevel::NAMED {
        let codec = ErasureCodec::new(level);
        let empty = codec.encode_as(OBJECT, b"").expect("a set");
        let zero = codec.encode_as(OBJECT, &[0]).expect("a set");
        assert_ne!(empty.root(), zero.root());
        assert_eq!((empty.description().data_bytes(), zero.description().data_bytes()), (0, 1));
        assert_eq!(codec.decode(&empty).expect("the data"), b"");
        assert_eq!(codec.decode(&zero).expect("the data"), [0]);
        assert_eq!(empty.stats().overhead, None);
        assert!(codec.verify(&empty).expect("a report").valid);
    }
}

#[test]
fn the_object_id_follows_from_data_and_geometry() {
    let id = |codec: ErasureCodec, data: &[u8]| codec.encode(data).expect("a set").object();
    assert_eq!(id(codec(3, 5), b"data"), id(codec(3, 5), b"data"));
    assert_ne!(id(codec(3, 5), b"data"), id(codec(3, 6), b"data"));
    assert_ne!(id(codec(3, 5), b"data"), id(codec(3, 5), b"date"));
    let expected = blake3::derive_key("shard 2026-11 v1 shard set object id", b"data\x03\x05");
    assert_eq!(id(codec(3, 5), b"data").0, expected[..16]);
}

#[test]
fn production_blocks_fill_several_stripes() {
    let codec = ErasureCodec::new(RedundancyLevel::Personal);
    let data = noise(2 * 3 * 256 * 1024 + 1);
    let mut set = codec.encode(&data).expect("a set");
    assert_eq!(set.stats().stripe_count, 3);
    assert_eq!(set.stats().shard_bytes, 2 * 256 * 1024 + 1);
    flip(&mut set, 0, 300_000);
    set.remove(1);
    assert_eq!(codec.decode(&set).expect("the data"), data);
}

#[test]
fn too_much_data_for_an_object_is_refused() {
    let refused = description::layout_for(Geometry::new(3, 5).expect("a geometry"), 1 << 18, (1 << 30) + (1 << 24) + 1);
    assert!(matches!(refused, Err(ShardSetError::Layout(_))), "{refused:?}");
}

#[test]
fn a_set_of_another_geometry_and_places_that_do_not_exist_are_refused() {
    let mut set = small_set(&codec(2, 3), b"data");
    assert!(matches!(codec(2, 4).decode(&set), Err(ShardSetError::Geometry { .. })));
    assert!(matches!(codec(2, 4).verify(&set), Err(ShardSetError::Geometry { .. })));
    assert!(matches!(codec(2, 4).repair(&mut set), Err(ShardSetError::Geometry { .. })));
    assert!(matches!(set.insert(3, "x"), Err(ShardSetError::NoSuchShard { index: 3, total_shards: 3 })));
    assert_eq!((set.remove(3), set.shard(3), set.block(0, 1)), (None, None, None));
    assert!(set.proof(3).is_err() && set.block_proof(3, 0).is_err() && set.block_proof(0, 1).is_err());
    let few = ShardSet::from_parts(set.description().clone(), vec![None; 2]);
    assert!(matches!(few, Err(ShardSetError::ShardCount { expected: 3, found: 2 })));
}

#[test]
fn every_proof_verifies_against_the_root_and_no_other_block_does() {
    let codec = codec(3, 5);
    let set = small_set(&codec, &noise(200));
    let root = set.root();
    for index in 0..5 {
        set.proof(index).expect("a proof").verify(&root).expect("it leads to the root");
        for stripe_index in 0..set.layout().stripe_count() {
            let proof = set.block_proof(index, stripe_index).expect("a proof");
            let block = set.block(index, stripe_index).expect("a block");
            assert_eq!(proof.verify_block(&root, &block), Ok(()));
            let other = set.block((index + 1) % 5, stripe_index).expect("a block");
            assert!(matches!(proof.verify_block(&root, &other), Err(ProofError::Block(_))));
        }
    }
}

#[test]
fn a_description_reads_back_and_one_that_contradicts_itself_is_refused() {
    let codec = codec(2, 3);
    let set = small_set(&codec, &noise(100));
    let json = serde_json::to_value(set.description()).expect("JSON");
    assert_eq!(json["schema"], SHARD_SET_SCHEMA);
    let again: ShardSetDescription = serde_json::from_value(json.clone()).expect("a description");
    assert_eq!(&again, set.description());
    let refuse = |pointer: &str, value: serde_json::Value| {
        let mut changed = json.clone();
        *changed.pointer_mut(pointer).expect("a part of it") = value;
        assert!(serde_json::from_value::<ShardSetDescription>(changed).is_err(), "{pointer}");
    };
    refuse("/schema", "shard.set/2".into());
    refuse("/root", Digest([0; 32]).to_string().into());
    refuse("/leaves/1/2", Digest([0; 32]).to_string().into());
    refuse("/leaves/1", serde_json::json!([]));
    refuse("/leaves", serde_json::json!([]));
    refuse("/binding/object", ObjectId([6; 16]).to_string().into());
    refuse("/binding/geometry/total_shards", 4.into());
    refuse("/binding/block_bytes", 17.into());
    refuse("/binding/block_bytes", 0.into());
    refuse("/binding/seal", 1.into());
    refuse("/binding/stripe_count", 5.into());
    refuse("/binding/payload_bytes", 99.into());
    refuse("/binding/payload_bytes", u64::MAX.into());
}

#[test]
fn reports_are_json_that_reads_back() {
    let codec = codec(3, 5);
    let mut set = small_set(&codec, &noise(200));
    set.remove(4);
    let report = codec.verify(&set).expect("a report");
    let json = serde_json::to_value(&report).expect("JSON");
    assert_eq!((&json["data_shards"], &json["total_shards"], &json["missing"][0]), (&3.into(), &5.into(), &4.into()));
    assert_eq!(serde_json::from_value::<IntegrityReport>(json).expect("a report"), report);
    let stats = serde_json::to_value(set.stats()).expect("JSON");
    assert_eq!(serde_json::from_value::<ShardSetStats>(stats).expect("stats"), set.stats());
    let repaired = codec.repair(&mut set).expect("a repair");
    let json = serde_json::to_value(&repaired).expect("JSON");
    assert_eq!(serde_json::from_value::<RepairReport>(json).expect("a report"), repaired);
}

/// Any geometry of up to 20 shards, data of up to a few stripes, and what happens to each shard.
fn scenario() -> impl Strategy<Value = (usize, usize, Vec<u8>, Vec<(usize, u8)>)> {
    (1_usize..12, 1_usize..9, prop::collection::vec(any::<u8>(), 0..700)).prop_flat_map(|(k, parity, data)| {
        let harm = prop::collection::vec((any::<usize>(), any::<u8>()), k + parity);
        (Just(k), Just(k + parity), Just(data), harm)
    })
}

/// Loses, cuts or flips a shard, as the number says.
fn harm_shard(set: &mut ShardSet, index: u8, (at, how): (usize, u8)) {
    let shard = set.remove(index).expect("a shard");
    match how % 4 {
        0 => {}
        1 => drop(set.insert(index, shard.slice(..at % shard.len()))),
        _ => {
            let mut bytes = shard.to_vec();
            bytes[at % shard.len()] ^= how | 1;
            drop(set.insert(index, bytes));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_loss_or_damage_of_n_minus_k_shards_is_undone((k, n, data, harm) in scenario(), first in any::<prop::sample::Index>()) {
        let codec = codec(k, n);
        let whole = small_set(&codec, &data);
        let mut set = whole.clone();
        let harmed: Vec<u8> = (0..n - k).map(|step| ((first.index(n) + step) % n) as u8).collect();
        harmed.iter().for_each(|index| harm_shard(&mut set, *index, harm[usize::from(*index)]));
        prop_assert_eq!(&codec.decode(&set).expect("the data"), &data);
        let report = codec.verify(&set).expect("a report");
        prop_assert!(report.recoverable && !report.valid);
        let mut found = [report.damaged, report.missing].concat();
        let mut expected = harmed;
        found.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(found, expected);
        codec.repair(&mut set).expect("a repair");
        prop_assert_eq!(set, whole);
    }

    #[test]
    fn whatever_happens_to_all_shards_what_is_given_out_is_right((k, n, data, harm) in scenario(), spared in any::<u32>()) {
        let codec = codec(k, n);
        let whole = small_set(&codec, &data);
        let mut set = whole.clone();
        let harmed = (0..n as u8).filter(|index| spared >> index & 1 == 0);
        harmed.for_each(|index| harm_shard(&mut set, index, harm[usize::from(index)]));
        let report = codec.verify(&set).expect("a report");
        match codec.decode(&set) {
            Ok(found) => prop_assert_eq!(&found, &data),
            Err(error) => prop_assert!(!report.recoverable, "{}", error),
        }
        prop_assert_eq!(codec.repair(&mut set).is_ok(), report.recoverable);
        prop_assert!(!report.recoverable || set == whole);
    }
}
