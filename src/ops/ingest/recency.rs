//! Which place is behind: an object is immutable and its id random, so that a place that was set back to an earlier state
//! shows by what it lacks, and by nothing else.

use super::super::timestamp::Timestamp;
use crate::id::ObjectId;
use serde::Serialize;
use std::collections::BTreeMap;

/// An object and when it was made, as whoever made it says: for people, decided by nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NewestObject {
    /// When it was made.
    pub created: Timestamp,
    /// The object.
    pub id: ObjectId,
}

/// What is seen on places, object by object. Places are what the caller calls them.
#[derive(Debug)]
pub(in crate::ops) struct Recency<P> {
    newest: BTreeMap<P, NewestObject>,
    /// When objects were made of which a shard was found nowhere.
    incomplete: Vec<i64>,
}

impl<P> Default for Recency<P> {
    fn default() -> Self {
        Self { newest: BTreeMap::new(), incomplete: Vec::new() }
    }
}

impl<P: Ord> Recency<P> {
    /// An object of which some place has shards; incomplete when one of its shards is on none of them.
    pub(in crate::ops) fn note(
        &mut self,
        object: NewestObject,
        is_complete: bool,
        places: impl IntoIterator<Item = P>,
    ) {
        for place in places {
            let newest = self.newest.entry(place).or_insert(object);
            *newest = (*newest).max(object);
        }
        if !is_complete {
            self.incomplete.push(object.created.0);
        }
    }

    /// The newest object of all.
    pub(in crate::ops) fn newest(&self) -> Option<NewestObject> {
        self.newest.values().max().copied()
    }

    /// The newest object of a place, and how many newer ones lack a shard that may have been there.
    pub(in crate::ops) fn of(&self, place: &P) -> (Option<NewestObject>, u64) {
        let Some(newest) = self.newest.get(place).copied() else { return (None, 0) };
        let lacks = self.incomplete.iter().filter(|created| **created > newest.created.0).count();
        (Some(newest), lacks as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(number: u8) -> NewestObject {
        NewestObject { created: Timestamp(i64::from(number)), id: ObjectId([number; 16]) }
    }

    #[test]
    fn a_place_that_lacks_the_newest_is_behind_and_one_that_lacks_an_old_one_is_not() {
        let mut recency = Recency::default();
        recency.note(object(1), true, ["a", "b", "c"]);
        recency.note(object(4), false, ["a", "c"]);
        recency.note(object(3), false, ["a"]);
        recency.note(object(5), false, ["c"]);
        assert_eq!(recency.newest(), Some(object(5)));
        assert_eq!(recency.of(&"b"), (Some(object(1)), 3));
        assert_eq!(recency.of(&"c"), (Some(object(5)), 0), "3 is older than what it has");
        assert_eq!(recency.of(&"d"), (None, 0));
    }

    #[test]
    fn an_object_that_has_all_its_shards_is_lacked_by_no_one() {
        let mut recency = Recency::default();
        recency.note(object(1), true, ["a", "b"]);
        recency.note(object(2), true, ["a"]);
        assert_eq!(recency.of(&"b"), (Some(object(1)), 0));
    }
}
