//! A store behind the proxy, in the state that an operation begins with, as often as it is wanted; and what must hold
//! after the operation, whatever the wire did.

use super::wire::{Fault, Plan, Proxy, Tally};
use crate::cloud_contract::{open as open_cloud, settings};
use crate::heal_damage::verify_all;
use crate::recover_desk::{files_below, wanting};
use crate::s3_server::{BUCKET, KEY_ID, S3Server, SECRET};
use crate::scratch;
use crate::world::{geometry, name, newest, put_bytes, putting, random_bytes, stream_of};
use shard::backend::cloud::{CloudSettings, MAX_RETRIES, PART_BYTES, Patience};
use shard::backend::retry::MAX_ATTEMPTS;
use shard::backend::{Backend, BackendSpec, MARK_NAME, Mark, RetryBackend, RetryOptions, shard_name};
use shard::catalog::{ObjectState, ShardState};
use shard::id::{BackendId, Geometry, ObjectId, ShardId};
use shard::ops::gc::{GcOptions, gc};
use shard::ops::put::{PutReport, put};
use shard::ops::recover::{Existing, RecoverOptions, RecoverOutput, recover};
use shard::ops::remove::{RemoveOptions, remove};
use shard::ops::repair::{RepairOptions, RepairReport, repair};
use shard::ops::verify::{VerifyMode, VerifyReport};
use shard::store::{CONFIG_NAME, InitOptions, OpenOptions, Store, config};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Far more than all patience of an operation together: what takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(90);
/// The length of most files in bytes: a stripe, whole blocks and a rest.
const FILE_BYTES: usize = 40_001;
/// At one data shard, a shard of this file is two parts.
const LARGE_BYTES: usize = PART_BYTES + 10_000;

/// What is done while the wire fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Put,
    /// With shards that are uploaded in parts.
    PutInParts,
    Recover,
    Repair,
    Remove,
    Collect,
}

impl Operation {
    pub(crate) const ALL: [Self; 6] =
        [Self::Put, Self::PutInParts, Self::Recover, Self::Repair, Self::Remove, Self::Collect];

    fn geometry(self) -> Geometry {
        if self == Self::PutInParts { geometry(1, 3) } else { geometry(2, 4) }
    }

    /// One place more than there are shards, so that what a place loses finds another.
    fn place_count(self) -> usize {
        self.geometry().total_shards() + 1
    }

    fn stored_bytes(self) -> usize {
        if self == Self::PutInParts { LARGE_BYTES } else { FILE_BYTES }
    }
}

/// How patient the clients of an operation are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clients {
    /// A request is waited for a moment only: for answers that never come. On a loaded machine others come too late.
    Hurried,
    /// A request is tried once more.
    Patient,
    /// Tried again as often as outside of tests.
    AsEver,
}

/// What an operation came to.
#[derive(Debug)]
enum Came {
    Put(PutReport),
    Recovered,
    Repaired(RepairReport),
    Removed,
    Collected,
}

/// What a run with a spoilt wire came to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) tally: Tally,
    pub(crate) succeeded: bool,
    /// With all that was looked at afterwards.
    pub(crate) took: Duration,
    /// What does not hold.
    pub(crate) complaints: Vec<String>,
}

/// A server, the proxy before it, and a store in front of both.
pub(crate) struct Scene {
    operation: Operation,
    server: S3Server,
    proxy: Proxy,
    folder: TempDir,
    /// The places without the proxy, by name.
    honest: BTreeMap<String, Arc<dyn Backend>>,
    /// The files that are there at the beginning.
    kept: BTreeMap<&'static str, Vec<u8>>,
}

impl Scene {
    /// What is done while the wire fails.
    pub(crate) fn operation(&self) -> Operation {
        self.operation
    }

    /// Made over an honest wire.
    pub(crate) async fn new(operation: Operation) -> Self {
        let server = S3Server::start();
        let proxy = Proxy::start(server.address()).await;
        let folder = scratch::folder();
        let (honest, kept) = (BTreeMap::new(), BTreeMap::new());
        let mut scene = Self { operation, server, proxy, folder, honest, kept };
        scene.add_places().await;
        let store = scene.open_honestly().await;
        for (number, text) in (1..).zip(["kept", "other"]) {
            let bytes = random_bytes(number, FILE_BYTES + number as usize);
            let report = put_bytes(&store, text, &bytes, operation.geometry()).await;
            scene.kept.insert(text, bytes);
            if operation == Operation::Repair {
                scene.damage(number as usize, &report);
            }
        }
        drop(store);
        if operation == Operation::Collect {
            scene.leave_something_behind().await;
        }
        copy(&scene.path("store"), &scene.path("before/store"));
        copy(&scene.server_folder(), &scene.path("before/server"));
        scene
    }

