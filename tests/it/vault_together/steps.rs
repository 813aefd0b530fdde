//! What a worker may do with a vault or a chamber, drawn by chance, and how it is done to each of them.

use crate::soak::Dice;
use serde::{Deserialize, Serialize};
use shard::chamber::{self, Chamber, Purpose};
use shard::id::Digest;
use shard::vault::{self, Clock, Durability, Options, Vault, VaultName};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Few enough to be met again by everybody, in three groups that a prefix tells apart.
pub(super) type Key = (u8, String);
const GROUPS: usize = 3;
const NAMES: [&str; 6] = ["", "a", "a\0", "ab", "ä", "名"];
/// How many contents there are.
const CONTENTS: usize = 12;
/// Entries expire after at most so many numbers of the sequence: while others still meet them.
const MAX_TTL: usize = 150;
/// A transaction does at most so much.
const MAX_STEPS: usize = 4;

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    Put(Key, i64),
    PutWithTtl(Key, i64, u64),
    Insert(Key, i64),
    Get(Key),
    GetOr(Key, i64),
    GetOrInsertWith(Key, i64),
    ContainsKey(Key),
    Remove(Key),
    Pop(Key),
    PopFirst,
    Increment(Key, i64),
    Extend(Vec<(Key, i64)>),
    Clear,
    CleanupExpired,
    Len,
    IsEmpty,
    Keys,
    Values,
    Iter,
    Range(Key, Key),
    Prefix(u8),
    KeysBeginning(u8),
    Export,
    Import { entries: Vec<(Key, i64)>, is_whole: bool },
    PutContent(u8),
    GetContent(u8),
    ChangeKey,
}

/// What it gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    Done,
    Refused,
    Value(Option<i64>),
    Count(u64),
    Truth(bool),
    Keys(Vec<Key>),
    Values(Vec<i64>),
    Entries(Vec<(Key, i64)>),
}

/// How steps are done: one call by itself, or several in a transaction that stays or is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum How {
    Direct,
    Kept,
    Undone,
}

/// What is done at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) how: How,
    pub(super) steps: Vec<Step>,
}

impl Step {
    /// Whether it may change something.
    pub(super) fn is_change(&self) -> bool {
        !matches!(
            self,
            Self::Get(_)
                | Self::GetOr(..)
                | Self::ContainsKey(_)
                | Self::Len
                | Self::IsEmpty
                | Self::Keys
                | Self::Values
                | Self::Iter
                | Self::Range(..)
                | Self::Prefix(_)
                | Self::KeysBeginning(_)
                | Self::Export
                | Self::GetContent(_)
        )
    }
}

fn key(dice: &mut Dice) -> Key {
    (dice.below(GROUPS) as u8, NAMES[dice.below(NAMES.len())].to_owned())
}

fn value(dice: &mut Dice) -> i64 {
    dice.below(1000) as i64 - 500
}

fn entries(dice: &mut Dice) -> Vec<(Key, i64)> {
    (0..dice.below(4)).map(|_| (key(dice), value(dice))).collect()
}

impl Job {
    /// A job, of steps that `draw` draws.
    pub(super) fn draw(dice: &mut Dice, draw: fn(&mut Dice, How) -> Step) -> Self {
        let how = [How::Direct, How::Direct, How::Direct, How::Kept, How::Kept, How::Undone][dice.below(6)];
        let count = if how == How::Direct { 1 } else { 1 + dice.below(MAX_STEPS) };
        Self { how, steps: (0..count).map(|_| draw(dice, how)).collect() }
    }
}

/// A step that a vault knows.
pub(super) fn vault_step(dice: &mut Dice, how: How) -> Step {
    match dice.below(40) {
        0..4 => Step::Put(key(dice), value(dice)),
        4..7 => Step::PutWithTtl(key(dice), value(dice), dice.below(MAX_TTL) as u64),
        7..10 => Step::Insert(key(dice), value(dice)),
        10..13 => Step::Get(key(dice)),
        13 if how == How::Direct => Step::GetOr(key(dice), value(dice)),
        14..16 => Step::GetOrInsertWith(key(dice), value(dice)),
        16 => Step::ContainsKey(key(dice)),
        17..19 => Step::Remove(key(dice)),
        19..21 => Step::Pop(key(dice)),
        21 => Step::PopFirst,
        22..26 => Step::Increment(key(dice), value(dice)),
        26..28 => Step::Extend(entries(dice)),
        28 if dice.below(4) == 0 => Step::Clear,
        29..31 => Step::CleanupExpired,
        31 => Step::Len,
        32 => Step::IsEmpty,
        33 => Step::Keys,
        34 => Step::Values,
        35 => Step::Range(key(dice), key(dice)),
        36 => Step::Prefix(dice.below(GROUPS) as u8),
        37 if how == How::Direct => Step::Export,
        38 if how == How::Direct => Step::Import { entries: entries(dice), is_whole: dice.below(4) > 0 },
        _ => Step::Iter,
    }
}

