//! Whoever steals a server signs as its writer whatever they like: what of it is believed, and what it can do to the rest.

use super::Server;
use crate::world::{TestWorld, geometry, name, newest, put_bytes, read_file, read_version};
use shard::catalog::VersionRecord;
use shard::crypto::AccessKeys;
use shard::format::index::MAX_WRITER_GENERATION;
use shard::format::{Index, ObjectKind, Piece, Removal, RemovedObject, RemovedVersion, Whole};
use shard::id::{Digest, ObjectId, VersionId};
use shard::ops::Controls;
use shard::ops::prune::{KeepRule, PruneOptions, prune};
use shard::ops::rebuild::{RebuildOptions, rebuild};
use shard::ops::recover::{
    FoundPlaces, Naming, RecoverOptions, RecoverOutput, RecoverReport, RecoverWhat, recover_from,
};
use shard::ops::refresh::{RefreshOptions, refresh};
use shard::ops::show::{ShowOptions, show};
use shard::ops::writer::{Contents, ObjectOptions, ObjectWriter};
use shard::store::{Store, keys};
use shard::stripe::Seal;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

const FORGED: &[u8] = b"forged";

/// An object of these bytes, signed by the server, whose index says whatever the thief wants.
async fn forge(server: &Store, index: Index) -> ObjectId {
    let options = ObjectOptions::new(ObjectKind::Data, geometry(3, 5), Seal::Recipient);
    let mut writer = ObjectWriter::begin(server, options).await.expect("begun");
    writer.append(FORGED).await.expect("written");
    writer.finish(Contents { index, piece_hashes: Vec::new() }).await.expect("stored").id
}

/// The same under an id of the thief's choice, with an index that no catalog takes, its own neither: the shards stay.
async fn forge_as(server: &Store, object: ObjectId, index: Index) {
    let options = ObjectOptions::new(ObjectKind::Data, geometry(3, 5), Seal::Recipient);
    let mut writer = ObjectWriter::begin_as(server, options, object).await.expect("begun");
    writer.append(FORGED).await.expect("written");
    writer.finish(Contents { index, piece_hashes: Vec::new() }).await.expect_err("not taken in");
}

/// The least id that the server gives: what else it put comes later in every listing.
fn first_id(server: &Store) -> ObjectId {
    ObjectId::given_by(server.writer(), [0; 16])
}

/// The forged bytes as a whole version.
fn piece(version: VersionId, text: &str, generation: u64, parents: Vec<VersionId>) -> Piece {
    let bytes = FORGED.len() as u64;
    let blake3 = Digest(*blake3::hash(FORGED).as_bytes());
    let last = Some(Whole { total_bytes: bytes, blake3, mtime_ns: i64::MAX, mode: 0o644, generation, parents });
    Piece { version, name: name(text), ordinal: 0, offset: 0, bytes, last }
}

fn index_of(piece: Piece) -> Index {
    Index { pieces: vec![piece], ..Index::default() }
}

async fn all_versions(store: &Store, text: &str) -> Vec<VersionRecord> {
    let name = name(text);
    let versions = store.catalog(move |catalog| catalog.versions(&name)).await.expect("versions");
    versions.into_iter().filter(|version| version.complete && !version.removed).collect()
}

/// Whether the owner's first bytes are all there is, by every road that leads to them.
async fn owner_sees_only_its_own(world: &TestWorld, forged: ObjectId, owners: VersionId) {
    let owner = world.open().await;
    let report = refresh(&owner, RefreshOptions::default()).await.expect("refreshed");
    assert_eq!(report.untrusted.iter().map(|object| object.id).collect::<Vec<_>>(), [forged], "{report:?}");
    for rebuilt in [false, true] {
        if rebuilt {
            let report = rebuild(&owner, RebuildOptions::default()).await.expect("rebuilt");
            assert_eq!(report.untrusted.iter().map(|object| object.id).collect::<Vec<_>>(), [forged], "{report:?}");
        }
        let ids: Vec<VersionId> = all_versions(&owner, "a").await.iter().map(|version| version.id).collect();
        assert_eq!(ids, [owners]);
        assert_eq!(read_file(&owner, "a").await.as_deref(), Some(&b"the owner's"[..]));
    }
    let report = recover_all(world).await;
    assert_eq!(report.untrusted.iter().map(|object| object.id).collect::<Vec<_>>(), [forged], "{report:?}");
    assert!(report.unread.is_empty() && report.failed.is_empty(), "{report:?}");
    assert_eq!(std::fs::read(world.desk().join("out/a")).expect("the file"), b"the owner's");
}

