//! The key file: readable by its owner alone, replaced whole, in plain or under a passphrase.

use super::held::Held;
use super::{KEY_NAME, config, fill_random, random_bytes};
use crate::backend::NodeAccess;
use crate::crypto::{
    CatalogKey, KeyFile, KeyFileError, Keyring, LimitedKey, MAX_KEY_FILE_BYTES, MAX_KIT_BYTES, MAX_LIMITED_KEY_BYTES,
    MasterKey, NodePass, Passphrase, PassphraseCost, RecoveryKit, SALT_BYTES,
};
use crate::error::{Error, ErrorKind, Result};
use crate::peer::{GroupSeed, NodeGrant, SeedRing};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Asks for the passphrase, where one is needed: a person at a terminal, or whatever was set up before.
pub type PassphraseSource = Arc<dyn Fn() -> Result<Passphrase> + Send + Sync>;

/// The keys of a store, and what they are kept under.
#[derive(Debug)]
pub(super) struct OpenedKey {
    pub(super) keyring: Keyring,
    pub(super) passphrase: Option<Passphrase>,
}

/// What a machine has of a store's keys.
#[derive(Debug)]
pub(super) enum HeldKey {
    /// All of them.
    Owner(OpenedKey),
    /// None of them, but one that lets it do some things without opening anything.
    Limited(LimitedKey),
}

impl HeldKey {
    /// What seals this machine's catalog.
    pub(super) fn catalog_key(&self) -> CatalogKey {
        match self {
            Self::Owner(opened) => opened.keyring.catalog_key(),
            Self::Limited(key) => key.catalog_key(),
        }
    }

    /// How this machine calls the nodes that keep the store's shards: as the store, or by its grant where it has one.
    pub(super) fn nodes(&self, access: &NodeAccess, dir: &Path) -> Result<NodeAccess> {
        match self {
            Self::Owner(opened) => Ok(access.of_store(&opened.keyring, Some(dir))),
            Self::Limited(key) => match granted(key, &dir.join(KEY_NAME))? {
                Some((pass, grant)) => Ok(access.of_grantee(&pass.node_seed, grant, Some(dir))),
                None => Ok(access.clone()),
            },
        }
    }
}

/// What a key brings to nodes, where it brings something.
pub(super) fn granted<'a>(key: &'a LimitedKey, path: &Path) -> Result<Option<(&'a NodePass, NodeGrant)>> {
    let LimitedKey::Verify(key) = key else { return Ok(None) };
    let Some(pass) = key.nodes() else { return Ok(None) };
    NodeGrant::parse(&pass.grant).map(|grant| Some((pass, grant))).map_err(|error| unusable(path, error))
}

/// The seeds in what a key brings; `None` where there are none.
pub(super) fn seeds_of(pass: &NodePass, path: &Path) -> Result<Option<SeedRing>> {
    let seeds: Vec<GroupSeed> = pass.seeds.iter().map(|seed| GroupSeed::from_bytes(*seed)).collect();
    (!seeds.is_empty()).then(|| SeedRing::from_seeds(seeds)).transpose().map_err(|error| unusable(path, error))
}

/// Keys brought from elsewhere, with the settings that came with them.
#[derive(Debug)]
pub struct BroughtKeys {
    /// The keys.
    pub keyring: Keyring,
    /// The seeds of the group whose nodes keep their store's shards, where a recovery kit brought them.
    pub seeds: Option<SeedRing>,
    /// The settings of their store, where a recovery kit brought them.
    pub settings: Option<String>,
}

/// A key of any kind, brought from elsewhere.
#[derive(Debug)]
pub enum BroughtKey {
    /// A store's own keys.
    Keys(BroughtKeys),
    /// One that lets a machine do some things without opening anything.
    Limited(LimitedKey),
}

/// Reads keys from a key file or a recovery kit, wherever it is.
///
/// A key file that others could read is [`ErrorKind::Refused`]; a kit, which may come from a stick that knows no owners, is
/// not. [`ErrorKind::WrongKey`] when it is neither, has a typing error, or is under a passphrase that is not given.
///
/// So it is for a verify-only or write-only key, which opens nothing.
pub fn load(path: &Path, passphrase: Option<&PassphraseSource>) -> Result<BroughtKeys> {
    match load_any(path, passphrase)? {
        BroughtKey::Keys(keys) => Ok(keys),
        BroughtKey::Limited(key) => Err(opens_nothing(path, &key)),
    }
}

