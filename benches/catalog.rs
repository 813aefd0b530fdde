//! What one object costs in a catalog of a thousand and in one of a million: `cargo bench --bench catalog -- [OBJECTS…]`.
//!
//! Each catalog is made by a generator, with a file in every object, five shards each. A line is one operation on every
//! catalog: the median of many, and its ratio to the first catalog's. Catalogs take turns. To make a million takes minutes:
//! `SHARD_BENCH_CATALOGS=DIR` keeps them there for the next time.
#![allow(clippy::print_stdout, clippy::print_stderr)] // A report is what it is for.

use shard::catalog::{Catalog, Commit, ObjectKind, ObjectRecord, ShardRecord, ShardState};
use shard::crypto::CatalogKey;
use shard::format::FileName;
use shard::format::index::{Index, Piece, Whole};
use shard::id::{BackendId, Digest, Geometry, ObjectId, StoreId, VersionId};
use std::hint::black_box;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The catalogs, where none are asked for.
const SIZES: [u64; 2] = [1_000, 1_000_000];
/// How often each operation is timed on each catalog.
const SAMPLES: u64 = 201;
/// Objects that are made in one transaction.
const BATCH: usize = 10_000;
/// Files in one folder.
const FOLDER_FILES: u64 = 100;

type Operation = fn(&mut Catalog, u64, u64);

/// The number of the first object that is put while it is timed: another in every run, for catalogs that are kept.
fn first_timed() -> u64 {
    static FIRST: OnceLock<u64> = OnceLock::new();
    let since = || std::time::UNIX_EPOCH.elapsed().expect("a clock").as_micros() as u64;
    *FIRST.get_or_init(since)
}

fn bytes<const N: usize>(what: &str, number: u64) -> [u8; N] {
    let mut bytes = [0; N];
    blake3::Hasher::new().update(what.as_bytes()).update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    // An id that begins with ff is a write-only machine's.
    bytes[0] &= 0x7f;
    bytes
}

fn name(number: u64) -> FileName {
    FileName::new(format!("photos/{:05}/{number:012}.jpg", number / FOLDER_FILES)).expect("a name")
}

fn object(number: u64) -> Commit {
    let whole = Whole {
        total_bytes: 4096,
        blake3: Digest(bytes("content", number)),
        mtime_ns: 0,
        mode: 0o644,
        generation: 1,
        parents: Vec::new(),
    };
    let version = VersionId(bytes("version", number));
    let piece = Piece { version, name: name(number), ordinal: 0, offset: 0, bytes: 4096, last: Some(whole) };
    let record = ObjectRecord {
        id: ObjectId(bytes("object", number)),
        kind: ObjectKind::Data,
        geometry: Geometry::new(3, 5).expect("a geometry"),
        block_bytes: 262_144,
        stripe_count: 1,
        payload_bytes: 4096,
        seal: 1,
        root: Digest(bytes("root", number)),
        created_ns: Some(0),
        // About as long as they are.
        public: vec![b'x'; 1100],
        signature: vec![b'x'; 600],
        sealed: vec![b'x'; 150],
    };
    let shard = |index: u8| ShardRecord {
        index,
        backend: BackendId([index + 1; 16]),
        bytes: 4096,
        state: ShardState::Ok,
        bad_blocks: 0,
        verified_ns: None,
    };
    let index = Index { pieces: vec![piece], removal: None, catalog: None };
    Commit { object: record, shards: (0..5).map(shard).collect(), index, piece_hashes: Vec::new() }
}

/// What is timed: the catalog, how many objects it was made with, and the number of the sample.
const OPERATIONS: [(&str, Operation); 8] = [
    ("put one", |catalog, _, sample| {
        catalog.commit(&object(first_timed() + sample)).expect("committed");
    }),
    ("show one", |catalog, size, sample| {
        // What `shard show` asks, as it asks it.
        let name = name(sample * 6_007 % size);
        let shown = catalog.consistently(|catalog| {
            let heads = catalog.heads(&name)?;
            let versions = catalog.versions(&name)?;
            let id = catalog.pieces(heads[0].id)?[0].object;
            Ok((versions, catalog.object(id)?, catalog.health(id)?, catalog.shards(id)?))
        });
        black_box(shown.expect("shown"));
    }),
    ("look one up by name", |catalog, size, sample| {
        let heads = catalog.heads(&name(sample * 7919 % size)).expect("heads");
        black_box(catalog.pieces(heads[0].id).expect("pieces"));
    }),
    ("look one object up", |catalog, size, sample| {
        let id = ObjectId(bytes("object", sample * 7919 % size));
        black_box((
            catalog.object(id).expect("it"),
            catalog.shards(id).expect("shards"),
            catalog.health(id).expect("it"),
        ));
    }),
    ("list a folder of 100", |catalog, size, sample| {
        let folder = format!("photos/{:05}/", sample * 7919 % size / FOLDER_FILES);
        assert_eq!(catalog.list(&folder, None, 1000).expect("listed").len() as u64, FOLDER_FILES);
    }),
    ("the 100 longest unverified", |catalog, _, _| {
        assert_eq!(catalog.oldest_checked(None, 100).expect("a page").len(), 100);
    }),
    ("what status counts", |catalog, _, _| {
        black_box((catalog.stats().expect("stats"), catalog.classes().expect("classes")));
    }),
    ("bytes on each backend", |catalog, _, _| {
        assert_eq!(catalog.used_by_backend().expect("counted").len(), 5);
    }),
];

fn make(folder: &std::path::Path, size: u64) -> Catalog {
    let key = CatalogKey::from_secret(StoreId([7; 32]), &[1; 32]);
    let (path, key) = (folder.join(format!("{size}.db")), Arc::new(key));
    if path.exists() {
        return Catalog::open(&path, key).expect("the catalog that was kept");
    }
    let mut catalog = Catalog::create(&path, key).expect("a catalog");
    let begun = Instant::now();
    for start in (0..size).step_by(BATCH) {
        let batch: Vec<Commit> = (start..size.min(start + BATCH as u64)).map(object).collect();
        catalog.commit_all(&batch).expect("made");
    }
    eprintln!("{size} objects made in {:.1} s", begun.elapsed().as_secs_f64());
    catalog
}

fn main() {
    let asked: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let sizes = if asked.is_empty() { SIZES.to_vec() } else { asked };
    let scratch = tempfile::tempdir().expect("a folder");
    let kept = std::env::var_os("SHARD_BENCH_CATALOGS").map(std::path::PathBuf::from);
    let folder = kept.as_deref().unwrap_or(scratch.path());
    let mut catalogs: Vec<Catalog> = sizes.iter().map(|size| make(folder, *size)).collect();
    println!("{:30} {:>10}", "microseconds", format!("{sizes:?}"));
    for (what, operation) in OPERATIONS {
        let mut times = vec![Vec::new(); sizes.len()];
        for sample in 0..SAMPLES {
            for ((catalog, size), times) in catalogs.iter_mut().zip(&sizes).zip(&mut times) {
                let begun = Instant::now();
                operation(catalog, *size, sample);
                times.push(begun.elapsed());
            }
        }
        let medians: Vec<Duration> = times.iter_mut().map(|times| median(times)).collect();
        let cells = medians.iter().map(|time| {
            let ratio = time.as_secs_f64() / medians[0].as_secs_f64();
            format!("{:>10.1} ({ratio:.2}x)", time.as_secs_f64() * 1e6)
        });
        println!("{what:30} {}", cells.collect::<Vec<_>>().join(" "));
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
