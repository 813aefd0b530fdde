//! All integration tests, in one binary: it links once.

mod cli_usage;
mod cloud_contract;
mod cloud_dav_server;
mod cloud_faults;
mod cloud_webdav;
mod golden;
mod kill;
mod s3_server;
mod tidy;
