//! Clauses 1 to 7: what becomes of one shard.

use super::super::{Backend, ErrorKind};
use super::{expect_kind, listed, pattern, put, put_over, read_whole, shard, write_all};
use bytes::Bytes;
use std::sync::Arc;

/// More than one part of a multipart upload, and no multiple of anything.
const LARGE_BYTES: usize = 11 * 1024 * 1024 + 13;
/// Lengths with a reason: nothing, one, around a block, several writes, several parts.
const LENGTHS: [usize; 7] = [0, 1, 255, 262_143, 262_144, 600_001, LARGE_BYTES];

/// Clause 1: nothing shows before `finish`, and nothing of what is dropped or aborted ever does.
pub async fn clause_01_a_shard_appears_whole_or_not_at_all(backend: &Arc<dyn Backend>) {
    let bytes = pattern(1, 300_000);
    for number in 0..3 {
        let mut writer = backend.create(shard(number)).await.expect("clause 1: create");
        write_all(&mut *writer, &bytes).await.expect("clause 1: write");
        expect_kind(backend.head(shard(number)).await, ErrorKind::NotFound, "clause 1: head while writing");
        expect_kind(backend.read(shard(number), 0..1).await, ErrorKind::NotFound, "clause 1: read while writing");
        assert_eq!(listed(&**backend).await.expect("clause 1: list"), [], "clause 1: listed while writing");
        match number {
            0 => drop(writer),
            1 => writer.abort().await,
            _ => assert_eq!(writer.finish().await.expect("clause 1: finish"), 300_000, "clause 1: length of finish"),
        }
        let there = backend.head(shard(number)).await.is_ok();
        assert_eq!(there, number == 2, "clause 1: a writer dropped (0), aborted (1), finished (2): {number}");
        if there {
            assert_eq!(read_whole(&**backend, shard(number)).await.expect("clause 1: read"), bytes, "clause 1");
        }
    }
    assert_eq!(listed(&**backend).await.expect("clause 1: list"), [shard(2)], "clause 1: what is listed in the end");
}

/// Clause 2, as far as it can be seen without pulling the plug: what is finished is there with all its bytes.
pub async fn clause_02_a_finished_shard_is_there(backend: &Arc<dyn Backend>) {
    for (number, length) in (0..).zip(LENGTHS) {
        let bytes = pattern(2, length);
        let finished = put(&**backend, shard(number), &bytes).await.expect("clause 2: put");
        assert_eq!(finished, length as u64, "clause 2: length of finish");
        let read = read_whole(&**backend, shard(number)).await.expect("clause 2: read");
        assert!(read == bytes, "clause 2: other bytes came back of {length}");
    }
}

/// Clause 3: `create` of a shard that is there fails at the beginning or at the end, and the old bytes stay.
pub async fn clause_03_create_never_replaces(backend: &Arc<dyn Backend>) {
    let (old, new) = (pattern(3, 1000), pattern(4, 900));
    put(&**backend, shard(0), &old).await.expect("clause 3: put");
    expect_kind(put(&**backend, shard(0), &new).await, ErrorKind::AlreadyExists, "clause 3: a second create");
    assert_eq!(read_whole(&**backend, shard(0)).await.expect("clause 3: read"), old, "clause 3: the old bytes");
    backend.delete(shard(0)).await.expect("clause 3: delete");
    put(&**backend, shard(0), &new).await.expect("clause 3: create after delete");
}

/// Clause 4: readers meet the old bytes or the new; `replace` creates as well.
pub async fn clause_04_replace_is_atomic(backend: &Arc<dyn Backend>) {
    let versions = [pattern(5, 70_000), pattern(6, 70_000)];
    put_over(&**backend, shard(0), &versions[0]).await.expect("clause 4: replace creates");
    let writer = async {
        for round in 0..20 {
            put_over(&**backend, shard(0), &versions[round % 2]).await.expect("clause 4: replace");
        }
    };
    let reader = async {
        for _ in 0..60 {
            let read = backend.read(shard(0), 0..70_000).await.expect("clause 4: read while replacing");
            assert!(versions.contains(&read), "clause 4: a mixture of old and new bytes");
        }
    };
    tokio::join!(writer, reader);
    let shorter = pattern(7, 10);
    put_over(&**backend, shard(0), &shorter).await.expect("clause 4: replace by fewer bytes");
    assert_eq!(read_whole(&**backend, shard(0)).await.expect("clause 4: read"), shorter, "clause 4: fewer bytes");
    drop(backend.replace(shard(0)).await.expect("clause 4: replace"));
    assert_eq!(read_whole(&**backend, shard(0)).await.expect("clause 4: read"), shorter, "clause 4: a dropped replace");
}

/// Clause 5: exactly the range, and errors that say why not.
pub async fn clause_05_read_returns_exactly_the_range(backend: &Arc<dyn Backend>) {
    let bytes = pattern(8, 600_001);
    let length = bytes.len() as u64;
    put(&**backend, shard(0), &bytes).await.expect("clause 5: put");
    for (start, end) in [(0, length), (0, 1), (length - 1, length), (1, 262_145), (262_143, 262_145), (5, 5)] {
        let read = backend.read(shard(0), start..end).await.expect("clause 5: read");
        assert!(read == bytes[start as usize..end as usize], "clause 5: bytes {start}..{end}");
    }
    for at in [0, length] {
        assert_eq!(backend.read(shard(0), at..at).await.expect("clause 5"), Bytes::new(), "clause 5: empty at {at}");
    }
    #[allow(clippy::reversed_empty_ranges)]
    for range in [0..length + 1, length..length + 1, length + 1..length + 1, 5..4, 0..u64::MAX, u64::MAX - 1..u64::MAX]
    {
        let clause = format!("clause 5: {range:?} of {length}");
        expect_kind(backend.read(shard(0), range).await, ErrorKind::OutOfRange, &clause);
    }
    for range in [0..0, 0..1] {
        expect_kind(backend.read(shard(1), range).await, ErrorKind::NotFound, "clause 5: an absent shard");
    }
}

/// Clause 6: the length, of every length.
pub async fn clause_06_head_is_the_length(backend: &Arc<dyn Backend>) {
    expect_kind(backend.head(shard(0)).await, ErrorKind::NotFound, "clause 6: an absent shard");
    for (number, length) in (0..).zip(LENGTHS) {
        put(&**backend, shard(number), &pattern(9, length)).await.expect("clause 6: put");
        assert_eq!(backend.head(shard(number)).await.expect("clause 6: head"), length as u64, "clause 6");
    }
}

/// Clause 7: deleting twice is as good as once, and deletes nothing else.
pub async fn clause_07_delete_of_an_absent_shard_is_ok(backend: &Arc<dyn Backend>) {
    backend.delete(shard(0)).await.expect("clause 7: delete where nothing ever was");
    for number in 0..2 {
        put(&**backend, shard(number), &pattern(10, 100)).await.expect("clause 7: put");
    }
    for _ in 0..2 {
        backend.delete(shard(0)).await.expect("clause 7: delete");
        expect_kind(backend.head(shard(0)).await, ErrorKind::NotFound, "clause 7: head after delete");
        expect_kind(backend.read(shard(0), 0..1).await, ErrorKind::NotFound, "clause 7: read after delete");
    }
    assert_eq!(listed(&**backend).await.expect("clause 7: list"), [shard(1)], "clause 7: the other shard");
}
