//! The vault beside bare SQLite and redb on the same work, and the chamber beside the vault: the price of sealing.
//!
//! The chamber is compared with a vault of as many entries; the lengths of both files are printed. Everything is relaxed alike: nothing waits for the disk to confirm, so that what is compared is work and not the disk.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use redb::{Database, Durability as RedbDurability, ReadableDatabase, ReadableTable, TableDefinition};
use rusqlite::Connection;
use shard::chamber::{Chamber, Purpose};
use shard::crypto::ChamberKey;
use shard::id::NodeId;
use shard::vault::{Durability, Options, Vault};
use std::cell::Cell;
use std::hint::black_box;
use std::path::Path;

/// How many small entries there are.
const ENTRIES: u64 = 1_000_000;
/// The chamber lists by opening every key: it is measured on less.
const SEALED_ENTRIES: u64 = 100_000;
/// How many entries one batch puts.
const BATCH: u64 = 1_000;
const TABLE: TableDefinition<'_, &str, &str> = TableDefinition::new("entries");

fn key(number: u64) -> String {
    format!("user:{number:08}")
}

fn value(number: u64) -> String {
    format!("value of entry number {number}")
}

/// Numbers that jump about, the same for each peer.
struct Jumps(Cell<u64>);

impl Jumps {
    fn next(&self, limit: u64) -> u64 {
        self.0.set(self.0.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        (self.0.get() >> 33) % limit
    }
}

fn options() -> Options {
    Options { durability: Durability::Relaxed, ..Options::default() }
}

struct Peers {
    vault: Vault,
    /// As many entries as the chamber has.
    small_vault: Vault,
    chamber: Chamber,
    sqlite: Connection,
    redb: Database,
    _folder: tempfile::TempDir,
}

impl Peers {
    fn filled() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let vault = Vault::open(folder.path(), "vault", options()).expect("a vault");
        vault.put_many((0..ENTRIES).map(|number| (key(number), value(number)))).expect("put");
        let small_vault = Vault::open(folder.path(), "small", options()).expect("a vault");
        small_vault.put_many((0..SEALED_ENTRIES).map(|number| (key(number), value(number)))).expect("put");
        let secret = ChamberKey::from_secret(NodeId([1; 32]), &[2; 32]);
        let chamber = Chamber::open(folder.path(), "chamber", secret, options()).expect("a chamber");
        let store = |tx: &shard::chamber::Transaction<'_>| {
            (0..SEALED_ENTRIES).try_for_each(|number| tx.store(Purpose::RECORD, &key(number), &value(number)))
        };
        chamber.transaction(store).expect("stored");
        let sqlite = open_sqlite(&folder.path().join("bare.db"));
        put_sqlite(&sqlite, 0..ENTRIES);
        let redb = Database::create(folder.path().join("redb")).expect("a database");
        put_redb(&redb, 0..ENTRIES);
        tell_lengths(&small_vault, &chamber);
        Self { vault, small_vault, chamber, sqlite, redb, _folder: folder }
    }
}

/// What sealing costs in the file.
#[expect(clippy::print_stdout, reason = "it belongs to the result")]
fn tell_lengths(vault: &Vault, chamber: &Chamber) {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len()) / SEALED_ENTRIES;
    let (sealed, plain) = (length(chamber.path()), length(vault.path()));
    println!("of {SEALED_ENTRIES} entries each has {sealed} bytes of the chamber's file, {plain} of the vault's");
}

fn open_sqlite(path: &Path) -> Connection {
    let connection = Connection::open(path).expect("a database");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
             CREATE TABLE entry (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        )
        .expect("a table");
    connection
}

fn put_sqlite(connection: &Connection, numbers: std::ops::Range<u64>) {
    let tx = connection.unchecked_transaction().expect("a transaction");
    for number in numbers {
        let mut put = tx.prepare_cached("INSERT OR REPLACE INTO entry VALUES (?1, ?2)").expect("a statement");
        put.execute([key(number), value(number)]).expect("put");
    }
    tx.commit().expect("committed");
}

fn put_redb(redb: &Database, numbers: std::ops::Range<u64>) {
    let mut tx = redb.begin_write().expect("a transaction");
    tx.set_durability(RedbDurability::None).expect("a fresh transaction");
    {
        let mut table = tx.open_table(TABLE).expect("a table");
        for number in numbers {
            table.insert(key(number).as_str(), value(number).as_str()).expect("put");
        }
    }
    tx.commit().expect("committed");
}

