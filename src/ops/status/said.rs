//! What nodes said of what they keep, as far as the store did not look itself since.

use super::super::Timestamp;
use crate::backend::RegisteredBackend;
use crate::backend::node::{HeardNotice, heard};
use crate::catalog::{self, Catalog};
use crate::error::{Error, Result};
use crate::id::{BackendId, ShardId};
use crate::peer::PeerAddress;
use crate::peer::storage::NoticeKind;
use crate::store::Store;
use serde::Serialize;
use std::collections::BTreeMap;

/// What is no damage is shown for so long after it was heard: a week, in milliseconds.
const SHOWN_MS: u64 = 7 * 24 * 3600 * 1000;
const NS_PER_MS: u64 = 1_000_000;

/// What a node said: its word, and no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SaidByNode {
    /// What it is about.
    pub kind: NoticeKind,
    /// Of how many shards it is, as the node says.
    pub shards: u64,
    /// In the node's words.
    pub text: String,
    /// When it was heard.
    pub heard: Timestamp,
}

/// What the nodes among the backends said, and still says something.
pub(super) async fn read(store: &Store) -> Result<BTreeMap<BackendId, Vec<SaidByNode>>> {
    let is_node = |backend: &RegisteredBackend| Some((backend.id, backend.url.parse::<PeerAddress>().ok()?));
    let nodes: Vec<_> = store.registry().iter().filter_map(is_node).collect();
    if nodes.is_empty() {
        return Ok(BTreeMap::new());
    }
    let folder = store.dir().to_owned();
    let reading = move || nodes.into_iter().map(|(id, address)| (id, heard(&folder, &address))).collect::<Vec<_>>();
    let read = tokio::task::spawn_blocking(reading).await;
    let failed = |error| Error::local("reading what nodes said", std::io::Error::other(error));
    let (notices, now_ms) = (read.map_err(failed)?, ms(store.now_ns()));
    let still = move |catalog: &Catalog| {
        let mut said: BTreeMap<BackendId, Vec<SaidByNode>> = BTreeMap::new();
        for (backend, notices) in notices {
            for notice in notices {
                if is_open(catalog, backend, &notice, now_ms)? {
                    said.entry(backend).or_default().push(notice.into());
                }
            }
        }
        Ok(said)
    };
    store.look(still).await
}

/// Damage is open while the store did not look at one of the objects in full since it heard of it.
fn is_open(catalog: &Catalog, backend: BackendId, notice: &HeardNotice, now_ms: u64) -> catalog::Result<bool> {
    if notice.kind != NoticeKind::RepairNeeded {
        return Ok(now_ms.saturating_sub(notice.heard_ms) < SHOWN_MS);
    }
    for ShardId { object, index } in &notice.shards {
        let is_it = |record: &catalog::ShardRecord| (record.index, record.backend) == (*index, backend);
        let verified_ns = catalog.health(*object)?.and_then(|health| health.verified_ns);
        let is_unseen = verified_ns.is_none_or(|verified_ns| ms(verified_ns) <= notice.heard_ms);
        if is_unseen && catalog.shards(*object)?.iter().any(is_it) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn ms(ns: i64) -> u64 {
    u64::try_from(ns).unwrap_or(0) / NS_PER_MS
}

impl From<HeardNotice> for SaidByNode {
    fn from(notice: HeardNotice) -> Self {
        let HeardNotice { kind, shard_count: shards, text, heard_ms, .. } = notice;
        let heard_ns = i64::try_from(heard_ms.saturating_mul(NS_PER_MS)).unwrap_or(i64::MAX);
        Self { kind, shards, text, heard: Timestamp(heard_ns) }
    }
}
