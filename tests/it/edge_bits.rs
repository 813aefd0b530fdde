//! Through the whole store: whatever happens to a shard file, `verify` names it, `recover` gives the right bytes all the
//! same, and `repair` brings the byte-identical file back. A sample in every run; every bit when soaking.

use crate::heal_damage::{Kept, shard_states, verify_all};
use crate::recover_desk::streamed;
use crate::soak::{self, Dice, seed};
use crate::world::{TestWorld, geometry, random_bytes, reader_of};
use shard::catalog::{ObjectState, ShardState};
use shard::format::{HEADER_BYTES, ShardFileLayout, TRAILER_BYTES};
use shard::ops::repair::{RepairOptions, repair};
use shard::ops::verify::VerifyMode;
use shard::store::Store;
use std::ops::Range;

/// The files are of this many bytes: the smallest shards that have every part.
const FILE_BYTES: usize = 100;
/// How many flipped bits are tried in each shard of a sample.
const SAMPLED_FLIPS: usize = 350;
/// How many truncations are.
const SAMPLED_CUTS: usize = 120;

/// A small file at 2 of 3, whose shards are damaged one after the other.
struct Ward {
    store: Store,
    patient: Kept,
    _world: TestWorld,
}

impl Ward {
    async fn new() -> Self {
        let world = TestWorld::new(3).await;
        let store = world.open().await;
        let patient = Kept::new(&world, &store, "a", FILE_BYTES, (2, 3)).await;
        Self { store, patient, _world: world }
    }

    fn shard(&self, index: usize) -> &[u8] {
        &self.patient.files[index].1
    }

    /// What the shard files are made of.
    async fn parts(&self) -> Vec<Range<usize>> {
        let reader = reader_of(&self.store, self.patient.object).await;
        let manifest = reader.manifest();
        let (layout, bytes) = (ShardFileLayout::of(manifest), manifest.bytes());
        let lengths = [
            HEADER_BYTES,
            (layout.blocks().end - layout.blocks().start) as usize,
            (layout.leaves().end - layout.leaves().start) as usize,
            bytes.public.len(),
            bytes.signature.len(),
            bytes.sealed.len(),
            TRAILER_BYTES,
        ];
        let mut start = 0;
        let parts: Vec<_> = lengths
            .into_iter()
            .map(|length| {
                start += length;
                start - length..start
            })
            .collect();
        assert_eq!(start, self.shard(0).len(), "the parts are the file");
        assert!(parts.iter().all(|part| !part.is_empty()));
        parts
    }

    /// Puts these bytes in a shard's place, and sees them named, coped with and undone.
    async fn suffers(&self, index: usize, bytes: &[u8], how: &str) {
        self.patient.overwrite(index, bytes);
        let mut expected = [ShardState::Ok; 3];
        expected[index] = ShardState::Corrupt;
        let seen = verify_all(&self.store, VerifyMode::Full).await;
        assert_eq!(shard_states(&seen), expected, "shard {index}: {how}");
        self.gives_its_bytes(how).await;
        let report = repair(&self.store, RepairOptions::default()).await.expect("repaired");
        assert_eq!(report.objects[0].after, ObjectState::Healthy, "shard {index}: {how}");
        assert!(self.patient.is_as_it_was(), "shard {index}: {how}");
    }

    async fn gives_its_bytes(&self, how: &str) {
        let (bytes, outcome) = streamed(&self.store, "a").await;
        assert!(outcome.is_ok(), "{how}: {outcome:?}");
        assert!(bytes == random_bytes(FILE_BYTES as u64, FILE_BYTES), "{how}");
    }

    async fn suffers_flip(&self, index: usize, byte: usize, bit: usize) {
        let mut bytes = self.shard(index).to_vec();
        bytes[byte] ^= 1 << bit;
        self.suffers(index, &bytes, &format!("bit {bit} of byte {byte}")).await;
    }

    async fn suffers_cut(&self, index: usize, bytes: usize) {
        self.suffers(index, &self.shard(index)[..bytes], &format!("cut to {bytes} bytes")).await;
    }
}

/// Which bits of a shard file are tried: all of them, or some of every part.
async fn flips(ward: &Ward, index: usize, dice: &mut Dice) -> Vec<(usize, usize)> {
    if soak::is_asked_for() {
        return (0..ward.shard(index).len()).flat_map(|byte| (0..8).map(move |bit| (byte, bit))).collect();
    }
    let parts = ward.parts().await;
    let mut some = |number: usize| {
        let part = &parts[number % parts.len()];
        (part.start + dice.below(part.len()), dice.below(8))
    };
    (0..SAMPLED_FLIPS).map(&mut some).collect()
}

