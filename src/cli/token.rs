//! `codesandbox token`: makes what clients show who come over TCP.

use std::process::ExitCode;

use clap::Subcommand;

use super::{complain, fail, print};
use crate::config::clients::is_name;
use crate::config::tokens::Token;

/// Arguments of `codesandbox token`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a new token, which nobody can print again, and on standard error what the configuration is to know of it
    New {
        /// What the journal calls it, such as the name of who holds it
        #[arg(value_parser = name)]
        name: String,
    },
}

/// A name that the configuration takes.
fn name(text: &str) -> Result<String, String> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err("a name begins with a letter and goes on with letters, digits, \"-\", \"_\" and \".\"".to_owned())
}

/// Makes one.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let Command::New { name } = &arguments.command;
    let token = match Token::random() {
        Ok(token) => token,
        Err(error) => return fail(&format!("no random bits: {error}")),
    };
    // First, so that nobody is told a hash without the token.
    let printed = print(format!("{}\n", token.reveal()).as_bytes(), ExitCode::SUCCESS);
    complain(&format!("for clients.….tokens of the configuration:\n  \"{name}\": \"{}\"", token.hash()));
    printed
}