/// Reads whatever kind of key is in a file, which may be a pipe: once.
pub(super) fn load_any(path: &Path, passphrase: Option<&PassphraseSource>) -> Result<BroughtKey> {
    let (text, mode) = read(path, MAX_LIMITED_KEY_BYTES.max(MAX_KIT_BYTES))?;
    if is_key_file(&text) {
        refuse_readable_by_others(path, mode)?;
    }
    read_any(&text, path, passphrase)
}

/// The same from text that is at hand; `path` says where it came from.
pub(super) fn read_any(text: &[u8], path: &Path, passphrase: Option<&PassphraseSource>) -> Result<BroughtKey> {
    match limited(text, path)? {
        Some(key) => Ok(BroughtKey::Limited(key)),
        None => Ok(BroughtKey::Keys(read_keys(text, path, passphrase)?)),
    }
}

fn opens_nothing(path: &Path, key: &LimitedKey) -> Error {
    let kind = Held::by(key).key_kind();
    let doing = format!("{} is a {kind} key: it opens nothing", path.display());
    Error::new(ErrorKind::WrongKey, doing).with_hint(
        "give the store's own key file or a recovery kit; `shard key import` makes a store of this one, in a folder of its own",
    )
}

fn read_keys(text: &[u8], path: &Path, passphrase: Option<&PassphraseSource>) -> Result<BroughtKeys> {
    if is_key_file(text) {
        refuse_longer(path, text, MAX_KEY_FILE_BYTES)?;
        let opened = open_text(text, path, passphrase)?;
        return Ok(BroughtKeys { keyring: opened.keyring, seeds: None, settings: None });
    }
    // What is not UTF-8 can be no line of a kit that is read; it may be in the picture that a copy has spoiled.
    let text = Zeroizing::new(String::from_utf8_lossy(text).into_owned());
    let kit = RecoveryKit::parse(&text).map_err(|error| unusable(path, error))?;
    let seeds: Vec<GroupSeed> = kit.seeds.iter().map(|seed| GroupSeed::from_bytes(**seed)).collect();
    let seeds = (!seeds.is_empty()).then(|| SeedRing::from_seeds(seeds)).transpose();
    let seeds = seeds.map_err(|error| unusable(path, error))?;
    Ok(BroughtKeys { keyring: kit.keyring, seeds, settings: kit.settings })
}

/// JSON begins like this, and no line of a kit does.
fn is_key_file(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"{")
}

/// Opens a store's own keys; [`ErrorKind::WrongKey`] on a machine that has none of them.
pub(super) fn open(path: &Path, passphrase: Option<&PassphraseSource>) -> Result<OpenedKey> {
    match open_held(path, passphrase)? {
        HeldKey::Owner(opened) => Ok(opened),
        HeldKey::Limited(key) => Err(Held::by(&key).refusal()),
    }
}

/// Opens what the key file of a store holds.
pub(super) fn open_held(path: &Path, passphrase: Option<&PassphraseSource>) -> Result<HeldKey> {
    let (text, mode) = read(path, MAX_LIMITED_KEY_BYTES)?;
    refuse_readable_by_others(path, mode)?;
    match limited(&text, path)? {
        Some(key) => Ok(HeldKey::Limited(key)),
        None => {
            refuse_longer(path, &text, MAX_KEY_FILE_BYTES)?;
            Ok(HeldKey::Owner(open_text(&text, path, passphrase)?))
        }
    }
}

/// The verify-only or write-only key in a file; `None` where the file is something else.
pub(super) fn load_limited(path: &Path) -> Result<Option<LimitedKey>> {
    let (text, mode) = read(path, MAX_LIMITED_KEY_BYTES.max(MAX_KIT_BYTES))?;
    let key = limited(&text, path)?;
    if key.is_some() {
        refuse_readable_by_others(path, mode)?;
    }
    Ok(key)
}

/// The same from text that is at hand.
pub(super) fn limited(text: &[u8], path: &Path) -> Result<Option<LimitedKey>> {
    let key = LimitedKey::from_file(text).transpose().map_err(|error| unusable(path, error))?;
    if key.is_some() {
        refuse_longer(path, text, MAX_LIMITED_KEY_BYTES)?;
    }
    Ok(key)
}

fn open_text(text: &[u8], path: &Path, passphrase: Option<&PassphraseSource>) -> Result<OpenedKey> {
    let sealed = match KeyFile::parse(text).map_err(|error| unusable(path, error))? {
        KeyFile::Plain(keyring) => return Ok(OpenedKey { keyring, passphrase: None }),
        KeyFile::Sealed(sealed) => sealed,
    };
    let Some(ask) = passphrase else {
        let doing = format!("the key in {} is under a passphrase, and none was given", path.display());
        return Err(Error::new(ErrorKind::WrongKey, doing).with_hint(PASSPHRASE_HINT));
    };
    let passphrase = ask()?;
    match sealed.open(&passphrase) {
        Ok(keyring) => Ok(OpenedKey { keyring, passphrase: Some(passphrase) }),
        Err(KeyFileError::Cost(error)) => {
            Err(Error::new(ErrorKind::Local, format!("cannot open the key in {}", path.display())).with_source(error))
        }
        Err(error) => Err(unusable(path, error)),
    }
}

