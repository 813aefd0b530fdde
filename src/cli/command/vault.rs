//! `shard vault`.

use crate::cli::args::{ImportVault, ListKeys, SetEntry, VaultAndKey, VaultCommand};
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::moment::rfc3339;
use crate::cli::output::{BUFFER_BYTES, Output, RawStdout, Reader, output_failure};
use crate::cli::printable::Printable;
use crate::cli::quantity::ByteSize;
use crate::cli::render::count;
use crate::cli::table::{Table, Tone};
use serde::Serialize;
use serde_json::Value;
use shard::store::vaults::{GivenValue, OpenedVault, Sealing, Vaults};
use shard::vault::{Any, MAX_VALUE_BYTES, UntypedEntry, VaultName};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

/// A table of items has at most so many rows, and the next begins: its columns are as wide as its own cells.
const PAGE_ROWS: usize = 1000;

pub(super) fn run(command: VaultCommand, context: &mut Context) -> Result<ExitCode, Failure> {
    let vaults = Vaults::of_store(&context.store_folder()?, Some(context.passphrase()))?;
    match command {
        VaultCommand::List => list(&vaults, context)?,
        VaultCommand::Set(options) => set(&vaults, options, context)?,
        VaultCommand::Get(options) => get(&vaults, &options, context)?,
        VaultCommand::Pop(options) => pop(&vaults, &options, context)?,
        VaultCommand::Delete(options) => delete(&vaults, &options, context)?,
        VaultCommand::Keys(options) => keys(&vaults, &options, context)?,
        VaultCommand::Items(options) => items(&vaults, &options.vault, context)?,
        VaultCommand::Clear(options) => clear(&vaults, &options.vault, context)?,
        VaultCommand::Drop(options) => drop_vault(&vaults, &options.vault, context)?,
        VaultCommand::Export(options) => export(&vaults, &options.vault)?,
        VaultCommand::Import(options) => import(&vaults, &options, context)?,
    }
    Ok(ExitCode::Done)
}

/// An entry in a document; a value or key that is no text is as an export shows it.
#[derive(Serialize)]
struct Entry {
    key: Value,
    value: Value,
    expires: Option<String>,
}

impl Entry {
    fn of(entry: &UntypedEntry) -> shard::Result<Self> {
        let expires = entry.expires_ms.map(|ms| rfc3339(ms.saturating_mul(1_000_000)));
        Ok(Self { key: raw(&entry.key)?, value: raw(&entry.value)?, expires })
    }
}

fn raw(any: &Any) -> shard::Result<Value> {
    let broken = |error| shard::Error::new(shard::ErrorKind::Invalid, "this is no JSON").with_source(error);
    serde_json::from_str(&any.to_json()?).map_err(broken)
}

/// As a person reads it: a text as it is, anything else as JSON.
fn shown(any: &Any) -> shard::Result<String> {
    Ok(match any.as_text() {
        Some(text) => text.to_owned(),
        None => any.to_json()?,
    })
}

fn list(vaults: &Vaults, context: &mut Context) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Listed {
        name: String,
        sealed: bool,
        bytes: u64,
    }
    let found = vaults.list()?;
    if context.output.reader() == Reader::Script {
        let listed = found.iter().map(|vault| Listed {
            name: vault.name.to_string(),
            sealed: vault.sealing == Sealing::Sealed,
            bytes: vault.bytes,
        });
        let vaults: Vec<_> = listed.collect();
        return context.output.document("shard.vault-list/1", &serde_json::json!({ "vaults": vaults }));
    }
    let mut table = Table::new(["VAULT", "SEALED", ">SIZE"]);
    for vault in found {
        let sealed = if vault.sealing == Sealing::Sealed { "yes" } else { "no" };
        table.row(Tone::Plain, [vault.name.to_string(), sealed.to_owned(), ByteSize(vault.bytes).to_string()]);
    }
    if table.len() == 0 { Ok(()) } else { context.output.text(&table.render()) }
}

fn set(vaults: &Vaults, options: SetEntry, context: &mut Context) -> Result<(), Failure> {
    let value = match (options.value, options.file) {
        (Some(dash), _) if dash == "-" => read_value("standard input", io::stdin().lock())?,
        (Some(text), _) => GivenValue::Text(text),
        (None, Some(path)) => read_value(&path.display().to_string(), open_file(&path)?)?,
        (None, None) => GivenValue::Text(String::new()),
    };
    let sealing = vaults.fill(&options.vault, wanted(options.sealed), |vault| {
        vault.set(&options.key, &value, options.ttl.map(|span| span.0))?;
        Ok(vault.sealing())
    })?;
    tell(context, "shard.vault-set/1", sealing, (&options.vault, "entries", 1), "")
}

