//! Stripes that are sealed, and which seal is which.

use super::*;
use crate::crypto::{DataKey, SealContext, StripeCipher};
use crate::id::StoreId;

fn sealed_shape() -> StripeShape {
    let geometry = Geometry::new(3, 5).expect("a geometry");
    StripeShape::new(geometry, 16, Seal::Key.overhead_bytes()).expect("a shape")
}

fn cipher(byte: u8) -> StripeCipher {
    let geometry = Geometry::new(3, 5).expect("a geometry");
    let (store, seal) = (StoreId([1; 32]), Seal::Key.code());
    let context = SealContext { store, object: OBJECT, geometry, block_bytes: 16, seal };
    StripeCipher::new(&DataKey::from_bytes([byte; 32]), &context)
}

fn sealer() -> StripeEncoder {
    StripeEncoder::new(sealed_shape(), OBJECT, Check::Full).sealing_with(cipher(7))
}

/// A sealed stripe of a payload, read as carefully as can be.
fn sealed(stripe_index: u64, is_last: bool, payload: &[u8]) -> EncodedStripe {
    let mut stripe = FilledStripe { is_last, ..filled(sealed_shape(), stripe_index, payload) };
    stripe.note_digest();
    sealer().encode(stripe).expect("a stripe")
}

#[test]
fn a_sealed_stripe_opens_under_its_own_key_in_its_own_place_alone() {
    let shape = sealed_shape();
    for size in 1..=2 * shape.capacity() + 1 {
        let (layout, payload) = (Layout::new(shape, size).expect("a layout"), payload(size));
        let decoder = StripeDecoder::new(layout);
        for (stripe_index, part) in (0..).zip(payload.chunks(shape.capacity() as usize)) {
            let is_last = stripe_index + 1 == layout.stripe_count();
            let stripe = sealed(stripe_index, is_last, part);
            let all = blocks(shape, stripe_index, &stripe);
            assert_eq!(stripe.block(4).len(), layout.block_bytes(stripe_index) as usize);
            for set in (0..1_u32 << 5).filter(|set| set.count_ones() == 3) {
                let opened = decoder.open(stripe_index, &only(&all, set), Some(&cipher(7))).expect("k blocks");
                assert_eq!(joined(&opened), part, "{size} bytes from {set:b}");
            }
            let other = decoder.open(stripe_index, &all, Some(&cipher(8)));
            assert!(matches!(other, Err(DecodeError::Sealed { stripe_index: found, .. }) if found == stripe_index));
            let elsewhere = blocks(shape, stripe_index, &sealed(stripe_index, !is_last, part));
            let moved = decoder.open(stripe_index, &elsewhere, Some(&cipher(7)));
            assert!(matches!(moved, Err(DecodeError::Sealed { .. })), "the last stripe is known for it");
        }
    }
}

#[test]
fn a_sealed_stripe_shows_nothing_of_its_payload() {
    let stripe = sealed(0, true, &[0; 32]);
    let stored: Vec<u8> = (0..3).flat_map(|index| stripe.block(index)).collect();
    assert_eq!(stored.len(), 48);
    assert!(stored.windows(4).all(|window| window != [0; 4]));
}

#[test]
fn a_key_where_nothing_is_sealed_and_none_where_something_is_are_refused() {
    let open = shape(3, 5, 16);
    let refused = StripeEncoder::new(open, OBJECT, Check::Parity).sealing_with(cipher(7)).encode(filled(open, 2, b"x"));
    assert!(matches!(refused, Err(EncodeError::Key { stripe_index: 2 })));
    let stripe = filled(sealed_shape(), 2, b"x");
    let refused = StripeEncoder::new(sealed_shape(), OBJECT, Check::Parity).encode(stripe);
    assert!(matches!(refused, Err(EncodeError::Key { stripe_index: 2 })));
    let decoder = StripeDecoder::new(Layout::new(sealed_shape(), 1).expect("a layout"));
    let refused = decoder.open(0, &blocks(sealed_shape(), 0, &sealed(0, true, b"x")), None);
    assert!(matches!(refused, Err(DecodeError::Key { stripe_index: 0 })));
    let decoder = StripeDecoder::new(Layout::new(open, 1).expect("a layout"));
    let refused = decoder.open(0, &blocks(open, 0, &encoded(open, 0, b"x")), Some(&cipher(7)));
    assert!(matches!(refused, Err(DecodeError::Key { stripe_index: 0 })));
}

#[test]
fn a_full_check_opens_a_sealed_stripe_and_finds_what_changed_before_it_was_sealed() {
    for byte_index in 0..20 {
        let mut stripe = filled(sealed_shape(), 6, &payload(20));
        stripe.note_digest();
        stripe.buffer.as_mut_slice()[byte_index] ^= 1;
        let refused = sealer().encode(stripe);
        assert!(matches!(refused, Err(EncodeError::Changed { stripe_index: 6 })), "byte {byte_index}");
    }
    assert!(sealer().encode(filled(sealed_shape(), 6, &payload(20))).is_ok(), "nothing was noted to compare with");
}

#[test]
fn an_encoders_key_is_told_from_any_other_and_from_none() {
    let fingerprint = |byte| sealer().sealing_with(cipher(byte)).key_fingerprint();
    assert_eq!(fingerprint(7), sealer().key_fingerprint());
    assert!(fingerprint(7).is_some() && fingerprint(7) != fingerprint(8));
    assert_eq!(StripeEncoder::new(shape(3, 5, 16), OBJECT, Check::Full).key_fingerprint(), None);
}

#[test]
fn each_seal_has_a_byte_a_name_and_limits_of_its_own() {
    for (code, seal) in (0..).zip(Seal::ALL) {
        assert_eq!((seal.code(), Seal::from_code(code)), (code, Some(seal)));
        assert_eq!(serde_json::to_string(&seal).expect("JSON"), format!("\"{seal}\""));
        assert_eq!(seal.overhead_bytes() > 0, seal != Seal::None);
    }
    assert_eq!(Seal::ALL.map(|seal| seal.to_string()), ["none", "key", "dispersed", "recipient"]);
    assert_eq!((4..=255).find_map(Seal::from_code), None);
    // Neither may a zone open an object, nor may its loss cost one.
    for ((data, total), limit) in [((2, 3), 1), ((3, 5), 2), ((5, 9), 4), ((7, 15), 6), ((6, 7), 1)] {
        let geometry = Geometry::new(data, total).expect("a geometry");
        for seal in Seal::ALL {
            let (limit, shares) = if seal == Seal::Dispersed { (Some(limit), total) } else { (None, 0) };
            assert_eq!((seal.zone_limit(geometry), seal.share_count(geometry)), (limit, shares), "{seal}");
        }
    }
}
