//! The record engine against `BTreeMap`: a state machine over its whole interface, and many threads and processes at once.

use crate::soak::{self, Dice, seed};
use shard::crypto::ChamberKey;
use shard::engine::{
    Collection, EngineOptions, Message, Outcome, Page, PageRequest, Peer, Proof, ProofsOf, Session, StorageEngine,
};
use shard::id::{BackendId, MessageId, NodeId, ObjectId, PeerId, ProofId, SessionId};
use shard::vault::{Blob, Clock, Durability};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Steps of the state machine, in a sample and in all.
const STEPS: [usize; 2] = [1_500, 60_000];
/// How many ids of each sort there are: few enough to meet again.
const IDS: usize = 90;
/// How many peers, objects and backends there are.
const OTHERS: usize = 3;
/// How many messages each thread or process saves.
const SAVES: u64 = 40;
/// Names the folder in which a process that this test starts takes part.
const WORKER: &str = "SHARD_TEST_ENGINE_WORKER";

fn key() -> ChamberKey {
    ChamberKey::from_secret(NodeId([1; 32]), &[2; 32])
}

/// What should be there. Lists are in the order of saving.
#[derive(Default, Clone)]
struct Model {
    messages: BTreeMap<MessageId, Message>,
    sessions: BTreeMap<SessionId, Session>,
    proofs: BTreeMap<ProofId, Proof>,
    peers: BTreeMap<PeerId, Peer>,
    metadata: BTreeMap<String, u64>,
    recent: Vec<MessageId>,
    of_peers: BTreeMap<PeerId, Vec<MessageId>>,
    challenges: Vec<ProofId>,
    of_objects: BTreeMap<ObjectId, Vec<ProofId>>,
    by_backends: BTreeMap<BackendId, Vec<ProofId>>,
}

/// Takes an id out of a list.
fn drop_from<T: PartialEq>(list: &mut Vec<T>, id: &T) {
    list.retain(|other| other != id);
}

/// Moves an id from one list to another, where they are not the same; `None` for one that was not there before.
fn move_to<K: Ord + Copy, T: PartialEq + Copy>(lists: &mut BTreeMap<K, Vec<T>>, from: Option<K>, to: K, id: T) {
    if from == Some(to) {
        return;
    }
    if let Some(list) = from.and_then(|from| lists.get_mut(&from)) {
        drop_from(list, &id);
    }
    lists.entry(to).or_default().push(id);
}

impl Model {
    fn save_message(&mut self, message: Message) {
        let before = self.messages.get(&message.id).map(|before| before.peer);
        if before.is_none() {
            self.recent.push(message.id);
        }
        move_to(&mut self.of_peers, before, message.peer, message.id);
        self.messages.insert(message.id, message);
    }

    fn delete_message(&mut self, id: MessageId) -> bool {
        let Some(message) = self.messages.remove(&id) else { return false };
        drop_from(&mut self.recent, &id);
        drop_from(self.of_peers.entry(message.peer).or_default(), &id);
        true
    }

    fn save_proof(&mut self, proof: Proof) {
        let before = self.proofs.get(&proof.id).cloned();
        if before.is_none() {
            self.challenges.push(proof.id);
        }
        move_to(&mut self.of_objects, before.as_ref().map(|before| before.object), proof.object, proof.id);
        move_to(&mut self.by_backends, before.as_ref().map(|before| before.backend), proof.backend, proof.id);
        self.proofs.insert(proof.id, proof);
    }

    fn delete_proof(&mut self, id: ProofId) -> bool {
        let Some(proof) = self.proofs.remove(&id) else { return false };
        drop_from(&mut self.challenges, &id);
        drop_from(self.of_objects.entry(proof.object).or_default(), &id);
        drop_from(self.by_backends.entry(proof.backend).or_default(), &id);
        true
    }

    fn counts(&self) -> [u64; 5] {
        let (messages, sessions, proofs) = (self.messages.len(), self.sessions.len(), self.proofs.len());
        [messages, sessions, proofs, self.peers.len(), self.metadata.len()].map(|count| count as u64)
    }
}

