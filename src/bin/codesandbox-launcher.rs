//! The launcher: builds sandboxes for the daemon, by name and number.

fn main() -> std::process::ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    // It executes itself with the same first argument as the other programs do.
    let arguments = codesandbox::launcher::requested(&arguments).unwrap_or(arguments);
    codesandbox::launcher::main(arguments.into_iter())
}
