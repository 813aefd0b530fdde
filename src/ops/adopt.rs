//! Places that a person names become backends of the store again: a new laptop that has nothing but a key.
//!
//! Only a place that has this store's mark is taken: what a catalog records must be there later.

use super::backends::{AddedBackend, add_backend};
use super::rebuild::open_place;
use crate::backend::BackendSpec;
use crate::error::Result;
use crate::id::BackendId;
use crate::store::Store;
use std::collections::BTreeSet;

/// What a place is called of whose address nothing makes a name.
const NAMELESS: &str = "place";
/// At most this many characters of an address become a name.
const MAX_TAKEN_CHARS: usize = 40;

/// Takes places of this store for its backends, named after their addresses; those that are known already are passed over.
///
/// A place that cannot be written to is taken as one that is only read. [`crate::ErrorKind::WrongKey`] for a place of another
/// store, [`crate::ErrorKind::Unavailable`] for one without a mark; those before it are taken then.
pub async fn adopt_places(store: &Store, urls: &[String]) -> Result<Vec<AddedBackend>> {
    let backends = &store.config().backends;
    let mut known: BTreeSet<BackendId> = backends.iter().map(|spec| spec.id).collect();
    let mut names: BTreeSet<String> = backends.iter().map(|spec| spec.name.clone()).collect();
    let mut adopted = Vec::new();
    for url in urls {
        let (id, _) = open_place(store, url).await?;
        if !known.insert(id) {
            continue;
        }
        let spec = BackendSpec::new(free_name(url, &names), id, url.as_str());
        let added = adopt(store, spec).await?;
        names.insert(added.name.clone());
        adopted.push(added);
    }
    Ok(adopted)
}

async fn adopt(store: &Store, spec: BackendSpec) -> Result<AddedBackend> {
    let read_only = BackendSpec { read_only: true, ..spec.clone() };
    match add_backend(store, spec).await {
        Ok(added) => Ok(added),
        // What is wrong is told by the first try, unless reading is all that is possible.
        Err(error) => add_backend(store, read_only).await.map_err(|_| error),
    }
}

/// A name from the last part of an address, as no other place has it.
fn free_name(url: &str, taken: &BTreeSet<String>) -> String {
    let last = url.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut name: String = last.chars().filter(fits).take(MAX_TAKEN_CHARS).collect();
    if name.is_empty() {
        NAMELESS.clone_into(&mut name);
    }
    if !taken.contains(&name) {
        return name;
    }
    let numbered = |number: usize| format!("{name}-{number}");
    let free = (2..=taken.len() + 2).map(numbered).find(|name| !taken.contains(name));
    // Of one more name than there are taken, one is free.
    free.unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_after_the_end_of_its_address_and_never_like_another() {
        let taken: BTreeSet<String> = ["nas", "nas-2"].map(str::to_owned).into();
        for (url, name) in [
            ("/mnt/nas", "nas-3"),
            ("/mnt/usb disk/", "usbdisk"),
            ("s3://bucket/photos", "photos"),
            ("s3://bucket", "bucket"),
            ("/", "place"),
            ("/mnt/日本", "place"),
        ] {
            assert_eq!(free_name(url, &taken), name, "{url}");
        }
    }
}
