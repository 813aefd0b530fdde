//! `shard key`.

use crate::cli::args::{ExportKey, ImportKey, KeyPassphrase, NewRecipient};
use crate::cli::context::Context;
use crate::cli::exit::ExitCode;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::Reader;
use crate::cli::printable::Printable;
use crate::cli::render::{count, facts};
use crate::cli::{moment, passphrase};
use serde::Serialize;
use shard::crypto::{LimitedKey, MAX_KIT_BYTES};
use shard::id::{Digest, NodeId, StoreId, WriterId};
use shard::peer::{NodeGrant, Right};
use shard::store::keys::{self, ExportedKit, ImportedKeys, KeyFacts, VerifierOptions};
use shard::store::{BroughtKey, PASSPHRASE_HINT};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use zeroize::Zeroizing;

/// What standard input is called where a file would be named.
const STDIN: &str = "standard input";

/// What every key command says of the keys.
#[derive(Serialize)]
struct Keys {
    store: StoreId,
    key_id: Digest,
    keys: usize,
    passphrase: bool,
}

impl From<KeyFacts> for Keys {
    fn from(facts: KeyFacts) -> Self {
        let KeyFacts { store, key_id, key_count, has_passphrase } = facts;
        Self { store, key_id, keys: key_count, passphrase: has_passphrase }
    }
}

pub(super) fn export(options: &ExportKey, context: &mut Context) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Exported<'a> {
        #[serde(flatten)]
        keys: Keys,
        backends: usize,
        output: Option<&'a Path>,
        /// The page itself, where it goes to no file.
        kit: Option<&'a str>,
    }
    let folder = context.store_folder()?;
    let passphrase = context.passphrase();
    if options.verify_only || options.write_only {
        return export_limited(&folder, options, context);
    }
    let date = moment::rfc3339(unix_ns());
    let date = date.split('T').next().unwrap_or(&date);
    let exported = keys::export(&folder, Some(&passphrase), date, &context.nodes)?;
    if let Some(path) = &options.output {
        write_new(path, exported.text.as_bytes())?;
    }
    let document = Exported {
        keys: exported.keys.into(),
        backends: exported.backend_count,
        output: options.output.as_deref(),
        kit: options.output.is_none().then_some(&exported.text),
    };
    match (context.output.reader(), &options.output) {
        (Reader::Script, _) => context.output.document("shard.key-export/1", &document)?,
        (Reader::Person, None) => context.output.text(&exported.text)?,
        (Reader::Person, Some(path)) => context.output.text(&exported_page(&exported, path))?,
    }
    if options.output.is_none() {
        // A kit that nobody read is none.
        context.output.unless_closed()?;
    }
    if let Err(error) = keys::note_export(&folder, &exported) {
        let failure = Failure::from(error);
        let why = failure.causes.first().unwrap_or(&failure.message);
        context.notices.warning(&format!("the kit is made, but the catalog could not note it: {why}"));
    }
    if let Some(error) = &exported.seed_problem {
        let why = error.source.as_ref().map_or_else(String::new, |source| format!(": {source}"));
        context.notices.warning(&format!("the kit has no seed of a group of nodes: {error}{why}"));
    } else if exported.unseeded_nodes > 0 {
        let nodes = count(exported.unseeded_nodes as u64, "node");
        let why = "the seed of its group was not found: name a file with it in SHARD_SEED_FILE and export again";
        context.notices.warning(&format!("the kit does not lead to {nodes}; {why}"));
    }
    if exported.keys.has_passphrase {
        context.notices.warning("the kit holds the key in plain: no passphrase protects it");
    }
    Ok(ExitCode::Done)
}

pub(super) fn recipient(options: &NewRecipient, context: &mut Context) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Made<'a> {
        store: StoreId,
        key_id: Digest,
        output: Option<&'a Path>,
        /// The public key itself, where it goes to no file.
        recipient: Option<&'a str>,
    }
    let folder = context.store_folder()?;
    let recipient = keys::recipient(&folder, Some(&context.passphrase()))?;
    let text = recipient.to_file();
    if let Some(path) = &options.output {
        write_new(path, text.as_bytes())?;
    }
    let (store, key_id) = (recipient.store(), recipient.key_id());
    let output = options.output.as_deref();
    match (context.output.reader(), output) {
        (Reader::Script, _) => {
            let recipient = output.is_none().then_some(text.as_str());
            context.output.document("shard.key-recipient/1", &Made { store, key_id, output, recipient })?;
        }
        (Reader::Person, None) => context.output.text(&text)?,
        (Reader::Person, Some(path)) => context.output.text(&facts([
            ("recipient", Printable(&path.to_string_lossy()).to_string()),
            ("store", store.to_string()),
            ("opened by", format!("the key {key_id} alone")),
        ]))?,
    }
    Ok(ExitCode::Done)
}

