//! Listing, showing, counting, proving.

use super::*;
use shard::catalog::ObjectState;
use shard::error::ErrorKind;
use shard::ops::Controls;
use shard::ops::catalog_stats::{CatalogStatsOptions, catalog_stats};
use shard::ops::proof::{CheckProofOptions, CreateProofOptions, check_proof, create_proof};
use shard::ops::show::{ShowOptions, show};

#[tokio::test]
async fn a_listing_says_name_version_size_objects_level_and_state() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let put = put_at(&store, "b/file", bytes(1, 700_000), RedundancyLevel::Minimal).await;
    put_bytes(&store, "a", Vec::new()).await;
    let report = list_all(&store, ListedVersions::Heads).await;
    let [first, second] = &report.files[..] else { unreachable!("two files: {report:?}") };
    assert_eq!((first.name.as_str(), first.size, first.level.as_str()), ("a", 0, "personal"));
    assert_eq!((second.version, &second.objects), (put.files[0].version, &put.files[0].objects));
    assert_eq!((second.size, second.level.as_str(), second.state), (700_000, "minimal", ObjectState::Healthy));
    let json = serde_json::to_value(&report).expect("json");
    assert_eq!(json["files"][1]["state"], "healthy");
    assert!(json["files"][1]["modified"].as_str().is_some_and(|time| time.ends_with('Z')));
    assert!(json.get("next").is_none());
}

#[tokio::test]
async fn a_long_listing_can_be_had_in_parts() {
    let world = World::new(3).await;
    let store = world.open("a").await;
    let files: Vec<String> = (0..25).map(|n| format!("f{n:02}")).collect();
    let given: Vec<(&str, Vec<u8>)> = files.iter().map(|file| (file.as_str(), b"x".to_vec())).collect();
    for _ in 0..2 {
        put_together(&store, &given).await;
        let changed: Vec<(&str, Vec<u8>)> = files.iter().map(|file| (file.as_str(), b"yy".to_vec())).collect();
        put_together(&store, &changed).await;
    }
    for versions in [ListedVersions::Heads, ListedVersions::All] {
        let whole = list_all(&store, versions).await.files;
        assert!(whole.len() >= 25);
        let (mut parts, mut after) = (Vec::new(), None);
        loop {
            let options = ListOptions { versions, after, limit: Some(7), ..ListOptions::default() };
            let part = list(&store, options).await.expect("a part");
            assert!(part.files.len() <= 7);
            parts.extend(part.files);
            after = part.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(parts, whole);
    }
    let options = ListOptions { prefix: "folder/f07".into(), ..ListOptions::default() };
    assert_eq!(list(&store, options).await.expect("a list").files.len(), 1);
}

#[tokio::test]
async fn showing_a_file_says_where_its_shards_are_and_what_may_be_lost() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let first = put_bytes(&store, "file", bytes(1, 1000)).await;
    let put = put_bytes(&store, "file", bytes(2, 900_000)).await;
    let of = |version| ShowOptions { name: name("file"), version, controls: Controls::default() };
    let report = show(&store, of(None)).await.expect("shown");
    assert_eq!((report.version, report.size, report.blake3), (put.files[0].version, 900_000, put.files[0].blake3));
    assert_eq!(
        (report.margin, report.backend_margin, report.may_be_lost),
        (Some(2), Some(2), vec!["any 2 zones".to_owned()])
    );
    let object = &report.objects[0];
    assert_eq!((object.root, object.data_shards, object.total_shards), (put.objects[0].root, 3, 5));
    assert_eq!((object.shards.len(), object.file_bytes), (5, 900_000));
    assert!(object.shards.iter().all(|shard| shard.backend.starts_with('b') && shard.zone.is_some()));
    assert_eq!(report.versions.iter().map(|version| version.head).collect::<Vec<_>>(), [true, false]);
    let older = show(&store, of(Some(first.files[0].version))).await.expect("shown");
    assert_eq!(older.size, 1000);
    for missing in [of(Some(VersionId([3; 16]))), ShowOptions { name: name("none"), ..of(None) }] {
        assert_eq!(show(&store, missing).await.expect_err("nothing").kind, ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn the_catalog_is_counted() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_bytes(&store, "one", bytes(1, 1000)).await;
    put_at(&store, "two", bytes(2, 1000), RedundancyLevel::Minimal).await;
    let report = catalog_stats(&store, CatalogStatsOptions::default()).await.expect("counted");
    assert_eq!((report.files, report.versions, report.data_objects), (2, 2, 2));
    assert_eq!(
        report.objects_by_level.into_iter().collect::<Vec<_>>(),
        [("minimal".into(), 1), ("personal".into(), 1)]
    );
    assert_eq!(report.shard_bytes, world.shard_bytes());
    assert_eq!(report.backends.values().map(|used| used.shards).sum::<u64>(), 8);
    assert!(report.file_bytes > 0);
}

#[tokio::test]
async fn a_proof_of_a_stored_file_is_right_for_its_shard_file_and_no_other() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let object = put_bytes(&store, "file", bytes(1, 2_000_000)).await.objects[0].clone();
    for (shard, block) in [(0, Some(0)), (4, Some(2)), (2, None)] {
        let options =
            CreateProofOptions { name: name("file"), version: None, shard, block, controls: Controls::default() };
        let document = create_proof(&store, options).await.expect("a proof");
        assert_eq!(document.root, object.root);
        let json = serde_json::to_vec(&document).expect("json");
        let mut right = 0;
        for backend in 0..5 {
            let file = world.shards(backend).into_keys().next().expect("a shard");
            let options = CheckProofOptions {
                json: json.clone(),
                root: Some(object.root),
                shard_file: Some(world.folder(backend).join(&file)),
            };
            let report = check_proof(options).await.expect("checked");
            assert_eq!(report.valid, file.ends_with(&format!(".{shard}.shard")), "{file}");
            right += u32::from(report.valid);
        }
        assert_eq!(right, 1);
    }
    for (shard, block) in [(5, None), (5, Some(0)), (0, Some(99))] {
        let options =
            CreateProofOptions { name: name("file"), version: None, shard, block, controls: Controls::default() };
        assert_eq!(create_proof(&store, options).await.expect_err("no such").kind, ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn a_proof_can_be_made_where_the_shards_own_leaves_are_damaged() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_bytes(&store, "file", bytes(1, 1_500_000)).await;
    let mut damaged = 0;
    for backend in 0..5 {
        for (file, mut content) in world.shards(backend) {
            if file.ends_with(".1.shard") {
                // The leaves begin where the blocks end: two stripes' blocks after the header.
                let at = content.len() - 128 - 2000;
                content[at] ^= 0xff;
                fs::write(world.folder(backend).join(&file), content).expect("damaged");
                damaged += 1;
            }
        }
    }
    assert_eq!(damaged, 1);
    let options = CreateProofOptions {
        name: name("file"),
        version: None,
        shard: 1,
        block: Some(1),
        controls: Controls::default(),
    };
    let document = create_proof(&store, options).await.expect("a proof");
    assert!(document.proof.verify(&document.root).is_ok());
}