    async fn add_places(&mut self) {
        Store::init(&self.path("store"), InitOptions::bare()).await.expect("a store");
        let id = self.open_honestly().await.id();
        for number in 1..=self.operation.place_count() {
            let name = format!("b{number}");
            let backend = BackendId([number as u8; 16]);
            let place = place(&self.server.endpoint(), &name, Clients::Patient);
            self.honest.insert(name.clone(), Arc::clone(&place));
            place.write_mark(&Mark { store: id, backend }).await.expect("marked");
            // What the address says is of no matter: the scene brings its own place.
            let url = self.path(&name).display().to_string();
            let spec = BackendSpec { zone: Some(format!("zone-{number}")), ..BackendSpec::new(name, backend, url) };
            let add = |config: &mut config::Config| {
                config.backends.push(spec);
                Ok::<_, config::Error>(())
            };
            config::edit(&self.path("store").join(CONFIG_NAME), add).expect("the settings change");
        }
    }

    /// One shard of the first file is gone, and one of the second has a flipped bit.
    fn damage(&self, number: usize, report: &PutReport) {
        let object = &report.objects[0];
        let shard = &object.shards[number];
        let place = shard.backend.as_ref().expect("it has a place");
        let id = ShardId { object: object.id, index: shard.index };
        let path = self.server.bucket_folder(BUCKET).join(place).join(shard_name(id));
        if number == 1 {
            return std::fs::remove_file(path).expect("removed");
        }
        let mut bytes = std::fs::read(&path).expect("a shard");
        bytes[5_000] ^= 4;
        std::fs::write(path, bytes).expect("written");
    }

