//! The command line: an HTTP client of the API like any other, and whatever needs no API.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::launcher;

mod agent;
mod arguments;
pub mod bench;
mod collect;
mod dependencies;
mod doctor;
mod embedded;
pub mod exit;
mod follow;
mod generate;
mod judge;
pub mod limit;
mod mcp;
mod network;
mod request;
mod run;
mod runtimes;
mod service;
mod session;
mod sizes;
mod spinner;
mod text;
mod token;

/// Runs code nobody trusts, in many versions of many languages
#[derive(Debug, Parser)]
#[command(name = "codesandbox", version, arg_required_else_help = true, max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a program in a sandbox; its output, and its exit status, become those of this command
    #[command(after_long_help = run_help(), visible_alias = "r")]
    Run(Box<arguments::Arguments>),
    /// Keep sandboxes: run programs in one and the same, look at its files, come back later
    #[command(after_long_help = session::HELP, visible_alias = "s")]
    Session(Box<session::Arguments>),
    /// Run a coding agent, or any program of this host, on a real directory, and let it reach what is named
    #[command(after_long_help = agent_help())]
    Agent(Box<agent::Arguments>),
    /// Serve a model by the Model Context Protocol: tools that run code, keep sessions, read and write their files
    #[command(after_long_help = mcp::HELP)]
    Mcp(Box<mcp::Arguments>),
    /// List the languages and versions that can be run, test them, or tell their sizes
    Runtimes(runtimes::Arguments),
    /// Tell whether this host can run sandboxes, what is lacking, and the remedy
    #[command(after_long_help = "Exit status: 0 usable, 1 degraded, 2 unusable.")]
    Doctor(doctor::Arguments),
    /// Put a load on the service, and the same on the bare machine, and compare
    #[command(after_long_help = "Exit status: 0, or 1 where a request failed.")]
    Bench(bench::Arguments),
    /// Make tokens for clients that come over TCP
    Token(token::Arguments),
    /// Print completions for a shell
    Completions(generate::CompletionArguments),
    /// Write the manual pages into a directory
    Man(generate::ManArguments),
}

/// The tools of `codesandbox mcp`, as `docs/API.md` has them.
#[must_use]
pub fn mcp_tools() -> String {
    mcp::tools::markdown()
}

fn run_help() -> String {
    format!("{}\n{}", limit::help(), exit::help())
}

fn agent_help() -> String {
    format!("{}\n\n{}", agent::HELP, exit::help())
}

/// Runs the command that these arguments name, the program's name first.
///
/// No thread may have been started before: some commands start as other programs.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    if let Some(arguments) = launcher::requested(&arguments) {
        return launcher::main(arguments.into_iter());
    }
    if arguments.get(1).is_some_and(|first| first == doctor::probe::COMMAND) {
        return doctor::probe::main(arguments.into_iter().skip(2));
    }
    match CommandLine::try_parse_from(arguments) {
        Ok(line) => dispatch(line.command),
        Err(error) => {
            // Where not even this can be printed, the exit status still tells.
            drop(error.print());
            // Not 2, as usual: that could as well be the status of the program in the sandbox.
            ExitCode::from(if error.use_stderr() { exit::FAILURE } else { 0 })
        }
    }
}

fn dispatch(command: Command) -> ExitCode {
    match command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Session(arguments) => session::run(&arguments),
        Command::Agent(arguments) => agent::run(&arguments),
        Command::Mcp(arguments) => mcp::run(&arguments),
        Command::Runtimes(arguments) => runtimes::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Token(arguments) => token::run(&arguments),
        Command::Completions(arguments) => generate::completions(&arguments, &mut CommandLine::command()),
        Command::Man(arguments) => generate::man(&arguments, CommandLine::command()),
    }
}

/// Writes to standard output; `status` is the exit status where that works.
fn print(bytes: &[u8], status: ExitCode) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => status,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::from(exit::BROKEN_PIPE),
        Err(error) => fail(&format!("standard output: {error}")),
    }
}

/// Says on standard error what went wrong on our side.
fn fail(what: &dyn std::fmt::Display) -> ExitCode {
    complain(what);
    ExitCode::from(exit::FAILURE)
}

/// One line on standard error; nothing is left to do where even that is closed.
fn complain(what: &dyn std::fmt::Display) {
    drop(writeln!(std::io::stderr().lock(), "codesandbox: {what}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn help_tells_limits_and_exit_statuses() {
        let mut command = CommandLine::command();
        let help = command.find_subcommand_mut("run").unwrap().render_long_help().to_string();
        assert!(help.contains("memory_exceeded") && help.contains("wall_time_ms"), "{help}");
    }

    #[test]
    fn what_follows_two_dashes_belongs_to_the_program() {
        let line =
            CommandLine::try_parse_from(["codesandbox", "run", "a.py", "--arg", "x", "--", "--json", "-y"]).unwrap();
        let Command::Run(arguments) = line.command else { panic!("not run") };
        assert_eq!(arguments.program_arguments(), ["x", "--json", "-y"]);
    }

    #[test]
    fn a_wrong_limit_is_answered_with_the_names() {
        let error = CommandLine::try_parse_from(["codesandbox", "run", "a.py", "--limit", "ram=1G"]).unwrap_err();
        assert!(error.to_string().contains("memory"), "{error}");
    }
}
