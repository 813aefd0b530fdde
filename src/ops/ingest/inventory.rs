//! What lies on many places, object by object: their listings, merged.
//!
//! Every place lists its shards in the order of their names, so that one page of each is all that is held, however much
//! there is. What comes out does not depend on the order of the places.

use super::{FoundObject, FoundShard, Sources};
use crate::backend::{self, Backend, LIST_PAGE_SHARDS, ListPage, ListedShard};
use crate::id::{BackendId, ObjectId, ShardId};
use futures_util::future;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// The listings of many places, on their way.
#[derive(Debug)]
pub(in crate::ops) struct Inventory {
    listings: Vec<Listing>,
    last: Option<ObjectId>,
}

/// The listing of one place, on its way.
#[derive(Debug)]
struct Listing {
    place: BackendId,
    backend: Arc<dyn Backend>,
    page: VecDeque<ListedShard>,
    next: Next,
    shards: u64,
    bytes: u64,
}

#[derive(Debug)]
enum Next {
    Page(Option<ShardId>),
    End,
    Failed(backend::Error),
}

/// What the listing of one place came to.
#[derive(Debug)]
pub(in crate::ops) struct ListedPlace {
    pub(in crate::ops) backend: BackendId,
    pub(in crate::ops) shards: u64,
    pub(in crate::ops) bytes: u64,
    /// Why it ended before its end: what was not listed is not known to be absent.
    pub(in crate::ops) failure: Option<backend::Error>,
}

impl Inventory {
    /// Begins to list every source.
    pub(in crate::ops) fn new(sources: &Sources) -> Self {
        Self::from(sources, None)
    }

    /// Begins to list every source after this object.
    pub(in crate::ops) fn after(sources: &Sources, object: ObjectId) -> Self {
        Self::from(sources, Some(ShardId { object, index: u8::MAX }))
    }

    fn from(sources: &Sources, after: Option<ShardId>) -> Self {
        let listing = |(place, backend): (BackendId, Arc<dyn Backend>)| Listing {
            place,
            backend,
            page: VecDeque::new(),
            next: Next::Page(after),
            shards: 0,
            bytes: 0,
        };
        Self { listings: sources.iter().map(listing).collect(), last: None }
    }

    /// The next object, in the order of the ids, with all its shards that are listed anywhere.
    pub(in crate::ops) async fn next_object(&mut self) -> Option<FoundObject> {
        self.refill().await;
        let object = self.listings.iter().filter_map(Listing::head).min()?;
        let mut shards = Vec::new();
        loop {
            let mut took = false;
            for listing in &mut self.listings {
                while let Some(shard) = listing.take(object) {
                    shards.push(shard);
                    took = true;
                }
            }
            if !took {
                break;
            }
            // An object's shards may go on in the next page.
            self.refill().await;
        }
        self.last = Some(object);
        shards.sort_unstable();
        shards.dedup_by_key(|shard| (shard.index, shard.backend));
        Some(FoundObject { object, shards })
    }

    /// The places whose listing did not fail so far.
    pub(in crate::ops) fn listed(&self) -> BTreeSet<BackendId> {
        let goes_on = |listing: &&Listing| !matches!(listing.next, Next::Failed(_));
        self.listings.iter().filter(goes_on).map(|listing| listing.place).collect()
    }

    /// What each listing came to; complete once there is no next object.
    pub(in crate::ops) fn into_places(self) -> Vec<ListedPlace> {
        let place = |listing: Listing| ListedPlace {
            backend: listing.place,
            shards: listing.shards,
            bytes: listing.bytes,
            failure: match listing.next {
                Next::Failed(error) => Some(error),
                Next::Page(_) | Next::End => None,
            },
        };
        self.listings.into_iter().map(place).collect()
    }

    async fn refill(&mut self) {
        let last = self.last;
        future::join_all(self.listings.iter_mut().map(|listing| listing.refill(last))).await;
    }
}

impl Listing {
    fn head(&self) -> Option<ObjectId> {
        self.page.front().map(|shard| shard.id.object)
    }

    fn take(&mut self, object: ObjectId) -> Option<FoundShard> {
        if self.head() != Some(object) {
            return None;
        }
        let shard = self.page.pop_front()?;
        self.shards += 1;
        self.bytes += shard.bytes;
        Some(FoundShard { index: shard.id.index, backend: self.place, bytes: shard.bytes })
    }

