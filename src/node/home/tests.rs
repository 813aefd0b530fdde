//! A node's folder: what is made once, what is changed whole, and what damage is called.

use super::*;
use crate::crypto::ChamberKey;
use crate::crypto::PublicKey;
use crate::engine::{PageRequest, ProofsOf};
use crate::id::{ObjectId, PeerId, ShardId};
use crate::node::storage::{AnsweredChallenge, AnsweredScrub, BlockAnswer, StorageEvent};
use crate::peer::storage::{MAX_NAMED_SHARDS, MAX_NOTICES, ScrubPage};
use crate::peer::{PinError, Pins, node_id};
use crate::vault::Durability;
use std::fs;

fn home() -> (tempfile::TempDir, NodeHome) {
    let dir = tempfile::tempdir().expect("a folder");
    let home = NodeHome::at(dir.path().join("store/node"));
    (dir, home)
}

#[test]
fn a_node_is_made_once_and_is_the_same_whenever_it_is_opened() {
    let (_dir, home) = home();
    let error = home.identity().expect_err("there is none");
    assert!(error.kind == ErrorKind::NoStore && error.hint.is_some_and(|hint| hint.contains("node init")));
    let id = home.init(&NodeSettings::default()).expect("made");
    assert_eq!(home.init(&NodeSettings::default()).expect_err("it is there").kind, ErrorKind::Refused);
    assert_eq!(home.open().expect("opened").identity.id(), id);
    assert_eq!(home.settings().expect("settings"), NodeSettings::default());
    let mut text = fs::read(home.key_file()).expect("the key");
    text[20] ^= 1;
    fs::write(home.key_file(), text).expect("damaged");
    assert_eq!(home.open().expect_err("damaged").kind, ErrorKind::Damaged);
}

#[test]
fn a_change_of_seed_goes_through_two_seeds_and_ends_with_the_newer() {
    let (_dir, home) = home();
    assert_eq!(home.seeds(None).expect_err("none").kind, ErrorKind::NotFound);
    let (first, count) = home.new_seed().expect("made");
    assert_eq!((count, home.seeds(None).expect("one").seeds().len()), (1, 1));
    assert_eq!(home.retire_seed().expect_err("the only one").kind, ErrorKind::Refused);
    let other = NodeHome::at(home.folder().join("other"));
    let (second, _) = other.new_seed().expect("made");
    assert_eq!(home.add_seed(second.to_text().as_bytes(), "a file").expect("taken in"), 2);
    assert_eq!(home.seeds(None).expect("two").first(), &first);
    assert_eq!(home.new_seed().expect_err("a third").kind, ErrorKind::Refused);
    home.retire_seed().expect("retired");
    assert_eq!(home.seeds(None).expect("one").seeds(), [second]);
    assert_eq!(home.add_seed(b"", "nothing").expect_err("no seed").kind, ErrorKind::Invalid);
    assert_eq!(home.add_seed(b"SHARD-SEED-1 0000", "x").expect_err("mistyped").kind, ErrorKind::WrongKey);
    let named = home.folder().join("named");
    fs::write(&named, first.to_text().as_bytes()).expect("written");
    assert_eq!(home.seeds(Some(&named)).expect_err("others can read it").kind, ErrorKind::Refused);
}

#[test]
fn pins_outlive_the_process_and_go_only_when_they_are_forgotten() {
    let (_dir, home) = home();
    home.init(&NodeSettings::default()).expect("made");
    let (one, other) = (PublicKey([1; 32]), PublicKey([2; 32]));
    let address = "node://friend:7440".parse().expect("an address");
    home.open().expect("opened").records.check(&address, &one).expect("first met");
    let records = home.open().expect("opened again").records;
    assert!(matches!(records.check(&address, &other), Err(PinError::Changed { .. })));
    records.check(&address, &one).expect("the first stays");
    let peers = records.peers().expect("peers");
    assert_eq!((peers.len(), peers[0].addresses.clone()), (1, vec![address.clone()]));
    assert_eq!(records.forget(&Forgotten::Address("node://other:1".parse().expect("an address"))).expect("none"), 0);
    assert_eq!(records.forget(&Forgotten::Peer(PeerId::from(node_id(&other)))).expect("none"), 0);
    assert_eq!(records.forget(&Forgotten::Peer(PeerId::from(node_id(&one)))).expect("forgotten"), 1);
    records.check(&address, &other).expect("met anew");
    assert_eq!(records.forget(&Forgotten::Address(address)).expect("forgotten"), 1);
    assert!(records.peers().expect("peers").is_empty());
}

