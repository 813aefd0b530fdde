//! Leases: one process at a time for what must not be done twice at once.

use super::Catalog;
use super::column::{first, run};
use super::error::Result;
use crate::id::ProcessId;
use rusqlite::params;

impl Catalog {
    /// Takes the lease on a resource for a process; says whether it has it now.
    ///
    /// A holder that is not `alive` loses it; to one that holds it already the answer is yes.
    pub fn try_lease(&mut self, resource: &str, process: ProcessId, alive: &dyn Fn(ProcessId) -> bool) -> Result<bool> {
        self.write(|tx| {
            let sql = "SELECT process FROM lease WHERE resource = ?1";
            let holder: Option<ProcessId> = first(tx, sql, [resource], |row| row.get(0))?;
            if let Some(holder) = holder
                && holder != process
                && alive(holder)
            {
                return Ok(false);
            }
            let sql = "INSERT INTO lease (resource, process) VALUES (?1, ?2)
                ON CONFLICT DO UPDATE SET process = excluded.process";
            run(tx, sql, params![resource, process])?;
            Ok(true)
        })
    }

    /// Gives a lease back; one that the process does not hold stays as it is.
    pub fn release_lease(&mut self, resource: &str, process: ProcessId) -> Result<()> {
        let sql = "DELETE FROM lease WHERE resource = ?1 AND process = ?2";
        self.write(|tx| run(tx, sql, params![resource, process]).map(drop))
    }

    /// Who took the lease last and did not give it back; whether that process lives is not looked at.
    pub fn lease_holder(&self, resource: &str) -> Result<Option<ProcessId>> {
        let sql = "SELECT process FROM lease WHERE resource = ?1";
        self.read(|tx| first(tx, sql, [resource], |row| row.get(0)))
    }
}
