//! The places that `shard recover --from` names: whose they are, what in them is passed over, and which is behind.

use super::super::catalog::behind;
use crate::cli::args::Recover;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::render::count;
use shard::backend::{Backend, Environment};
use shard::crypto::{AccessKeys, Keyring};
use shard::id::StoreId;
use shard::ops::recover::{FoundPlace, FoundPlaces, HeapReport, RecoverReport, look_at};
use shard::store::load_key;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The places that answered, each with the address that was typed.
#[derive(Debug, Default)]
struct Looked {
    places: Vec<(String, FoundPlace)>,
    left_out: Vec<String>,
}

/// Opens the places that were named, and learns from marks and manifests whose they are.
pub(super) async fn find_places(
    options: &Recover,
    context: &Context,
) -> Result<(FoundPlaces, Vec<HeapReport>), Failure> {
    let passphrase = context.passphrase();
    let brought = options.key.as_deref().map(|key| load_key(key, Some(&passphrase))).transpose()?;
    let looked = look(&options.from, &context.credentials_of(brought.as_ref()), context).await?;
    let keys = Arc::new(looked.access(brought.map(|brought| brought.keyring))?);
    let (mut backends, mut heaps): (Vec<(String, Arc<dyn Backend>)>, _) = (Vec::new(), Vec::new());
    for (url, place) in looked.places {
        match place {
            FoundPlace::Backend { backend, .. } => backends.push((url, backend)),
            FoundPlace::Heap(heap) => {
                let (copies, report) = heap.of_store(keys.store_id(), &url).await?;
                backends.extend(copies.into_iter().map(|copy| (url.clone(), copy)));
                heaps.push(report);
            }
        }
    }
    let scratch = context.environment.temporary.clone();
    Ok((FoundPlaces { backends, keys, left_out: looked.left_out, scratch }, heaps))
}

/// Looks at each place; one that cannot be looked at is left out, and said to be.
async fn look(urls: &[String], credentials: &Environment, context: &Context) -> Result<Looked, Failure> {
    let mut looked = Looked::default();
    for url in urls {
        match look_at(url, credentials, Path::new("."), &context.controls()).await {
            Ok(place) => {
                if matches!(place, FoundPlace::Backend { mark: None, .. }) {
                    context.notices.warning(&format!("{url} has no mark; what is there is used if it is signed"));
                }
                looked.places.push((url.clone(), place));
            }
            Err(error) if matches!(error.kind, shard::ErrorKind::Invalid | shard::ErrorKind::Cancelled) => {
                return Err(error.into());
            }
            Err(error) => {
                let failure = Failure::from(error);
                let why = std::iter::once(failure.message).chain(failure.causes).collect::<Vec<_>>().join(": ");
                context.notices.warning(&format!("{url} is left out: {why}"));
                looked.left_out.push(url.clone());
            }
        }
    }
    Ok(looked)
}

impl Looked {
    /// The stores that marks name, each with a place that says so.
    fn owners(&self) -> BTreeMap<StoreId, &str> {
        let marked = self.places.iter().filter_map(|(url, place)| match place {
            FoundPlace::Backend { mark: Some(mark), .. } => Some((mark.store, url.as_str())),
            FoundPlace::Backend { .. } | FoundPlace::Heap(_) => None,
        });
        marked.collect()
    }

    /// The stores that manifests in heaps name.
    fn signers(&self) -> BTreeMap<StoreId, &str> {
        let heaps = self.places.iter().filter_map(|(url, place)| match place {
            FoundPlace::Heap(heap) => Some((url.as_str(), heap)),
            FoundPlace::Backend { .. } => None,
        });
        heaps.flat_map(|(url, heap)| heap.stores().iter().map(move |store| (*store, url))).collect()
    }

    /// Whether every place was gone through file by file, and not one file is a shard.
    fn is_nothing(&self) -> bool {
        let is_nothing = |place: &FoundPlace| matches!(place, FoundPlace::Heap(heap) if heap.is_empty());
        self.left_out.is_empty() && self.places.iter().all(|(_, place)| is_nothing(place))
    }