#[test]
fn the_oldest_answers_are_forgotten_together_once_there_are_too_many() {
    let dir = tempfile::tempdir().expect("a folder");
    let records = records_in(dir.path());
    let keep = |first: u64, count: u64| {
        let answered = AnsweredChallenge {
            asked_by: NodeId([1; 32]),
            owner: NodeId([1; 32]),
            backend: None,
            shard: ShardId { object: ObjectId([1; 16]), index: 0 },
            blocks: (first..first + count).map(|block| (block, BlockAnswer::Shown)).collect(),
        };
        records.keep_answer(&StorageEvent::Challenge(answered)).expect("kept");
    };
    (0..12).for_each(|round| keep(round * 1000, 1000));
    assert_eq!(records.engine().count_proofs(ProofsOf::All).expect("counted"), 12_000);
    keep(12_000, 1);
    assert_eq!(records.engine().count_proofs(ProofsOf::All).expect("counted"), 10_000);
    let newest = records.answers(1000).expect("answers");
    assert_eq!((newest.len(), newest[0].stripe_index), (1000, 12_000));
}

#[test]
fn messages_are_kept_by_peer_newest_first_and_no_peer_crowds_out_another() {
    let dir = tempfile::tempdir().expect("a folder");
    let records = records_in(dir.path());
    let (quiet, loud) = (PeerId([1; 32]), PeerId([2; 32]));
    let notice = |number: usize| Notice::new(NoticeKind::Text, format!("{number}")).expect("a notice");
    records.keep(quiet, Direction::Sent, &notice(0)).expect("kept");
    for number in 0..1100 {
        records.keep(loud, Direction::Received, &notice(number)).expect("kept");
    }
    let of_quiet = records.messages(Some(quiet), PageRequest::newest(10)).expect("messages");
    assert_eq!((of_quiet.messages.len(), of_quiet.messages[0].direction), (1, Direction::Sent));
    let of_loud = records.messages(Some(loud), PageRequest::newest(1000)).expect("messages");
    let texts: Vec<&str> = of_loud.messages.iter().map(|message| message.text.as_str()).collect();
    assert_eq!((texts[0], texts[999]), ("1099", "100"));
    assert!(records.engine().count_messages_of(loud).expect("counted") <= 1064);
    assert_eq!(records.messages(None, PageRequest::newest(1)).expect("messages").messages[0].peer, loud);
    assert_eq!(records.messages(None, PageRequest::newest(0)).expect_err("no page").kind, ErrorKind::Invalid);
}

/// Nothing here is about what outlives a loss of power, and there is much to write.
fn records_in(folder: &Path) -> Records {
    let options = EngineOptions { durability: Durability::Relaxed, ..EngineOptions::default() };
    let key = ChamberKey::from_secret(NodeId([3; 32]), &[4; 32]);
    Records::new(Arc::new(StorageEngine::open(folder, RECORDS_NAME, key, options).expect("records")))
}

fn shards(range: std::ops::Range<u16>) -> Vec<ShardId> {
    let shard = |number: u16| {
        let mut object = [0; 16];
        object[..2].copy_from_slice(&number.to_be_bytes());
        ShardId { object: ObjectId(object), index: 0 }
    };
    range.map(shard).collect()
}