/// Does the same to each shard index, each in a store of its own, and says how often in all.
async fn each_shard<F: Future<Output = usize> + Send + 'static>(work: impl Fn(Ward, usize, Dice) -> F) -> usize {
    let seed = seed();
    let mut running = tokio::task::JoinSet::new();
    for index in 0..3 {
        running.spawn(work(Ward::new().await, index, Dice::new(seed ^ index as u64)));
    }
    running.join_all().await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "how much was tried belongs to the result")]
async fn a_flipped_bit_anywhere_is_named_coped_with_and_undone() {
    let tried = each_shard(async |ward: Ward, index, mut dice| {
        let flips = flips(&ward, index, &mut dice).await;
        for (byte, bit) in &flips {
            ward.suffers_flip(index, *byte, *bit).await;
        }
        flips.len()
    });
    println!("{} flipped bits", tried.await);
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "how much was tried belongs to the result")]
async fn a_truncation_anywhere_is_named_coped_with_and_undone() {
    let tried = each_shard(async |ward: Ward, index, mut dice| {
        let length = ward.shard(index).len();
        let all = 0..length;
        let cuts: Vec<usize> =
            if soak::is_asked_for() { all.collect() } else { (0..SAMPLED_CUTS).map(|_| dice.below(length)).collect() };
        for bytes in &cuts {
            ward.suffers_cut(index, *bytes).await;
        }
        cuts.len()
    });
    println!("{} truncations", tried.await);
}

/// Two objects at 3 of 5, whose shards are put in each other's places.
struct Swaps {
    store: Store,
    objects: [Kept; 2],
    _world: TestWorld,
}

impl Swaps {
    async fn new() -> Self {
        let world = TestWorld::new(5).await;
        let store = world.open().await;
        let a = Kept::new(&world, &store, "a", FILE_BYTES, (3, 5)).await;
        // Of the same length, so that nothing but what is in them tells their shards apart.
        let bytes = random_bytes(7, FILE_BYTES);
        let report = crate::world::put_bytes(&store, "b", &bytes, geometry(3, 5)).await;
        let b = Kept::of(&world, &store, report.objects[0].id).await;
        assert_eq!(a.files[0].1.len(), b.files[0].1.len());
        Self { store, objects: [a, b], _world: world }
    }

    /// Swaps two shards, each given by its object and index.
    async fn suffer(&self, one: (usize, usize), other: (usize, usize)) {
        let bytes = |(object, index): (usize, usize)| self.objects[object].files[index].1.as_slice();
        self.objects[one.0].overwrite(one.1, bytes(other));
        self.objects[other.0].overwrite(other.1, bytes(one));
        let seen = verify_all(&self.store, VerifyMode::Full).await;
        for (number, kept) in self.objects.iter().enumerate() {
            let found = seen.objects.iter().find(|object| object.id == kept.object).expect("it is in the report");
            for shard in &found.shards {
                let place = (number, usize::from(shard.index));
                let expected = if place == one || place == other { ShardState::Corrupt } else { ShardState::Ok };
                assert_eq!(shard.state, expected, "{place:?} of {one:?} and {other:?}");
            }
        }
        for (name, right) in [("a", random_bytes(FILE_BYTES as u64, FILE_BYTES)), ("b", random_bytes(7, FILE_BYTES))] {
            let (bytes, outcome) = streamed(&self.store, name).await;
            assert!(outcome.is_ok() && bytes == right, "{name} with {one:?} and {other:?}");
        }
        repair(&self.store, RepairOptions::default()).await.expect("repaired");
        assert!(self.objects.iter().all(Kept::is_as_it_was), "{one:?} and {other:?}");
    }
}

#[tokio::test]
async fn every_swap_of_two_shards_of_one_object_is_named_coped_with_and_undone() {
    let swaps = Swaps::new().await;
    for one in 0..5 {
        for other in 0..one {
            swaps.suffer((0, one), (0, other)).await;
        }
    }
}

#[tokio::test]
async fn every_swap_of_two_objects_shards_is_named_coped_with_and_undone() {
    let swaps = Swaps::new().await;
    for one in 0..5 {
        for other in 0..5 {
            swaps.suffer((0, one), (1, other)).await;
        }
    }
}