/// Everything that the places hold, into the folder `out`.
async fn recover_all(world: &TestWorld) -> RecoverReport {
    let owner = world.open().await;
    let backends = owner.registry().iter().map(|known| (known.name.clone(), Arc::clone(&known.backend))).collect();
    let keyring = shard::store::load_key(&world.store_dir().join("master.key"), None).expect("the key").keyring;
    let out = world.desk().join("out");
    let _ = std::fs::remove_dir_all(&out);
    let keys = Arc::new(AccessKeys::to_open(keyring));
    let places = FoundPlaces { backends, keys, left_out: Vec::new(), scratch: world.desk() };
    let to = RecoverOutput::Folder { path: out.clone(), naming: Naming::Whole };
    recover_from(places, RecoverOptions::new(RecoverWhat::All, to)).await.expect("recovered")
}

/// A world where the owner put a file, its version, and a stolen server.
async fn stolen() -> (TestWorld, VersionId, ObjectId, Store, Server) {
    let world = TestWorld::new(5).await;
    let owner = world.open().await;
    let put = put_bytes(&owner, "a", b"the owner's", geometry(3, 5)).await;
    let server = Server::of(&world).await;
    let store = server.open().await;
    (world, put.files[0].version, put.objects[0].id, store, server)
}

#[tokio::test]
async fn a_removal_in_what_a_writer_signed_is_refused_everywhere() {
    let (world, owners, object, server, _folder) = stolen().await;
    let versions = vec![RemovedVersion { version: owners, name: name("a"), generation: 1 }];
    let objects = vec![RemovedObject { object, shards: Vec::new() }];
    let removal = Some(Removal { versions, objects });
    let own = server.new_version_id().expect("an id");
    let forged =
        forge(&server, Index { pieces: vec![piece(own, "b", 1, Vec::new())], removal, ..Index::default() }).await;
    owner_sees_only_its_own(&world, forged, owners).await;
    // Nor does the program sign one, asked for it straight.
    let options = ObjectOptions::new(ObjectKind::Removal, geometry(3, 5), Seal::None);
    let refused = ObjectWriter::begin(&server, options).await.expect_err("no removal");
    assert_eq!(refused.kind, shard::ErrorKind::WrongKey);
}

#[tokio::test]
async fn a_writer_can_neither_name_an_owners_version_as_its_own_nor_as_a_parent() {
    for as_parent in [false, true] {
        let (world, owners, _, server, _folder) = stolen().await;
        let own = server.new_version_id().expect("an id");
        let claim = if as_parent { piece(own, "a", 9, vec![owners]) } else { piece(owners, "a", 9, Vec::new()) };
        let forged = forge(&server, index_of(claim)).await;
        owner_sees_only_its_own(&world, forged, owners).await;
    }
}

#[tokio::test]
async fn no_generation_makes_a_writers_version_newer_than_what_the_owner_put() {
    let (world, owners, _, server, _folder) = stolen().await;
    let forged = server.new_version_id().expect("an id");
    forge(&server, index_of(piece(forged, "a", MAX_WRITER_GENERATION, Vec::new()))).await;
    let owner = world.open().await;
    for rebuilt in [false, true] {
        match rebuilt {
            false => drop(refresh(&owner, RefreshOptions::default()).await.expect("refreshed")),
            true => drop(rebuild(&owner, RebuildOptions::default()).await.expect("rebuilt")),
        }
        let ids: Vec<VersionId> = all_versions(&owner, "a").await.iter().map(|version| version.id).collect();
        assert_eq!(ids, [owners, forged]);
        assert_eq!(read_file(&owner, "a").await.as_deref(), Some(&b"the owner's"[..]));
        let options = ShowOptions { name: name("a"), version: None, controls: Controls::default() };
        let shown = show(&owner, options).await.expect("shown");
        let told: Vec<_> = shown.versions.iter().map(|version| (version.writer, version.head)).collect();
        assert_eq!(told, [(None, true), (server.writer(), true)]);
    }
    // What the owner puts next replaces both, and counts on.
    put_bytes(&owner, "a", b"the owner's again", geometry(3, 5)).await;
    let versions = all_versions(&owner, "a").await;
    assert_eq!(versions[0].whole.as_ref().map(|whole| whole.generation), Some(MAX_WRITER_GENERATION + 1));
    let asked = name("a");
    let heads = owner.catalog(move |catalog| catalog.heads(&asked)).await.expect("heads");
    assert_eq!(heads.iter().map(|head| head.id).collect::<Vec<_>>(), [versions[0].id]);
}

