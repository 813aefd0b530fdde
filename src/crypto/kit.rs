//! The recovery kit: all keys of a store, the seeds of its nodes and its settings as a page that is printed, and typed in again when all else is gone.
//!
//! Every line that is read back ends in a check of its own, so that a typing error is found and named by its line.

use super::base32::{base32, from_base32, readable_text};
use super::{Keyring, KeyringError, MasterKey, context};
use crate::id::StoreId;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use std::fmt::{self, Write};
use zeroize::Zeroizing;

/// A recovery kit is at most this many bytes; a larger one is not read. Settings, the most of it, are at most 1 MiB.
pub const MAX_KIT_BYTES: u64 = 2 * 1024 * 1024;

/// What the short form begins with: the one that the code for a camera holds.
const SHORT_FORM: &str = "SHARD-KIT:1:";
const KEY_BYTES: usize = 32;
/// What stands beside a key, to check it as a whole.
const CHECK_BYTES: usize = 8;
/// A key and its check fill this many lines.
const LINES_A_KEY: usize = 2;
const LINE_BYTES: usize = (KEY_BYTES + CHECK_BYTES) / LINES_A_KEY;
/// What the label of a seed begins with.
const SEED_LABEL: &str = "seed-";
/// Characters that are written without a space between.
const GROUP_CHARACTERS: usize = 4;
/// Check characters that end a line.
const CHECK_CHARACTERS: usize = 4;
/// With more keys than this the code for a camera becomes too large to be one: then there is none.
const MAX_KEYS_IN_CODE: usize = 8;

/// Why a text is no recovery kit. Nothing of the text is quoted: most of it is secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KitError {
    /// No line of it is one of a kit.
    #[error("this is neither a recovery kit nor a key file")]
    NoKit,
    /// A line has a typing error.
    #[error("line {line}, {name}, has a typing error")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What it is called in the kit.
        name: String,
    },
    /// A line is not there.
    #[error("{name} is missing")]
    Missing {
        /// What it is called in the kit.
        name: String,
    },
    /// The short form, from the code for a camera, has an error.
    #[error("the text that begins with {SHORT_FORM} has an error")]
    ShortForm,
    /// All lines are right and do not belong together.
    #[error("the keys are not those of the store that the kit names")]
    OtherStore,
    /// The keys are no keyring.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

/// The seed of a group of nodes.
pub type KitSeed = Zeroizing<[u8; KEY_BYTES]>;

/// What a recovery kit gives back.
pub struct RecoveryKit {
    /// All keys of the store.
    pub keyring: Keyring,
    /// The seeds of the group whose nodes keep its shards, the one in use first.
    pub seeds: Vec<KitSeed>,
    /// Its settings, where the kit has them.
    pub settings: Option<String>,
}

/// The page. `date` is for people; the settings must hold no secret, as the page says that they do not.
pub fn write_kit(keyring: &Keyring, date: &str, settings: &str, seeds: &[KitSeed]) -> Zeroizing<String> {
    let settings: Vec<&str> = settings.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let (keys, lines) = (keyring.keys().len(), settings.len());
    // Grown once, so that no copy of a key is left behind by growing.
    let room = 16 * 1024 + (keys + seeds.len()) * 256 + settings.iter().map(|line| line.len() + 16).sum::<usize>();
    let mut page = Zeroizing::new(String::with_capacity(room));
    page.push_str(TITLE);
    let store = keyring.store_id();
    write!(page, "store     {store}\ndate      {date}\nkeys      {keys}\n").expect("a String takes it");
    if !seeds.is_empty() {
        writeln!(page, "seeds     {}", seeds.len()).expect("a String takes it");
    }
    writeln!(page, "settings  {lines}").expect("a String takes it");
    page.push_str(ABOUT_KEYS);
    for (number, key) in keyring.keys().iter().enumerate() {
        write_key(&mut page, number + 1, key);
    }
    if keys <= MAX_KEYS_IN_CODE {
        page.push_str(ABOUT_CODE);
        page.push_str(&code(keyring));
    }
    if !seeds.is_empty() {
        page.push_str(ABOUT_SEEDS);
    }
    for (number, seed) in (1..).zip(seeds) {
        write_seed(&mut page, number, seed);
    }
    page.push_str(ABOUT_SETTINGS);
    for (index, line) in settings.iter().enumerate() {
        writeln!(page, "  {line}  #{}", settings_check(index, line)).expect("a String takes it");
    }
    page.push_str(HOW_TO);
    page
}

const TITLE: &str = "\
RECOVERY KIT of a shard store

