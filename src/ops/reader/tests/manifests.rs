//! Manifests in what is left of their copies.

use super::{Specimen, noise, places, shape, trusted};
use crate::crypto::MasterKey;
use crate::id::{ObjectId, ShardId};
use crate::ops::reader::{ReadError, gather_manifest, read_manifest};

fn specimen() -> Specimen {
    Specimen::of_file(shape(3, 5, 32), 1, noise(3, 100))
}

/// Where each section of the tail begins.
fn sections(specimen: &Specimen) -> [usize; 4] {
    let bytes = specimen.manifest.bytes();
    let public = specimen.layout().leaves().end as usize;
    let signature = public + bytes.public.len();
    let sealed = signature + bytes.signature.len();
    [public, signature, sealed, sealed + bytes.sealed.len()]
}

#[tokio::test]
async fn a_manifest_is_put_together_from_parts_of_several_copies() {
    let specimen = specimen();
    let [public, signature, sealed, trailer] = sections(&specimen);
    let mut shards = specimen.all();
    for (shard, byte) in
        shards.iter_mut().flatten().zip([public + 3, signature + 3, sealed + 3, trailer + 3, public + 9])
    {
        shard[byte] ^= 1;
    }
    let places = places(specimen.manifest.object(), &shards).await;
    let manifest = gather_manifest(&places, specimen.manifest.object(), &trusted()).await.expect("a manifest");
    assert_eq!(manifest, specimen.manifest);
}

#[tokio::test]
async fn a_manifest_is_found_when_every_trailer_is_gone() {
    let specimen = specimen();
    let [.., trailer] = sections(&specimen);
    let shards: Vec<_> = specimen.shards.iter().map(|file| Some(file[..trailer].to_vec())).collect();
    let places = places(specimen.manifest.object(), &shards).await;
    let manifest = gather_manifest(&places, specimen.manifest.object(), &trusted()).await.expect("a manifest");
    assert_eq!(manifest, specimen.manifest);
}

#[tokio::test]
async fn copies_that_are_all_damaged_in_the_same_part_are_outvoted_byte_by_byte() {
    let specimen = specimen();
    let [public, ..] = sections(&specimen);
    let mut shards = specimen.all();
    for (index, shard) in shards.iter_mut().flatten().enumerate() {
        shard[public + 20 + index] ^= 1;
    }
    let places = places(specimen.manifest.object(), &shards).await;
    let manifest = gather_manifest(&places, specimen.manifest.object(), &trusted()).await.expect("a manifest");
    assert_eq!(manifest, specimen.manifest);
}

#[tokio::test]
async fn a_manifest_of_another_store_or_object_is_refused() {
    let specimen = specimen();
    let object = specimen.manifest.object();
    let found = places(object, &specimen.all()).await;
    let stranger = MasterKey::from_bytes([1; 32]).store_id();
    let refused = gather_manifest(&found, object, &stranger).await;
    assert!(matches!(refused, Err(ReadError::NoManifest { copies: 5, unreachable: 0, source: Some(_), .. })));

    let other = ObjectId([9; 16]);
    let renamed = places(other, &specimen.all()).await;
    assert!(matches!(gather_manifest(&renamed, other, &trusted()).await, Err(ReadError::NoManifest { .. })));
    let source = renamed[0].source.as_ref().expect("a backend");
    let refused = read_manifest(source.as_ref(), ShardId { object: other, index: 0 }, &trusted()).await;
    assert!(matches!(refused, Err(ReadError::OtherObject { .. })));
}

#[tokio::test]
async fn one_copy_is_read_strictly() {
    let specimen = specimen();
    let object = specimen.manifest.object();
    let mut shards = specimen.all();
    let [public, signature, sealed, trailer] = sections(&specimen);
    for (shard, byte) in shards.iter_mut().flatten().zip([public, signature, sealed, trailer]) {
        shard[byte] ^= 1;
    }
    for place in places(object, &shards).await {
        let source = place.source.as_ref().expect("a backend");
        let outcome = read_manifest(source.as_ref(), ShardId { object, index: place.index }, &trusted()).await;
        assert_eq!(outcome.is_ok(), place.index == 4, "{}", place.index);
    }
}

#[tokio::test]
async fn no_copy_within_reach_is_told_from_no_copy_at_all() {
    let object = ObjectId([1; 16]);
    let mut found = places(object, &[None, None]).await;
    let outcome = gather_manifest(&found, object, &trusted()).await.expect_err("nothing there");
    assert_eq!(outcome.kind(), crate::error::ErrorKind::Lost);
    found[1].source = None;
    let outcome = gather_manifest(&found, object, &trusted()).await.expect_err("nothing there");
    assert_eq!(outcome.kind(), crate::error::ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_manifest_longer_than_the_first_read_is_read_whole() {
    let specimen = Specimen::of_file(shape(100, 255, 16), 1, noise(3, 3000));
    assert!(specimen.manifest.bytes().public.len() > 8 * 1024);
    let found = places(specimen.manifest.object(), &specimen.all()[..1]).await;
    let manifest = gather_manifest(&found, specimen.manifest.object(), &trusted()).await.expect("a manifest");
    assert_eq!(manifest, specimen.manifest);
}