/// A step that a chamber knows.
pub(super) fn chamber_step(dice: &mut Dice, how: How) -> Step {
    match dice.below(32) {
        0..5 => Step::Put(key(dice), value(dice)),
        5..8 => Step::PutWithTtl(key(dice), value(dice), dice.below(MAX_TTL) as u64),
        8..12 => Step::Get(key(dice)),
        12..14 => Step::ContainsKey(key(dice)),
        14..18 => Step::Remove(key(dice)),
        18..20 => Step::CleanupExpired,
        20 => Step::Len,
        21 => Step::IsEmpty,
        22 if dice.below(4) == 0 => Step::Clear,
        23 => Step::KeysBeginning(dice.below(GROUPS) as u8),
        24..26 => Step::PutContent(dice.below(CONTENTS) as u8),
        26..28 => Step::GetContent(dice.below(CONTENTS) as u8),
        28 if how == How::Direct => Step::Export,
        29 if how == How::Direct => Step::Import { entries: entries(dice), is_whole: dice.below(4) > 0 },
        30 if how == How::Direct => Step::ChangeKey,
        _ => Step::Keys,
    }
}

/// What a vault and a transaction on it call alike.
macro_rules! alike {
    ($on:expr, $step:expr, $otherwise:expr) => {
        match $step {
            Step::Put(key, value) => $on.put(key, value).map(|()| Answer::Done),
            Step::PutWithTtl(key, value, ttl) => {
                $on.put_with_ttl(key, value, Duration::from_millis(*ttl)).map(|()| Answer::Done)
            }
            Step::Insert(key, value) => $on.insert(key, value).map(Answer::Value),
            Step::Get(key) => $on.get(key).map(Answer::Value),
            Step::GetOrInsertWith(key, value) => $on.get_or_insert_with(key, || *value).map(Some).map(Answer::Value),
            Step::ContainsKey(key) => $on.contains_key(key).map(Answer::Truth),
            Step::Remove(key) => $on.remove(key).map(Answer::Truth),
            Step::Pop(key) => $on.pop(key).map(Answer::Value),
            Step::PopFirst => Ok(Answer::Entries($on.pop_first()?.into_iter().collect())),
            Step::Increment(key, by) => $on.increment(key, *by).map(Some).map(Answer::Value),
            Step::Extend(entries) => $on.extend(entries.iter().map(|(key, value)| (key, value))).map(Answer::Count),
            Step::Clear => $on.clear().map(Answer::Count),
            Step::CleanupExpired => $on.cleanup_expired().map(Answer::Count),
            Step::Len => $on.len().map(Answer::Count),
            Step::IsEmpty => $on.is_empty().map(Answer::Truth),
            Step::Range(from, to) if from <= to => listed($on.range(from.clone()..to.clone())?).map(Answer::Entries),
            Step::Range(from, _) => listed($on.range(from.clone()..)?).map(Answer::Entries),
            Step::Prefix(group) => listed($on.prefix(&(*group,))?).map(Answer::Entries),
            other => $otherwise(other),
        }
    };
}

fn listed<T>(found: impl Iterator<Item = vault::Result<T>>) -> vault::Result<Vec<T>> {
    found.collect()
}

pub(super) fn on_vault(vault: &Vault, desk: &Desk, step: &Step) -> vault::Result<Answer> {
    let by_itself = |step: &Step| match step {
        Step::GetOr(key, otherwise) => vault.get_or(key, *otherwise).map(Some).map(Answer::Value),
        Step::Keys => listed(vault.keys()?).map(Answer::Keys),
        Step::Values => listed(vault.values()?).map(Answer::Values),
        Step::Iter => listed(vault.iter()?).map(Answer::Entries),
        Step::Export => desk.exported(|name, out| vault.export(name, out)),
        Step::Import { entries, is_whole } => match vault.import(&mut desk.export_of(entries, *is_whole)?.as_slice()) {
            Err(vault::Error::Import { .. }) => Ok(Answer::Refused),
            outcome => outcome.map(Answer::Count),
        },
        other => unreachable!("a vault knows no {other:?}"),
    };
    alike!(vault, step, by_itself)
}

pub(super) fn in_vault(tx: &vault::Transaction<'_>, step: &Step) -> vault::Result<Answer> {
    let inside = |step: &Step| match step {
        Step::Keys => listed(tx.keys()).map(Answer::Keys),
        Step::Values => listed(tx.values()).map(Answer::Values),
        Step::Iter => listed(tx.iter()).map(Answer::Entries),
        other => unreachable!("a transaction knows no {other:?}"),
    };
    alike!(tx, step, inside)
}

fn content(number: u8) -> Vec<u8> {
    vec![number; usize::from(number) * 9]
}

fn hash(number: u8) -> Digest {
    Digest(*blake3::hash(&content(number)).as_bytes())
}

/// Whether it is there; what is there is right.
fn found_content(number: u8, found: Option<&[u8]>) -> Answer {
    assert!(found.is_none_or(|found| found == content(number)), "the content of a hash is another");
    Answer::Truth(found.is_some())
}

