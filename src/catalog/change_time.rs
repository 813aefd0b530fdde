//! When files that were put here last changed in any way (`st_ctime`), which no one can set back: known to the machine that
//! put them, until its catalog is made anew.

use super::Catalog;
use super::column::{first, run};
use super::error::Result;
use super::sealed::{open_change_time, seal_change_time};
use crate::id::VersionId;
use rusqlite::params;
use std::sync::Arc;

impl Catalog {
    /// Remembers when the files of these versions had last changed as they were read, in nanoseconds since 1970.
    pub fn set_change_times(&mut self, times: &[(VersionId, i64)]) -> Result<()> {
        let sql = "UPDATE version SET sealed_ctime = ?2 WHERE id = ?1";
        let key = Arc::clone(&self.key);
        self.write(|tx| {
            times.iter().try_for_each(|(version, ctime_ns)| {
                run(tx, sql, params![version, seal_change_time(&key, *version, *ctime_ns)]).map(drop)
            })
        })
    }

    /// When the file of a version had last changed as it was read; `None` where that is not known.
    pub fn change_time(&self, version: VersionId) -> Result<Option<i64>> {
        let sql = "SELECT sealed_ctime FROM version WHERE id = ?1 AND sealed_ctime IS NOT NULL";
        self.read(|tx| {
            first(tx, sql, [version], |row| open_change_time(&self.key, version, row.get_ref(0)?.as_blob()?))
        })
    }
}
