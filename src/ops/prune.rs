//! `prune`: old versions go, by a rule that looks at the versions alone and never at the clock.

use super::remove::{Doomed, RemoveReport, remove_versions};
use super::{Controls, leftovers};
use crate::catalog::VersionRecord;
use crate::error::{Error, ErrorKind, Result};
use crate::format::ObjectKind;
use crate::id::{VersionId, WriterId};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::num::NonZeroU32;
use std::time::Duration;

/// How many names are asked of the catalog at a time.
const PAGE_FILES: usize = 1000;

/// Which versions stay. A version that any part of the rule keeps is kept; heads always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeepRule {
    /// This many of the newest versions of each file.
    pub last: Option<NonZeroU32>,
    /// What was changed at most this long before the newest version of the same file was: a span between two versions'
    /// own times, whatever the time is now.
    pub within: Option<Duration>,
}

/// What is pruned.
#[derive(Debug, Clone, Default)]
pub struct PruneOptions {
    /// The file of this name and all files in the folder of this name; empty for everything.
    pub prefix: String,
    /// What stays.
    pub keep: KeepRule,
    /// Progress and cancelling.
    pub controls: Controls,
}

impl KeepRule {
    /// The same, among what the owner and what each writer put by itself: nobody makes another's versions old by adding to
    /// them.
    fn choose_of_each(&self, versions: &[VersionRecord], heads: &HashSet<VersionId>) -> HashSet<VersionId> {
        let mut by_hand: BTreeMap<Option<WriterId>, Vec<VersionRecord>> = BTreeMap::new();
        for version in versions {
            by_hand.entry(version.id.writer()).or_default().push(version.clone());
        }
        by_hand.values().flat_map(|versions| self.choose(versions, heads)).collect()
    }

    /// Which of a file's versions go. `versions` are the complete ones that were not removed, newest first; `heads`
    /// those that no other descends from, which always stay.
    pub fn choose(&self, versions: &[VersionRecord], heads: &HashSet<VersionId>) -> Vec<VersionId> {
        if self.last.is_none() && self.within.is_none() {
            return Vec::new();
        }
        let mtime = |version: &VersionRecord| version.whole.as_ref().map(|whole| whole.mtime_ns);
        let oldest_kept = self.within.and_then(|within| {
            let span = i64::try_from(within.as_nanos()).unwrap_or(i64::MAX);
            versions.first().and_then(mtime).map(|newest| newest.saturating_sub(span))
        });
        let last = self.last.map_or(0, |last| last.get() as usize);
        let goes = |(position, version): &(usize, &VersionRecord)| {
            let is_young = oldest_kept.is_some_and(|oldest| mtime(version).is_none_or(|mtime| mtime >= oldest));
            *position >= last && !is_young && !heads.contains(&version.id)
        };
        versions.iter().enumerate().filter(goes).map(|(_, version)| version.id).collect()
    }
}

/// Removes old versions of files, as one removal.
///
/// [`ErrorKind::Invalid`] for a rule that keeps nothing.
pub async fn prune(store: &Store, options: PruneOptions) -> Result<RemoveReport> {
    if options.keep.last.is_none() && options.keep.within.is_none() {
        let doing = "pruning needs to know what to keep: how many versions, or for how long";
        return Err(Error::new(ErrorKind::Invalid, doing));
    }
    store.signer(ObjectKind::Removal)?;
    leftovers::clear(store, &options.controls).await?;
    let mut doomed = choose(store, &options).await?;
    if !doomed.is_empty() {
        // Others may have removed what was to be kept while everything was looked through: what goes now is what goes twice.
        let again: BTreeSet<VersionId> = choose(store, &options).await?.iter().map(Doomed::version).collect();
        doomed.retain(|doomed| again.contains(&doomed.version()));
    }
    remove_versions(store, doomed, &options.controls).await
}

