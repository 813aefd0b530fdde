//! Settings as TOML: reading them with the line of what is wrong, and changing only what a change is about.

use super::{Config, Problem};
use crate::backend::BackendSpec;
use crate::id::RedundancyLevel;
use crate::stripe::Seal;
use serde::{Deserialize, Deserializer};
use std::ops::Range;
use toml_edit::{ArrayOfTables, Document, DocumentMut, Item, Table, Value};

/// What the settings of a new store begin with.
pub(super) const BEGINNING: &str = "\
# The settings of a shard store. What you write here is kept, comments too.

# The level of a put that names none: minimal (2/3), personal (3/5), federation (5/9), paranoid (7/15), or K/N.
default_level = \"personal\"

# How new objects are sealed: key (the store's key opens them), dispersed (any K shards open them), none,
# recipient (sealed to the public half of the key, which a write-only machine has alone).
seal = \"key\"

# Whether the catalog is backed up to the backends by itself, at most once an hour: true or false.
catalog_backup = true
";

/// The same without what is said to a person.
pub(super) const DEFAULTS: &str = "default_level = \"personal\"\nseal = \"key\"\n";

const LEVEL_KEY: &str = "default_level";
const SEAL_KEY: &str = "seal";
const BACKUP_KEY: &str = "catalog_backup";
const BACKENDS_KEY: &str = "backend";
const QUOTA_KEY: &str = "quota";

/// Units a quota is written in, where it is a whole number of one.
const QUOTA_UNITS: [(&str, u64); 8] = [
    ("TiB", bytesize::TIB),
    ("TB", bytesize::TB),
    ("GiB", bytesize::GIB),
    ("GB", bytesize::GB),
    ("MiB", bytesize::MIB),
    ("MB", bytesize::MB),
    ("KiB", bytesize::KIB),
    ("kB", bytesize::KB),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default = "default_level", deserialize_with = "level")]
    default_level: RedundancyLevel,
    #[serde(default = "default_seal")]
    seal: Seal,
    #[serde(default = "default_backup")]
    catalog_backup: bool,
    #[serde(default)]
    backend: Vec<BackendSpec>,
}

fn default_level() -> RedundancyLevel {
    Config::default().default_level
}

fn default_seal() -> Seal {
    Config::default().seal
}

fn default_backup() -> bool {
    Config::default().catalog_backup
}

fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RedundancyLevel, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

/// What a text says; an unknown key is an error.
pub(super) fn parse(text: &str) -> Result<Config, Problem> {
    let numbers = quotas_as_numbers(text)?;
    let written: Written = toml_edit::de::from_str(&numbers)
        .map_err(|error| problem_at(&numbers, error.span().unwrap_or_default(), error.message()))?;
    let Written { default_level, seal, catalog_backup, backend: backends } = written;
    Ok(Config { default_level, seal, catalog_backup, backends })
}

/// The text that says `new` where `old_text` says `old`: what they agree on is kept to the letter.
pub(super) fn changed(old_text: &str, old: &Config, new: &Config) -> Result<String, Problem> {
    let mut document: DocumentMut =
        old_text.parse().map_err(|error: toml_edit::TomlError| unwritable(&error.to_string()))?;
    if old.default_level != new.default_level {
        set(document.as_table_mut(), LEVEL_KEY, Value::from(new.default_level.to_string()));
    }
    if old.seal != new.seal {
        set(document.as_table_mut(), SEAL_KEY, Value::from(new.seal.to_string()));
    }
    if old.catalog_backup != new.catalog_backup {
        set(document.as_table_mut(), BACKUP_KEY, Value::from(new.catalog_backup));
    }
    if old.backends != new.backends {
        let known = document.remove(BACKENDS_KEY).unwrap_or(Item::ArrayOfTables(ArrayOfTables::new()));
        let known = known.into_array_of_tables().map_err(|_| unwritable("backend is no list"))?;
        let mut tables = ArrayOfTables::new();
        for backend in &new.backends {
            tables.push(table_of(backend, old, &known)?);
        }
        if !tables.is_empty() {
            document.insert(BACKENDS_KEY, Item::ArrayOfTables(tables));
        }
    }
    Ok(document.to_string())
}

