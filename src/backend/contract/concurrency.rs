//! Clauses 13 and 14: many at once, and what the interrupted leave.

use super::super::{Backend, ErrorKind};
use super::{expect_kind, listed, pattern, put, put_over, read_whole, shard, shard_of};
use futures_util::future::join_all;
use std::sync::Arc;

/// How many tasks work at once.
const TASKS: u8 = 24;

/// Clause 13: different shards, one shard, and deletes among it all.
pub async fn clause_13_everything_may_run_at_once(backend: &Arc<dyn Backend>) {
    let tasks = (0..TASKS).map(|task| {
        let backend = Arc::clone(backend);
        tokio::spawn(async move {
            let (shard, bytes) = (shard(u32::from(task)), pattern(task, 40_000 + usize::from(task)));
            put(&*backend, shard, &bytes).await.expect("clause 13: put");
            backend.list(None).await.expect("clause 13: list");
            assert_eq!(read_whole(&*backend, shard).await.expect("clause 13: read"), bytes, "clause 13");
            if task % 2 == 0 {
                backend.delete(shard).await.expect("clause 13: delete");
            }
        })
    });
    for task in join_all(tasks).await {
        task.expect("clause 13: different shards");
    }
    assert_eq!(listed(&**backend).await.expect("clause 13: list").len(), usize::from(TASKS / 2), "clause 13");
    creates_of_one_shard_leave_one_of_them(backend).await;
    replaces_of_one_shard_leave_one_of_them(backend).await;
    let deletes = join_all((0..TASKS).map(|_| backend.delete(shard(200)))).await;
    assert!(deletes.into_iter().all(|outcome| outcome.is_ok()), "clause 13: deletes of one shard");
}

async fn creates_of_one_shard_leave_one_of_them(backend: &Arc<dyn Backend>) {
    let candidates: Vec<_> = (0..TASKS).map(|task| pattern(task, 50_000)).collect();
    let outcomes = join_all(candidates.iter().map(|bytes| put(&**backend, shard(200), bytes))).await;
    assert!(outcomes.iter().any(Result::is_ok), "clause 13: no create of one shard came through");
    for error in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(error.kind, ErrorKind::AlreadyExists, "clause 13: {error}");
    }
    let read = read_whole(&**backend, shard(200)).await.expect("clause 13: read");
    assert!(candidates.contains(&read), "clause 13: a mixture of two creates");
}

async fn replaces_of_one_shard_leave_one_of_them(backend: &Arc<dyn Backend>) {
    let candidates: Vec<_> = (0..TASKS).map(|task| pattern(task, 50_000)).collect();
    for outcome in join_all(candidates.iter().map(|bytes| put_over(&**backend, shard(200), bytes))).await {
        outcome.expect("clause 13: replaces of one shard");
    }
    let read = read_whole(&**backend, shard(200)).await.expect("clause 13: read");
    assert!(candidates.contains(&read), "clause 13: a mixture of two replaces");
}

/// Clause 14: shard 1 is cleared, and neither 10, which is being written, nor any that is finished.
pub async fn clause_14_clearing_spares_what_is_finished(backend: &Arc<dyn Backend>) {
    let bytes = pattern(14, 300_000);
    let mut interrupted = backend.create(shard_of(0, 1)).await.expect("clause 14: create");
    interrupted.write(bytes.clone()).await.expect("clause 14: write");
    // As a process that was killed leaves it: nothing is dropped.
    std::mem::forget(interrupted);
    let mut other = backend.create(shard_of(0, 10)).await.expect("clause 14: create");
    other.write(bytes.clone()).await.expect("clause 14: write");
    put(&**backend, shard_of(0, 2), &bytes).await.expect("clause 14: put");
    for index in [1, 2, 3] {
        backend.clear_unfinished(shard_of(0, index)).await.expect("clause 14: clear");
    }
    expect_kind(backend.head(shard_of(0, 1)).await, ErrorKind::NotFound, "clause 14: never finished");
    assert_eq!(other.finish().await.expect("clause 14: finish of another"), 300_000, "clause 14");
    for index in [2, 10] {
        let read = read_whole(&**backend, shard_of(0, index)).await.expect("clause 14: read");
        assert!(read == bytes, "clause 14: shard {index} after clearing");
    }
    put(&**backend, shard_of(0, 1), &bytes).await.expect("clause 14: the interrupted shard anew");
}
