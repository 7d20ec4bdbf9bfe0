//! The command line program.

use std::process::ExitCode;

fn main() -> ExitCode {
    codesandbox::cli::main(std::env::args_os())
}