pub(super) fn on_chamber(chamber: &Chamber, desk: &Desk, step: &Step) -> chamber::Result<Answer> {
    match step {
        Step::Put(key, value) => chamber.store(key, value).map(|()| Answer::Done),
        Step::PutWithTtl(key, value, ttl) => {
            chamber.store_with_ttl(key, value, Duration::from_millis(*ttl)).map(|()| Answer::Done)
        }
        Step::Get(key) => chamber.retrieve(key).map(Answer::Value),
        Step::ContainsKey(key) => chamber.exists(key).map(Answer::Truth),
        Step::Remove(key) => chamber.delete(key).map(Answer::Truth),
        Step::CleanupExpired => chamber.cleanup_expired().map(Answer::Count),
        Step::Len => chamber.len().map(Answer::Count),
        Step::IsEmpty => chamber.is_empty().map(Answer::Truth),
        Step::Clear => chamber.clear().map(Answer::Count),
        Step::Keys => chamber.list_keys().map(Answer::Keys),
        Step::KeysBeginning(group) => chamber.list_keys_beginning(&(*group,)).map(Answer::Keys),
        Step::PutContent(number) => {
            assert_eq!(chamber.put(&content(*number))?, hash(*number));
            Ok(Answer::Done)
        }
        Step::GetContent(number) => Ok(found_content(*number, chamber.get(hash(*number))?.as_deref())),
        Step::Export => desk.exported(|name, out| chamber.export(name, out)),
        Step::Import { entries, is_whole } => {
            let text = desk.export_of(entries, *is_whole)?;
            match chamber.import(&mut text.as_slice()) {
                Err(chamber::Error::Vault(vault::Error::Import { .. })) => Ok(Answer::Refused),
                outcome => outcome.map(Answer::Count),
            }
        }
        other => unreachable!("a chamber knows no {other:?}"),
    }
}

pub(super) fn in_chamber(tx: &chamber::Transaction<'_>, step: &Step) -> chamber::Result<Answer> {
    const RECORD: Purpose = Purpose::RECORD;
    match step {
        Step::Put(key, value) => tx.store(RECORD, key, value).map(|()| Answer::Done),
        Step::PutWithTtl(key, value, ttl) => {
            tx.store_with_ttl(key, value, Duration::from_millis(*ttl)).map(|()| Answer::Done)
        }
        Step::Get(key) => tx.retrieve(RECORD, key).map(Answer::Value),
        Step::ContainsKey(key) => tx.exists(RECORD, key).map(Answer::Truth),
        Step::Remove(key) => tx.delete(RECORD, key).map(Answer::Truth),
        Step::CleanupExpired => tx.cleanup_expired().map(Answer::Count),
        Step::Len => tx.len(RECORD).map(Answer::Count),
        Step::IsEmpty => tx.is_empty(RECORD).map(Answer::Truth),
        Step::Clear => tx.clear(RECORD).map(Answer::Count),
        Step::Keys => tx.list_keys(RECORD).map(Answer::Keys),
        Step::KeysBeginning(group) => tx.list_keys_beginning(RECORD, &(*group,)).map(Answer::Keys),
        Step::PutContent(number) => {
            assert_eq!(tx.put(&content(*number))?, hash(*number));
            Ok(Answer::Done)
        }
        Step::GetContent(number) => Ok(found_content(*number, tx.get(hash(*number))?.as_deref())),
        other => unreachable!("a transaction knows no {other:?}"),
    }
}

/// A vault of a worker's own, in which exports are made and read.
#[derive(Debug)]
pub(super) struct Desk {
    vault: Vault,
    name: VaultName,
}

impl Desk {
    /// Its time stands still, so that nothing expires in it.
    pub(super) fn new(folder: &Path) -> Self {
        let options = Options { clock: Clock::new(|| 0), durability: Durability::Relaxed };
        let vault = Vault::open(folder, "desk", options).expect("a vault");
        Self { vault, name: VaultName::new("together").expect("a name") }
    }

    /// What is in an export, once it is taken in here.
    fn exported<E>(&self, export: impl FnOnce(&VaultName, &mut dyn Write) -> Result<u64, E>) -> Result<Answer, E> {
        let mut text = Vec::new();
        let count = export(&self.name, &mut text)?;
        self.vault.clear().expect("cleared");
        assert_eq!(self.vault.import(&mut text.as_slice()).expect("what was exported is imported"), count);
        let found = listed(self.vault.iter().expect("entries"));
        Ok(Answer::Entries(found.expect("what was exported is there")))
    }

    /// An export with these entries, or one that is cut short.
    fn export_of(&self, entries: &[(Key, i64)], is_whole: bool) -> vault::Result<Vec<u8>> {
        self.vault.clear()?;
        self.vault.extend(entries.iter().map(|(key, value)| (key, value)))?;
        let mut text = Vec::new();
        self.vault.export(&self.name, &mut text)?;
        let length = if is_whole { text.len() } else { text.len() - 2 };
        text.truncate(length);
        Ok(text)
    }
}
