//! Keeps data alive on storage nobody should trust alone.

pub mod backend;
pub mod catalog;
pub mod codec;
pub mod crypto;
pub mod error;
pub mod format;
pub mod id;
pub mod merkle;
pub mod ops;
pub mod store;
pub mod stripe;

pub use error::{Error, ErrorKind, Result};
