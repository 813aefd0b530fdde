//! What lies in database files that someone else may have written to: rows of the catalog, and exports of vaults.

use super::format::stays_below;
use shard::catalog::{Catalog, Commit, ObjectRecord, Result, ShardRecord, ShardState};
use shard::crypto::{CatalogKey, Keyring, MasterKey};
use shard::format::{FileName, Index, Manifest, Piece, Whole, manifest_in_tail};
use shard::id::{BackendId, Digest, ObjectId, VersionId};
use shard::ops::writer::object_record;
use shard::vault::{Clock, Durability, Options, Vault};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A shard whose manifest the catalog gets.
const SHARD: &[u8] = include_bytes!("../../../../fixtures/golden/objects/a1/a1000000000000000000000000000001.0.shard");
const VERSION: VersionId = VersionId([0x10; 16]);
const BACKEND: BackendId = BackendId([0x20; 16]);

/// A catalog that is damaged anew for every input.
struct Damaged {
    folder: tempfile::TempDir,
    key: Arc<CatalogKey>,
    whole: Vec<u8>,
    object: ObjectId,
    /// Table and column, of all tables.
    columns: Vec<(String, String)>,
}

thread_local! {
    static DAMAGED: Damaged = Damaged::new();
    static VAULTS: RefCell<Option<Vaults>> = const { RefCell::new(None) };
}

/// The first byte says how the rest is to be taken: as a value for a column, or as bytes for anywhere in the file.
pub(crate) fn catalog(bytes: &[u8]) -> bool {
    let Some((first, rest)) = bytes.split_first() else { return false };
    DAMAGED.with(|damaged| {
        let path = damaged.folder.path().join("catalog.db");
        std::fs::write(&path, &damaged.whole).expect("written");
        let is_done = if first % 2 == 0 { damaged.set_a_column(&path, rest) } else { damaged.overwrite(&path, rest) };
        let is_open = is_done.is_some() && damaged.ask_everything(&path);
        for ending in ["", "-wal", "-shm"] {
            let gone = std::fs::remove_file(damaged.folder.path().join(format!("catalog.db{ending}")));
            assert!(gone.is_ok() || !ending.is_empty(), "the file is there");
        }
        is_open
    })
}

impl Damaged {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("whole.db");
        let mut bytes = [0; 32];
        (0..).zip(&mut bytes).for_each(|(number, byte)| *byte = number);
        let keyring = Keyring::new(MasterKey::from_bytes(bytes));
        let key = Arc::new(keyring.catalog_key());
        let parts = manifest_in_tail(SHARD, SHARD.len() as u64).expect("a manifest");
        let manifest = Manifest::open(parts, &keyring.store_id()).expect("it is signed");
        let mut catalog = Catalog::create(&path, Arc::clone(&key)).expect("a catalog");
        catalog.commit(&commit(object_record(&manifest, 7))).expect("it is taken");
        catalog.set_change_times(&[(VERSION, 9)]).expect("it is taken");
        catalog.set_note("a", "b").expect("it is taken");
        drop(catalog);
        let columns = columns(&path);
        let whole = std::fs::read(&path).expect("the file");
        Self { key, whole, object: manifest.object(), columns, folder }
    }

    /// Two bytes say which column, one what type; `None` where the input is too short or the database refuses it.
    fn set_a_column(&self, path: &Path, input: &[u8]) -> Option<()> {
        let (column, rest) = input.split_first_chunk::<2>()?;
        let (kind, value) = rest.split_first()?;
        let (table, column) = &self.columns[usize::from(u16::from_le_bytes(*column)) % self.columns.len()];
        let connection = rusqlite::Connection::open(path).ok()?;
        connection.execute_batch("PRAGMA ignore_check_constraints = ON; PRAGMA synchronous = OFF").ok()?;
        let sql = format!("UPDATE {table} SET {column} = ?1");
        let number = || i64::from_le_bytes(std::array::from_fn(|at| value.get(at).copied().unwrap_or(0)));
        let done = match kind % 4 {
            0 => connection.execute(&sql, [value]),
            1 => connection.execute(&sql, [number()]),
            2 => connection.execute(&sql, [String::from_utf8_lossy(value)]),
            _ => connection.execute(&sql, [rusqlite::types::Null]),
        };
        done.ok().map(|_| ())
    }

    /// Four bytes say where.
    fn overwrite(&self, path: &Path, input: &[u8]) -> Option<()> {
        let (at, value) = input.split_first_chunk()?;
        let mut bytes = self.whole.clone();
        let at = u32::from_le_bytes(*at) as usize % bytes.len();
        bytes[at..].iter_mut().zip(value).for_each(|(byte, new)| *byte = *new);
        std::fs::write(path, bytes).ok()
    }

    /// Whatever the file says now, each question has an answer or an error. Says whether the file opens.
    fn ask_everything(&self, path: &Path) -> bool {
        let Ok(mut catalog) = Catalog::open(path, Arc::clone(&self.key)) else { return false };
        let name = FileName::new("folder/letter.txt").expect("a name");
        for version in [catalog.heads(&name), catalog.versions(&name), catalog.unfinished()].into_iter().flatten() {
            assert!(version.iter().all(|version| stays_below(&version.name.to_path())));
        }
        if let Ok(Some(record)) = catalog.object(self.object) {
            let manifest: std::result::Result<Manifest, _> = record.manifest(&self.key.store_id());
            assert!(manifest.is_err() || manifest.is_ok_and(|manifest| manifest.object() == self.object));
        }
        answered(catalog.list("", None, 100));
        answered(catalog.list_versions("folder/", None, 100));
        answered(catalog.version(VERSION));
        answered(catalog.find_version("10"));
        answered(catalog.pieces(VERSION));
        answered(catalog.piece_copies(VERSION));
        answered(catalog.change_time(VERSION));
        answered(catalog.highest_generation(&name));
        answered(catalog.shards(self.object));
        answered(catalog.health(self.object));
        answered(catalog.oldest_checked(None, 100));
        answered(catalog.endangered(100));
        answered(catalog.objects_after(None, 100));
        answered(catalog.objects_of_version(VERSION));
        answered(catalog.names_of_object(self.object, 100));
        answered(catalog.live_bytes(self.object));
        answered(catalog.sparse_objects(0.5));
        answered(catalog.objects_emptied_by(&[VERSION]));
        answered(catalog.object_by_prefix("a1"));
        answered(catalog.object_is_live(self.object));
        answered(catalog.journals());
        answered(catalog.pending_deletes(None, 100));
        answered(catalog.waiting_places(self.object));
        answered(catalog.dead_objects(None, 100));
        answered(catalog.finished_removals());
        answered(catalog.writer_generation());
        answered(catalog.note("a"));
        answered(catalog.stats());
        answered(catalog.used_by_backend());
        answered(catalog.check());
        answered(catalog.next_rotation());
        true
    }
}

