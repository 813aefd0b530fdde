//! Which objects are looked at, and in which order.

use super::{VerifyMode, VerifyOptions};
use crate::catalog::{Catalog, ObjectAge};
use crate::error::{Error, ErrorKind, Result};
use crate::format::FileName;
use crate::id::ObjectId;
use crate::store::Store;
use std::collections::BTreeSet;
use std::time::Duration;

/// How many rows are asked of the catalog at a time.
const PAGE: usize = 1000;
/// How many names of one object a report shows; a pack has thousands.
const NAMES_SHOWN: usize = 100;

/// The objects to look at, in order.
#[derive(Debug, Default)]
pub(in crate::ops) struct Selected {
    pub(in crate::ops) objects: Vec<ObjectId>,
    /// About how many bytes all their shards have.
    pub(in crate::ops) shard_bytes: u64,
}

/// The objects of the names, or all, that are due: never verified first, then the longest unverified.
pub(in crate::ops) async fn select(store: &Store, options: &VerifyOptions) -> Result<Selected> {
    let wanted = objects_of(store, &options.names).await?;
    let (now_ns, max_age) = (store.now_ns(), options.max_age);
    let mut selected = store
        .look(move |catalog| {
            let mut selected = Selected::default();
            let mut after: Option<ObjectAge> = None;
            loop {
                let page = catalog.oldest_checked(after.as_ref(), PAGE)?;
                let Some(last) = page.last() else { return Ok(selected) };
                after = Some(*last);
                // From the first that was verified lately on, only a wrong clock's are due: those of times to come.
                if !is_due(last, now_ns, max_age) {
                    after = Some(ObjectAge { object: ObjectId([u8::MAX; 16]), verified_ns: Some(now_ns) });
                }
                for age in page {
                    let asked_for = wanted.as_ref().is_none_or(|wanted| wanted.contains(&age.object));
                    if asked_for && is_due(&age, now_ns, max_age) {
                        selected.objects.push(age.object);
                        let shards = catalog.shards(age.object)?;
                        selected.shard_bytes += shards.iter().map(|shard| shard.bytes).sum::<u64>();
                    }
                }
            }
        })
        .await?;
    // Only a full look counts as one that was verified: without chance, what a budget leaves out would be left out for ever.
    if options.budget.is_some() && options.mode != VerifyMode::Full {
        let seed: [u8; 32] = store.random_bytes()?;
        selected.objects.sort_by_cached_key(|object| *blake3::keyed_hash(&seed, object.as_bytes()).as_bytes());
    }
    Ok(selected)
}

/// Whether a look is due. What was verified in the future was verified by a wrong clock.
fn is_due(age: &ObjectAge, now_ns: i64, max_age: Option<Duration>) -> bool {
    let (Some(max_age), Some(verified_ns)) = (max_age, age.verified_ns) else { return true };
    match u128::try_from(i128::from(now_ns) - i128::from(verified_ns)) {
        Ok(age_ns) => age_ns >= max_age.as_nanos(),
        Err(_) => true,
    }
}

/// The objects of these files, and of those in folders of these names, as they are now; `None` for no names: all.
async fn objects_of(store: &Store, names: &[FileName]) -> Result<Option<BTreeSet<ObjectId>>> {
    if names.is_empty() {
        return Ok(None);
    }
    let mut objects = BTreeSet::new();
    for name in names {
        let prefix = name.clone();
        let found = store.look(move |catalog| objects_below(catalog, &prefix)).await?;
        objects.extend(found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no file or folder {:?}", name.to_string()))
                .with_hint("`shard list` shows what there is")
        })?);
    }
    Ok(Some(objects))
}

/// `None` when there is no such file.
fn objects_below(catalog: &Catalog, prefix: &FileName) -> crate::catalog::Result<Option<BTreeSet<ObjectId>>> {
    let mut objects = BTreeSet::new();
    let mut after: Option<FileName> = None;
    loop {
        let page = catalog.list(&prefix.to_string(), after.as_ref(), PAGE)?;
        let Some(last) = page.last() else { return Ok(after.map(|_| objects)) };
        let next = last.newest.name.clone();
        for file in page {
            for head in catalog.heads(&file.newest.name)? {
                objects.extend(catalog.objects_of_version(head.id)?);
            }
        }
        after = Some(next);
    }
}

/// Names of an object's files for a report, and whether there are more.
pub(super) async fn names_shown(store: &Store, object: ObjectId) -> Result<(Vec<FileName>, bool)> {
    let mut names = store.look(move |catalog| catalog.names_of_object(object, NAMES_SHOWN + 1)).await?;
    let more = names.len() > NAMES_SHOWN;
    names.truncate(NAMES_SHOWN);
    Ok((names, more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_due_when_it_was_never_verified_or_long_ago_or_by_a_wrong_clock() {
        let day = Duration::from_secs(86_400);
        let age = |verified_ns| ObjectAge { object: ObjectId([0; 16]), verified_ns };
        let now_ns = 10 * 86_400_000_000_000;
        assert!(is_due(&age(None), now_ns, Some(day)));
        assert!(is_due(&age(Some(now_ns - 86_400_000_000_000)), now_ns, Some(day)));
        assert!(!is_due(&age(Some(now_ns - 86_399_999_999_999)), now_ns, Some(day)));
        assert!(is_due(&age(Some(now_ns + 1)), now_ns, Some(day)));
        assert!(is_due(&age(Some(now_ns)), now_ns, None));
        assert!(!is_due(&age(Some(i64::MIN)), i64::MAX, Some(Duration::MAX)));
    }
}