fn wanted(sealed: bool) -> Sealing {
    if sealed { Sealing::Sealed } else { Sealing::Plain }
}

fn open_file(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| {
        let kind = if error.kind() == io::ErrorKind::NotFound { FailureKind::NotFound } else { FailureKind::Local };
        Failure::new(kind, format!("cannot read {}", path.display())).because(error)
    })
}

/// Reads no more than a value may have, and one byte to tell that there is more.
fn read_value(from: &str, input: impl Read) -> Result<GivenValue, Failure> {
    let mut bytes = Vec::new();
    let read = input.take(MAX_VALUE_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::new(FailureKind::Local, format!("cannot read {from}")).because(error))?;
    if bytes.len() > MAX_VALUE_BYTES {
        let most = ByteSize(MAX_VALUE_BYTES as u64);
        return Err(Failure::new(FailureKind::Invalid, format!("{from} has more than the {most} of a value"))
            .hint("what is larger is stored with `shard put`"));
    }
    Ok(bytes.into())
}

fn get(vaults: &Vaults, options: &VaultAndKey, context: &mut Context) -> Result<(), Failure> {
    let value = vaults.open(&options.vault)?.get(&options.key)?.ok_or_else(|| no_key(options))?;
    print_value(&mut context.output, "shard.vault-get/1", options, &value)
}

fn pop(vaults: &Vaults, options: &VaultAndKey, context: &mut Context) -> Result<(), Failure> {
    let vault = vaults.open(&options.vault)?;
    let mut printed = Ok(());
    let popped = vault.pop(&options.key, |value| {
        printed = print_value(&mut context.output, "shard.vault-pop/1", options, value);
        // What could not be printed is not removed.
        if printed.is_ok() { Ok(()) } else { Err(unprinted()) }
    });
    printed?;
    if popped? { Ok(()) } else { Err(no_key(options)) }
}

fn unprinted() -> shard::Error {
    shard::Error::new(shard::ErrorKind::Local, "the value could not be printed")
}

/// The value's own bytes, to the last one: text and bytes as they are, anything else as JSON.
fn print_value(output: &mut Output, schema: &'static str, options: &VaultAndKey, value: &Any) -> Result<(), Failure> {
    if output.reader() == Reader::Script {
        #[derive(Serialize)]
        struct Document<'d> {
            vault: &'d str,
            key: &'d str,
            value: Value,
        }
        let document = Document { vault: options.vault.as_str(), key: &options.key, value: raw(value)? };
        output.document(schema, &document)?;
        return output.unless_closed();
    }
    match (value.as_text(), value.as_bytes()) {
        (Some(text), _) => print_bytes(text.as_bytes()),
        (None, Some(bytes)) => print_bytes(bytes),
        (None, None) => print_bytes(value.to_json().map_err(shard::Error::from)?.as_bytes()),
    }
}

/// Not by way of what colours text: that leaves out bytes which are none.
fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = RawStdout::new();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    let failed = |error: io::Error| {
        let otherwise = || Failure::new(FailureKind::Output, "cannot write to standard output").because(&error);
        output_failure(&error).unwrap_or_else(otherwise)
    };
    written.map_err(failed)
}

fn no_key(options: &VaultAndKey) -> Failure {
    let (key, vault) = (Printable(&options.key), &options.vault);
    Failure::new(FailureKind::NotFound, format!("there is no key {key} in the vault {vault}"))
        .hint(format!("`shard vault keys {vault}` shows those that there are"))
}

fn delete(vaults: &Vaults, options: &VaultAndKey, context: &mut Context) -> Result<(), Failure> {
    let vault = vaults.open(&options.vault)?;
    if !vault.delete(&options.key)? {
        return Err(no_key(options));
    }
    tell(context, "shard.vault-delete/1", vault.sealing(), (&options.vault, "entries", 1), "")
}

fn keys(vaults: &Vaults, options: &ListKeys, context: &mut Context) -> Result<(), Failure> {
    let vault = vaults.open(&options.vault)?;
    if context.output.reader() == Reader::Script {
        let head = serde_json::json!({ "vault": options.vault.as_str() });
        let mut list = context.output.list_document("shard.vault-keys/1", &head, "keys")?;
        each(&vault, options.prefix.as_deref(), |entry| list.item(&raw(&entry.key)?))?;
        return list.end();
    }
    let mut lines = String::new();
    each(&vault, options.prefix.as_deref(), |entry| {
        lines += &format!("{}\n", Printable(&shown(&entry.key)?));
        if lines.len() < BUFFER_BYTES { Ok(()) } else { context.output.text(&std::mem::take(&mut lines)) }
    })?;
    context.output.text(&lines)
}

