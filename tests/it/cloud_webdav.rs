//! WebDAV servers keep the contract too.

use crate::cloud_contract::{keeps_the_contract, open, pattern, put, shard, short_patience, whole};
use crate::cloud_dav_server::{DavServer, Manners};
use shard::backend::cloud::CloudSettings;
use shard::backend::{Backend, ErrorKind, shard_name};

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