THIS PAGE HOLDS THE KEYS IN PLAIN, under no passphrase. Whoever reads it can read, change and remove whatever
they can reach of what is stored. Keep it on paper or on a stick, away from the computer and from the places.

";

const ABOUT_KEYS: &str = "
The keys, oldest first; the last one is in use. There is no I, L, O or U in them; case and spaces do not matter.
The last group of each line is its check.

";

const ABOUT_CODE: &str = "
The same keys for a camera:

";

const ABOUT_SEEDS: &str = "
The seeds of the group of nodes, the one in use first: whoever has one may talk to all nodes of the group. They are
not in the code above.

";

const ABOUT_SETTINGS: &str = "
The settings, with the places where the shards are. No password and no access key of any place is in this kit: keep
those too. `#` and four characters are the check of a line.

";

const HOW_TO: &str = "
How to get everything back, on any computer that has `shard`:

  1. Put this page into a file: copy it, type its lines with their checks, or scan the code and save what it says.
  2. shard key import FILE
  3. Edit the addresses of the places in config.toml where they have changed, and give the places' credentials.
  4. shard catalog rebuild
  5. shard recover --all -o FOLDER, or without steps 2 to 4: add --from PLACE for each place, and --key FILE
";

fn write_key(page: &mut String, number: usize, key: &MasterKey) {
    let bytes = Zeroizing::new([key.bytes.as_slice(), &key.check_value().0[..CHECK_BYTES]].concat());
    for (half, part) in bytes.chunks(LINE_BYTES).enumerate() {
        write_line(page, &format!("{number}-{}", half + 1), part, &key_line_check(number, half + 1, part));
    }
}

fn write_seed(page: &mut String, number: u8, seed: &KitSeed) {
    let bytes = Zeroizing::new([seed.as_slice(), &seed_check(seed)].concat());
    write_line(page, &format!("{SEED_LABEL}{number}"), &bytes, &seed_line_check(number, &bytes));
}

fn write_line(page: &mut String, label: &str, secret: &[u8], check: &str) {
    write!(page, "  {label}").expect("a String takes it");
    let characters = base32(secret);
    for (at, character) in characters.chars().enumerate() {
        if at % GROUP_CHARACTERS == 0 {
            page.push(' ');
        }
        page.push(character);
    }
    writeln!(page, "  {check}").expect("a String takes it");
}

/// The short form as a code for a camera, two of its squares a character.
fn code(keyring: &Keyring) -> Zeroizing<String> {
    let text = short_form(keyring);
    let code = QrCode::with_error_correction_level(text.as_bytes(), EcLevel::M);
    let code = code.expect("the short form of so few keys fits a code");
    let picture = code.render::<Dense1x2>().module_dimensions(1, 1).build();
    Zeroizing::new(picture + "\n")
}

fn short_form(keyring: &Keyring) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(keyring.keys().len() * KEY_BYTES + CHECK_BYTES));
    keyring.keys().iter().for_each(|key| bytes.extend_from_slice(&key.bytes));
    let check = short_form_check(&bytes);
    bytes.extend_from_slice(&check);
    Zeroizing::new([SHORT_FORM, &base32(&bytes)].concat())
}

fn short_form_check(keys: &[u8]) -> [u8; CHECK_BYTES] {
    let digest = blake3::derive_key(context::KIT_SHORT_FORM, keys);
    digest[..CHECK_BYTES].try_into().expect("a digest is longer")
}

fn key_line_check(number: usize, half: usize, part: &[u8]) -> String {
    let labelled = Zeroizing::new([&[number as u8, half as u8], part].concat());
    check_characters(context::KIT_KEY_LINE, &labelled)
}

fn seed_line_check(number: u8, bytes: &[u8]) -> String {
    let labelled = Zeroizing::new([&[number], bytes].concat());
    check_characters(context::KIT_SEED_LINE, &labelled)
}

fn seed_check(seed: &KitSeed) -> [u8; CHECK_BYTES] {
    let digest = blake3::derive_key(context::KIT_SEED_CHECK, seed.as_slice());
    digest[..CHECK_BYTES].try_into().expect("a digest is longer")
}

fn settings_check(index: usize, line: &str) -> String {
    let labelled = [&(index as u32).to_le_bytes(), line.as_bytes()].concat();
    check_characters(context::KIT_SETTINGS_LINE, &labelled)
}

fn check_characters(purpose: &str, bytes: &[u8]) -> String {
    let digest = blake3::derive_key(purpose, bytes);
    base32(&digest[..5])[..CHECK_CHARACTERS].to_owned()
}

impl fmt::Debug for RecoveryKit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveryKit").field("keyring", &self.keyring).finish_non_exhaustive()
    }
}

