mod cloud_contract;
mod cloud_faults;
mod s3_server;

fn main() {}
