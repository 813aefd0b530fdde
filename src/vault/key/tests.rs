//! Keys sort as their types do, come back as they were, and can be shown without their type.

use super::{decode_key, encode_key, encode_prefix, from_value, to_value};
use crate::vault::Blob;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Kind {
    Empty,
    One(i16),
    Two(String, bool),
    Named { at: u8, what: Option<String> },
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Place {
    town: String,
    number: i64,
}

/// Order, equality and the way back, of a pair.
fn agrees<K: Serialize + DeserializeOwned + Ord + Debug>(one: &K, other: &K) -> Result<(), TestCaseError> {
    let encode = |key: &K| encode_key(key).map_err(|error| TestCaseError::fail(error.to_string()));
    let (bytes, others) = (encode(one)?, encode(other)?);
    prop_assert_eq!(bytes.cmp(&others), one.cmp(other), "{:?} and {:?}", one, other);
    let back: K = decode_key(&bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(&back, one);
    let shown = to_value(&bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(from_value(&shown).expect("it is a key"), bytes);
    Ok(())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[\0a\u{1}]{0,4}", any::<String>()]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Empty),
        any::<i16>().prop_map(Kind::One),
        (text(), any::<bool>()).prop_map(|(text, truth)| Kind::Two(text, truth)),
        (any::<u8>(), any::<Option<String>>()).prop_map(|(at, what)| Kind::Named { at, what }),
    ]
}

/// Numbers of every width, and many around the places where the width changes.
fn wide() -> impl Strategy<Value = i128> {
    let near = |power: u32| (1_i128 << power.min(126)).wrapping_add(i128::from(power % 3) - 1);
    prop_oneof![any::<i128>(), (0_u32..127).prop_map(near), (0_u32..127).prop_map(move |power| -near(power))]
}

proptest! {
    #[test]
    fn integers_sort_as_they_are(one in wide(), other in wide(), a: u128, b: u128, c: i8, d: i8, e: u64, f: u64) {
        agrees(&one, &other)?;
        agrees(&a, &b)?;
        agrees(&c, &d)?;
        agrees(&e, &f)?;
    }

    #[test]
    fn texts_and_bytes_sort_as_they_are(a in text(), b in text(), c in vec(0_u8..3, 0..5), d in vec(0_u8..3, 0..5), e: char, f: char) {
        agrees(&a, &b)?;
        agrees(&Blob(c), &Blob(d))?;
        agrees(&e, &f)?;
    }

    #[test]
    fn compounds_sort_as_they_are(
        a in (text(), any::<i32>(), any::<Option<bool>>()), b in (text(), any::<i32>(), any::<Option<bool>>()),
        c in vec(vec(-2_i8..3, 0..3), 0..3), d in vec(vec(-2_i8..3, 0..3), 0..3),
        e in kind(), f in kind(),
        g in btree_map(text(), 0_u8..3, 0..3), h in btree_map(text(), 0_u8..3, 0..3),
        i in (text(), any::<i64>()), j in (text(), any::<i64>()),
    ) {
        agrees(&a, &b)?;
        agrees(&c, &d)?;
        agrees(&e, &f)?;
        agrees(&g, &h)?;
        let place = |(town, number)| Place { town, number };
        agrees(&place(i), &place(j))?;
    }

    #[test]
    fn floats_sort_by_their_total_order(a: f64, b: f64, c: f32) {
        let (one, other) = (encode_key(&a).expect("a key"), encode_key(&b).expect("a key"));
        prop_assert_eq!(one.cmp(&other), a.total_cmp(&b));
        prop_assert_eq!(decode_key::<f64>(&one).expect("a float").to_bits(), a.to_bits());
        prop_assert_eq!(decode_key::<f32>(&encode_key(&c).expect("a key")).expect("a float").to_bits(), c.to_bits());
    }

    #[test]
    fn no_bytes_make_the_reader_fall(bytes in vec(prop_oneof![0_u8..6, 0x10_u8..0x54, any::<u8>()], 0..40)) {
        let shown = to_value(&bytes);
        let _ = decode_key::<Kind>(&bytes);
        let _ = decode_key::<(i64, String)>(&bytes);
        let _ = decode_key::<Option<Vec<u128>>>(&bytes);
        let _ = decode_key::<BTreeMap<String, i8>>(&bytes);
        if let Ok(shown) = shown {
            let _ = from_value(&shown);
        }
    }
}

#[test]
fn one_integer_is_one_key_whatever_its_width() {
    let bytes = encode_key(&5_u8).expect("a key");
    assert_eq!(bytes, encode_key(&5_i64).expect("a key"));
    assert_eq!(decode_key::<u128>(&bytes).expect("an integer"), 5);
    assert!(decode_key::<u8>(&encode_key(&300).expect("a key")).is_err());
    assert!(decode_key::<String>(&bytes).is_err());
}

#[test]
fn a_prefix_is_that_of_all_that_begins_so() {
    let prefix = encode_prefix("ab").expect("a prefix");
    for (text, begins) in [("ab", true), ("abc", true), ("ab\0", true), ("a", false), ("b", false)] {
        assert_eq!(encode_key(text).expect("a key").starts_with(&prefix), begins, "{text:?}");
    }
    let prefix = encode_prefix(&("x",)).expect("a prefix");
    assert!(encode_key(&("x", 1)).expect("a key").starts_with(&prefix));
    assert!(!encode_key(&("xy", 1)).expect("a key").starts_with(&prefix));
}

#[test]
fn a_hash_map_is_one_key_in_whatever_order_it_is_read() {
    let maps: Vec<HashMap<u32, u32>> = (0..8).map(|_| (0..40).map(|number| (number, number)).collect()).collect();
    let first = encode_key(&maps[0]).expect("a key");
    assert!(maps.iter().all(|map| encode_key(map).expect("a key") == first));
}

#[test]
fn what_could_not_be_read_again_is_refused_when_it_is_put_in() {
    #[derive(Serialize)]
    struct Gaps {
        #[serde(skip_serializing_if = "Option::is_none")]
        sometimes: Option<u8>,
    }
    assert!(encode_key(&Gaps { sometimes: None }).is_err());
    assert!(encode_key(&Gaps { sometimes: Some(1) }).is_ok());
    assert!(encode_key(&"x".repeat(super::MAX_KEY_BYTES)).is_err());
    let nested = |depth: usize| (0..depth).fold(serde_json::json!(null), |inner, _| serde_json::json!([inner]));
    assert!(encode_key(&nested(super::MAX_DEPTH)).is_ok());
    assert!(encode_key(&nested(super::MAX_DEPTH + 1)).is_err());
    let deep = vec![super::LIST; 100_000];
    assert!(to_value(&deep).is_err() && decode_key::<serde_json::Value>(&deep).is_err());
}