impl RecoveryKit {
    /// Reads a page, or the short form that its code holds.
    pub fn parse(text: &str) -> Result<Self, KitError> {
        let trimmed = text.trim();
        if let Some(start) = trimmed.get(..SHORT_FORM.len())
            && start.eq_ignore_ascii_case(SHORT_FORM)
        {
            return read_short_form(&trimmed[SHORT_FORM.len()..]);
        }
        let lines = Lines::of(text)?;
        let keyring = lines.keyring()?;
        Ok(Self { keyring, seeds: lines.seeds()?, settings: lines.settings()? })
    }
}

fn read_short_form(text: &str) -> Result<RecoveryKit, KitError> {
    let bytes = from_base32(text).ok_or(KitError::ShortForm)?;
    let keys_end = bytes.len().checked_sub(CHECK_BYTES).ok_or(KitError::ShortForm)?;
    let (keys, check) = bytes.split_at(keys_end);
    let (keys, rest) = keys.as_chunks::<KEY_BYTES>();
    if !rest.is_empty() || verify_slices_are_equal(&short_form_check(keys.as_flattened()), check).is_err() {
        return Err(KitError::ShortForm);
    }
    let keys = keys.iter().map(|key| MasterKey::from_bytes(*key)).collect();
    Ok(RecoveryKit { keyring: Keyring::from_keys(keys)?, seeds: Vec::new(), settings: None })
}

/// A line of a kit, with its number in the text, from 1.
#[derive(Clone, Copy)]
struct Line<'a> {
    number: usize,
    text: &'a str,
}

impl Line<'_> {
    fn mistyped(self, name: impl Into<String>) -> KitError {
        KitError::Line { line: self.number, name: name.into() }
    }
}

/// The lines of a page that are read; everything else on it is for people.
struct Lines<'a> {
    store: Line<'a>,
    key_count: Line<'a>,
    seed_count: Option<Line<'a>>,
    settings_count: Option<Line<'a>>,
    keys: Vec<(&'a str, Line<'a>)>,
    seeds: Vec<(&'a str, Line<'a>)>,
    settings: Vec<Line<'a>>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Result<Self, KitError> {
        let (mut store, mut key_count, mut seed_count, mut settings_count) = (None, None, None, None);
        let (mut keys, mut seeds, mut settings) = (Vec::new(), Vec::new(), Vec::new());
        for (index, line) in text.lines().enumerate() {
            let (number, line) = (index + 1, line.trim());
            let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let found = Line { number, text: rest.trim() };
            match first {
                "store" => store = Some(found),
                "keys" => key_count = Some(found),
                "seeds" => seed_count = Some(found),
                "settings" => settings_count = Some(found),
                label if is_key_label(label) => keys.push((label, found)),
                label if is_seed_label(label) => seeds.push((label, found)),
                _ if ends_in_a_check(line) => settings.push(Line { number, text: line }),
                _ => {}
            }
        }
        let missing = |name: &str| KitError::Missing { name: format!("the line `{name}`") };
        if store.is_none() && keys.is_empty() {
            return Err(KitError::NoKit);
        }
        let store = store.ok_or_else(|| missing("store"))?;
        let key_count = key_count.ok_or_else(|| missing("keys"))?;
        Ok(Self { store, key_count, seed_count, settings_count, keys, seeds, settings })
    }

    fn seeds(&self) -> Result<Vec<KitSeed>, KitError> {
        if self.seeds.is_empty() && self.seed_count.is_none() {
            return Ok(Vec::new());
        }
        let counted = self.seed_count.ok_or_else(|| KitError::Missing { name: "the line `seeds`".to_owned() })?;
        let count: usize = counted.text.parse().map_err(|_| counted.mistyped("`seeds`"))?;
        if self.seeds.len() > count {
            return Err(counted.mistyped("`seeds`"));
        }
        let mut seeds = Vec::new();
        for (number, (label, line)) in (1_u8..).zip(&self.seeds) {
            if *label != format!("{SEED_LABEL}{number}") {
                return Err(KitError::Missing { name: format!("the line {SEED_LABEL}{number}") });
            }
            seeds.push(seed_line(number, *line)?);
        }
        if seeds.len() < count {
            return Err(KitError::Missing { name: format!("the line {SEED_LABEL}{}", seeds.len() + 1) });
        }
        Ok(seeds)
    }

    fn keyring(&self) -> Result<Keyring, KitError> {
        let mut lines = self.keys.iter();
        let count = self.key_count.text.parse().map_err(|_| self.key_count.mistyped("`keys`"))?;
        let mut keys: Vec<MasterKey> = Vec::new();
        for number in 1..=count {
            let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES + CHECK_BYTES));
            let mut last = self.key_count;
            for half in 1..=LINES_A_KEY {
                let name = format!("{number}-{half}");
                let missing = || KitError::Missing { name: format!("key line {name}") };
                let (label, line) = lines.next().ok_or_else(missing)?;
                if *label != name {
                    return Err(missing());
                }
                bytes.extend_from_slice(&key_line(number, half, *line)?);
                last = *line;
            }
            let (key, check) = bytes.split_at(KEY_BYTES);
            let key = MasterKey::from_bytes(key.try_into().expect("split at its length"));
            verify_slices_are_equal(&key.check_value().0[..CHECK_BYTES], check)
                .map_err(|_| last.mistyped(format!("key line {number}-{LINES_A_KEY}")))?;
            keys.push(key);
        }
        if let Some((label, line)) = lines.next() {
            return Err(line.mistyped(format!("key line {label}")));
        }
        let keyring = Keyring::from_keys(keys)?;
        let store: StoreId = self.store.text.parse().map_err(|_| self.store.mistyped("`store`"))?;
        if keyring.store_id() == store { Ok(keyring) } else { Err(KitError::OtherStore) }
    }

    fn settings(&self) -> Result<Option<String>, KitError> {
        if self.settings.is_empty() && self.settings_count.is_none() {
            return Ok(None);
        }
        let missing = || KitError::Missing { name: "the line `settings`".to_owned() };
        let counted = self.settings_count.ok_or_else(missing)?;
        let count: usize = counted.text.parse().map_err(|_| counted.mistyped("`settings`"))?;
        let mut settings = String::new();
        for (index, line) in self.settings.iter().enumerate() {
            let name = || format!("settings line {}", index + 1);
            let (text, check) = line.text.rsplit_once('#').ok_or_else(|| line.mistyped(name()))?;
            let text = text.trim();
            if settings_check(index, text) != *readable_text(check) {
                return Err(line.mistyped(name()));
            }
            settings.push_str(text);
            settings.push('\n');
        }
        match self.settings.len() {
            found if found < count => Err(KitError::Missing { name: format!("settings line {}", found + 1) }),
            found if found > count => Err(counted.mistyped("`settings`")),
            _ => Ok(Some(settings)),
        }
    }
}

