//! Opens a database's file, whoever else is making it at this moment.

use rusqlite::{Connection, OpenFlags, Result};
use std::path::Path;
use std::time::Duration;

/// A writer waits this long for those of other processes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// A file that is there and does not open is tried again so often, after this pause.
const OPEN_TRIES: u32 = 10;
const OPEN_PAUSE: Duration = Duration::from_millis(2);
/// How many prepared statements a connection keeps: more than the modules beside this one have.
const STATEMENT_CACHE: usize = 48;

/// A connection to the file; an error where there is none.
pub(super) fn open(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut opened = Connection::open_with_flags(path, flags);
    // One that is made at this moment may be cleared away once more, and not be there between two looks.
    for _ in 0..OPEN_TRIES {
        if opened.is_ok() || !path.exists() {
            break;
        }
        std::thread::sleep(OPEN_PAUSE);
        opened = Connection::open_with_flags(path, flags);
    }
    let connection = opened?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(connection)
}
