//! Encoder and decoder against each other, at every boundary, and against whatever does not fit.

mod sealed;

use super::*;
use crate::codec;
use crate::id::{Digest, Geometry, ObjectId};
use crate::merkle::{BlockPosition, VerifiedBlock, leaf};
use bytes::Bytes;

const OBJECT: ObjectId = ObjectId([4; 16]);

fn shape(data_shards: usize, total_shards: usize, block_bytes: u32) -> StripeShape {
    StripeShape::new(Geometry::new(data_shards, total_shards).expect("a geometry"), block_bytes, 0).expect("a shape")
}

/// No byte of it is zero, so that padding is told from payload.
fn payload(bytes: u64) -> Vec<u8> {
    (0..bytes).map(|i| (i % 251 + 1) as u8).collect()
}

fn filled(shape: StripeShape, stripe_index: u64, payload: &[u8]) -> FilledStripe {
    let mut buffer = BufferPool::new(StripeEncoder::buffer_bytes(shape)).take();
    // What its last use left behind.
    buffer.as_mut_slice().fill(0xEE);
    buffer.as_mut_slice()[..payload.len()].copy_from_slice(payload);
    FilledStripe { stripe_index, buffer, payload_bytes: payload.len() as u64, is_last: false, digest: None }
}

fn encoded(shape: StripeShape, stripe_index: u64, payload: &[u8]) -> EncodedStripe {
    let encoder = StripeEncoder::new(shape, OBJECT, Check::Parity);
    encoder.encode(filled(shape, stripe_index, payload)).expect("a stripe")
}

fn verified(shard_index: u8, stripe_index: u64, block: Bytes) -> VerifiedBlock {
    let position = BlockPosition { object: OBJECT, shard_index, stripe_index };
    let expected = leaf(position, &block);
    VerifiedBlock::check(position, block, &expected).expect("its own leaf")
}

/// The stripe's blocks, each checked against the leaf that the encoder gave.
fn blocks(shape: StripeShape, stripe_index: u64, stripe: &EncodedStripe) -> Vec<Option<VerifiedBlock>> {
    let check = |shard_index: u8| {
        let position = BlockPosition { object: OBJECT, shard_index, stripe_index };
        VerifiedBlock::check(position, stripe.block(shard_index), &stripe.leaves()[usize::from(shard_index)])
    };
    shape.geometry().shard_indexes().map(|index| Some(check(index).expect("its leaf"))).collect()
}

fn only(blocks: &[Option<VerifiedBlock>], set: u32) -> Vec<Option<VerifiedBlock>> {
    blocks.iter().enumerate().map(|(index, block)| block.clone().filter(|_| set >> index & 1 == 1)).collect()
}

fn joined(payload: &StripePayload) -> Vec<u8> {
    payload.parts().concat()
}

#[test]
fn every_payload_around_the_boundaries_comes_back_from_every_k_blocks() {
    for (k, n, block_bytes) in [(1, 2, 1), (1, 3, 4), (2, 3, 5), (3, 5, 1), (3, 5, 8), (5, 6, 3)] {
        let shape = shape(k, n, block_bytes);
        for size in 1..=3 * shape.capacity() + 1 {
            let (layout, payload) = (Layout::new(shape, size).expect("a layout"), payload(size));
            let decoder = StripeDecoder::new(layout);
            for (stripe_index, part) in (0..).zip(payload.chunks(shape.capacity() as usize)) {
                let stripe = encoded(shape, stripe_index, part);
                let blocks = blocks(shape, stripe_index, &stripe);
                assert_eq!(stripe.block(0).len(), layout.block_bytes(stripe_index) as usize);
                for set in (0..1_u32 << n).filter(|set| set.count_ones() as usize == k) {
                    let present = only(&blocks, set);
                    let opened = decoder.open(stripe_index, &present, None).expect("k blocks");
                    assert_eq!(joined(&opened), part, "{size} bytes at {k}/{n} from {set:b}");
                    assert!(opened.parts().iter().all(|part| !part.is_empty()));
                    let absent: Vec<u8> = (0..n as u8).filter(|index| set >> index & 1 == 0).rev().collect();
                    let rebuilt = decoder.rebuild(stripe_index, &present, &absent).expect("k blocks");
                    let expected = absent.iter().map(|index| (*index, stripe.block(*index)));
                    assert!(rebuilt.into_iter().eq(expected));
                }
            }
        }
    }
}

