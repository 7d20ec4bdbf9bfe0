//! The daemon program.

use std::process::ExitCode;

fn main() -> ExitCode {
    codesandbox::daemon::main(std::env::args_os())
}
