//! The command `shard`: see [`cli`] for what people type and read, and the library `shard` for everything else.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run_process()
}