/// The versions that go by the rule, of all names.
async fn choose(store: &Store, options: &PruneOptions) -> Result<Vec<Doomed>> {
    let mut doomed = Vec::new();
    let mut after = None;
    loop {
        options.controls.check_cancelled()?;
        let (prefix, keep, from) = (options.prefix.clone(), options.keep, after.take());
        let (found, next) = store
            .look(move |catalog| {
                let names = catalog.list(&prefix, from.as_ref(), PAGE_FILES)?;
                let mut found = Vec::new();
                for listed in names.iter().filter(|listed| listed.version_count > listed.head_count) {
                    let name = &listed.newest.name;
                    let heads = catalog.heads(name)?.iter().map(|head| head.id).collect();
                    let mut versions = catalog.versions(name)?;
                    versions.retain(|version| version.complete && !version.removed);
                    let going = keep.choose_of_each(&versions, &heads);
                    found.extend(versions.iter().filter(|version| going.contains(&version.id)).map(Doomed::of));
                }
                let next = if names.len() == PAGE_FILES { names.last().map(|l| l.newest.name.clone()) } else { None };
                Ok((found, next))
            })
            .await?;
        doomed.extend(found);
        match next {
            Some(name) => after = Some(name),
            None => break,
        }
    }
    Ok(doomed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{FileName, Whole};
    use crate::id::Digest;

    fn version(number: u8, mtime_ns: i64) -> VersionRecord {
        let whole = Whole {
            total_bytes: 1,
            blake3: Digest([0; 32]),
            mtime_ns,
            mode: 0o644,
            generation: u64::from(number),
            parents: Vec::new(),
        };
        let name = FileName::new("file").expect("a name");
        VersionRecord { id: VersionId([number; 16]), name, whole: Some(whole), complete: true, removed: false }
    }

    /// Versions 9 down to 0, each changed ten seconds before the next.
    fn ten() -> (Vec<VersionRecord>, HashSet<VersionId>) {
        let versions = (0..10).rev().map(|n| version(n, i64::from(n) * 10_000_000_000)).collect();
        (versions, HashSet::from([VersionId([9; 16])]))
    }

    fn left(rule: KeepRule) -> Vec<u8> {
        let (versions, heads) = ten();
        let going = rule.choose(&versions, &heads);
        versions.iter().filter(|v| !going.contains(&v.id)).map(|v| v.id.0[0]).collect()
    }

    #[test]
    fn the_newest_are_kept_and_what_is_young_beside_the_newest() {
        let last = |n| NonZeroU32::new(n);
        let within = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(left(KeepRule { last: last(3), within: None }), [9, 8, 7]);
        assert_eq!(left(KeepRule { last: last(1), within: within(30) }), [9, 8, 7, 6]);
        assert_eq!(left(KeepRule { last: None, within: within(0) }), [9]);
        assert_eq!(left(KeepRule { last: last(5), within: within(10) }), [9, 8, 7, 6, 5]);
        assert_eq!(left(KeepRule { last: last(99), within: None }).len(), 10);
        assert_eq!(left(KeepRule { last: None, within: Some(Duration::MAX) }).len(), 10);
    }

    #[test]
    fn a_rule_that_says_nothing_removes_nothing() {
        assert_eq!(left(KeepRule::default()).len(), 10);
    }

    #[test]
    fn a_head_is_never_pruned_however_old_it_is() {
        let (versions, mut heads) = ten();
        heads.insert(VersionId([0; 16]));
        let going = KeepRule { last: NonZeroU32::new(1), within: None }.choose(&versions, &heads);
        assert_eq!(going.len(), 8);
        assert!(!going.contains(&VersionId([0; 16])));
    }

    #[test]
    fn what_is_kept_does_not_depend_on_the_time_it_is_now() {
        let (mut versions, heads) = ten();
        let rule = KeepRule { last: None, within: Some(Duration::from_secs(15)) };
        let before = rule.choose(&versions, &heads);
        for version in &mut versions {
            let whole = version.whole.as_mut().expect("a whole");
            whole.mtime_ns -= 1_000_000_000_000_000_000;
        }
        assert_eq!(rule.choose(&versions, &heads), before);
    }
}
