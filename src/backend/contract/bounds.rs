//! Clauses 10 and 11: the quota and the mark.

use super::super::{Backend, ErrorKind, Mark};
use super::{MAX_TESTED_QUOTA_BYTES, expect_kind, listed, pattern, put, put_over, shard, write_all};
use crate::id::{BackendId, StoreId};
use bytes::Bytes;
use futures_util::future::join_all;
use std::sync::Arc;

/// Clause 10: to the byte, and for writers at once. Where there is no quota it says nothing.
pub async fn clause_10_a_quota_holds(backend: &Arc<dyn Backend>) {
    let quota = backend.stats().await.expect("clause 10: stats").quota_bytes;
    let Some(quota_bytes) = quota.filter(|quota| *quota <= MAX_TESTED_QUOTA_BYTES) else { return };
    let used = async || backend.stats().await.expect("clause 10: stats").used_bytes;
    let whole = pattern(10, quota_bytes as usize);
    let over: Bytes = [&whole[..], &[0]].concat().into();
    expect_kind(put(&**backend, shard(0), &over).await, ErrorKind::NoSpace, "clause 10: one byte over");
    assert_eq!(used().await, 0, "clause 10: a refused write leaves nothing");
    refuse_to_finish_after_a_failed_write(backend, &over).await;
    put(&**backend, shard(0), &whole).await.expect("clause 10: the quota to the byte");
    let one = Bytes::from_static(b"1");
    expect_kind(put(&**backend, shard(1), &one).await, ErrorKind::NoSpace, "clause 10: one more");
    put_over(&**backend, shard(0), &whole).await.expect("clause 10: a full place replaces its shard");
    expect_kind(
        put_over(&**backend, shard(0), &over).await,
        ErrorKind::NoSpace,
        "clause 10: replaced by one byte more",
    );
    assert!(
        super::read_whole(&**backend, shard(0)).await.expect("clause 10: read") == whole,
        "clause 10: the old bytes"
    );
    backend.delete(shard(0)).await.expect("clause 10: delete");
    let third = pattern(10, (quota_bytes / 3) as usize);
    let outcomes = join_all((0..8).map(|number| put(&**backend, shard(number), &third))).await;
    let finished = outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64;
    assert!(finished >= 1, "clause 10: none of eight writers of a third finished");
    assert_eq!(used().await, finished * (quota_bytes / 3), "clause 10: what eight writers at once left");
    assert!(used().await <= quota_bytes, "clause 10: exceeded by writers at once");
    for outcome in outcomes {
        assert!(outcome.err().is_none_or(|error| error.kind == ErrorKind::NoSpace), "clause 10: refused otherwise");
    }
}

async fn refuse_to_finish_after_a_failed_write(backend: &Arc<dyn Backend>, over: &Bytes) {
    let mut writer = backend.create(shard(0)).await.expect("clause 10: create");
    let written = write_all(&mut *writer, over).await;
    if written.is_ok() {
        // A place far away has not seen it yet.
        expect_kind(writer.finish().await, ErrorKind::NoSpace, "clause 10: finish");
    } else {
        expect_kind(written, ErrorKind::NoSpace, "clause 10: write");
        assert!(writer.finish().await.is_err(), "clause 1: finished after a failed write");
    }
    expect_kind(backend.head(shard(0)).await, ErrorKind::NotFound, "clause 1: a part of a shard");
}

/// Clause 11: none, then the last one written, and never among the shards.
pub async fn clause_11_the_mark_is_what_was_written_last(backend: &Arc<dyn Backend>) {
    assert_eq!(backend.read_mark().await.expect("clause 11: read"), None, "clause 11: where none was written");
    put(&**backend, shard(0), &pattern(11, 10)).await.expect("clause 11: put before the mark");
    for byte in [1, 2] {
        let mark = Mark { store: StoreId([byte; StoreId::BYTES]), backend: BackendId([byte; BackendId::BYTES]) };
        backend.write_mark(&mark).await.expect("clause 11: write");
        assert_eq!(backend.read_mark().await.expect("clause 11: read"), Some(mark), "clause 11");
        let number = u32::from(byte);
        put(&**backend, shard(number), &pattern(11, 10)).await.expect("clause 11: put after the mark");
    }
    assert_eq!(listed(&**backend).await.expect("clause 11: list").len(), 3, "clause 11: the mark is no shard");
    let stats = backend.stats().await.expect("clause 11: stats");
    assert_eq!((stats.shard_count, stats.used_bytes), (3, 30), "clause 11: the mark is not counted");
}