/// The records of a list of ids, the newest first.
fn records<K: Ord, R: Clone>(ids: Option<&Vec<K>>, known: &BTreeMap<K, R>) -> Vec<R> {
    ids.into_iter().flatten().rev().map(|id| known[id].clone()).collect()
}

/// All records of a list, page by page.
fn all_pages<R>(limit: usize, mut ask: impl FnMut(PageRequest) -> Page<R>) -> Vec<R> {
    let (mut found, mut request) = (Vec::new(), Some(PageRequest::newest(limit)));
    while let Some(asked) = request {
        let page = ask(asked);
        request = PageRequest::after(limit, &page);
        assert!(request.is_none() || page.records.len() == limit, "only the last page may be short");
        found.extend(page.records);
    }
    found
}

struct World {
    folder: tempfile::TempDir,
    now: Arc<AtomicI64>,
    engine: StorageEngine,
    model: Model,
    /// A snapshot, and what was there.
    kept: Option<(Vec<u8>, Model)>,
}

fn open(folder: &Path, now: &Arc<AtomicI64>) -> StorageEngine {
    let now = Arc::clone(now);
    let clock = Clock::new(move || now.load(Ordering::SeqCst));
    let options = EngineOptions { clock, durability: Durability::Relaxed, ..EngineOptions::default() };
    StorageEngine::open(folder, "model", key(), options).expect("an engine")
}

impl World {
    fn new() -> Self {
        let (folder, now) = (tempfile::tempdir().expect("a folder"), Arc::new(AtomicI64::new(1_000)));
        let engine = open(folder.path(), &now);
        Self { folder, now, engine, model: Model::default(), kept: None }
    }

    fn step(&mut self, dice: &mut Dice) {
        // The clock goes anywhere; the order of what was saved does not follow it.
        self.now.store(dice.below(1_000_000) as i64, Ordering::SeqCst);
        let (number, length) = (dice.below(IDS) as u8, dice.below(60));
        let (id, other, body) = ([number; 16], dice.below(OTHERS) as u8, dice.bytes(length));
        match dice.below(20) {
            0..7 => {
                let message = Message::new(MessageId(id), PeerId([other; 32]), body);
                self.model.save_message(self.engine.save_message(message).expect("saved"));
            }
            7..9 => {
                let deleted = self.engine.delete_message(MessageId(id)).expect("deleted");
                assert_eq!(deleted, self.model.delete_message(MessageId(id)));
            }
            9..12 => {
                let proof = proof(number, [other, dice.below(OTHERS) as u8], body);
                self.model.save_proof(self.engine.save_proof(proof).expect("saved"));
            }
            12 => {
                let deleted = self.engine.delete_proof(ProofId(id)).expect("deleted");
                assert_eq!(deleted, self.model.delete_proof(ProofId(id)));
            }
            13 => self.step_of_sessions(Session::new(SessionId(id), PeerId([other; 32]), body), dice),
            14 => self.step_of_peers(Peer::new(PeerId([number; 32]), body), dice),
            15 => self.step_of_metadata(&format!("name {number}"), dice),
            16 => self.look_at_lists(other, 1 + dice.below(20)),
            _ => self.step_at_large(dice),
        }
    }

    fn step_of_sessions(&mut self, session: Session, dice: &mut Dice) {
        if dice.below(3) == 0 {
            let deleted = self.engine.delete_session(session.id).expect("deleted");
            assert_eq!(deleted, self.model.sessions.remove(&session.id).is_some());
        } else {
            let saved = self.engine.save_session(session).expect("saved");
            self.model.sessions.insert(saved.id, saved);
        }
        let all: Vec<Session> = self.model.sessions.values().cloned().collect();
        assert_eq!(self.engine.sessions().expect("listed"), all);
    }

