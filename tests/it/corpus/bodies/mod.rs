//! What is done with bytes of a stranger, parser by parser, and what must hold whatever they are. The fuzzer calls these,
//! and so do the tests, with the inputs that were kept.

mod databases;
mod format;
mod keys;
mod peer;
mod talk;
mod texts;

/// A parser's name, which is that of its folder of inputs, and what is done with an input; it says whether the input was
/// read, and not refused.
pub(crate) type Target = (&'static str, fn(&[u8]) -> bool);

/// All there are.
pub(crate) const TARGETS: [Target; 22] = [
    ("address", peer::address),
    ("catalog", databases::catalog),
    ("config", texts::config),
    ("control", talk::control),
    ("frame", peer::frames),
    ("handshake", peer::handshake),
    ("header", format::header),
    ("index", format::index),
    ("key_file", keys::key_file),
    ("kit", keys::kit),
    ("limited_key", keys::limited_key),
    ("manifest", format::manifest),
    ("notice", talk::notice),
    ("proof", format::proof),
    ("recipient", keys::recipient),
    ("sealed_part", format::sealed_part),
    ("seed", peer::seed),
    ("storage", talk::storage),
    ("storage_call", peer::storage_call),
    ("tail", format::tail),
    ("vault", databases::vault),
    ("words", texts::words),
];