/// What is said of a key that can do less than the store's own.
#[derive(Serialize)]
struct Limited<'a> {
    store: StoreId,
    verify_only: bool,
    write_only: bool,
    /// How many keys signed for the owner so far, as a verify-only key lists them.
    signers: Option<usize>,
    /// What a write-only key's machine is called in what it puts.
    writer: Option<WriterId>,
    /// The key that opens what a write-only key's machine puts.
    key_id: Option<Digest>,
    /// What a verify-only key may do at nodes; none where the store has none.
    nodes: Option<Granted>,
    output: Option<&'a Path>,
    /// The key itself, where it goes to no file.
    key: Option<&'a str>,
    backends: &'a [String],
}

impl Limited<'_> {
    fn of(key: &LimitedKey) -> Self {
        let (signers, writer) = match key {
            LimitedKey::Verify(key) => (Some(key.signers().len()), None),
            LimitedKey::Write(key) => (None, Some((key.writer_id(), key.recipient().key_id()))),
        };
        Self {
            store: key.store_id(),
            verify_only: writer.is_none(),
            write_only: writer.is_some(),
            signers,
            writer: writer.map(|(writer, _)| writer),
            key_id: writer.map(|(_, key_id)| key_id),
            nodes: Granted::of(key),
            output: None,
            key: None,
            backends: &[],
        }
    }

    /// What the machine is that has the key, for people.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![("store", self.store.to_string())];
        match (self.writer, self.key_id) {
            (Some(writer), Some(key_id)) => facts.extend([
                ("opens", "nothing that is sealed: for a machine that stores files, verifies and repairs".to_owned()),
                ("stores", format!("as writer {writer}, for the key {key_id} alone to open")),
            ]),
            _ => facts.push(("opens", "nothing that is sealed: for a machine that verifies and repairs".to_owned())),
        }
        if let Some(nodes) = &self.nodes {
            facts.push(("at nodes", format!("{}, until {}", nodes.rights.join(", "), nodes.expires)));
        }
        facts
    }
}

/// What a verify-only key brings to nodes.
#[derive(Serialize)]
struct Granted {
    /// As whom the machine calls nodes.
    grantee: NodeId,
    owner: NodeId,
    rights: Vec<&'static str>,
    expires: String,
    /// How many seeds of groups it brings.
    seeds: usize,
}

impl Granted {
    fn of(key: &LimitedKey) -> Option<Self> {
        let LimitedKey::Verify(key) = key else { return None };
        let pass = key.nodes()?;
        let grant = NodeGrant::parse(&pass.grant).ok()?;
        let named = [(Right::Read, "read"), (Right::Repair, "repair"), (Right::Delete, "delete")];
        let expires_ns = i64::try_from(grant.expires_s()).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
        Some(Self {
            grantee: grant.grantee(),
            owner: grant.owner(),
            rights: named.into_iter().filter(|(right, _)| grant.rights().allow(*right)).map(|(_, name)| name).collect(),
            expires: moment::rfc3339(expires_ns),
            seeds: pass.seeds.len(),
        })
    }
}

fn export_limited(folder: &Path, options: &ExportKey, context: &mut Context) -> Result<ExitCode, Failure> {
    let passphrase = context.passphrase();
    let key = match options.write_only {
        true => keys::export_writer(folder, Some(&passphrase))?,
        false => export_verifier(folder, options, context)?,
    };
    let text = key.to_file();
    if let Some(path) = &options.output {
        write_new(path, text.as_bytes())?;
    }
    let about = Limited::of(&key);
    match (context.output.reader(), &options.output) {
        (Reader::Script, output) => {
            let key = output.is_none().then_some(text.as_str());
            context.output.document("shard.key-export/1", &Limited { output: output.as_deref(), key, ..about })?;
        }
        (Reader::Person, None) => context.output.text(&text)?,
        (Reader::Person, Some(path)) => {
            let mut lines = vec![("key", Printable(&path.to_string_lossy()).to_string())];
            lines.extend(about.facts());
            lines.push(("now", "`shard key import` it there, then `shard catalog rebuild`".to_owned()));
            context.output.text(&facts(lines))?;
        }
    }
    Ok(ExitCode::Done)
}

