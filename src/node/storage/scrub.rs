//! Reads an owner's shards, some at a time, and says which are damaged.

use super::check::check;
use super::owner::Owner;
use super::refusal::Refusal;
use crate::backend::{Backend, ErrorKind};
use crate::id::{ShardId, StoreId};
use crate::peer::storage::{RefusalKind, ScrubPage};
use std::time::Duration;
use tokio::time::Instant;

/// No further shard is begun after this long: whoever asked is told, and asks on.
const PAGE_TIME: Duration = Duration::from_secs(5);

/// The next page. Of one owner one scrub is under way at a time.
pub(super) async fn scrub(owner: &Owner, after: Option<ShardId>) -> Result<ScrubPage, Refusal> {
    let under_way = |_| Refusal::new(RefusalKind::Transient, "these shards are being checked already");
    let _one = owner.scrubbing().try_lock().map_err(under_way)?;
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