#[tokio::test]
async fn a_generation_that_would_leave_no_room_is_refused() {
    for generation in [MAX_WRITER_GENERATION + 1, i64::MAX as u64] {
        let (world, owners, _, server, _folder) = stolen().await;
        let own = server.new_version_id().expect("an id");
        let forged = forge(&server, index_of(piece(own, "a", generation, Vec::new()))).await;
        owner_sees_only_its_own(&world, forged, owners).await;
    }
}

#[tokio::test]
async fn what_the_owner_knows_of_a_writers_version_a_thief_does_not_change() {
    let (world, _, _, server, _folder) = stolen().await;
    let put = put_bytes(&server, "backup", b"good", geometry(3, 5)).await;
    let good = put.files[0].version;
    let owner = world.open().await;
    refresh(&owner, RefreshOptions::default()).await.expect("refreshed");
    // The same version said again: with other bytes, and with a piece after its end.
    forge(&server, index_of(piece(good, "backup", 1, Vec::new()))).await;
    forge(&server, index_of(Piece { ordinal: 1, ..piece(good, "backup", 1, Vec::new()) })).await;
    // And a newer one, which has every right to be.
    let newer = server.new_version_id().expect("an id");
    forge(&server, index_of(piece(newer, "backup", 2, vec![good]))).await;
    refresh(&owner, RefreshOptions::default()).await.expect("refreshed");
    let versions = all_versions(&owner, "backup").await;
    assert_eq!(versions.iter().map(|version| version.id).collect::<Vec<_>>(), [newer, good]);
    assert_eq!(read_version(&owner, &versions[1]).await, b"good");
}

#[tokio::test]
async fn a_writers_versions_make_none_of_the_owners_old_enough_to_prune() {
    let (world, first, _, server, _folder) = stolen().await;
    let owner = world.open().await;
    let second = put_bytes(&owner, "a", b"second", geometry(3, 5)).await.files[0].version;
    for generation in 10..15 {
        let forged = server.new_version_id().expect("an id");
        forge(&server, index_of(piece(forged, "a", generation, Vec::new()))).await;
    }
    refresh(&owner, RefreshOptions::default()).await.expect("refreshed");
    let within = Some(std::time::Duration::from_secs(3600));
    for keep in [KeepRule { last: NonZeroU32::new(2), within: None }, KeepRule { last: None, within }] {
        let options = PruneOptions { keep, ..PruneOptions::default() };
        prune(&owner, options).await.expect("pruned");
        let ids: Vec<VersionId> = all_versions(&owner, "a").await.iter().map(|version| version.id).collect();
        assert_eq!(ids[..2], [second, first], "{keep:?}");
    }
    assert_eq!(newest(&owner, "a").await.map(|version| version.id), Some(second));
}

#[tokio::test]
async fn a_length_that_no_catalog_holds_costs_nobody_the_other_objects() {
    for total_bytes in [1 << 63, u64::MAX] {
        let (world, owners, _, server, _folder) = stolen().await;
        put_bytes(&server, "later", b"good", geometry(3, 5)).await;
        let mut claim = piece(server.new_version_id().expect("an id"), "huge", 1, Vec::new());
        claim.last.as_mut().expect("the whole").total_bytes = total_bytes;
        forge_as(&server, first_id(&server), index_of(claim)).await;
        owner_sees_only_its_own(&world, first_id(&server), owners).await;
        let owner = world.open().await;
        assert_eq!(read_file(&owner, "later").await.as_deref(), Some(&b"good"[..]));
        let report = refresh(&owner, RefreshOptions::default()).await.expect("refreshed");
        let problem = &report.untrusted[0].problem;
        assert!(problem.contains(&format!("total_bytes {total_bytes}")), "the cause is told: {problem}");
    }
}

/// Takes away the shards of an object that are not among these, and gives the contents of those that are.
fn keep_shards(world: &TestWorld, object: ObjectId, indexes: &[u8]) -> Vec<(PathBuf, Vec<u8>)> {
    let mut kept = Vec::new();
    for path in world.files_on_backends() {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let Some(rest) = name.strip_prefix(&object.to_string()) else { continue };
        let index: u8 = rest.split('.').nth(1).and_then(|index| index.parse().ok()).expect("an index");
        match indexes.contains(&index) {
            true => kept.push((path.clone(), std::fs::read(&path).expect("a shard"))),
            false => std::fs::remove_file(&path).expect("removed"),
        }
    }
    kept
}