    /// A put that broke off, and a removal that not every place has heard of.
    async fn leave_something_behind(&mut self) {
        let store = self.open(Clients::Patient).await.expect("the store opens");
        self.proxy.follow(Plan::EverSince(7, Fault::Reset));
        let source = vec![stream_of("broken off", &random_bytes(9, FILE_BYTES))];
        put(&store, putting(source, self.operation.geometry())).await.expect_err("the wire broke too early");
        self.proxy.follow(Plan::EverSince(14, Fault::Reset));
        let gone = RemoveOptions { names: vec![name("other")], ..RemoveOptions::default() };
        let removed = remove(&store, gone).await.expect("the removal is written");
        assert!(!removed.waiting.is_empty(), "some deletes wait");
        self.kept.remove("other");
        self.proxy.follow(Plan::Honest);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn server_folder(&self) -> PathBuf {
        self.server.bucket_folder(BUCKET).parent().expect("a bucket lies in a folder").to_owned()
    }

    /// Over the wire that fails, with clients that never saw it before.
    async fn open(&self, clients: Clients) -> shard::Result<Store> {
        let endpoint = self.proxy.endpoint();
        self.open_with(move |name: &str| place(&endpoint, name, clients)).await
    }

    async fn open_honestly(&self) -> Store {
        let honest = self.honest.clone();
        self.open_with(move |name: &str| Arc::clone(&honest[name])).await.expect("the store opens")
    }

    async fn open_with(
        &self,
        place: impl Fn(&str) -> Arc<dyn Backend> + Send + Sync + 'static,
    ) -> shard::Result<Store> {
        let wrapper = move |spec: &BackendSpec, _: Arc<dyn Backend>| place(&spec.name);
        let options = OpenOptions { wrapper: Some(Arc::new(wrapper)), ..OpenOptions::default() };
        Store::open(&self.path("store"), options).await
    }

    /// Everything is as it was at the beginning.
    fn begin_again(&self) {
        for (from, to) in [("before/store", self.path("store")), ("before/server", self.server_folder())] {
            empty(&to);
            copy(&self.path(from), &to);
        }
        empty(&self.path("out"));
        std::fs::create_dir_all(self.path("out")).expect("a folder");
    }

    /// How many requests the operation takes when nothing fails.
    pub(crate) async fn honest_requests(&self) -> usize {
        let run = self.run(Plan::Honest, Clients::Patient).await;
        assert!(run.succeeded && run.complaints.is_empty(), "{:?}: {:?}", self.operation, run.complaints);
        run.tally.requests
    }

    /// The operation over such a wire; what it says is held against what is there.
    pub(crate) async fn run(&self, plan: Plan, clients: Clients) -> Run {
        let begun = Instant::now();
        self.begin_again();
        let uploads_before = self.server.unfinished_uploads();
        self.proxy.follow(plan);
        let came = tokio::time::timeout(DEADLINE, self.perform(clients)).await;
        let tally = self.proxy.tally();
        self.proxy.follow(Plan::Honest);
        let Ok(came) = came else {
            let complaints = vec![format!("it takes longer than {DEADLINE:?}")];
            return Run { tally, succeeded: false, took: begun.elapsed(), complaints };
        };
        let store = self.open_honestly().await;
        let mut complaints = self.untruths(&store, &came).await;
        // As a new process would be, for which those before it are dead.
        drop(store);
        complaints.extend(self.scars(&self.open_honestly().await).await);
        let uploads = self.server.unfinished_uploads() - uploads_before;
        if uploads > 0 {
            complaints.push(format!("{uploads} uploads are left"));
        }
        if let (Err(error), false) = (&came, complaints.is_empty()) {
            complaints.push(format!("it had failed: {error:?}"));
        }
        Run { tally, succeeded: came.is_ok(), took: begun.elapsed(), complaints }
    }

    async fn perform(&self, clients: Clients) -> shard::Result<Came> {
        let store = self.open(clients).await?;
        match self.operation {
            Operation::Put | Operation::PutInParts => {
                let source = vec![stream_of("fresh", &self.fresh())];
                put(&store, putting(source, self.operation.geometry())).await.map(Came::Put)
            }
            Operation::Recover => {
                let output = RecoverOutput::Path(self.path("out").join("kept"));
                recover(&store, wanting(&["kept"], output)).await.map(|_| Came::Recovered)
            }
            Operation::Repair => repair(&store, RepairOptions::default()).await.map(Came::Repaired),
            Operation::Remove => {
                let options = RemoveOptions { names: vec![name("kept")], ..RemoveOptions::default() };
                remove(&store, options).await.map(|_| Came::Removed)
            }
            Operation::Collect => gc(&store, GcOptions::default()).await.map(|_| Came::Collected),
        }
    }

    fn fresh(&self) -> Vec<u8> {
        random_bytes(7, self.operation.stored_bytes())
    }

    /// What the operation said that is not so.
    async fn untruths(&self, store: &Store, came: &shard::Result<Came>) -> Vec<String> {
        let seen = verify_all(store, VerifyMode::Full).await;
        let mut expected = self.kept.clone();
        let mut complaints = Vec::new();
        let mut hold = |holds: bool, what: &str| {
            if !holds {
                complaints.push(what.to_owned());
            }
        };
        match came {
            Ok(Came::Put(report)) => {
                expected.insert("fresh", self.fresh());
                for object in &report.objects {
                    let good = good_shards(&seen, object.id);
                    hold(good >= self.operation.geometry().write_quorum(), "fewer shards are good than the quorum");
                    hold(report.is_degraded() || good == object.total_shards, "it is degraded, and was not said to be");
                }
            }
            Ok(Came::Repaired(report)) => {
                let healthy = report.objects.iter().filter(|object| object.after == ObjectState::Healthy);
                let is_whole = |id: ObjectId| good_shards(&seen, id) == self.operation.geometry().total_shards();
                healthy.for_each(|object| hold(is_whole(object.id), "it was said to be healthy, and is not"));
            }
            Ok(Came::Removed) => drop(expected.remove("kept")),
            Ok(Came::Recovered | Came::Collected) | Err(_) => {}
        }
        if self.operation == Operation::Repair {
            let least = seen.objects.iter().map(|object| good_shards(&seen, object.id)).min();
            hold(least >= Some(3), "a shard that was good is not any more");
        }
        let out = files_below(&self.path("out"));
        hold(out.is_empty() || matches!(came, Ok(Came::Recovered)), "it failed and left a file");
        hold(out.values().all(|bytes| *bytes == self.kept["kept"]), "the file that was recovered differs");
        hold(!matches!(came, Ok(Came::Recovered)) || out.len() == 1, "no file was recovered");
        for text in ["kept", "other", "fresh", "broken off"] {
            let now = newest(store, text).await;
            hold(now.is_some() == expected.contains_key(text), &format!("{text} is there, or is not"));
            if now.is_some() {
                hold(self.reads(store, text, expected.get(text)).await, &format!("{text} reads otherwise"));
            }
        }
        complaints
    }

    /// Whether a file is these bytes.
    async fn reads(&self, store: &Store, text: &str, bytes: Option<&Vec<u8>>) -> bool {
        let path = self.path("read");
        let options =
            RecoverOptions { existing: Existing::Replace, ..wanting(&[text], RecoverOutput::Path(path.clone())) };
        recover(store, options).await.is_ok() && std::fs::read(&path).ok().as_ref() == bytes
    }

    /// What one repair and one round of collecting leave to be done.
    async fn scars(&self, store: &Store) -> Vec<String> {
        let repaired = repair(store, RepairOptions::default()).await.expect("repaired");
        let collected = gc(store, GcOptions::default()).await.expect("collected");
        let seen = verify_all(store, VerifyMode::Full).await;
        let mut complaints = Vec::new();
        if seen.summary.healthy != seen.summary.objects {
            complaints.push(format!("one repair does not heal it: {:?} {:?}", repaired.objects, seen.objects));
        }
        if !collected.waiting.is_empty() || !collected.left_alone.is_empty() {
            complaints.push(format!("something waits still: {collected:?}"));
        }
        let known: BTreeSet<PathBuf> = seen
            .objects
            .iter()
            .flat_map(|object| {
                let path =
                    |index, place: &String| Path::new(place).join(shard_name(ShardId { object: object.id, index }));
                object.shards.iter().filter_map(move |shard| Some(path(shard.index, shard.backend.as_ref()?)))
            })
            .collect();
        let mut there: BTreeSet<PathBuf> = files_below(&self.server.bucket_folder(BUCKET)).into_keys().collect();
        there.retain(|path| path.file_name().is_some_and(|name| name != MARK_NAME));
        if there != known {
            let strays: Vec<_> = there.difference(&known).collect();
            let gone: Vec<_> = known.difference(&there).collect();
            complaints.push(format!("nobody knows of {strays:?}, and {gone:?} are not there"));
        }
        complaints
    }
}

/// How many of an object's shards can be used.
fn good_shards(seen: &VerifyReport, id: ObjectId) -> usize {
    let objects = seen.objects.iter().filter(|object| object.id == id);
    let good = |state| matches!(state, ShardState::Ok | ShardState::Misplaced);
    let shards = objects.flat_map(|object| &object.shards).filter(|shard| good(shard.state));
    shards.map(|shard| shard.index).collect::<BTreeSet<_>>().len()
}

/// A place behind the proxy, with its patience and retries.
fn place(endpoint: &str, name: &str, clients: Clients) -> Arc<dyn Backend> {
    let (request_timeout_ms, max_retries, max_attempts) = match clients {
        Clients::Hurried => (500, 1, 3),
        Clients::Patient => (8_000, 1, 3),
        Clients::AsEver => (8_000, MAX_RETRIES, MAX_ATTEMPTS),
    };
    let (patience, retries) = (patience(request_timeout_ms, max_retries), retries(max_attempts));
    let settings = CloudSettings { patience, ..settings(endpoint.to_owned(), KEY_ID, SECRET) };
    let cloud = open_cloud(&format!("s3://{BUCKET}/{name}"), &settings);
    Arc::new(RetryBackend::new(Arc::new(cloud), name, retries))
}

fn patience(request_timeout_ms: u64, max_retries: usize) -> Patience {
    Patience {
        connect_timeout: Duration::from_secs(2),
        request_timeout: Duration::from_millis(request_timeout_ms),
        upload_timeout: Duration::from_millis(2 * request_timeout_ms),
        max_retries,
        first_pause: Duration::from_millis(2),
        retry_timeout: Duration::from_secs(20),
    }
}

fn retries(max_attempts: u32) -> RetryOptions {
    RetryOptions {
        first_delay: Duration::from_millis(1),
        longest_delay: Duration::from_millis(20),
        max_attempts,
        ..RetryOptions::default()
    }
}

fn empty(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        let gone = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        gone.expect("emptied");
    }
}

/// All files of a folder; no store in it is open.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in walkdir::WalkDir::new(from).min_depth(1) {
        let entry = entry.expect("an entry");
        let target = to.join(entry.path().strip_prefix(from).expect("below"));
        if entry.file_type().is_dir() {
            std::fs::create_dir(&target).expect("a folder");
        } else {
            std::fs::copy(entry.path(), &target).expect("copied");
        }
    }
}
