//! WebDAV servers keep the contract too.

use crate::cloud_contract::{keeps_the_contract, open, pattern, put, shard, short_patience, whole};
use crate::cloud_dav_server::{DavServer, Lie, Manners};
use shard::backend::cloud::CloudSettings;
use shard::backend::{Backend, ErrorKind, Mark, RetryBackend, RetryOptions, contract, shard_name};
use shard::id::{BackendId, ObjectId, ShardId, StoreId};
use std::sync::Arc;
use std::time::Duration;

fn settings() -> CloudSettings {
    CloudSettings { patience: short_patience(), ..CloudSettings::default() }
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn an_external_webdav_server_keeps_the_contract() {
    let Some(url) = std::env::var("SHARD_TEST_WEBDAV_URL").ok().filter(|url| !url.is_empty()) else {
        eprintln!("skipped: set SHARD_TEST_WEBDAV_URL to test an external WebDAV server");
        return;
    };
    let mut unique = [0; 8];
    getrandom::fill(&mut unique).expect("randomness");
    let place = format!("{}/{}/deep er", url.trim_end_matches('/'), hex::encode(unique));
    keeps_the_contract(&open(&place, &settings())).await;
}

#[tokio::test]
async fn webdav_keeps_the_contract_whatever_the_manners_of_the_server() {
    let manners = [
        Manners::default(),
        Manners { no_ranges: true, ..Manners::default() },
        Manners { moves_over: true, ..Manners::default() },
    ];
    for manners in manners {
        let server = DavServer::start(manners).await;
        keeps_the_contract(&open(&format!("{}/deep/er%20in", server.url()), &settings())).await;
        let left = server.files().keys().filter(|path| path.contains("unfinished")).count();
        assert_eq!(left, 0);
    }
}

#[tokio::test]
async fn a_dropped_webdav_writer_leaves_nothing_visible_and_what_is_left_is_cleared() {
    let server = DavServer::start(Manners::default()).await;
    let backend = open(&server.url(), &settings());
    put(&backend, shard(1, 1), &pattern(10)).await.expect("put");
    let mut writer = backend.create(shard(1, 1 + 10)).await.expect("a writer");
    for _ in 0..20 {
        writer.write(pattern(100_000)).await.expect("written");
    }
    drop(writer);
    assert_eq!(backend.list(None).await.expect("a page").shards.len(), 1);
    for index in [1, 11, 12] {
        let left = format!("/dav/{}.unfinished-0123", shard_name(shard(1, index)));
        server.files().insert(left, Some(vec![1; 9]));
    }
    backend.clear_unfinished(shard(1, 1)).await.expect("cleared");
    backend.clear_unfinished(shard(1, 11)).await.expect("cleared");
    let stranger = format!("/dav/{}.unfinished-0123", shard_name(shard(1, 12)));
    assert!(server.files().contains_key(&stranger), "the write of another shard goes on");
    assert!(!server.files().keys().any(|path| path.contains(".11.shard") || path.contains(".1.shard.")));
    assert_eq!(whole(&backend, shard(1, 1)).await, Ok(pattern(10)), "a finished shard is not cleared");
    backend.clear_unfinished(shard(77, 0)).await.expect("a folder that is not there holds nothing");
}

#[tokio::test]
async fn a_webdav_login_is_sent_and_a_wrong_one_is_denied() {
    use std::os::unix::fs::PermissionsExt;
    let login = Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".to_owned());
    let server = DavServer::start(Manners { login, ..Manners::default() }).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("login");
    let with = |password: &str| {
        std::fs::write(&path, format!("user = Aladdin\npassword = {password}\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        open(&server.url(), &CloudSettings { credentials_file: Some(path.clone()), ..settings() })
    };
    assert_eq!(put(&with("open sesame"), shard(1, 0), &pattern(9)).await, Ok(9));
    for backend in [with("open barley"), open(&server.url(), &settings())] {
        assert_eq!(put(&backend, shard(1, 1), &pattern(9)).await, Err(ErrorKind::Denied));
        assert!(backend.replace(shard(1, 0)).await.is_err_and(|error| error.kind == ErrorKind::Denied));
    }
}

#[tokio::test]
async fn a_webdav_server_that_is_gone_is_unreachable() {
    let server = DavServer::start(Manners::default()).await;
    let backend = open(&server.url(), &settings());
    let writer = backend.create(shard(1, 0)).await.expect("a writer");
    drop(server);
    assert_eq!(backend.head(shard(1, 0)).await.map_err(|error| error.kind), Err(ErrorKind::Unreachable));
    assert_eq!(put(&backend, shard(1, 1), &pattern(9)).await, Err(ErrorKind::Unreachable));
    let failed = writer.finish().await.map_err(|error| error.kind);
    assert!(matches!(failed, Err(ErrorKind::Unreachable | ErrorKind::Transient)), "{failed:?}");
}

async fn server_that(lie: Lie) -> DavServer {
    DavServer::start(Manners { lie: Some(lie), ..Manners::default() }).await
}

#[tokio::test]
async fn a_move_that_failed_inside_a_success_is_no_shard() {
    let server = server_that(Lie::MoveFailsInside).await;
    let backend = open(&server.url(), &settings());
    assert!(put(&backend, shard(1, 0), &pattern(9)).await.is_err(), "it is not there");
    assert!(!server.files().keys().any(|path| path.contains("unfinished")), "and nothing is left");
}

#[tokio::test]
async fn a_replacement_whose_move_failed_inside_a_success_is_none() {
    let server = server_that(Lie::MoveFailsInside).await;
    let backend = open(&server.url(), &settings());
    let path = format!("/dav/{}", shard_name(shard(1, 0)));
    for (at, _) in path.match_indices('/').skip(1) {
        server.files().insert(path[..at].to_owned(), None);
    }
    server.files().insert(path.clone(), Some(vec![7; 9]));
    let mut writer = backend.replace(shard(1, 0)).await.expect("a writer");
    writer.write(pattern(9)).await.expect("written");
    assert!(writer.finish().await.is_err(), "what is there is as long, and the old one");
    assert_eq!(server.files().get(&path), Some(&Some(vec![7; 9])));
    assert!(!server.files().keys().any(|path| path.contains("unfinished")));
}

#[tokio::test]
async fn folders_of_others_among_ours_end_no_listing() {
    let server = DavServer::start(Manners::default()).await;
    let ours = (0..256).map(|first| format!("{first:02x}"));
    // The 64th and the 128th of all, which end a page: two that are none of ours, and one that looks like it.
    let all: Vec<String> = ours.chain(["3e-x", "7c-x", "AB", "f", "+f"].map(str::to_owned)).collect();
    for folder in [String::new()].into_iter().chain(all.iter().map(|name| format!("/{name}"))) {
        server.files().insert(format!("/dav/objects{folder}"), None);
    }
    let shards: Vec<ShardId> =
        (0..=255).map(|first| ShardId { object: ObjectId([first; ObjectId::BYTES]), index: 0 }).collect();
    for shard in &shards {
        server.files().insert(format!("/dav/{}", shard_name(*shard)), Some(vec![1; 3]));
    }
    let backend = open(&server.url(), &settings());
    assert_eq!(backend.stats().await.expect("stats").shard_count, 256);
}

#[tokio::test]
async fn a_delete_that_failed_inside_a_success_is_none() {
    let server = server_that(Lie::DeleteFailsInside).await;
    let backend = open(&server.url(), &settings());
    put(&backend, shard(1, 0), &pattern(9)).await.expect("put");
    assert!(backend.delete(shard(1, 0)).await.is_err(), "it is there still");
    assert_eq!(whole(&backend, shard(1, 0)).await, Ok(pattern(9)));
    backend.delete(shard(1, 1)).await.expect("one that is not there is gone");
}

#[tokio::test]
async fn a_move_whose_answer_was_lost_has_made_the_shard_unless_it_was_to_replace_one() {
    let server = server_that(Lie::MoveIsNotAnswered).await;
    let backend = open(&server.url(), &settings());
    assert_eq!(put(&backend, shard(1, 0), &pattern(9)).await, Ok(9));
    let mut writer = backend.replace(shard(1, 0)).await.expect("a writer");
    writer.write(pattern(9)).await.expect("written");
    assert!(writer.finish().await.is_err(), "which of the two is there nobody knows");
}

#[tokio::test]
async fn a_webdav_place_whose_mark_went_away_says_nothing_of_its_shards() {
    let server = DavServer::start(Manners::default()).await;
    let backend = open(&server.url(), &settings());
    let mark = Mark { store: StoreId([1; 32]), backend: BackendId([2; 16]) };
    backend.write_mark(&mark).await.expect("marked");
    put(&backend, shard(1, 0), &pattern(9)).await.expect("put");
    assert_eq!(backend.read_mark().await.expect("an answer"), Some(mark));
    // The disk behind the server is away, and it goes on answering for the empty folder.
    server.files().retain(|path, _| path == "/dav");
    tokio::time::sleep(Duration::from_millis(5100)).await;
    let kind = |error: shard::backend::Error| error.kind;
    assert_eq!(backend.head(shard(1, 0)).await.map_err(kind), Err(ErrorKind::Unreachable));
    assert_eq!(backend.read(shard(1, 0), 0..9).await.map_err(kind), Err(ErrorKind::Unreachable));
    assert_eq!(backend.delete(shard(1, 0)).await.map_err(kind), Err(ErrorKind::Unreachable));
    assert!(backend.list(None).await.is_err_and(|error| error.kind == ErrorKind::Unreachable));
    assert_eq!(backend.read_mark().await.map_err(kind), Ok(None));
}

#[tokio::test]
async fn a_slow_webdav_place_is_listed_to_its_end_a_few_folders_at_a_time() {
    let server = DavServer::start(Manners { slow_listing: Duration::from_millis(20), ..Manners::default() }).await;
    for folder in ["/dav/objects".to_owned()].into_iter().chain((0..256).map(|n| format!("/dav/objects/{n:02x}"))) {
        server.files().insert(folder, None);
    }
    let shards: Vec<ShardId> =
        (0..=255).map(|first| ShardId { object: ObjectId([first; ObjectId::BYTES]), index: first % 7 }).collect();
    for shard in &shards {
        server.files().insert(format!("/dav/{}", shard_name(*shard)), Some(vec![1; 3]));
    }
    let quota = CloudSettings { quota_bytes: Some(1000), ..settings() };
    let place: Arc<dyn Backend> = Arc::new(open(&server.url(), &quota));
    let patient_for = |millis| {
        let options = RetryOptions { attempt_timeout: Duration::from_millis(millis), ..RetryOptions::default() };
        RetryBackend::new(Arc::clone(&place), "slow", options)
    };
    // All folders at once take more than a try may.
    let backend = patient_for(2500);
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = backend.list(after).await.expect("a page");
        listed.extend(page.shards.iter().map(|shard| shard.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed, shards);
    // What is there is counted once, however many tries to write that takes.
    let new = ShardId { object: ObjectId([7; ObjectId::BYTES]), index: 9 };
    assert_eq!(put(&patient_for(700), new, &pattern(232)).await, Ok(232));
    assert_eq!(backend.stats().await.expect("stats").used_bytes, 1000);
}

#[tokio::test]
async fn a_webdav_quota_holds() {
    let server = DavServer::start(Manners::default()).await;
    let quota = CloudSettings { quota_bytes: Some(1000), ..settings() };
    let backend: Arc<dyn Backend> = Arc::new(open(&server.url(), &quota));
    contract::clause_10_a_quota_holds(&backend).await;
}