#[test]
fn padding_that_is_not_zero_is_refused_wherever_it_is() {
    let shape = shape(3, 5, 8);
    // Blocks of 3 hold 7, 8 or 9 bytes: what is written as 9 is read as 7, and two bytes are left over.
    let stripe = encoded(shape, 0, &payload(9));
    let decoder = StripeDecoder::new(Layout::new(shape, 7).expect("a layout"));
    for set in [0b11111, 0b00111, 0b11100, 0b11010] {
        let refused = decoder.open(0, &only(&blocks(shape, 0, &stripe), set), None);
        assert!(matches!(refused, Err(DecodeError::Padding { stripe_index: 0 })), "{set:b}");
    }
    let whole = StripeDecoder::new(Layout::new(shape, 9).expect("a layout"));
    assert_eq!(joined(&whole.open(0, &blocks(shape, 0, &stripe), None).expect("its own length")), payload(9));
}

#[test]
fn a_full_check_finds_a_change_made_after_reading_and_a_parity_check_cannot() {
    let shape = shape(3, 5, 8);
    for byte_index in 0..20 {
        let changed = || {
            let mut stripe = filled(shape, 6, &payload(20));
            stripe.note_digest();
            stripe.buffer.as_mut_slice()[byte_index] ^= 1;
            stripe
        };
        let full = StripeEncoder::new(shape, OBJECT, Check::Full).encode(changed());
        assert!(matches!(full, Err(EncodeError::Changed { stripe_index: 6 })), "byte {byte_index}");
        assert!(StripeEncoder::new(shape, OBJECT, Check::Parity).encode(changed()).is_ok());
    }
    let mut unchanged = filled(shape, 6, &payload(20));
    unchanged.note_digest();
    assert_eq!(unchanged.digest, Some(Digest(blake3::hash(&payload(20)).into())));
    assert!(StripeEncoder::new(shape, OBJECT, Check::Full).encode(unchanged).is_ok());
}

#[test]
fn payloads_and_buffers_that_do_not_fit_are_refused_and_not_cut() {
    let shape = shape(3, 5, 8);
    let encoder = StripeEncoder::new(shape, OBJECT, Check::Parity);
    for payload_bytes in [0, 25, u64::MAX] {
        let stripe = FilledStripe { payload_bytes, ..filled(shape, 2, &[]) };
        let refused = encoder.encode(stripe).expect_err("it does not fit");
        let named = matches!(refused, EncodeError::PayloadBytes { stripe_index: 2, payload_bytes: found, capacity: 24 }
            if found == payload_bytes);
        assert!(named, "{refused}");
    }
    for (buffer_bytes, payload_bytes, fits) in [(39, 24, false), (39, 22, false), (39, 21, true), (4, 1, false)] {
        let buffer = BufferPool::new(buffer_bytes).take();
        let mut stripe = FilledStripe { stripe_index: 2, buffer, payload_bytes, is_last: false, digest: None };
        stripe.note_digest();
        assert_eq!(encoder.encode(stripe).is_ok(), fits, "{payload_bytes} bytes in a buffer of {buffer_bytes}");
    }
    let mut long = FilledStripe { payload_bytes: u64::MAX, ..filled(shape, 2, &[]) };
    long.note_digest();
}