#[tokio::test]
async fn two_contents_under_one_id_cost_nobody_the_other_objects() {
    let (world, owners, _, server, folder) = stolen().await;
    let twice = first_id(&server);
    let version = || server.new_version_id().expect("an id");
    let options = ObjectOptions::new(ObjectKind::Data, geometry(3, 5), Seal::Recipient);
    let mut writer = ObjectWriter::begin_as(&server, options, twice).await.expect("begun");
    writer.append(FORGED).await.expect("written");
    let index = index_of(piece(version(), "one", 1, Vec::new()));
    writer.finish(Contents { index, piece_hashes: Vec::new() }).await.expect("stored");
    let one = keep_shards(&world, twice, &[2, 3]);
    let owner = world.open().await;
    let rebuilt = rebuild(&owner, RebuildOptions::default()).await.expect("rebuilt");
    assert_eq!(rebuilt.unreadable.iter().map(|object| object.id).collect::<Vec<_>>(), [twice], "too little is there");
    keep_shards(&world, twice, &[]);
    forge_as(&server, twice, index_of(piece(version(), "two", 2, Vec::new()))).await;
    assert_eq!(keep_shards(&world, twice, &[0, 1, 4]).len(), 3);
    one.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).expect("written"));
    put_bytes(&folder.open().await, "later", b"good", geometry(3, 5)).await;
    let report = refresh(&owner, RefreshOptions::default()).await.expect("refreshed");
    let told: Vec<_> = report.untrusted.iter().map(|object| (object.id, object.found)).collect();
    assert_eq!(told, [(twice, 5)], "{report:?}");
    assert!(report.untrusted[0].problem.contains("never used twice"), "{report:?}");
    assert_eq!(read_file(&owner, "later").await.as_deref(), Some(&b"good"[..]));
    rebuild(&owner, RebuildOptions::default()).await.expect("rebuilt");
    let report = recover_all(&world).await;
    assert!(report.failed.is_empty(), "{report:?}");
    for (text, bytes) in [("a", &b"the owner's"[..]), ("later", b"good")] {
        assert_eq!(read_file(&owner, text).await.as_deref(), Some(bytes));
        assert_eq!(std::fs::read(world.desk().join("out").join(text)).expect("the file"), bytes);
    }
    assert_eq!(all_versions(&owner, "a").await[0].id, owners);
}

#[tokio::test]
async fn a_key_that_nobody_here_knows_is_told_with_who_signed_and_keeps_nothing_from_being_recovered() {
    let world = TestWorld::new(5).await;
    let key_file = world.store_dir().join("master.key");
    let owner = world.open().await;
    put_bytes(&owner, "a", b"the owner's", geometry(3, 5)).await;
    drop(owner);
    let older = std::fs::read(&key_file).expect("the key");
    keys::rotate(&world.store_dir(), None).expect("a new key");
    let server = Server::of(&world).await;
    let store = server.open().await;
    let unknown = put_bytes(&store, "b", b"under the new key", geometry(3, 5)).await.objects[0].id;
    let newer = std::fs::read(&key_file).expect("the key");
    std::fs::write(&key_file, older).expect("the old key");
    let report = refresh(&world.open().await, RefreshOptions::default()).await.expect("refreshed");
    assert!(report.locked.is_empty(), "{report:?}");
    let problem = &report.untrusted[0].problem;
    let writer = store.writer().expect("a writer").to_string();
    assert!(problem.contains("nobody here knows") && problem.contains(&writer), "{problem}");
    let report = recover_all(&world).await;
    assert_eq!(report.untrusted.iter().map(|object| object.id).collect::<Vec<_>>(), [unknown], "{report:?}");
    assert!(report.unread.is_empty() && report.files.len() == 1, "{report:?}");
    // It was no forgery: with the key that it names it opens.
    std::fs::write(&key_file, newer).expect("the new key");
    let owner = world.open().await;
    refresh(&owner, RefreshOptions::default()).await.expect("refreshed");
    assert_eq!(read_file(&owner, "b").await.as_deref(), Some(&b"under the new key"[..]));
}