    fn step_of_peers(&mut self, peer: Peer, dice: &mut Dice) {
        if dice.below(3) == 0 {
            assert_eq!(self.engine.delete_peer(peer.id).expect("deleted"), self.model.peers.remove(&peer.id).is_some());
        } else {
            let saved = self.engine.save_peer(peer).expect("saved");
            self.model.peers.insert(saved.id, saved);
        }
        let all: Vec<Peer> = self.model.peers.values().cloned().collect();
        assert_eq!(self.engine.peers().expect("listed"), all);
    }

    fn step_of_metadata(&mut self, name: &str, dice: &mut Dice) {
        if dice.below(3) == 0 {
            let deleted = self.engine.delete_metadata(name).expect("deleted");
            assert_eq!(deleted, self.model.metadata.remove(name).is_some());
        } else {
            let value = dice.next();
            self.engine.set_metadata(name, &value).expect("set");
            self.model.metadata.insert(name.to_owned(), value);
        }
        assert_eq!(self.engine.metadata(name).expect("asked"), self.model.metadata.get(name).copied());
    }

    fn look_at_lists(&self, other: u8, limit: usize) {
        let (engine, model) = (&self.engine, &self.model);
        let (peer, object, backend) = (PeerId([other; 32]), ObjectId([other; 16]), BackendId([other; 16]));
        let recent = all_pages(limit, |request| engine.recent_messages(request).expect("a page"));
        assert!(recent.windows(2).all(|two| two[0].saved_ms >= two[1].saved_ms), "times are in the order of saving");
        assert_eq!(recent, records(Some(&model.recent), &model.messages));
        let of_peer = all_pages(limit, |request| engine.messages_of(peer, request).expect("a page"));
        assert_eq!(of_peer, records(model.of_peers.get(&peer), &model.messages));
        assert_eq!(engine.count_messages_of(peer).expect("counted"), of_peer.len() as u64);
        for (of, ids) in [
            (ProofsOf::All, Some(&model.challenges)),
            (ProofsOf::Object(object), model.of_objects.get(&object)),
            (ProofsOf::Backend(backend), model.by_backends.get(&backend)),
        ] {
            let proofs = all_pages(limit, |request| engine.proofs(of, request).expect("a page"));
            assert_eq!(engine.count_proofs(of).expect("counted"), proofs.len() as u64);
            assert_eq!(proofs, records(ids, &model.proofs), "{of:?}");
        }
    }

    fn step_at_large(&mut self, dice: &mut Dice) {
        match dice.below(60) {
            0 => {
                self.engine.clear_all().expect("cleared");
                self.model = Model::default();
            }
            1 => self.engine = open(self.folder.path(), &self.now),
            2 => {
                let mut snapshot = Vec::new();
                self.engine.snapshot(&mut snapshot).expect("a snapshot");
                self.kept = Some((snapshot, self.model.clone()));
            }
            3 => {
                let Some((snapshot, model)) = self.kept.clone() else { return };
                self.engine.restore(&mut std::io::Cursor::new(snapshot)).expect("restored");
                self.model = model;
            }
            _ => self.look_at_one(dice.below(IDS) as u8),
        }
    }

    fn look_at_one(&self, number: u8) {
        let (engine, model) = (&self.engine, &self.model);
        let message = MessageId([number; 16]);
        assert_eq!(engine.message(message).expect("asked").as_ref(), model.messages.get(&message));
        let proof = ProofId([number; 16]);
        assert_eq!(engine.proof(proof).expect("asked").as_ref(), model.proofs.get(&proof));
        let session = SessionId([number; 16]);
        assert_eq!(engine.session(session).expect("asked").as_ref(), model.sessions.get(&session));
        let peer = PeerId([number; 32]);
        assert_eq!(engine.peer(peer).expect("asked").as_ref(), model.peers.get(&peer));
        assert_eq!(counts(engine), model.counts());
    }
}

