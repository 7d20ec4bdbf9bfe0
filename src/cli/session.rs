//! `codesandbox session`: sandboxes that outlive a request, which a daemon keeps.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::dependencies::PackagesError;
use super::follow::{FollowError, Sink, write};
use super::text::harmless;
use super::{exit, fail, service};
use crate::client::ClientError;
use link::Link;

mod archive;
mod attach;
mod cell;
mod copy;
mod create;
mod exec;
mod extract;
mod forward;
pub(super) mod input;
mod keys;
mod link;
mod list;
mod network;
mod output;
mod snapshot;
mod state;
mod target;
pub(super) mod terminal;
pub(super) mod time;
mod transfer;
mod wire;

/// Arguments of `codesandbox session`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Use the daemon on this socket [default: $CODESANDBOX_SOCKET, or /run/codesandbox/api.sock]
    #[arg(long, global = true, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a session and print its id
    #[command(after_long_help = create::help(), visible_alias = "new")]
    Create(create::Arguments),
    /// List sessions
    #[command(visible_alias = "list")]
    Ls(list::ListArguments),
    /// Tell all about a session
    #[command(visible_alias = "inspect")]
    Show(list::ShowArguments),
    /// Run a program in a session; its output, and its exit status, become those of this command
    #[command(after_long_help = exec::help(), visible_alias = "x")]
    Exec(exec::Arguments),
    /// Connect this terminal to a program in a session
    #[command(after_long_help = attach::HELP, visible_alias = "a")]
    Attach(attach::Arguments),
    /// List the programs of a session
    Ps(list::ProgramArguments),
    /// Print what a program has printed
    Logs(output::Arguments),
    /// Send a signal to a program
    Kill(state::KillArguments),
    /// Copy files and directories into a session, or out of it
    #[command(after_long_help = copy::HELP)]
    Cp(copy::Arguments),
    /// Keep the files of a session as they are now, and print the snapshot's id
    Snapshot(snapshot::TakeArguments),
    /// List the snapshots of a session
    Snapshots(snapshot::ListArguments),
    /// Put the files of a session back to a snapshot; ends its programs
    Rollback(snapshot::RollbackArguments),
    /// Start a session with the files of another, and print its id
    Fork(snapshot::ForkArguments),
    /// Write a snapshot into a tar file
    Export(snapshot::ExportArguments),
    /// Start a session with the files of a tar file, and print its id
    Import(snapshot::ImportArguments),
    /// Listen here, and carry each connection to a port in a session, until Ctrl-C
    #[command(after_long_help = forward::HELP)]
    Forward(forward::Arguments),
    /// Run code in a context, which keeps its variables from one piece of code to the next
    #[command(after_long_help = cell::HELP)]
    RunCode(cell::Arguments),
    /// Tell what the programs of a session can reach and what was refused, or replace it
    #[command(after_long_help = network::HELP)]
    Network(network::Arguments),
    /// Make a session persistent, and hold it to some processors
    Promote(state::PromoteArguments),
    /// Take that back: not persistent any more, and on all processors
    Demote(state::Arguments),
    /// Freeze a session: its programs keep everything but the processor
    Pause(state::Arguments),
    /// Let a frozen session go on
    Resume(state::Arguments),
    /// End the programs of a persistent session and keep its files; any other ends for good
    Stop(state::Arguments),
    /// End sessions for good, with their files
    #[command(visible_alias = "remove")]
    Rm(state::RemoveArguments),
}

/// Examples for the help text and the manual page.
pub(super) const HELP: &str = "\
A session is known by its id, of which four characters are enough where they fit one session only.

Examples:
  id=$(codesandbox session create python@3.12 --idle-timeout 2h)
  codesandbox session cp project/ $id:
  codesandbox session exec $id -- python3 -m unittest
  codesandbox session exec -t $id -- bash
  codesandbox session forward $id 8000
  codesandbox session rm $id";