    /// What may be opened: what the key opens, or what is not sealed under one, of the one store that is named.
    fn access(&self, keyring: Option<Keyring>) -> Result<AccessKeys, Failure> {
        if self.is_nothing() {
            let urls: Vec<&str> = self.places.iter().map(|(url, _)| url.as_str()).collect();
            let message = format!("no file in {} is a shard", urls.join(", "));
            return Err(
                Failure::new(FailureKind::NotFound, message).hint("is it the right folder, and the disk mounted?")
            );
        }
        match keyring {
            Some(keyring) => self.to_open(keyring),
            None => self.to_check(),
        }
    }

    fn to_open(&self, keyring: Keyring) -> Result<AccessKeys, Failure> {
        let (own, owners, signers) = (keyring.store_id(), self.owners(), self.signers());
        let wrong = |message: String| {
            Err(Failure::new(FailureKind::WrongKey, message).hint("give the key of that store with --key"))
        };
        if let Some((store, url)) = owners.iter().find(|(store, _)| **store != own) {
            return wrong(format!("{url} belongs to store {store}, and the key to {own}"));
        }
        let has_other = self.places.iter().any(|(_, place)| matches!(place, FoundPlace::Backend { .. }));
        match signers.first_key_value() {
            Some((store, url)) if !has_other && !signers.contains_key(&own) => {
                wrong(format!("the shards in {url} belong to store {store}, and the key to {own}"))
            }
            _ => Ok(AccessKeys::to_open(keyring)),
        }
    }

    fn to_check(&self) -> Result<AccessKeys, Failure> {
        let owners = self.owners();
        let mut named = if owners.is_empty() { self.signers() } else { owners }.into_iter();
        match (named.next(), named.next()) {
            (Some((store, _)), None) => Ok(AccessKeys::to_check(store)),
            (Some((_, one)), Some((_, other))) if one == other => {
                let message = format!("{one} holds shards of different stores");
                Err(Failure::new(FailureKind::Invalid, message).hint("give the key of the one you mean with --key"))
            }
            (Some((_, one)), Some((_, other))) => {
                let message = format!("{one} and {other} belong to different stores");
                Err(Failure::new(FailureKind::Invalid, message).hint("name the places of one store only"))
            }
            (None, _) => {
                let message = "none of these places has the mark of a store";
                Err(Failure::new(FailureKind::Unavailable, message).hint("is the disk mounted, and the prefix right?"))
            }
        }
    }
}

/// What was passed over, which object is the newest, and which places may have been set back.
pub(super) fn tell_places(report: &RecoverReport, context: &Context) {
    for heap in &report.heaps {
        tell_heap(heap, context);
    }
    let Some(newest) = report.newest else { return };
    let having: Vec<&str> =
        report.places.iter().filter(|p| p.newest == Some(newest)).map(|p| p.name.as_str()).collect();
    let (created, id, having) = (newest.created, newest.id, having.join(", "));
    context.notices.note(&format!("the newest object found was made {created}: {id}, on {having}"));
    for place in report.places.iter().filter(|place| place.lacks > 0) {
        let Some(newest) = place.newest else { continue };
        context.notices.warning(&behind(&place.name, newest, place.lacks));
    }
}

fn tell_heap(heap: &HeapReport, context: &Context) {
    let (place, files, over) = (&heap.place, count(heap.files, "file"), heap.passed_over);
    context.notices.note(&format!("{place}: {files} looked at, {over} passed over that are no shards of this store"));
    if heap.links > 0 {
        let links = count(heap.links, "symbolic link");
        context.notices.note(&format!("{place}: {links} not followed"));
    }
    if let Some(problem) = &heap.problem {
        let unreadable = heap.unreadable;
        context.notices.warning(&format!("{place}: {unreadable} files or folders could not be read: {problem}"));
    }
    if heap.left > 0 {
        let left = heap.left;
        context.notices.warning(&format!("{place}: {left} files are left, being one copy too many of the same shard"));
    }
}
