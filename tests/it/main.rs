//! All integration tests, in one binary: it links once.

mod cli_usage;
mod tidy;