/// Why a command about sessions did not succeed.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    /// There is no daemon.
    #[error(
        "{0}\n  Sessions outlive this command, so they need a daemon: enable the service, or name the socket of one by \
         --socket or CODESANDBOX_SOCKET; codesandbox doctor tells what is lacking"
    )]
    Absent(ClientError),
    /// The service.
    #[error(transparent)]
    Client(ClientError),
    /// A lock file can't be sent.
    #[error(transparent)]
    Packages(#[from] PackagesError),
    /// Our own output can't be written.
    #[error("output: {0}")]
    Output(io::Error),
    /// A file here.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// No id.
    #[error("{:?} is no id of a session: give at least four of its characters", harmless(.0))]
    Id(String),
    /// Nothing begins like this.
    #[error("no session of yours has an id that begins with {0}; codesandbox session ls lists them")]
    Unknown(String),
    /// Several do.
    #[error("{given} fits several sessions: {ids}")]
    Ambiguous {
        /// What was given.
        given: String,
        /// Those that fit.
        ids: String,
    },
    /// The service failed in the middle, or the command line makes no sense.
    #[error("{0}")]
    Said(String),
}

impl From<ClientError> for SessionError {
    fn from(error: ClientError) -> Self {
        if error.is_absent() { Self::Absent(error) } else { Self::Client(error) }
    }
}

impl From<FollowError> for SessionError {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Client(error) => error.into(),
            FollowError::Output(error) => Self::Output(error),
            FollowError::Failed(text) => Self::Said(text),
        }
    }
}

/// Does what was asked for.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let place = service::Place { socket: arguments.socket.clone(), ..service::Place::default() };
    let link = Link::new(place.socket_path());
    let runtime = match service::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("starting the event loop: {error}")),
    };
    let done = runtime.block_on(dispatch(&link, &arguments.command));
    // A read of a terminal may still hang, and nobody waits for it any more.
    runtime.shutdown_background();
    match done {
        Ok(status) => ExitCode::from(status),
        Err(SessionError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::from(exit::BROKEN_PIPE)
        }
        Err(error) => fail(&error),
    }
}

/// The exit status of a command.
async fn dispatch(link: &Link, command: &Command) -> Result<u8, SessionError> {
    match command {
        Command::Create(arguments) => create::run(link, arguments).await,
        Command::Ls(arguments) => list::sessions(link, arguments).await,
        Command::Show(arguments) => list::show(link, arguments).await,
        Command::Exec(arguments) => exec::run(link, arguments).await,
        Command::Attach(arguments) => attach::run(link, arguments).await,
        Command::Ps(arguments) => list::programs(link, arguments).await,
        Command::Logs(arguments) => output::logs(link, arguments).await,
        Command::Kill(arguments) => state::kill(link, arguments).await,
        Command::Cp(arguments) => copy::run(link, arguments).await,
        Command::Snapshot(arguments) => snapshot::take(link, arguments).await,
        Command::Snapshots(arguments) => snapshot::list(link, arguments).await,
        Command::Rollback(arguments) => snapshot::rollback(link, arguments).await,
        Command::Fork(arguments) => snapshot::fork(link, arguments).await,
        Command::Export(arguments) => snapshot::export(link, arguments).await,
        Command::Import(arguments) => snapshot::import(link, arguments).await,
        Command::Forward(arguments) => forward::run(link, arguments).await,
        Command::RunCode(arguments) => cell::run(link, arguments).await,
        Command::Network(arguments) => network::run(link, arguments).await,
        Command::Promote(arguments) => state::promote(link, arguments).await,
        Command::Demote(arguments) => state::change(link, arguments, "demote").await,
        Command::Pause(arguments) => state::change(link, arguments, "pause").await,
        Command::Resume(arguments) => state::change(link, arguments, "resume").await,
        Command::Stop(arguments) => state::change(link, arguments, "stop").await,
        Command::Rm(arguments) => state::remove(link, arguments).await,
    }
}

/// Prints to standard output.
async fn print(text: impl Into<Vec<u8>>) -> Result<(), SessionError> {
    write(Sink::Output, text.into()).await.map_err(SessionError::Output)
}

/// Prints an answer of the API as it came.
async fn print_json(body: &[u8]) -> Result<(), SessionError> {
    let mut line = body.to_vec();
    if !line.ends_with(b"\n") {
        line.push(b'\n');
    }
    print(line).await
}
