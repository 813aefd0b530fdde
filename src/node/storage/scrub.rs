//! Reads an owner's shards, some at a time, and says which are damaged.

use super::check::check;
use super::owner::Owner;
use super::refusal::Refusal;
use crate::backend::{Backend, ErrorKind};
use crate::id::{ShardId, StoreId};
use crate::peer::storage::{RefusalKind, ScrubPage};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// No further shard is begun after this long: whoever asked is told, and asks on.
const PAGE_TIME: Duration = Duration::from_secs(5);

/// How long a page waits for those of other scrubs of the same shards: a few of theirs. With its own page it ends within the time
/// that a service manager gives a node to stop.
const TURN_DEADLINE: Duration = Duration::from_secs(15);
/// So many pages of one owner's shards, asked for by peers, wait or are read at once; others are refused at once.
pub(super) const MAX_SCRUBS: usize = 3;

/// How long a page waits for those of other owners that peers asked for: some pages of theirs.
const PLACE_DEADLINE: Duration = Duration::from_secs(60);

/// As a peer asks for it: [`scrub`] with a bound on how many of an owner wait, so that the node's own gets its turn, and with a
/// place of these, which are for all owners together. It is waited for before the owner's turn, which the node's own waits for.
pub(super) async fn scrub_for_peer(
    owner: &Owner,
    after: Option<ShardId>,
    places: &Semaphore,
) -> Result<ScrubPage, Refusal> {
    let Ok(_place) = owner.scrub_places().try_acquire() else {
        let reason = format!("these shards are being checked already, and {} more checks wait", MAX_SCRUBS - 1);
        return Err(Refusal::new(RefusalKind::Transient, reason));
    };
    let Ok(Ok(_read)) = timeout(PLACE_DEADLINE, places.acquire()).await else {
        return Err(Refusal::new(RefusalKind::Transient, "the shards of others are being checked already"));
    };
    scrub(owner, after).await
}

/// The next page. Of one owner one is read at a time: scrubs that meet take turns, page by page.
pub(super) async fn scrub(owner: &Owner, after: Option<ShardId>) -> Result<ScrubPage, Refusal> {
    let under_way = |_| {
        let reason = format!("these shards are being checked already, and no turn came within {TURN_DEADLINE:?}");
        Refusal::new(RefusalKind::Transient, reason)
    };
    let _one = timeout(TURN_DEADLINE, owner.scrubbing().lock()).await.map_err(under_way)?;
    let (begun, store) = (Instant::now(), owner.marked_store().await);
    let (mut page, mut after, mut last) = (ScrubPage::default(), after, None);
    loop {
        let listed = owner.place().list(after).await?;
        for shard in &listed.shards {
            match read(owner, shard.id, store, &mut page).await {
                Ok(()) => last = Some(shard.id),
                // What was found before is told, and whoever asks on is told why.
                Err(refusal) => {
                    page.next = last.filter(|_| page.checked_shards > 0);
                    return if page.next.is_some() { Ok(page) } else { Err(refusal) };
                }
            }
            if begun.elapsed() >= PAGE_TIME && page.checked_shards > 0 {
                page.next = Some(shard.id);
                return Ok(page);
            }
            // Whoever waits for the disk comes first.
            tokio::task::yield_now().await;
        }
        (page.next, after) = (listed.next, listed.next);
        // A page says something of some shard, or is the last.
        if page.checked_shards > 0 || after.is_none() {
            return Ok(page);
        }
    }
}

