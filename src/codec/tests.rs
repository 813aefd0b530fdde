//! The code held against `reed-solomon-erasure`, against a field built from nothing, and against every loss.

use super::*;
use crate::id::RedundancyLevel;
use proptest::prelude::*;

/// Where the portable engine begins a second column, in bytes.
const COLUMN_BYTES: usize = 4096;

/// GF(2^8) with 0x11D by logarithms, and the systematic Vandermonde matrix, sharing nothing with the code under test.
struct NaiveField {
    exp: [u8; 510],
    log: [usize; 256],
}

impl NaiveField {
    fn new() -> Self {
        let mut field = Self { exp: [0; 510], log: [0; 256] };
        let mut power: usize = 1;
        for exponent in 0..255 {
            field.exp[exponent] = power as u8;
            field.exp[exponent + 255] = power as u8;
            field.log[power] = exponent;
            power <<= 1;
            if power > 255 {
                power ^= 0x11D;
            }
        }
        field
    }

    fn mul(&self, a: u8, b: u8) -> u8 {
        if a == 0 || b == 0 { 0 } else { self.exp[self.log[usize::from(a)] + self.log[usize::from(b)]] }
    }

    fn pow(&self, base: u8, exponent: usize) -> u8 {
        (0..exponent).fold(1, |product, _| self.mul(product, base))
    }

    fn inverse_of(&self, a: u8) -> u8 {
        self.exp[255 - self.log[usize::from(a)]]
    }

    fn multiply(&self, left: &[Vec<u8>], right: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let cell = |row: &[u8], column: usize| {
            row.iter().zip(right).fold(0, |sum, (factor, right_row)| sum ^ self.mul(*factor, right_row[column]))
        };
        left.iter().map(|row| (0..right[0].len()).map(|column| cell(row, column)).collect()).collect()
    }

    /// By elimination, beside the identity.
    fn invert(&self, square: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let size = square.len();
        let unit = |row: usize| (0..size).map(move |column| u8::from(row == column));
        let mut wide: Vec<Vec<u8>> =
            square.iter().enumerate().map(|(row, cells)| cells.iter().copied().chain(unit(row)).collect()).collect();
        for column in 0..size {
            let pivot = (column..size).find(|row| wide[*row][column] != 0).expect("regular");
            wide.swap(pivot, column);
            let scale = self.inverse_of(wide[column][column]);
            let pivot_row: Vec<u8> = wide[column].iter().map(|cell| self.mul(scale, *cell)).collect();
            for row in wide.iter_mut() {
                let factor = row[column];
                row.iter_mut().zip(&pivot_row).for_each(|(cell, pivot)| *cell ^= self.mul(factor, *pivot));
            }
            wide[column] = pivot_row;
        }
        wide.into_iter().map(|row| row[size..].to_vec()).collect()
    }

    fn generator(&self, geometry: Geometry) -> Vec<Vec<u8>> {
        let (k, n) = (geometry.data_shards(), geometry.total_shards());
        let vandermonde: Vec<Vec<u8>> =
            (0..n).map(|row| (0..k).map(|column| self.pow(row as u8, column)).collect()).collect();
        self.multiply(&vandermonde, &self.invert(&vandermonde[..k]))
    }
}

fn geometry(data_shards: usize, total_shards: usize) -> Geometry {
    Geometry::new(data_shards, total_shards).expect("valid")
}

/// Bytes that look random and depend on the seed alone.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut noise);
    noise
}

fn encoded_stripe(codec: &ErasureCodec, block_bytes: usize, seed: u64) -> Vec<u8> {
    let mut stripe = noise(codec.geometry().total_shards() * block_bytes, seed);
    codec.encode_in_place(&mut stripe).expect("n equal blocks");
    stripe
}

fn with_present(stripe: &[u8], block_bytes: usize, is_present: impl Fn(usize) -> bool) -> Vec<Option<&[u8]>> {
    stripe.chunks(block_bytes).enumerate().map(|(index, block)| is_present(index).then_some(block)).collect()
}

fn absent(blocks: &[Option<&[u8]>]) -> Vec<u8> {
    (0..=255).zip(blocks).filter(|(_, block)| block.is_none()).map(|(index, _)| index).collect()
}