/// The table of a backend: the one it had, changed where it must be, or a new one.
fn table_of(backend: &BackendSpec, old: &Config, known: &ArrayOfTables) -> Result<Table, Problem> {
    let place = old.backends.iter().position(|earlier| earlier.id == backend.id);
    let before = place.and_then(|place| Some((old.backends.get(place)?, known.get(place)?)));
    let Some((earlier, table)) = before else {
        let mut table = keys_of(backend)?;
        table.decor_mut().set_prefix("\n");
        return Ok(table);
    };
    let (was, is) = (keys_of(earlier)?, keys_of(backend)?);
    let mut table = table.clone();
    for key in was.iter().map(|(key, _)| key).filter(|key| !is.contains_key(key)) {
        table.remove(key);
    }
    for (key, item) in is.iter() {
        let same = was.get(key).is_some_and(|before| before.to_string() == item.to_string());
        if let (false, Some(value)) = (same, item.as_value()) {
            set(&mut table, key, value.clone());
        }
    }
    Ok(table)
}

fn keys_of(backend: &BackendSpec) -> Result<Table, Problem> {
    let document = toml_edit::ser::to_document(backend).map_err(|error| unwritable(&error.to_string()))?;
    let mut table = document.into_table();
    if let Some(bytes) = table.get(QUOTA_KEY).and_then(Item::as_integer).and_then(|bytes| u64::try_from(bytes).ok())
        && let Some(text) = quota_text(bytes)
    {
        set(&mut table, QUOTA_KEY, Value::from(text));
    }
    Ok(table)
}

/// Sets a key, and keeps what stands around an old value: a comment at the end of its line.
fn set(table: &mut Table, key: &str, mut value: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        None => {
            table.insert(key, Item::Value(value));
        }
    }
}

/// `500GB`, where that is exact; `None` for what is better said as a number.
fn quota_text(bytes: u64) -> Option<String> {
    let exact = QUOTA_UNITS.iter().find(|(_, factor)| bytes != 0 && bytes.is_multiple_of(*factor));
    exact.map(|(unit, factor)| format!("{}{unit}", bytes / factor))
}

/// The same text with every quota that is written as `500GB` written as a number. Only the insides of lines change, so
/// that what is wrong is still on the line a person sees.
fn quotas_as_numbers(text: &str) -> Result<String, Problem> {
    let document =
        Document::parse(text).map_err(|error| problem_at(text, error.span().unwrap_or_default(), error.message()))?;
    let mut numbers = text.to_owned();
    for (span, quota) in quotas(&document).into_iter().rev() {
        let size: Result<bytesize::ByteSize, _> = quota.parse();
        let bytes = size.ok().filter(|size| i64::try_from(size.0).is_ok());
        let bytes = bytes.ok_or_else(|| {
            problem_at(text, span.clone(), &format!("{quota:?} is no size: 500GB, 1.5TiB or a number of bytes"))
        })?;
        numbers.replace_range(span, &bytes.0.to_string());
    }
    Ok(numbers)
}

/// Where quotas are written as text, and as what, in the order of the text.
fn quotas<'a>(document: &'a Document<&'a str>) -> Vec<(Range<usize>, &'a str)> {
    let Some(backends) = document.as_table().get(BACKENDS_KEY) else { return Vec::new() };
    let tables = backends.as_array_of_tables().into_iter().flatten().map(|table| table.get(QUOTA_KEY));
    let inline = backends.as_array().into_iter().flatten().filter_map(Value::as_inline_table);
    let tables = tables.map(|item| item.and_then(Item::as_value)).chain(inline.map(|table| table.get(QUOTA_KEY)));
    tables.flatten().filter_map(|value| Some((value.span()?, value.as_str()?))).collect()
}

/// A problem at a place in the text: its line, and the key that the line sets. The line itself is not repeated.
fn problem_at(text: &str, span: Range<usize>, message: &str) -> Problem {
    let before = text.get(..span.start).unwrap_or(text);
    let line_index = before.matches('\n').count();
    let line = text.lines().nth(line_index).unwrap_or_default();
    let key = line.split_once('=').map(|(key, _)| key.trim()).filter(|key| !key.starts_with('#') && !key.is_empty());
    Problem::Line { line: line_index + 1, key: key.map(str::to_owned), message: message.trim_end().replace('\n', ", ") }
}

fn unwritable(message: &str) -> Problem {
    Problem::Unwritable { message: message.trim_end().replace('\n', ", ") }
}