async fn read(owner: &Owner, shard: ShardId, store: Option<StoreId>, page: &mut ScrubPage) -> Result<(), Refusal> {
    let opened = match owner.place().open_shard(shard).await {
        Ok(opened) => opened,
        // It went after it was listed.
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
        // What the disk does not even open is lost there, and no reason to leave the others unread.
        Err(error) if matches!(error.kind, ErrorKind::Failed | ErrorKind::Denied) => {
            tracing::warn!(%shard, "a shard of a peer cannot be opened: {error}");
            page.damaged.push(shard);
            page.checked_shards += 1;
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(damage) = check(shard, &opened, store).await? {
        tracing::warn!(%shard, damage, "a shard of a peer is damaged");
        page.damaged.push(shard);
    }
    page.checked_shards += 1;
    page.checked_bytes += opened.bytes();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::StorageOptions;
    use super::*;
    use crate::backend::ShardWriter;
    use crate::id::ObjectId;
    use bytes::Bytes;
    use std::sync::Arc;

    async fn owner_with_garbage(folder: &std::path::Path) -> Arc<Owner> {
        let checks = Arc::new(Semaphore::new(1));
        let owner = Owner::open(folder.to_owned(), StorageOptions::default(), checks).await.expect("a folder");
        let shard = ShardId { object: ObjectId([1; 16]), index: 0 };
        let mut writer: Box<dyn ShardWriter> = owner.place().create(shard).await.expect("begun");
        writer.write(Bytes::from_static(b"garbage")).await.expect("written");
        writer.finish().await.expect("there");
        Arc::new(owner)
    }

    #[tokio::test(start_paused = true)]
    async fn a_scrub_waits_for_its_turn_and_not_for_ever() {
        let dir = tempfile::tempdir().expect("a folder");
        let owner = owner_with_garbage(dir.path()).await;
        let other = owner.scrubbing().lock().await;
        let waiting = tokio::spawn({
            let owner = Arc::clone(&owner);
            async move { scrub(&owner, None).await }
        });
        tokio::time::sleep(TURN_DEADLINE / 2).await;
        assert!(!waiting.is_finished());
        drop(other);
        let page = waiting.await.expect("it does not panic").expect("its turn came");
        assert_eq!((page.checked_shards, page.damaged.len(), page.next), (1, 1, None));
        let other = owner.scrubbing().lock().await;
        let refused = scrub(&owner, None).await.expect_err("no turn came");
        assert_eq!(refused.kind, RefusalKind::Transient);
        assert!(refused.reason.contains("checked already"), "{}", refused.reason);
        drop(other);
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_scrubs_peers_ask_for_the_nodes_own_gets_its_turn() {
        let dir = tempfile::tempdir().expect("a folder");
        let owner = owner_with_garbage(dir.path()).await;
        let first = owner.scrubbing().lock().await;
        let asked: Vec<_> = (0..10 * MAX_SCRUBS)
            .map(|_| {
                tokio::spawn({
                    let owner = Arc::clone(&owner);
                    async move { scrub_for_peer(&owner, None, &Semaphore::new(1)).await }
                })
            })
            .collect();
        tokio::time::sleep(TURN_DEADLINE / 2).await;
        assert_eq!(asked.iter().filter(|one| !one.is_finished()).count(), MAX_SCRUBS, "the others are refused at once");
        let own = tokio::spawn({
            let owner = Arc::clone(&owner);
            async move { scrub(&owner, None).await }
        });
        drop(first);
        assert_eq!(own.await.expect("it does not panic").expect("its turn came").checked_shards, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn scrubs_that_peers_ask_for_share_a_few_places_and_the_nodes_own_needs_none() {
        let dir = tempfile::tempdir().expect("a folder");
        let owner = owner_with_garbage(dir.path()).await;
        let places = Semaphore::new(1);
        let others = places.acquire().await.expect("a place");
        let refused = scrub_for_peer(&owner, None, &places).await.expect_err("others have it");
        assert_eq!(refused.kind, RefusalKind::Transient);
        assert_eq!(scrub(&owner, None).await.expect("a page").checked_shards, 1);
        drop(others);
        assert_eq!(scrub_for_peer(&owner, None, &places).await.expect("a page").checked_shards, 1);
        assert_eq!(places.available_permits(), 1);
    }
}
