//! Completions for shells and manual pages, generated from the command line's own definition.

use std::path::PathBuf;
use std::process::ExitCode;

use clap_complete::Shell;

/// Arguments of `codesandbox completions`.
#[derive(Debug, clap::Args)]
pub(super) struct CompletionArguments {
    /// The shell
    shell: Shell,
}

/// Arguments of `codesandbox man`.
#[derive(Debug, clap::Args)]
pub(super) struct ManArguments {
    /// Directory for the pages; it is made where it is missing
    #[arg(value_hint = clap::ValueHint::DirPath)]
    directory: PathBuf,
}

/// Prints completions.
pub(super) fn completions(arguments: &CompletionArguments, command: &mut clap::Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, command, "codesandbox", &mut script);
    super::print(&script, ExitCode::SUCCESS)
}

/// Writes one page for the program and one for each command.
pub(super) fn man(arguments: &ManArguments, command: clap::Command) -> ExitCode {
    let directory = &arguments.directory;
    let written = std::fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(command, directory));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::fail(&format!("{}: {error}", directory.display())),
    }
}