/// Prints each entry as it comes, all of one state: however many there are, only a few values are held (and of a sealed vault all keys).
fn each(
    vault: &OpenedVault,
    prefix: Option<&str>,
    mut print: impl FnMut(UntypedEntry) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut printed = Ok(());
    let visited = vault.each(prefix, |entry| {
        printed = print(entry);
        if printed.is_ok() { Ok(()) } else { Err(unprinted()) }
    });
    printed?;
    Ok(visited?)
}

fn items(vaults: &Vaults, name: &VaultName, context: &mut Context) -> Result<(), Failure> {
    let vault = vaults.open(name)?;
    if context.output.reader() == Reader::Script {
        #[derive(Serialize)]
        struct Head<'d> {
            vault: &'d str,
            sealed: bool,
        }
        let head = Head { vault: name.as_str(), sealed: vault.sealing() == Sealing::Sealed };
        let mut list = context.output.list_document("shard.vault-items/1", &head, "items")?;
        each(&vault, None, |entry| list.item(&Entry::of(&entry)?))?;
        return list.end();
    }
    let (mut page, mut bytes, mut is_first) = (new_page(), 0, true);
    each(&vault, None, |entry| {
        let expires = entry.expires_ms.map(|ms| rfc3339(ms.saturating_mul(1_000_000))).unwrap_or_default();
        let cells = [shown(&entry.key)?, shown(&entry.value)?, expires];
        bytes += cells.iter().map(String::len).sum::<usize>();
        page.row(Tone::Plain, cells);
        if page.len() < PAGE_ROWS && bytes < BUFFER_BYTES {
            return Ok(());
        }
        let full = std::mem::replace(&mut page, new_page());
        bytes = 0;
        context.output.text(&if std::mem::take(&mut is_first) { full.render() } else { full.render_rows() })
    })?;
    match (page.len(), is_first) {
        (0, _) => Ok(()),
        (_, true) => context.output.text(&page.render()),
        (_, false) => context.output.text(&page.render_rows()),
    }
}

fn new_page() -> Table {
    Table::new(["KEY", "VALUE", "EXPIRES"])
}

fn clear(vaults: &Vaults, name: &VaultName, context: &mut Context) -> Result<(), Failure> {
    let vault = vaults.open(name)?;
    let removed = vault.clear()?;
    let said = format!("removed {}\n", count(removed, "entry"));
    tell(context, "shard.vault-clear/1", vault.sealing(), (name, "entries", removed), &said)
}

fn drop_vault(vaults: &Vaults, name: &VaultName, context: &mut Context) -> Result<(), Failure> {
    vaults.drop_vault(name)?;
    if context.output.reader() == Reader::Script {
        context.output.document("shard.vault-drop/1", &serde_json::json!({ "vault": name.as_str() }))?;
    }
    Ok(())
}

/// The lines are JSON of their own, with `--json` or without.
fn export(vaults: &Vaults, name: &VaultName) -> Result<(), Failure> {
    let vault = vaults.open(name)?;
    let exported = vault.export(name, &mut io::BufWriter::new(RawStdout::new()));
    exported.map(drop).map_err(|error| output_failure(&error).unwrap_or_else(|| error.into()))
}

fn import(vaults: &Vaults, options: &ImportVault, context: &mut Context) -> Result<(), Failure> {
    let wanted = wanted(options.sealed);
    let (imported, sealing) = match regular_file(&options.file)? {
        Some(file) => vaults
            .fill(&options.vault, wanted, |vault| Ok((vault.import(&mut BufReader::new(file))?, vault.sealing())))?,
        // What comes from a pipe may take its time: nobody waits for it.
        None => {
            let staged = match options.file.as_os_str() == "-" {
                true => vaults.stage(&mut io::stdin().lock())?,
                false => vaults.stage(&mut BufReader::new(open_file(&options.file)?))?,
            };
            vaults.fill(&options.vault, wanted, |vault| Ok((vault.take_in(&staged)?, vault.sealing())))?
        }
    };
    let said = format!("took in {}\n", count(imported, "entry"));
    tell(context, "shard.vault-import/1", sealing, (&options.vault, "entries", imported), &said)
}

/// The file, unless it is standard input or a pipe, of which nobody knows when it ends.
fn regular_file(path: &Path) -> Result<Option<File>, Failure> {
    if path.as_os_str() == "-" || std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Ok(None);
    }
    open_file(path).map(Some)
}

fn tell(
    context: &mut Context,
    schema: &'static str,
    sealing: Sealing,
    (name, what, number): (&VaultName, &str, u64),
    said: &str,
) -> Result<(), Failure> {
    if context.output.reader() == Reader::Person {
        return context.output.text(said);
    }
    let sealed = sealing == Sealing::Sealed;
    context.output.document(schema, &serde_json::json!({ "vault": name.as_str(), "sealed": sealed, what: number }))
}