/// The bytes of a line of a key, which its check confirms.
fn key_line(number: usize, half: usize, line: Line<'_>) -> Result<Zeroizing<Vec<u8>>, KitError> {
    let part = checked_line(line, |part| key_line_check(number, half, part));
    part.filter(|part| part.len() == LINE_BYTES).ok_or_else(|| line.mistyped(format!("key line {number}-{half}")))
}

/// The seed in a line, which its check and the seed's own confirm.
fn seed_line(number: u8, line: Line<'_>) -> Result<KitSeed, KitError> {
    let read = || {
        let bytes = checked_line(line, |bytes| seed_line_check(number, bytes))?;
        let (seed, check) = bytes.split_first_chunk::<KEY_BYTES>()?;
        let seed = Zeroizing::new(*seed);
        verify_slices_are_equal(&seed_check(&seed), check).is_ok().then_some(seed)
    };
    read().ok_or_else(|| line.mistyped(format!("line {SEED_LABEL}{number}")))
}

/// What a line holds before its check; `None` where that is not the one of what it holds.
fn checked_line(line: Line<'_>, right: impl Fn(&[u8]) -> String) -> Option<Zeroizing<Vec<u8>>> {
    let typed = readable_text(line.text);
    let end = typed.len().checked_sub(CHECK_CHARACTERS).filter(|end| typed.is_char_boundary(*end))?;
    let (characters, check) = typed.split_at(end);
    from_base32(characters).filter(|bytes| right(bytes) == check)
}

/// `1-1`, `1-2`, `2-1`, …
fn is_key_label(word: &str) -> bool {
    let is_number = |text: &str| matches!(text.len(), 1 | 2) && text.bytes().all(|byte| byte.is_ascii_digit());
    word.split_once('-').is_some_and(|(number, half)| is_number(number) && is_number(half))
}

/// `seed-1`, `seed-2`, …
fn is_seed_label(word: &str) -> bool {
    let number = word.strip_prefix(SEED_LABEL).unwrap_or_default();
    matches!(number.len(), 1 | 2) && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn ends_in_a_check(line: &str) -> bool {
    line.rsplit_once('#').is_some_and(|(_, check)| {
        check.len() == CHECK_CHARACTERS && check.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests;
