mod cloud_contract;
mod cloud_dav_server;
mod cloud_faults;
mod cloud_webdav;
mod front_page;
mod golden;
mod s3_server;

fn main() {}