#[test]
fn the_matrix_is_the_systematic_vandermonde_matrix_over_0x11d() {
    let field = NaiveField::new();
    let own = [(1, 2), (1, 255), (2, 4), (10, 14), (17, 20), (40, 60), (254, 255)].map(|(k, n)| geometry(k, n));
    for geometry in RedundancyLevel::NAMED.map(RedundancyLevel::geometry).into_iter().chain(own) {
        let codec = ErasureCodec::new(geometry);
        let rows: Vec<Vec<u8>> = codec.code.generator.rows().map(<[u8]>::to_vec).collect();
        assert_eq!(rows, field.generator(geometry), "{geometry}");
    }
}

#[test]
fn every_loss_within_the_promise_of_the_four_levels_is_undone_and_every_other_is_refused() {
    const BLOCK_BYTES: usize = 9;
    let (mut decoded, mut refused) = (0, 0);
    for (seed, level) in (0..).zip(RedundancyLevel::NAMED) {
        let codec = ErasureCodec::new(level);
        let (k, n) = (codec.geometry().data_shards(), codec.geometry().total_shards());
        let stripe = encoded_stripe(&codec, BLOCK_BYTES, seed);
        for survivors in 0..1_usize << n {
            let blocks = with_present(&stripe, BLOCK_BYTES, |index| survivors >> index & 1 == 1);
            let present = survivors.count_ones() as usize;
            match codec.reconstruct(&blocks, &absent(&blocks)) {
                Ok(rebuilt) => {
                    assert_eq!(rebuilt.len(), n - present);
                    for (index, block) in rebuilt {
                        assert_eq!(block, stripe[usize::from(index) * BLOCK_BYTES..][..BLOCK_BYTES], "{survivors:b}");
                    }
                    decoded += 1;
                }
                Err(error) => {
                    assert_eq!(error, Error::TooFew { present, needed: k });
                    assert!(present < k);
                    refused += 1;
                }
            }
        }
    }
    assert_eq!((decoded, refused, decoded + refused), (23_095, 10_225, 33_320));
}

#[test]
fn statistics_say_what_a_level_costs_and_survives() {
    let stats = ErasureCodec::new(RedundancyLevel::Federation).stats();
    assert_eq!((stats.data_shards, stats.total_shards, stats.failures_survived), (5, 9, 4));
    assert!((stats.overhead - 1.8).abs() < 1e-12);
    assert!((stats.storage_efficiency - 5.0 / 9.0).abs() < 1e-12);
}

#[test]
fn a_stripe_that_does_not_divide_into_blocks_is_refused() {
    let codec = ErasureCodec::new(geometry(3, 5));
    assert_eq!(codec.encode_in_place(&mut []), Err(Error::Empty));
    assert_eq!(codec.check_parity_in_place(&[]), Err(Error::Empty));
    let expected = Error::StripeLength { stripe_bytes: 11, total_shards: 5 };
    assert_eq!(codec.encode_in_place(&mut [0; 11]), Err(expected));
    assert_eq!(codec.check_parity_in_place(&[0; 11]), Err(expected));
}

#[test]
fn blocks_that_do_not_fit_the_geometry_are_refused() {
    let codec = ErasureCodec::new(geometry(2, 3));
    let (one, two) = (&[7_u8][..], &[7_u8, 7][..]);
    assert_eq!(codec.reconstruct(&[Some(one); 4], &[]), Err(Error::BlockCount { expected: 3, found: 4 }));
    assert_eq!(codec.check_parity(&[one; 2]), Err(Error::BlockCount { expected: 3, found: 2 }));
    let unequal = Error::BlockLength { index: 2, bytes: 2, expected_bytes: 1 };
    assert_eq!(codec.reconstruct(&[Some(one), None, Some(two)], &[1]), Err(unequal));
    assert_eq!(codec.check_parity(&[one, one, two]), Err(unequal));
    assert_eq!(codec.check_parity(&[&[] as &[u8]; 3]), Err(Error::Empty));
    assert_eq!(codec.reconstruct(&[Some(&[]), Some(&[]), None], &[2]), Err(Error::Empty));
    assert_eq!(codec.reconstruct(&[None; 3], &[2]), Err(Error::TooFew { present: 0, needed: 2 }));
}