#[test]
fn what_an_owner_was_not_told_is_one_notice_however_much_it_is_and_each_hearer_has_it_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let records = records_in(dir.path());
    let (owner, other) = (NodeId([1; 32]), NodeId([2; 32]));
    let hear = |after, hearer| records.notices_for(owner, after, hearer).expect("notices");
    assert_eq!(hear(0, Hearer::Owner), []);
    for found in [0..1, 0..3, 0..3, 3..100] {
        records.found_damaged(owner, &shards(found)).expect("kept");
    }
    let [first] = hear(0, Hearer::Grantee).try_into().expect("one notice");
    assert_eq!((first.kind, first.shard_count, first.shards.len()), (NoticeKind::RepairNeeded, 100, MAX_NAMED_SHARDS));
    assert!(first.text.contains("100 of your shards") && first.text.ends_with("and others"), "{}", first.text);
    // A machine with a grant hears it and does not take it away from the owner, whose own asking says that it has it.
    assert_eq!(hear(first.number, Hearer::Grantee), []);
    records.found_damaged(owner, &shards(100..101)).expect("kept");
    let [more] = hear(0, Hearer::Owner).try_into().expect("still one");
    assert_eq!((more.shard_count, more.number > first.number), (101, true));
    assert_eq!(hear(first.number, Hearer::Grantee), std::slice::from_ref(&more));
    let waits = || records.messages(Some(owner.into()), PageRequest::newest(10)).expect("messages").messages;
    assert_eq!(waits().iter().map(|message| message.direction).collect::<Vec<_>>(), [Direction::Waiting]);
    assert_eq!(hear(more.number, Hearer::Owner), []);
    assert_eq!(waits()[0].direction, Direction::Sent);
    // Another machine of the owner's hears it all the same, and a number from other records is none.
    assert_eq!(hear(0, Hearer::Owner), std::slice::from_ref(&more));
    assert_eq!(hear(u64::MAX, Hearer::Owner), std::slice::from_ref(&more));
    // What was told is not told again, and what was whole meanwhile is.
    records.found_damaged(owner, &shards(0..101)).expect("nothing new");
    assert_eq!(hear(more.number, Hearer::Owner), []);
    let [mended] = shards(7..8).try_into().expect("one");
    records.keep_answer(&StorageEvent::Replaced { owner, shard: mended }).expect("noted");
    records.found_damaged(owner, &shards(0..101)).expect("kept");
    let [again] = hear(more.number, Hearer::Owner).try_into().expect("one notice");
    assert_eq!((again.shard_count, again.shards), (1, vec![mended]));
    assert_eq!(records.notices_for(other, 0, Hearer::Owner).expect("notices"), []);
}

#[test]
fn a_scrub_that_comes_by_a_shard_and_finds_it_whole_makes_its_next_damage_news() {
    let dir = tempfile::tempdir().expect("a folder");
    let records = records_in(dir.path());
    let owner = NodeId([1; 32]);
    let known = shards(0..10);
    records.found_damaged(owner, &known).expect("kept");
    let heard = records.notices_for(owner, 0, Hearer::Owner).expect("notices")[0].number;
    let scrub = |after: Option<ShardId>, next: Option<ShardId>, damaged: Vec<ShardId>| {
        let page = ScrubPage { checked_shards: 1, checked_bytes: 1, damaged, next };
        let event = AnsweredScrub { asked_by: owner, owner, backend: None, after, page };
        records.keep_answer(&StorageEvent::Scrub(event)).expect("kept");
    };
    // Behind 1 and up to 5, of which 4 is damaged still: 2, 3 and 5 were read and are whole.
    scrub(Some(known[1]), Some(known[5]), vec![known[4]]);
    assert_eq!(records.notices_for(owner, heard, Hearer::Owner).expect("notices"), []);
    scrub(None, None, known.clone());
    let [news] = records.notices_for(owner, heard, Hearer::Owner).expect("notices").try_into().expect("one");
    assert_eq!(news.shards, [known[2], known[3], known[5]]);
}

#[test]
fn damage_that_is_found_after_an_owner_was_given_a_notice_is_a_notice_of_its_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let records = records_in(dir.path());
    let owner = NodeId([1; 32]);
    let hear = |after, hearer| records.notices_for(owner, after, hearer).expect("notices");
    records.found_damaged(owner, &shards(0..40)).expect("kept");
    let [first] = hear(0, Hearer::Owner).try_into().expect("one notice");
    // The owner mends all of it in the session in which it heard, and does not ask again.
    for shard in shards(0..40) {
        records.keep_answer(&StorageEvent::Replaced { owner, shard }).expect("noted");
    }
    records.found_damaged(owner, &shards(70..71)).expect("kept");
    let [news] = hear(first.number, Hearer::Owner).try_into().expect("one notice");
    assert_eq!((news.shard_count, news.shards), (1, shards(70..71)));
}