fn export_verifier(folder: &Path, options: &ExportKey, context: &mut Context) -> Result<LimitedKey, Failure> {
    let now_s = u64::try_from(unix_ns() / 1_000_000_000).unwrap_or(0);
    let verifier = VerifierOptions {
        may_delete: options.allow_delete,
        expires_s: now_s.saturating_add(options.expires.0.as_secs()),
    };
    let exported = keys::export_verifier(folder, Some(&context.passphrase()), verifier, &context.nodes)?;
    if let Some(error) = &exported.seed_problem {
        let why = error.source.as_ref().map_or_else(String::new, |source| format!(": {source}"));
        context.notices.warning(&format!("the key has no seed of a group of nodes: {error}{why}"));
    } else if exported.unseeded_nodes > 0 {
        let nodes = count(exported.unseeded_nodes as u64, "node");
        let why = "the seed of its group was not found: name a file with it in SHARD_SEED_FILE and export again";
        context.notices.warning(&format!("the key does not lead to {nodes}; {why}"));
    }
    if let LimitedKey::Verify(key) = &exported.key
        && key.nodes().is_some_and(|pass| !pass.seeds.is_empty())
    {
        context.notices.note(
            "the key brings the seed of the group: whoever has it is a member, and can make up ids, each with an owner's folder \
             and quota at every node",
        );
    }
    Ok(exported.key)
}

/// Makes a store of a verify-only or write-only key.
fn import_limited(key: &LimitedKey, folder: &Path, context: &mut Context) -> Result<ExitCode, Failure> {
    let backends = keys::import_limited(folder, key)?;
    let about = Limited { backends: &backends, ..Limited::of(key) };
    match context.output.reader() {
        Reader::Script => context.output.document("shard.key-import/1", &about)?,
        Reader::Person => {
            let mut lines = vec![("folder", Printable(&folder.to_string_lossy()).to_string())];
            lines.extend(about.facts());
            lines.push(("backends", Printable(&backends.join(", ")).to_string()));
            context.output.text(&facts(lines))?;
        }
    }
    context.notices.note(&format!("`{}` finds what is on the places", context.to_type("catalog rebuild")));
    Ok(ExitCode::Done)
}

fn exported_page(exported: &ExportedKit, path: &Path) -> String {
    let (keys, backends) =
        (count(exported.keys.key_count as u64, "key"), count(exported.backend_count as u64, "backend"));
    facts([
        ("kit", Printable(&path.to_string_lossy()).to_string()),
        ("store", exported.keys.store.to_string()),
        ("holds", format!("{keys} in plain, {backends} without their credentials")),
        ("now", "print it, and keep it away from this computer".to_owned()),
    ])
}

/// Writes a file that only its owner can read, durably; an existing one is kept, and half of one is taken away.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        let kind = match error.kind() {
            io::ErrorKind::AlreadyExists => FailureKind::Refused,
            _ => FailureKind::Local,
        };
        Failure::new(kind, format!("cannot write {}", path.display())).because(error)
    };
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| sync_folder_of(path));
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written.map_err(failed)
}

/// Makes the file's name durable too.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(folder)?.sync_all() {
        // Not every file system can: a kit may go onto any stick.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

fn unix_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

pub(super) fn import(options: &ImportKey, context: &mut Context) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Imported<'a> {
        #[serde(flatten)]
        keys: Keys,
        new_keys: usize,
        made: bool,
        backends: &'a [String],
    }
    let folder = context.store_folder()?;
    let passphrase = context.passphrase();
    let brought = match bring(options, context)? {
        BroughtKey::Limited(key) => return import_limited(&key, &folder, context),
        BroughtKey::Keys(brought) => brought,
    };
    let imported = keys::import(&folder, brought, Some(&passphrase))?;
    let made = imported.made_with_backends.as_deref();
    let document = Imported {
        keys: imported.keys.into(),
        new_keys: imported.new_key_count,
        made: made.is_some(),
        backends: made.unwrap_or_default(),
    };
    match context.output.reader() {
        Reader::Script => context.output.document("shard.key-import/1", &document)?,
        Reader::Person => context.output.text(&imported_page(&imported, &folder))?,
    }
    if let Some(made) = made {
        if made.is_empty() {
            let add = context.to_type("backend add NAME URL");
            context.notices.note(&format!("no places came with the key: `{add}` takes each of them back"));
        }
        context.notices.note(&format!("`{}` finds what is on the places", context.to_type("catalog rebuild")));
    }
    if !imported.keys.has_passphrase {
        let protect = context.to_type("key passphrase");
        context.notices.note(&format!("the key is under no passphrase on this machine: `{protect}` sets one"));
    }
    Ok(ExitCode::Done)
}

