//! The seam for faster arithmetic: what an engine does, and which one this machine uses.

use super::portable::Portable;
use std::fmt;
use std::sync::OnceLock;

/// Multiplies a matrix over GF(2^8), polynomial 0x11D, by blocks: the only work whose time grows with the data.
pub(crate) trait Engine: fmt::Debug + Send + Sync {
    /// What it is called in measurements.
    fn name(&self) -> &'static str;

    /// Sets `outputs[r]` to the sum over c of `rows[r][c] · inputs[c]`, whatever was in it before.
    ///
    /// The caller sees to it that there is a row per output, an element in each row per input, at least one input,
    /// and that all inputs and outputs have one length.
    fn multiply(&self, rows: &[&[u8]], inputs: &[&[u8]], outputs: &mut [&mut [u8]]);
}

/// The engine of this process, chosen at its first use.
pub(super) fn selected() -> &'static dyn Engine {
    static SELECTED: OnceLock<&'static dyn Engine> = OnceLock::new();
    *SELECTED.get_or_init(select)
}

/// The fastest engine that this processor can run.
fn select() -> &'static dyn Engine {
    &Portable
}