/// An answer, or an error that can be told.
fn answered<T>(answer: Result<T>) {
    if let Err(error) = answer {
        assert!(!error.to_string().is_empty());
    }
}

fn commit(object: ObjectRecord) -> Commit {
    let whole = Whole {
        total_bytes: 10,
        blake3: Digest([3; 32]),
        mtime_ns: 4,
        mode: 0o644,
        generation: 1,
        parents: vec![VersionId([0x11; 16])],
    };
    let name = FileName::new("folder/letter.txt").expect("a name");
    let piece = Piece { version: VERSION, name, ordinal: 0, offset: 0, bytes: 10, last: Some(whole) };
    let shard = |index| ShardRecord {
        index,
        backend: BACKEND,
        bytes: 100,
        state: ShardState::Ok,
        bad_blocks: 0,
        verified_ns: Some(5),
    };
    Commit {
        object,
        shards: (0..3).map(shard).collect(),
        index: Index { pieces: vec![piece], removal: None, catalog: None },
        piece_hashes: vec![(VERSION, 0, Digest([6; 32]))],
    }
}

fn columns(path: &Path) -> Vec<(String, String)> {
    let connection = rusqlite::Connection::open(path).expect("it opens");
    let sql =
        "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY 1, 2";
    let mut statement = connection.prepare(sql).expect("a question");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("answers");
    rows.collect::<std::result::Result<_, _>>().expect("names")
}

/// Two empty vaults, filled anew for every input.
struct Vaults {
    _folder: tempfile::TempDir,
    first: Vault,
    second: Vault,
}

impl Vaults {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root: PathBuf = folder.path().to_owned();
        let open = |name: &str| {
            let options = Options { clock: Clock::new(|| 0), durability: Durability::Relaxed };
            Vault::open(&root, name, options).expect("a vault")
        };
        Self { first: open("first"), second: open("second"), _folder: folder }
    }
}

/// An export is taken in whole or not at all, and what was taken in is exported the same from then on.
pub(crate) fn vault(bytes: &[u8]) -> bool {
    VAULTS.with_borrow_mut(|vaults| {
        let Vaults { first, second, .. } = vaults.get_or_insert_with(Vaults::new);
        for vault in [&*first, &*second] {
            vault.clear().expect("cleared");
        }
        let Ok(count) = first.import(&mut &bytes[..]) else {
            assert!(first.is_empty().expect("an answer"), "an import that fails changes nothing");
            return false;
        };
        assert!(first.len().expect("an answer") <= count);
        let exported = export(first);
        second.import(&mut exported.as_slice()).expect("what is exported is taken in");
        assert_eq!(export(second), exported);
        true
    })
}

fn export(vault: &Vault) -> Vec<u8> {
    let mut out = Vec::new();
    vault.export(&"v".parse().expect("a name"), &mut out).expect("exported");
    out
}