#[test]
fn only_absent_blocks_can_be_wanted_and_only_once() {
    let codec = ErasureCodec::new(geometry(2, 4));
    let block = &[7_u8][..];
    let blocks = [Some(block), None, Some(block), None];
    assert_eq!(codec.reconstruct(&blocks, &[4]), Err(Error::NoSuchBlock { index: 4, total_shards: 4 }));
    assert_eq!(codec.reconstruct(&blocks, &[1, 2]), Err(Error::Present { index: 2 }));
    assert_eq!(codec.reconstruct(&blocks, &[1, 3, 1]), Err(Error::WantedTwice { index: 1 }));
    assert_eq!(codec.reconstruct(&blocks, &[]), Ok(vec![]));
}

#[test]
fn a_place_that_does_not_fit_the_wanted_block_is_refused_and_left_alone() {
    let codec = ErasureCodec::new(geometry(2, 4));
    let block = &[7_u8, 7][..];
    let blocks = [Some(block), None, Some(block), None];
    let (mut one, mut two, mut three) = ([1_u8; 2], [2_u8; 2], [3_u8; 3]);
    let missing = codec.reconstruct_into(&blocks, &[1, 3], &mut [&mut one]);
    assert_eq!(missing, Err(Error::PlaceCount { expected: 2, found: 1 }));
    let unequal = Error::BlockLength { index: 3, bytes: 3, expected_bytes: 2 };
    assert_eq!(codec.reconstruct_into(&blocks, &[1, 3], &mut [&mut one, &mut three]), Err(unequal));
    assert_eq!(
        codec.reconstruct_into(&blocks, &[1, 1], &mut [&mut one, &mut two]),
        Err(Error::WantedTwice { index: 1 })
    );
    assert_eq!((one, two, three), ([1; 2], [2; 2], [3; 3]));
    assert_eq!(codec.reconstruct_into(&blocks, &[], &mut []), Ok(()));
}

#[test]
fn a_codec_says_its_geometry_and_what_it_computes_with() {
    let codec = ErasureCodec::with_engine(geometry(3, 5), Engine::Portable).expect("any processor runs it");
    assert_eq!((codec.geometry(), codec.engine(), codec.engine_name()), (geometry(3, 5), Engine::Portable, "portable"));
    assert_eq!(format!("{codec:?}"), "ErasureCodec(3/5, portable)");
}

#[test]
fn an_engine_of_another_processor_is_refused() {
    for engine in Engine::ALL {
        match ErasureCodec::with_engine(RedundancyLevel::Personal, engine) {
            Ok(codec) => {
                assert_eq!((codec.engine(), codec.engine_name(), engine.is_available()), (engine, engine.name(), true));
            }
            Err(error) => {
                assert_eq!((error, engine.is_available()), (EngineError::Unavailable { engine }, false));
            }
        }
    }
    assert_eq!(ErasureCodec::new(RedundancyLevel::Personal).engine(), Engine::by_default());
}

