//! How identifiers, states and numbers are kept in columns, and the few ways a statement is run.

use super::challenge::ChallengeOutcome;
use super::error::{Fault, Overflow};
use super::record::{ObjectKind, ObjectState, Purpose, ShardState};
use crate::id::{BackendId, Digest, Geometry, ObjectId, ProcessId, StoreId, VersionId};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Type, ValueRef};
use rusqlite::{Connection, OptionalExtension, Params, Row};

macro_rules! blob_column {
    ($($name:ident),*) => {$(
        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(ToSqlOutput::Borrowed(ValueRef::Blob(self.as_bytes())))
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let bytes = value.as_blob()?;
                let wrong = FromSqlError::InvalidBlobSize { expected_size: Self::BYTES, blob_size: bytes.len() };
                Self::from_slice(bytes).ok_or(wrong)
            }
        }
    )*};
}

blob_column!(ObjectId, VersionId, BackendId, StoreId, ProcessId, Digest);

/// States and kinds are numbers in the file; these never change their meaning.
macro_rules! code_column {
    ($name:ident { $($variant:ident = $code:literal),* $(,)? }) => {
        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                let code: i64 = match self { $(Self::$variant => $code),* };
                Ok(code.into())
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                match value.as_i64()? {
                    $($code => Ok(Self::$variant),)*
                    other => Err(FromSqlError::OutOfRange(other)),
                }
            }
        }
    };
}

code_column!(ObjectKind { Data = 0, Removal = 1, Catalog = 2 });
code_column!(ShardState { Ok = 0, Missing = 1, Corrupt = 2, Misplaced = 3, Unreachable = 4, Surplus = 5 });
code_column!(ObjectState { Healthy = 0, Degraded = 1, Unavailable = 2, Lost = 3 });
code_column!(ChallengeOutcome { Answered = 0, Wrong = 1, Missing = 2, Silent = 3 });
code_column!(Purpose { Put = 0, Repair = 1, Move = 2 });

/// An unsigned number; the database holds signed ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count(pub(super) u64);

impl ToSql for Count {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let overflow = |_| rusqlite::Error::ToSqlConversionFailure(Box::new(Overflow(self.0)));
        Ok(i64::try_from(self.0).map_err(overflow)?.into())
    }
}

impl FromSql for Count {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let number = value.as_i64()?;
        u64::try_from(number).map(Self).map_err(|_| FromSqlError::OutOfRange(number))
    }
}

/// The geometry in the columns `data` and `total`.
pub(super) fn geometry(row: &Row<'_>, data: usize, total: usize) -> rusqlite::Result<Geometry> {
    let (data_shards, total_shards): (u8, u8) = (row.get(data)?, row.get(total)?);
    Geometry::new(usize::from(data_shards), usize::from(total_shards))
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(data, Type::Integer, Box::new(error)))
}

/// A page's length as the database takes it.
pub(super) fn row_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Every row of a query.
pub(super) fn all<T, P: Params>(
    connection: &Connection,
    sql: &str,
    params: P,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params, read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The first row of a query, if there is one.
pub(super) fn first<T, P: Params>(
    connection: &Connection,
    sql: &str,
    params: P,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, Fault> {
    Ok(connection.prepare_cached(sql)?.query_row(params, read).optional()?)
}

/// The one value of a query that always gives one row.
pub(super) fn value<T: FromSql, P: Params>(connection: &Connection, sql: &str, params: P) -> Result<T, Fault> {
    Ok(connection.prepare_cached(sql)?.query_row(params, |row| row.get(0))?)
}

/// Runs a statement that gives no rows; says how many it changed.
pub(super) fn run<P: Params>(connection: &Connection, sql: &str, params: P) -> Result<usize, Fault> {
    Ok(connection.prepare_cached(sql)?.execute(params)?)
}
