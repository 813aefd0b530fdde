//! Ids of objects that say by their beginning what they are of, so that no other object is called so.

use super::ObjectId;

/// What the id of a shard begins with that only tries a place, so that one which a killed process left is known for it; ids
/// that are given to objects never begin so.
const PROBE_PREFIX: [u8; 8] = *b"probe\0\0\0";
/// What tells a random id that begins like a probe's from one, in the prefix's last byte.
const NO_PROBE_BIT: u8 = 0x80;

/// What the id of an object begins with that backs up a catalog, so that it is found among very many by its name; ids that
/// are given to other objects never begin so.
const BACKUP_PREFIX: [u8; 6] = *b"backup";
/// What tells a random id that begins like a backup's from one, in the prefix's last byte.
const NO_BACKUP_BIT: u8 = 0x80;

/// The id itself, or the next to it that is of no kind of its own.
pub(super) fn unlike_any(id: [u8; 16]) -> [u8; 16] {
    unlike_a_backup(unlike_a_probe(id))
}

fn unlike_a_probe(mut id: [u8; 16]) -> [u8; 16] {
    let last = PROBE_PREFIX.len() - 1;
    id[last] ^= if id.starts_with(&PROBE_PREFIX) { NO_PROBE_BIT } else { 0 };
    id
}

fn unlike_a_backup(mut id: [u8; 16]) -> [u8; 16] {
    let last = BACKUP_PREFIX.len() - 1;
    id[last] ^= if id.starts_with(&BACKUP_PREFIX) { NO_BACKUP_BIT } else { 0 };
    id
}

impl ObjectId {
    /// An id for an object that backs up a catalog.
    pub fn of_backup(mut random: [u8; 16]) -> Self {
        random[..BACKUP_PREFIX.len()].copy_from_slice(&BACKUP_PREFIX);
        Self(random)
    }

    /// Whether it is of an object that backs up a catalog: no other object has it.
    pub fn is_backup(&self) -> bool {
        self.0.starts_with(&BACKUP_PREFIX)
    }

    /// The last id before those of backups: where a listing of these begins.
    pub fn before_backups() -> Self {
        let mut id = [0xff; 16];
        id[..BACKUP_PREFIX.len()].copy_from_slice(&BACKUP_PREFIX);
        id[BACKUP_PREFIX.len() - 1] -= 1;
        Self(id)
    }

    /// An id for a shard that only tries a place.
    pub fn of_probe(mut random: [u8; 16]) -> Self {
        random[..PROBE_PREFIX.len()].copy_from_slice(&PROBE_PREFIX);
        Self(random)
    }

    /// Whether it is for a shard that only tries a place: no object has it.
    pub fn is_probe(&self) -> bool {
        self.0.starts_with(&PROBE_PREFIX)
    }

    /// The same, or the next to it that no probe has.
    pub(crate) fn or_no_probe(self) -> Self {
        Self(unlike_a_probe(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_id_of_a_backup_begins_like_one_and_a_listing_begins_before_it() {
        let id = ObjectId::of_backup([7; 16]);
        assert!(id.is_backup() && !id.is_probe() && id.writer().is_none());
        assert!(ObjectId::before_backups() < ObjectId::of_backup([0; 16]));
        assert!(!ObjectId::before_backups().is_backup());
        let other = ObjectId::given_by(None, *id.as_bytes());
        assert!(!other.is_backup() && other.as_bytes()[6..] == id.as_bytes()[6..]);
        assert_eq!(ObjectId::given_by(None, [9; 16]), ObjectId([9; 16]));
    }
}
