//! All integration tests, in one binary: it links once.

mod cli_documents;
mod cli_edges;
mod cli_exits;
mod cli_usage;
mod cloud_contract;
mod cloud_dav_server;
mod cloud_faults;
mod cloud_webdav;
mod desk;
mod front_page;
mod golden;
mod kill;
mod past;
mod put;
mod put_folder;
mod put_leftovers;
mod readme;
mod recover;
mod recover_desk;
mod recover_many;
mod s3_server;
mod tidy;
mod world;