/// What to do where a passphrase is needed and none was given.
pub const PASSPHRASE_HINT: &str = "run it in a terminal, or set SHARD_PASSPHRASE_FILE to a file with the passphrase";

fn unusable(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::WrongKey, format!("the key in {} cannot be used", path.display())).with_source(error)
}

fn read(path: &Path, max_bytes: u64) -> Result<(Zeroizing<Vec<u8>>, u32)> {
    let reading = |error| Error::local(format!("cannot read the key in {}", path.display()), error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let doing = format!("the key {} is missing", path.display());
            return Err(Error::new(ErrorKind::WrongKey, doing)
                .with_source(error)
                .with_hint("`shard key import FILE` makes it again from a recovery kit"));
        }
        Err(error) => return Err(reading(error)),
    };
    let metadata = file.metadata().map_err(reading)?;
    // Room at once for all of it, so that no copy is left behind by growing.
    let room = metadata.len().min(max_bytes) as usize + 1;
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    file.take(max_bytes + 1).read_to_end(&mut text).map_err(reading)?;
    refuse_longer(path, &text, max_bytes)?;
    Ok((text, metadata.permissions().mode()))
}

/// Each kind of key has its own limit.
fn refuse_longer(path: &Path, text: &[u8], max_bytes: u64) -> Result<()> {
    if text.len() as u64 <= max_bytes {
        return Ok(());
    }
    let doing = format!("{} has more than the {max_bytes} bytes that a key may have", path.display());
    Err(Error::new(ErrorKind::WrongKey, doing))
}

fn refuse_readable_by_others(path: &Path, mode: u32) -> Result<()> {
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let doing = format!("the key {} can be read by others (mode {:03o})", path.display(), mode & 0o777);
    Err(Error::new(ErrorKind::Refused, doing).with_hint(format!("chmod 600 {}", path.display())))
}

/// Whether there is something of this name, be it a link to nothing. What cannot be looked at may be there: it is an error.
pub(super) fn is_there(path: &Path) -> Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::local(format!("cannot look for {}", path.display()), error)),
    }
}

/// Opens the key that is there, or writes a new one. Where a passphrase is wanted, the key is under it afterwards.
pub(super) fn open_or_create(
    path: &Path,
    wanted: Option<&Passphrase>,
    given: Option<&PassphraseSource>,
) -> Result<Keyring> {
    if !is_there(path)? {
        let keyring = Keyring::new(new_master_key()?);
        save(path, &keyring, wanted)?;
        return Ok(keyring);
    }
    let opened = open(path, given)?;
    if opened.passphrase.is_none() && wanted.is_some() {
        save(path, &opened.keyring, wanted)?;
    }
    Ok(opened.keyring)
}

/// A key that nobody had before.
pub(super) fn new_master_key() -> Result<MasterKey> {
    let mut bytes = Zeroizing::new([0; 32]);
    fill_random(bytes.as_mut_slice())?;
    Ok(MasterKey::from_bytes(*bytes))
}

/// Writes the key file durably, in place of the old one: after a crash there is the old one or the new one.
pub(super) fn save(path: &Path, keyring: &Keyring, passphrase: Option<&Passphrase>) -> Result<()> {
    let text = match passphrase {
        None => keyring.to_key_file(),
        Some(passphrase) => {
            let salt: [u8; SALT_BYTES] = random_bytes()?;
            let sealed = keyring.to_sealed_key_file(passphrase, PassphraseCost::default(), salt);
            sealed.map_err(|error| {
                Error::new(ErrorKind::Local, "the key cannot be put under a passphrase").with_source(error)
            })?
        }
    };
    save_text(path, &text)
}

