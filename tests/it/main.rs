//! All integration tests, in one binary: it links once.

mod cli_usage;
mod cloud_contract;
mod cloud_dav_server;
mod cloud_faults;
mod cloud_webdav;
mod front_page;
mod golden;
mod kill;
mod past;
mod put;
mod put_folder;
mod put_leftovers;
mod recover;
mod recover_desk;
mod recover_many;
mod s3_server;
mod tidy;
mod world;
