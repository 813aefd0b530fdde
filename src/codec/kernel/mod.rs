//! The kernels: a matrix over GF(2^8) times blocks of bytes, the only work whose time grows with the data.
//!
//! *What it is.* [`PreparedRows`]: rows of a matrix in the form that one engine takes, and safe functions over them.
//!
//! *What it knows.* Which kernel an engine is, and how many outputs it sums up at once.
//!
//! *What it does not know.* Which rows are parity and which undo a loss.
//!
//! *Invariants.* This folder has all unsafe code of the crate. Every call from here into a kernel keeps the
//! preconditions of [`column`]: the processor was asked when the rows were prepared, and lengths are checked once per
//! call, before the first byte. Outputs are overwritten and never read; inputs are never written.

#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code, unused_macros, unused_imports))]
#[allow(unsafe_code)]
mod column;
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code)]
mod neon;
mod portable;
#[allow(unsafe_code)]
mod prepared;
mod tables;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86;

pub(super) use prepared::PreparedRows;