fn point_get(criterion: &mut Criterion, peers: &Peers) {
    let mut group = criterion.benchmark_group("point get");
    let jumps = Jumps(Cell::new(1));
    group.bench_function("vault", |bencher| {
        bencher.iter(|| peers.vault.get::<String>(&key(jumps.next(SEALED_ENTRIES))).expect("asked").expect("there"));
    });
    group.bench_function("vault of a hundred thousand", |bencher| {
        bencher
            .iter(|| peers.small_vault.get::<String>(&key(jumps.next(SEALED_ENTRIES))).expect("asked").expect("there"));
    });
    group.bench_function("chamber", |bencher| {
        bencher.iter(|| {
            peers.chamber.retrieve::<String>(&key(jumps.next(SEALED_ENTRIES))).expect("asked").expect("there")
        });
    });
    group.bench_function("rusqlite", |bencher| {
        bencher.iter(|| {
            let mut get = peers.sqlite.prepare_cached("SELECT value FROM entry WHERE key = ?1").expect("a statement");
            get.query_row([key(jumps.next(SEALED_ENTRIES))], |row| row.get::<_, String>(0)).expect("there")
        });
    });
    group.bench_function("redb", |bencher| {
        bencher.iter(|| {
            let tx = peers.redb.begin_read().expect("a transaction");
            let table = tx.open_table(TABLE).expect("a table");
            let found = table.get(key(jumps.next(SEALED_ENTRIES)).as_str()).expect("asked").expect("there");
            found.value().to_owned()
        });
    });
    group.finish();
}

fn put(criterion: &mut Criterion, peers: &Peers) {
    let mut group = criterion.benchmark_group("put");
    let jumps = Jumps(Cell::new(2));
    let next = || jumps.next(SEALED_ENTRIES);
    group.bench_function("vault", |bencher| {
        bencher.iter(|| {
            let number = next();
            peers.vault.put(&key(number), &value(number)).expect("put");
        });
    });
    group.bench_function("vault of a hundred thousand", |bencher| {
        bencher.iter(|| {
            let number = next();
            peers.small_vault.put(&key(number), &value(number)).expect("put");
        });
    });
    group.bench_function("chamber", |bencher| {
        bencher.iter(|| {
            let number = next();
            peers.chamber.store(&key(number), &value(number)).expect("stored");
        });
    });
    group.bench_function("rusqlite", |bencher| {
        bencher.iter(|| {
            let number = next();
            put_sqlite(&peers.sqlite, number..number + 1);
        });
    });
    group.bench_function("redb", |bencher| {
        bencher.iter(|| {
            let number = next();
            put_redb(&peers.redb, number..number + 1);
        });
    });
    group.finish();
}

fn batch_put(criterion: &mut Criterion, peers: &Peers) {
    let mut group = criterion.benchmark_group("batch put");
    group.throughput(Throughput::Elements(BATCH)).sample_size(20);
    let jumps = Jumps(Cell::new(3));
    let next = || {
        let first = jumps.next(SEALED_ENTRIES - BATCH);
        first..first + BATCH
    };
    group.bench_function("vault", |bencher| {
        bencher.iter(|| peers.vault.put_many(next().map(|number| (key(number), value(number)))).expect("put"));
    });
    group.bench_function("vault of a hundred thousand", |bencher| {
        bencher.iter(|| peers.small_vault.put_many(next().map(|number| (key(number), value(number)))).expect("put"));
    });
    group.bench_function("chamber", |bencher| {
        bencher.iter(|| {
            let numbers = next();
            let stored = peers.chamber.transaction(|tx| {
                numbers.clone().try_for_each(|number| tx.store(Purpose::RECORD, &key(number), &value(number)))
            });
            stored.expect("stored");
        });
    });
    group.bench_function("rusqlite", |bencher| bencher.iter(|| put_sqlite(&peers.sqlite, next())));
    group.bench_function("redb", |bencher| bencher.iter(|| put_redb(&peers.redb, next())));
    group.finish();
}

fn scan(criterion: &mut Criterion, peers: &Peers) {
    let mut group = criterion.benchmark_group("scan of a million");
    group.throughput(Throughput::Elements(ENTRIES)).sample_size(10);
    group.bench_function("vault", |bencher| {
        bencher.iter(|| {
            let entries = peers.vault.iter::<String, String>().expect("entries");
            entries.map(|entry| entry.expect("read").1.len()).sum::<usize>()
        });
    });
    group.bench_function("rusqlite", |bencher| {
        bencher.iter(|| {
            let mut all =
                peers.sqlite.prepare_cached("SELECT key, value FROM entry ORDER BY key").expect("a statement");
            let rows = all.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).expect("rows");
            rows.map(|row| black_box(row.expect("read")).1.len()).sum::<usize>()
        });
    });
    group.bench_function("redb", |bencher| {
        bencher.iter(|| {
            let tx = peers.redb.begin_read().expect("a transaction");
            let table = tx.open_table(TABLE).expect("a table");
            let rows = table.iter().expect("rows").map(|row| row.expect("read"));
            rows.map(|(key, value)| black_box((key.value().to_owned(), value.value().to_owned())).1.len())
                .sum::<usize>()
        });
    });
    group.finish();
    let mut group = criterion.benchmark_group("list keys of a hundred thousand");
    group.throughput(Throughput::Elements(SEALED_ENTRIES)).sample_size(10);
    group.bench_function("chamber", |bencher| {
        bencher.iter(|| peers.chamber.list_keys::<String>().expect("listed").len());
    });
    group.bench_function("vault", |bencher| {
        bencher.iter(|| peers.small_vault.iter::<String, String>().expect("entries").count());
    });
    group.finish();
}

fn all(criterion: &mut Criterion) {
    let peers = Peers::filled();
    point_get(criterion, &peers);
    scan(criterion, &peers);
    put(criterion, &peers);
    batch_put(criterion, &peers);
}

criterion_group!(benches, all);
criterion_main!(benches);