#[test]
fn decoding_rows_are_remembered_per_pattern_and_the_oldest_are_forgotten() {
    let codec = ErasureCodec::new(geometry(4, 12));
    let stripe = encoded_stripe(&codec, 5, 3);
    for round in 0..3 {
        for wanted in 0..12_u8 {
            for helper in (0..12_u8).filter(|helper| *helper != wanted) {
                let lost = [wanted, helper].map(usize::from);
                let blocks = with_present(&stripe, 5, |index| !lost.contains(&index));
                let rebuilt = codec.reconstruct(&blocks, &[wanted]).expect("ten of four are present");
                assert_eq!(rebuilt[0].1, stripe[lost[0] * 5..][..5], "round {round}");
            }
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_stripe_fails_the_parity_check() {
    let codec = ErasureCodec::new(geometry(3, 5));
    // One column and the beginning of a second.
    let block_bytes = COLUMN_BYTES + 1;
    let mut stripe = encoded_stripe(&codec, block_bytes, 11);
    assert_eq!(codec.check_parity_in_place(&stripe), Ok(true));
    for block in 0..5 {
        for byte in [0, 1, COLUMN_BYTES - 1, COLUMN_BYTES] {
            stripe[block * block_bytes + byte] ^= 0x10;
            assert_eq!(codec.check_parity_in_place(&stripe), Ok(false), "block {block}, byte {byte}");
            stripe[block * block_bytes + byte] ^= 0x10;
        }
    }
}

fn any_geometry() -> impl Strategy<Value = Geometry> {
    // Mostly small, so that most cases are fast; now and then up to the limit.
    let total = prop_oneof![6 => 2_usize..=24, 1 => 25_usize..=255];
    total.prop_flat_map(|total| (1..total).prop_map(move |data| geometry(data, total)))
}

fn any_block_bytes() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 1_usize..300, 1 => COLUMN_BYTES - 2..COLUMN_BYTES + 3]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn parity_is_byte_identical_to_reed_solomon_erasure(
        geometry in any_geometry(), block_bytes in any_block_bytes(), seed: u64,
    ) {
        let codec = ErasureCodec::new(geometry);
        let stripe = encoded_stripe(&codec, block_bytes, seed);
        let k = geometry.data_shards();
        let oracle = reed_solomon_erasure::galois_8::ReedSolomon::new(k, geometry.parity_shards()).expect("valid");
        let mut expected: Vec<Vec<u8>> = noise(stripe.len(), seed).chunks(block_bytes).map(<[u8]>::to_vec).collect();
        oracle.encode(&mut expected).expect("valid");
        prop_assert_eq!(&expected.concat(), &stripe);
        prop_assert_eq!(codec.check_parity_in_place(&stripe), Ok(true));
    }

    #[test]
    fn any_k_blocks_give_any_others_back_unless_there_are_fewer(
        geometry in any_geometry(), block_bytes in any_block_bytes(), seed: u64,
        order in Just((0..255_usize).collect::<Vec<_>>()).prop_shuffle(), surplus in 0_usize..3,
    ) {
        let codec = ErasureCodec::new(geometry);
        let stripe = encoded_stripe(&codec, block_bytes, seed);
        let (k, n) = (geometry.data_shards(), geometry.total_shards());
        let order: Vec<usize> = order.into_iter().filter(|index| *index < n).collect();
        let kept = &order[..(k + surplus).min(n - 1)];
        let blocks = with_present(&stripe, block_bytes, |index| kept.contains(&index));
        // Wanted in an order of their own, and not all of them.
        let wanted: Vec<u8> = order[kept.len()..].iter().step_by(1 + surplus).map(|index| *index as u8).collect();
        let rebuilt = codec.reconstruct(&blocks, &wanted).expect("k are present");
        prop_assert_eq!(rebuilt.iter().map(|(index, _)| *index).collect::<Vec<_>>(), wanted);
        for (index, block) in rebuilt {
            prop_assert_eq!(&block[..], &stripe[usize::from(index) * block_bytes..][..block_bytes]);
        }
        let too_few = with_present(&stripe, block_bytes, |index| order[..k - 1].contains(&index));
        let error = codec.reconstruct(&too_few, &[order[k] as u8]);
        prop_assert_eq!(error, Err(Error::TooFew { present: k - 1, needed: k }));
    }
}

proptest! {
    // Each case runs every engine; geometries near the limit cost most of the time.
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn every_engine_encodes_reconstructs_and_checks_the_same(
        geometry in any_geometry(), block_bytes in any_block_bytes(), seed: u64,
        order in Just((0..255_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let portable = ErasureCodec::with_engine(geometry, Engine::Portable).expect("always there");
        let stripe = encoded_stripe(&portable, block_bytes, seed);
        let (k, n) = (geometry.data_shards(), geometry.total_shards());
        let order: Vec<usize> = order.into_iter().filter(|index| *index < n).collect();
        let blocks = with_present(&stripe, block_bytes, |index| order[..k].contains(&index));
        let wanted: Vec<u8> = order[k..].iter().map(|index| *index as u8).collect();
        for engine in Engine::available() {
            let codec = ErasureCodec::with_engine(geometry, engine).expect("available");
            prop_assert!(encoded_stripe(&codec, block_bytes, seed) == stripe, "{}", engine);
            prop_assert_eq!(codec.check_parity_in_place(&stripe), Ok(true));
            let mut places = noise(wanted.len() * block_bytes, seed);
            let mut into: Vec<&mut [u8]> = places.chunks_mut(block_bytes).collect();
            prop_assert_eq!(codec.reconstruct_into(&blocks, &wanted, &mut into), Ok(()));
            let rebuilt = codec.reconstruct(&blocks, &wanted).expect("k are present");
            for ((index, block), place) in rebuilt.iter().zip(places.chunks(block_bytes)) {
                let expected = &stripe[usize::from(*index) * block_bytes..][..block_bytes];
                prop_assert!(block == expected && place == expected, "{}, block {}", engine, index);
            }
        }
    }
}