#[test]
fn blocks_of_a_wrong_length_or_place_are_refused_by_name() {
    let shape = shape(2, 4, 8);
    let decoder = StripeDecoder::new(Layout::new(shape, 16 + 9).expect("a layout"));
    let stripe = encoded(shape, 1, &payload(9));
    let good = blocks(shape, 1, &stripe);
    for length in [0, 4, 6, 8] {
        let mut wrong = good.clone();
        wrong[2] = Some(verified(2, 1, Bytes::from(vec![7; length])));
        let refused = decoder.open(1, &wrong, None).expect_err("a wrong length");
        let named =
            matches!(refused, DecodeError::BlockBytes { shard_index: 2, found, expected: 5, .. } if found == length);
        assert!(named, "{refused}");
    }
    for (shard_index, stripe_index) in [(3, 1), (2, 0), (2, 2)] {
        let mut wrong = good.clone();
        wrong[2] = Some(verified(shard_index, stripe_index, stripe.block(2)));
        let refused = decoder.rebuild(1, &wrong, &[]).expect_err("a wrong place");
        let named = matches!(refused, DecodeError::Misplaced { stripe_index: 1, shard_index: 2, position }
            if (position.shard_index, position.stripe_index) == (shard_index, stripe_index));
        assert!(named, "{refused}");
    }
}

#[test]
fn too_few_blocks_and_too_few_places_are_refused() {
    let shape = shape(3, 5, 8);
    let decoder = StripeDecoder::new(Layout::new(shape, 24).expect("a layout"));
    let good = blocks(shape, 0, &encoded(shape, 0, &payload(24)));
    for set in (0..1_u32 << 5).filter(|set| set.count_ones() < 3) {
        let refused = decoder.open(0, &only(&good, set), None).expect_err("fewer than k");
        let present = set.count_ones() as usize;
        let expected = codec::Error::TooFew { present, needed: 3 };
        assert!(matches!(refused, DecodeError::Codec(error) if error == expected), "{set:b}: {refused}");
    }
    let refused = decoder.open(0, &only(&good, 0b11110)[..4], None).expect_err("a place is missing");
    assert!(matches!(refused, DecodeError::Codec(codec::Error::BlockCount { expected: 5, found: 4 })), "{refused}");
    assert!(decoder.open(0, &[], None).is_err());
    let refused = decoder.rebuild(0, &good, &[1]).expect_err("it is there");
    assert!(matches!(refused, DecodeError::Codec(codec::Error::Present { index: 1 })), "{refused}");
}

#[test]
fn any_part_of_a_stripe_can_be_cut_out() {
    let shape = shape(3, 5, 4);
    let decoder = StripeDecoder::new(Layout::new(shape, 11).expect("a layout"));
    let opened = decoder.open(0, &blocks(shape, 0, &encoded(shape, 0, &payload(11))), None).expect("a stripe");
    for start in 0..=13_u64 {
        for end in 0..=13_u64 {
            let cut = opened.clone().cut(start, end);
            let (from, to) = (start.min(11) as usize, end.min(11) as usize);
            assert_eq!(joined(&cut), payload(11).get(from..to).unwrap_or_default(), "{start}..{end}");
            assert!(cut.parts().iter().all(|part| !part.is_empty()));
        }
    }
}

#[test]
fn a_leaf_says_which_object_shard_and_stripe_its_block_is_of() {
    let shape = shape(3, 5, 4);
    let stripe = encoded(shape, 7, &payload(12));
    for index in 0..5 {
        let position = BlockPosition { object: OBJECT, shard_index: index, stripe_index: 7 };
        assert_eq!(stripe.leaves()[usize::from(index)], leaf(position, &stripe.block(index)));
    }
    assert_ne!(stripe.leaves(), encoded(shape, 8, &payload(12)).leaves());
    let other = StripeEncoder::new(shape, ObjectId([5; 16]), Check::Parity).encode(filled(shape, 7, &payload(12)));
    assert_ne!(stripe.leaves(), other.expect("a stripe").leaves());
}