    /// Asks for pages until there is a shard or the end.
    async fn refill(&mut self, last: Option<ObjectId>) {
        while self.page.is_empty()
            && let Next::Page(after) = self.next
        {
            match self.backend.list(after).await.and_then(|page| self.in_order(page, after, last)) {
                Ok(page) => {
                    self.next = page.next.map_or(Next::End, |next| Next::Page(Some(next)));
                    // What a killed probe left is no object.
                    self.page = page.shards.into_iter().filter(|listed| !listed.id.object.is_probe()).collect();
                }
                Err(error) => self.next = Next::Failed(error),
            }
        }
    }

    /// A place that lists out of order, or for ever, cannot be merged with others.
    fn in_order(&self, page: ListPage, after: Option<ShardId>, last: Option<ObjectId>) -> backend::Result<ListPage> {
        let objects = || page.shards.iter().map(|shard| shard.id.object);
        let ascends = objects().zip(objects().skip(1)).all(|(one, next)| one <= next);
        let goes_on = objects().next().is_none_or(|first| last.is_none_or(|last| first >= last));
        let moves = page.next.is_none() || page.next != after;
        if ascends && goes_on && moves && page.shards.len() <= LIST_PAGE_SHARDS {
            return Ok(page);
        }
        let doing = format!("listing backend {}: it does not list shards in the order of their names", self.place);
        Err(backend::Error::new(backend::ErrorKind::Failed, doing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::FaultyBackend;
    use crate::backend::MemoryBackend;
    use bytes::Bytes;

    async fn place(shards: &[(u16, u8)]) -> Arc<dyn Backend> {
        let memory = MemoryBackend::new();
        for (number, index) in shards {
            let mut writer = memory.create(shard(*number, *index)).await.expect("a writer");
            writer.write(Bytes::from_static(b"xyz")).await.expect("written");
            writer.finish().await.expect("finished");
        }
        Arc::new(memory)
    }

    fn object(number: u16) -> ObjectId {
        let mut bytes = [0; 16];
        // Scattered over the folders, so that many pages begin in the middle of one.
        bytes[..2].copy_from_slice(&number.wrapping_mul(40503).to_be_bytes());
        ObjectId(bytes)
    }

    fn shard(number: u16, index: u8) -> ShardId {
        ShardId { object: object(number), index }
    }

    fn sources(places: Vec<Arc<dyn Backend>>) -> Sources {
        Sources::from_iter((0..).zip(places).map(|(byte, place)| (BackendId([byte; 16]), place)))
    }

    async fn drain(mut inventory: Inventory) -> (Vec<FoundObject>, Vec<ListedPlace>) {
        let mut found = Vec::new();
        while let Some(next) = inventory.next_object().await {
            found.push(next);
        }
        (found, inventory.into_places())
    }

    #[tokio::test]
    async fn every_object_comes_once_with_all_its_shards_over_many_pages() {
        let all: Vec<u16> = (0..2300).collect();
        let one: Vec<_> = all.iter().map(|number| (*number, 0)).collect();
        let two: Vec<_> = all.iter().filter(|number| **number % 2 == 0).map(|number| (*number, 1)).collect();
        let both: Vec<_> = all.iter().flat_map(|number| [(*number, 10), (*number, 2)]).collect();
        let inventory = Inventory::new(&sources(vec![place(&one).await, place(&two).await, place(&both).await]));
        let (found, places) = drain(inventory).await;
        assert_eq!(found.len(), 2300);
        assert!(found.is_sorted_by(|one, next| one.object < next.object));
        let twos: BTreeSet<ObjectId> = two.iter().map(|(number, _)| object(*number)).collect();
        for FoundObject { object, shards } in &found {
            let indexes: Vec<u8> = shards.iter().map(|shard| shard.index).collect();
            assert_eq!(indexes, if twos.contains(object) { vec![0, 1, 2, 10] } else { vec![0, 2, 10] });
        }
        let counts: Vec<u64> = places.iter().map(|place| place.shards).collect();
        assert_eq!(counts, [2300, 1150, 4600]);
        assert!(places.iter().all(|place| place.failure.is_none() && place.bytes == place.shards * 3));
    }

    #[tokio::test]
    async fn a_place_that_fails_says_so_and_the_others_go_on() {
        let dead = FaultyBackend::new(place(&[(1, 0)]).await, 1);
        dead.go_dead();
        let inventory = Inventory::new(&sources(vec![Arc::new(dead), place(&[(1, 1), (2, 1)]).await]));
        let (found, places) = drain(inventory).await;
        assert_eq!(found.len(), 2);
        assert!(places[0].failure.is_some() && places[1].failure.is_none());
    }

    #[tokio::test]
    async fn nothing_is_listed_where_nothing_is() {
        let (found, places) = drain(Inventory::new(&sources(vec![place(&[]).await]))).await;
        assert!(found.is_empty() && places.len() == 1);
    }
}