#[test]
fn damage_that_was_mended_is_told_to_nobody_who_comes_later() {
    let dir = tempfile::tempdir().expect("a folder");
    let records = records_in(dir.path());
    let owner = NodeId([1; 32]);
    let hear = |hearer| records.notices_for(owner, 0, hearer).expect("notices");
    records.found_damaged(owner, &shards(0..3)).expect("kept");
    let mend = |shard| records.keep_answer(&StorageEvent::Replaced { owner, shard }).expect("noted");
    shards(0..2).into_iter().for_each(mend);
    assert_eq!(hear(Hearer::Grantee).len(), 1, "one of them still is");
    shards(2..3).into_iter().for_each(mend);
    assert_eq!((hear(Hearer::Grantee), hear(Hearer::Owner)), (Vec::new(), Vec::new()));
}

#[test]
fn what_is_kept_for_one_owner_has_a_bound_and_the_newest_is_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let records = records_in(dir.path());
    let owner = NodeId([1; 32]);
    for number in 0..40 {
        let notice = Notice::new(NoticeKind::Text, format!("{number}")).expect("a notice");
        records.tell_owner(owner, &notice, Direction::Waiting).expect("kept");
    }
    let (mut after, mut texts) = (0, Vec::new());
    loop {
        let page = records.notices_for(owner, after, Hearer::Grantee).expect("notices");
        assert!(page.len() <= MAX_NOTICES && page.iter().all(|notice| notice.number > after));
        let Some(last) = page.last() else { break };
        after = last.number;
        texts.extend(page.into_iter().map(|notice| notice.text));
    }
    assert_eq!(texts, (24..40).map(|number| number.to_string()).collect::<Vec<_>>());
    // What has no word of its own is said once until it is heard.
    let full = Notice::new(NoticeKind::QuotaReached, "no room").expect("a notice");
    (0..3).for_each(|_| records.tell_owner(owner, &full, Direction::Waiting).expect("kept"));
    let [said] = records.notices_for(owner, after, Hearer::Owner).expect("notices").try_into().expect("one");
    assert_eq!(records.notices_for(owner, said.number, Hearer::Owner).expect("notices"), []);
    records.tell_owner(owner, &full, Direction::Waiting).expect("kept");
    assert_eq!(records.notices_for(owner, said.number, Hearer::Owner).expect("notices").len(), 1);
    // Of more damaged shards than are remembered nothing more is said.
    records.found_damaged(owner, &shards(0..3000)).expect("kept");
    let told = records.notices_for(owner, said.number, Hearer::Owner).expect("notices").pop().expect("a notice");
    assert_eq!(told.shard_count, 1000);
    records.found_damaged(owner, &shards(0..4000)).expect("kept");
    assert_eq!(records.notices_for(owner, told.number, Hearer::Owner).expect("notices"), []);
}

#[tokio::test]
async fn records_that_are_damaged_or_gone_begin_anew_from_the_last_backup() {
    let (_dir, home) = home();
    home.init(&NodeSettings::default()).expect("made");
    let records = home.open().expect("opened").records;
    let (peer, notice) = (PeerId([1; 32]), Notice::new(NoticeKind::Text, "remember").expect("a notice"));
    records.keep(peer, Direction::Received, &notice).expect("kept");
    serve::backups(&home, &records).back_up().await.expect("backed up");
    let path = records.engine().path().to_owned();
    drop(records);
    fs::write(&path, b"this is no database, and so long that it is looked at as one").expect("damaged");
    let error = home.open().expect_err("damaged");
    assert!(error.kind == ErrorKind::Damaged && error.hint.is_some_and(|hint| hint.contains("last backup")));
    let (opened, set_aside) = serve::open(&home).await.expect("begun anew");
    assert!(set_aside.is_some_and(|path| path.exists()));
    let remembers = |records: &Records| {
        let page = records.messages(Some(peer), PageRequest::newest(10)).expect("messages");
        page.messages.iter().map(|message| message.text.clone()).collect::<Vec<_>>() == ["remember"]
    };
    assert!(remembers(&opened.records));
    drop(opened);
    fs::remove_dir_all(home.folder().join("records")).expect("removed");
    let (opened, set_aside) = serve::open(&home).await.expect("begun anew");
    assert!(set_aside.is_none() && remembers(&opened.records));
}