fn proof(number: u8, [object, backend]: [u8; 2], body: Vec<u8>) -> Proof {
    let outcome = match number % 4 {
        0 => Outcome::Answered,
        1 => Outcome::Missing,
        2 => Outcome::Wrong { why: "another block".to_owned() },
        _ => Outcome::Silent { why: "no answer in 5 s".to_owned() },
    };
    Proof {
        id: ProofId([number; 16]),
        object: ObjectId([object; 16]),
        shard_index: number % 5,
        stripe_index: 7,
        backend: BackendId([backend; 16]),
        outcome,
        saved_ms: 0,
        body: Blob(body),
    }
}

fn counts(engine: &StorageEngine) -> [u64; 5] {
    let collections = engine.statistics().expect("statistics").collections;
    Collection::ALL.map(|collection| collections[&collection].count)
}

#[test]
fn an_engine_does_what_maps_do_step_by_step() {
    let (mut dice, mut world) = (Dice::new(seed()), World::new());
    for _ in 0..STEPS[usize::from(soak::is_asked_for())] {
        world.step(&mut dice);
    }
    (0..OTHERS as u8).for_each(|other| world.look_at_lists(other, 7));
    assert_eq!(counts(&world.engine), world.model.counts());
    world.engine.check().expect("all is well");
    while let Some((id, _)) = world.model.messages.pop_first() {
        assert!(world.engine.delete_message(id).expect("deleted"));
    }
    while let Some((id, _)) = world.model.proofs.pop_first() {
        assert!(world.engine.delete_proof(id).expect("deleted"));
    }
    let left = world.engine.statistics().expect("statistics").collections;
    assert_eq!((left[&Collection::Messages].bytes, left[&Collection::Proofs].bytes), (0, 0));
}

/// Saves messages and takes some away, while others do.
fn work(folder: &Path, worker: u64) {
    let options = EngineOptions { durability: Durability::Relaxed, ..EngineOptions::default() };
    let engine = StorageEngine::open(folder, "shared", key(), options).expect("an engine");
    for number in 0..SAVES {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&worker.to_be_bytes());
        id[8..].copy_from_slice(&number.to_be_bytes());
        let message = Message::new(MessageId(id), PeerId([(number % 2) as u8; 32]), number.to_be_bytes());
        let saved = engine.save_message(message).expect("saved");
        assert_eq!(engine.message(saved.id).expect("asked").as_ref(), Some(&saved));
        if number % 4 == 3 {
            assert!(engine.delete_message(saved.id).expect("deleted"));
        }
        if number.is_multiple_of(10) {
            let mut snapshot = Vec::new();
            engine.snapshot(&mut snapshot).expect("a snapshot while others write");
        }
    }
}

#[test]
fn threads_and_processes_that_save_at_once_lose_no_record_and_no_entry() {
    if let Some(folder) = std::env::var_os(WORKER) {
        return work(Path::new(&folder), u64::from(std::process::id()) << 32);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let name = "engine_model::threads_and_processes_that_save_at_once_lose_no_record_and_no_entry";
    let begin = |_| {
        let program = std::env::current_exe().expect("this program");
        Command::new(program).args(["--exact", name]).env(WORKER, folder.path()).spawn().expect("it runs")
    };
    let processes: Vec<_> = (0..2).map(begin).collect();
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let folder = folder.path();
            scope.spawn(move || work(folder, worker));
        }
    });
    for mut process in processes {
        assert!(process.wait().expect("it ended").success());
    }
    let engine = StorageEngine::open(folder.path(), "shared", key(), EngineOptions::default()).expect("the engine");
    let recent = all_pages(7, |request| engine.recent_messages(request).expect("a page"));
    let kept = 4 * (SAVES - SAVES / 4);
    assert_eq!((recent.len() as u64, counts(&engine)[0]), (kept, kept));
    for peer in 0..2 {
        let of_peer = all_pages(7, |request| engine.messages_of(PeerId([peer; 32]), request).expect("a page"));
        let expected: Vec<Message> = recent.iter().filter(|message| message.peer.0[0] == peer).cloned().collect();
        assert_eq!(of_peer, expected, "both lists are in one order");
    }
    engine.check().expect("all is well");
}