/// Writes what a key file is to hold, in the same way.
pub(super) fn save_text(path: &Path, text: &str) -> Result<()> {
    let temporary = successor(path);
    let written = replace(path, &temporary, text.as_bytes());
    if written.is_err() {
        // What is left of it would be replaced by the next change; nothing is gained by keeping it until then.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(|error| Error::local(format!("cannot write the key to {}", path.display()), error))
}

/// What becomes the key file by being renamed.
fn successor(path: &Path) -> PathBuf {
    path.with_extension("key.new")
}

/// Clears what a change of key left that was killed: it may hold the keys in plain where a passphrase was being taken away.
/// A change that is under way holds the lock, and is left alone.
pub(super) fn clear_unfinished(path: &Path) {
    let temporary = successor(path);
    if temporary.symlink_metadata().is_ok()
        && let Some(_lock) = config::try_lock(path)
    {
        let _ = fs::remove_file(temporary);
    }
}

fn replace(path: &Path, temporary: &Path, text: &[u8]) -> std::io::Result<()> {
    let _ = fs::remove_file(temporary);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::VerifyKey;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(Zeroizing::new(text.as_bytes().to_vec())).expect("a passphrase")
    }

    fn source(text: &'static str) -> PassphraseSource {
        Arc::new(move || Ok(passphrase(text)))
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("master.key");
        let made = open_or_create(&path, None, None).expect("a key");
        assert_eq!(open(&path, None).expect("the key").keyring.current().key_id(), made.current().key_id());
        assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        assert_eq!(open(&path, None).expect_err("refused").kind, ErrorKind::Refused);
        assert_eq!(load(&path, None).expect_err("refused").kind, ErrorKind::Refused);
    }

    #[test]
    fn a_name_that_cannot_be_looked_at_is_not_taken_for_a_missing_key() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file");
        fs::write(&path, "in the way").expect("written");
        assert!(is_there(&path).expect("looked at") && !is_there(&dir.path().join("master.key")).expect("looked at"));
        let key = path.join("master.key");
        assert_eq!(is_there(&key).expect_err("no folder").kind, ErrorKind::Local);
        let error = open_or_create(&key, None, None).expect_err("no folder");
        assert!(error.to_string().contains("cannot look for"), "{error}");
    }

    #[test]
    fn what_a_killed_change_of_key_left_is_cleared_and_one_under_way_is_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("master.key");
        open_or_create(&path, None, None).expect("a key");
        fs::write(successor(&path), "keys in plain").expect("written");
        let under_way = config::lock(&path).expect("the lock");
        clear_unfinished(&path);
        assert!(successor(&path).exists());
        drop(under_way);
        clear_unfinished(&path);
        assert!(!successor(&path).exists() && path.exists());
    }

    #[test]
    fn each_kind_of_key_has_its_own_limit() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("master.key");
        let keyring = open_or_create(&path, None, None).expect("a key");
        let padded = |text: &str, bytes: u64| text.replacen('{', &format!("{{{}", " ".repeat(bytes as usize)), 1);
        let plain = keyring.to_key_file();
        save_text(&path, &padded(&plain, MAX_KEY_FILE_BYTES - plain.len() as u64)).expect("written");
        assert!(open_held(&path, None).is_ok() && load(&path, None).is_ok());
        save_text(&path, &padded(&plain, MAX_KEY_FILE_BYTES)).expect("written");
        for refused in [open_held(&path, None).map(drop), load(&path, None).map(drop), open(&path, None).map(drop)] {
            assert_eq!(refused.expect_err("too long").kind, ErrorKind::WrongKey);
        }
        // As long as settings can be, and written with two bytes for one.
        let verifier = VerifyKey::of(&keyring, [7; 32], Some("\"".repeat(1024 * 1024)));
        save_text(&path, &verifier.to_file()).expect("written");
        assert!(matches!(open_held(&path, None), Ok(HeldKey::Limited(LimitedKey::Verify(_)))));
        assert!(matches!(load_limited(&path), Ok(Some(_))));
        save_text(&path, &padded(&verifier.to_file(), MAX_KEY_FILE_BYTES)).expect("written");
        assert_eq!(open_held(&path, None).map(drop).expect_err("too long").kind, ErrorKind::WrongKey);
    }

    #[test]
    fn a_second_key_never_replaces_the_first() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("master.key");
        let first = open_or_create(&path, None, None).expect("a key");
        let second = open_or_create(&path, None, None).expect("a key");
        assert_eq!(first.current().key_id(), second.current().key_id());
    }

    #[test]
    fn a_key_under_a_passphrase_opens_with_that_alone_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("master.key");
        let plain = open_or_create(&path, None, None).expect("a key");
        // Made again under a passphrase, as when making the store was interrupted.
        let made = open_or_create(&path, Some(&passphrase("horse")), None).expect("a key");
        assert_eq!(made.store_id(), plain.store_id());
        assert_eq!(open(&path, Some(&source("horse"))).expect("the key").keyring.store_id(), made.store_id());
        for given in [None, Some(&source("Horse"))] {
            assert_eq!(open(&path, given).expect_err("refused").kind, ErrorKind::WrongKey);
        }
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 1);
    }
}