fn read_stdin() -> Result<Zeroizing<Vec<u8>>, Failure> {
    // Room at once for all of it, so that no copy is left behind by growing.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_KIT_BYTES as usize + 1));
    let read = io::stdin().lock().take(MAX_KIT_BYTES).read_to_end(&mut text);
    let failed = |error| Failure::new(FailureKind::Local, "cannot read standard input").because(error);
    read.map_err(failed)?;
    Ok(text)
}

fn bring(options: &ImportKey, context: &Context) -> Result<BroughtKey, Failure> {
    let passphrase = context.passphrase();
    if options.is_stdin() {
        return Ok(keys::read_any(&read_stdin()?, Path::new(STDIN), Some(&passphrase))?);
    }
    let missing = || Failure::new(FailureKind::NotFound, format!("there is no {}", options.file.display()));
    match options.file.try_exists() {
        Ok(false) => Err(missing()),
        _ => Ok(keys::load_any(&options.file, Some(&passphrase))?),
    }
}

fn imported_page(imported: &ImportedKeys, folder: &Path) -> String {
    let (new, all) = (imported.new_key_count, imported.keys.key_count);
    let keys = format!("{}, {new} of them new here", count(all as u64, "key"));
    let mut lines = vec![
        ("store", Printable(&folder.to_string_lossy()).to_string()),
        ("id", imported.keys.store.to_string()),
        ("keys", keys),
    ];
    if let Some(made) = &imported.made_with_backends {
        let backends = if made.is_empty() { "none yet".to_owned() } else { made.join(", ") };
        lines.push(("backends", Printable(&backends).to_string()));
    }
    facts(lines)
}

pub(super) fn passphrase(options: &KeyPassphrase, context: &mut Context) -> Result<ExitCode, Failure> {
    let folder = context.store_folder()?;
    let variables = &context.environment;
    let wanted = |keys: &KeyFacts| {
        if options.remove {
            return Ok(None);
        }
        // A key that is under no passphrase yet has no old one: what is given is the new one.
        let is_first = variables.new_passphrase.are_unset() && !keys.has_passphrase;
        let (given, hint) = match is_first {
            true => (&variables.passphrase, PASSPHRASE_HINT),
            false => (&variables.new_passphrase, passphrase::NEW_PASSPHRASE_HINT),
        };
        passphrase::new_passphrase(given, hint).map(Some)
    };
    let keys = keys::set_passphrase(&folder, Some(&context.passphrase()), wanted)?;
    let said = match keys.has_passphrase {
        true => "the key is under the new passphrase; every command that opens the store asks for it",
        false => "the key is under no passphrase any more",
    };
    tell(keys, "shard.key-passphrase/1", said, context)?;
    if keys.has_passphrase {
        context
            .notices
            .note("recovery kits stay good, without the passphrase; so does every older copy of the key file");
    }
    Ok(ExitCode::Done)
}

pub(super) fn rotate(context: &mut Context) -> Result<ExitCode, Failure> {
    let folder = context.store_folder()?;
    let keys = keys::rotate(&folder, Some(&context.passphrase()))?;
    let said =
        format!("key {} of {} is in use from now on; the older open what they sealed", keys.key_id, keys.key_count);
    tell(keys, "shard.key-rotate/1", &said, context)?;
    let (export, import) = (context.to_type("key export -o FILE"), "shard key import FILE");
    context.notices.note(&format!("the kits made before lack it: `{export}`, and `{import}` on other machines"));
    context.notices.note("machines with a write-only key go on sealing to the older key, which opens that still");
    Ok(ExitCode::Done)
}

fn tell(keys: KeyFacts, schema: &'static str, said: &str, context: &mut Context) -> Result<(), Failure> {
    match context.output.reader() {
        Reader::Script => context.output.document(schema, &Keys::from(keys)),
        Reader::Person => context.output.text(&format!("{said}\n")),
    }
}
