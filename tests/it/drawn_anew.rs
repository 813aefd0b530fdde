//! What must be random and new each time is: key streams, what opens an object, salts. A program that drew them once, or
//! not at all, would put and recover as well as this one.

use crate::desk::Desk;
use crate::key_faults::sections;
use crate::world::{TestWorld, geometry, stream_of};
use serde_json::Value;
use shard::crypto::{KeyShare, SealContext, combine_shares};
use shard::id::{Geometry, ObjectId, RedundancyLevel, StoreId};
use shard::ops::put::{PutOptions, put};
use shard::store::Store;
use shard::stripe::Seal;
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::sync::Arc;

/// Two stripes and a part of a third at 2 of 3.
const LENGTH: usize = 1_200_000;
const HEADER_BYTES: usize = 64;
/// What AES makes at a time.
const CHUNK_BYTES: usize = 16;
/// What X-Wing puts before a sealed part: the ciphertext of ML-KEM-768, and an X25519 key.
const ENCAPSULATED: [std::ops::Range<usize>; 2] = [0..1088, 1088..1120];

/// The shard files of one object, in the order of their indexes.
struct Shards(Vec<Vec<u8>>);

impl Shards {
    /// Of nothing but zeros, so that what is stored is the key stream.
    async fn of_zeros(world: &TestWorld, store: &Store, name: &str, (geometry, seal): (Geometry, Seal)) -> Self {
        let recipient = Arc::new(store.sealing_key().expect("the key").recipient(store.id()));
        let (seal, recipient) = if seal == Seal::Recipient { (None, Some(recipient)) } else { (Some(seal), None) };
        let (sources, level) = (vec![stream_of(name, &[0; LENGTH])], Some(RedundancyLevel::of(geometry)));
        let options = PutOptions { sources, level, seal, recipient, ..PutOptions::default() };
        let object = put(store, options).await.expect("stored").objects[0].id;
        let mut files = world.files_on_backends();
        let file_name = |path: &std::path::PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
        files.retain(|path| file_name(path).starts_with(&object.to_string()));
        files.sort_by_key(file_name);
        assert_eq!(files.len(), geometry.total_shards());
        Self(files.iter().map(|path| fs::read(path).expect("a shard")).collect())
    }

    /// The shares that are in them.
    fn key_shares(&self) -> Vec<KeyShare> {
        let share = |file: &Vec<u8>| {
            let [_, _, start, end] = sections(file);
            file[start..end].try_into().expect("a share")
        };
        (0..).zip(&self.0).map(|(shard_index, file)| KeyShare { shard_index, bytes: share(file) }).collect()
    }

    fn sealed_part(&self) -> &[u8] {
        let [_, start, end, _] = sections(&self.0[0]);
        &self.0[0][start..end]
    }

    /// What is stored of the stripes' payload, a chunk at a time.
    fn chunks(&self, geometry: Geometry) -> impl Iterator<Item = &[u8]> {
        let data = self.0[..geometry.data_shards()].iter();
        data.flat_map(|file| {
            let length = |field: usize| {
                let at = file.len() - 128 + 8 * field;
                u64::from_le_bytes(file[at..at + 8].try_into().expect("8 bytes")) as usize
            };
            let blocks = HEADER_BYTES..sections(file)[0] - length(1) - length(0);
            file[blocks].chunks_exact(CHUNK_BYTES)
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_part_of_a_key_stream_is_used_twice_in_an_object_or_from_one_to_the_next() {
    let geometry = geometry(2, 3);
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let (mut seen, mut count) = (HashSet::new(), 0);
    for (number, seal) in [Seal::Key, Seal::Dispersed, Seal::Recipient].into_iter().enumerate() {
        for twin in ["a", "b"] {
            let shards = Shards::of_zeros(&world, &store, &format!("{number}{twin}"), (geometry, seal)).await;
            for chunk in shards.chunks(geometry) {
                let chunk: [u8; CHUNK_BYTES] = chunk.try_into().expect("a chunk");
                assert!(seen.insert(chunk), "{seal}: a part of the key stream comes again");
                count += 1;
            }
        }
    }
    assert!(count > 6 * LENGTH / CHUNK_BYTES - 100, "{count} chunks");
    // Where nothing is sealed, the same search finds what repeats.
    let open = Shards::of_zeros(&world, &store, "open", (geometry, Seal::None)).await;
    assert!(open.chunks(geometry).collect::<HashSet<_>>().len() < 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_of_what_is_dispersed_and_its_shares_are_drawn_for_each_object() {
    let geometry = geometry(3, 5);
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let (mut shares_seen, mut secrets_seen) = (BTreeSet::new(), BTreeSet::new());
    for number in 0..4 {
        let shards = Shards::of_zeros(&world, &store, &format!("{number}"), (geometry, Seal::Dispersed)).await;
        let shares = shards.key_shares();
        for share in &shares {
            assert_ne!(share.bytes, [0; 32], "a share that was never filled");
            assert!(shares_seen.insert(share.bytes), "a share comes again");
        }
        // What a secret is, it does not show; equal ones seal alike.
        let secret = combine_shares(geometry, &shares[2..]).expect("k shares");
        let (store, object) = (StoreId([1; 32]), ObjectId([2; 16]));
        let context = SealContext { store, object, geometry, block_bytes: 64, seal: Seal::Dispersed.code() };
        assert!(secrets_seen.insert(secret.seal_part(&context, b"text")), "a secret comes again");
    }
}

#[tokio::test]
async fn what_is_sealed_to_a_public_key_is_encapsulated_anew_for_each_object() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let mut seen = BTreeSet::new();
    for number in 0..3 {
        let shards = Shards::of_zeros(&world, &store, &format!("{number}"), (geometry(2, 3), Seal::Recipient)).await;
        for part in ENCAPSULATED {
            assert!(seen.insert(shards.sealed_part()[part.clone()].to_vec()), "bytes {part:?} come again");
        }
    }
}

/// With one salt for all, a table of guesses would be good for every key file there is.
#[test]
fn a_passphrase_is_salted_anew_each_time_the_key_file_is_written() {
    let mut desk = Desk::new();
    desk.set("SHARD_PASSPHRASE", "horse");
    desk.set("SHARD_NEW_PASSPHRASE", "horse");
    let (mut salts, mut sealed) = (BTreeSet::new(), BTreeSet::new());
    let same = ["key", "passphrase"];
    for words in [&["init", "--passphrase"][..], &same, &same, &["key", "rotate"]] {
        desk.expect(0, words);
        let text = fs::read(desk.store().join("master.key")).expect("the key file");
        let file: Value = serde_json::from_slice(&text).expect("JSON");
        let field = |name: &str| file["passphrase"][name].as_str().expect("digits").to_owned();
        assert!(salts.insert(field("salt")) && sealed.insert(field("sealed")), "{words:?}");
    }
}
