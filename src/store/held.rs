//! What a machine may do with a store, by the key that it has.

use crate::crypto::LimitedKey;
use crate::error::{Error, ErrorKind};
use serde::Serialize;

/// What a machine has of a store's keys, and so what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// The master keys: everything.
    Owner,
    /// A verify-only key: check and repair.
    VerifyOnly,
    /// A write-only key: that, and add files.
    WriteOnly,
}

impl Held {
    /// What whoever has this key may do.
    pub(super) fn by(key: &LimitedKey) -> Self {
        match key {
            LimitedKey::Verify(_) => Self::VerifyOnly,
            LimitedKey::Write(_) => Self::WriteOnly,
        }
    }

    /// What its key is called.
    pub(super) fn key_kind(self) -> &'static str {
        match self {
            Self::Owner => "store's own",
            Self::VerifyOnly => "verify-only",
            Self::WriteOnly => "write-only",
        }
    }

    /// Why something is refused here that takes a key of the store.
    pub(super) fn refusal(self) -> Error {
        let doing = match self {
            Self::Owner => "this machine lacks a key of the store",
            Self::VerifyOnly => {
                "this machine has a verify-only key: it checks and repairs, and stores and removes nothing"
            }
            Self::WriteOnly => "this machine has a write-only key: it stores files, and reads and removes none",
        };
        Error::new(ErrorKind::WrongKey, doing).with_hint("do it where the store's own key is")
    }
}
