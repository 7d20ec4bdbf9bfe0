//! `codesandbox agent`: a coding agent, or any other program of the host's, on a real directory.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use super::limit::Limit;
use super::network::Allowed;
use super::session::time::duration;
use super::{complain, exit, fail};
use crate::launcher::Grant;
use crate::plan::real::Real;
use crate::profile::{Limits, Network};

mod ask;
mod environment;
mod git;
mod guard;
mod pieces;
mod refused;
mod repository;
mod rules;
mod run;
mod secret;
mod streams;
mod watch;

/// Examples for the help text and the manual page.
pub(super) const HELP: &str = "\
The program has the working directory, which it may change, the system's own directories, which it may not, and
an empty home. It reaches nothing that no --allow and no line of the allow-file names. What was refused is told at the end.

Examples:
  codesandbox agent --allow packages.example.org -- npm install
  codesandbox agent --secret API_TOKEN@api.example.org --allow-file ~/rules.toml -- my-agent
  codesandbox agent --read ~/.config/my-agent --write ../shared -- bash
  codesandbox agent allow .example.net:443 --allow-file ~/rules.toml";

/// Arguments of `codesandbox agent`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    job: Job,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Add to an allow-file what may be reached; a program that runs under it reaches it at once
    Allow(AllowArguments),
}

/// Arguments of `codesandbox agent allow`.
#[derive(Debug, clap::Args)]
struct AllowArguments {
    /// A host, .DOMAIN for all hosts below it, or addresses such as 198.51.100.0/24 [default ports: 80,443]
    #[arg(required = true, value_name = "HOST[:PORT,…]")]
    destinations: Vec<Allowed>,
    /// The file; it is made where there is none
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    allow_file: PathBuf,
}

/// What to run, and what to let it have.
#[derive(Debug, clap::Args)]
struct Job {
    /// Directory to work in, which it may change
    #[arg(short, long, value_name = "PATH", default_value = ".", value_hint = clap::ValueHint::DirPath)]
    workdir: PathBuf,
    /// Let it change this as well; .git lets it change hooks and configuration of the repository
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    write: Vec<PathBuf>,
    /// Let it read this as well
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    read: Vec<PathBuf>,
    /// Give it a variable: this shell's own, or with a value
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,
    /// Let it use a variable of this shell's towards this host, which it then reaches, without seeing the value
    /// [default port: 443]
    #[arg(long, value_name = "NAME@HOST[:PORT,…]")]
    secret: Vec<secret::Wanted>,
    /// Let it reach this: a host, .DOMAIN for all hosts below it, or addresses such as 198.51.100.0/24
    /// [default ports: 80,443]
    #[arg(long, value_name = "HOST[:PORT,…]")]
    allow: Vec<Allowed>,
    /// Let it reach what this file names, in TOML, as the network of a profile; what is changed there is in force at
    /// once
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    allow_file: Option<PathBuf>,
    /// Name the HTTP proxy in its environment; what may be reached is the same without
    #[arg(long)]
    proxy: bool,
    /// Let it make local sockets, and so connect to any that lie in what it sees
    #[arg(long)]
    unix_sockets: bool,
    /// Memory of all its processes, such as 8G [default: that of the host but an eighth]
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory: Option<u64>,
    /// Time by the clock, such as 2h [default: as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    time: Option<u64>,
    /// Processes and threads at one time [default: 4096]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    processes: Option<u64>,
    /// Configuration in JSON, such as for name servers
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    config: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Why no program was run, or not to its end.
#[derive(Debug, thiserror::Error)]
enum AgentError {
    /// What was chosen of the host's files.
    #[error(transparent)]
    Pieces(#[from] pieces::PieceError),
    /// The allow-file.
    #[error(transparent)]
    Rules(#[from] rules::RulesError),
    /// A secret.
    #[error(transparent)]
    Secret(#[from] secret::SecretError),
    /// A variable, or the program.
    #[error(transparent)]
    Environment(#[from] environment::EnvironmentError),
    /// Our own side.
    #[error("{attempt}: {error}")]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// Why not.
        error: std::io::Error,
    },
    /// The launcher.
    #[error("{0}; codesandbox doctor tells what is lacking")]
    Launcher(String),
    /// Something is to be reached, and nothing can be.
    #[error(
        "{0}; so nothing that is allowed could be reached, and the program is not run. Without --allow and --allow-file \
         it runs without a network; docs/NETWORK.md tells what a network takes"
    )]
    NoNetwork(String),
}

/// Memory in bytes, as limits are written.
fn memory(text: &str) -> Result<u64, String> {
    format!("memory={text}").parse::<Limit>().map(|limit| limit.value).map_err(|error| error.to_string())
}

/// Does what was asked for.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let done = match &arguments.command {
        Some(Command::Allow(allow)) => rules::add(&allow.allow_file, &forms(&allow.destinations))
            .map(|added| {
                let path = allow.allow_file.display();
                complain(&format!("{path}: {added} added, {} were there", allow.destinations.len() - added));
                0
            })
            .map_err(AgentError::from),
        None => work(&arguments.job),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(AgentError::Environment(error @ environment::EnvironmentError::Program(_))) => {
            complain(&error);
            ExitCode::from(exit::NOT_STARTED)
        }
        Err(error) => fail(&error),
    }
}

fn forms(allowed: &[Allowed]) -> Vec<crate::profile::DestinationForm> {
    allowed.iter().map(Allowed::form).collect()
}

fn work(job: &Job) -> Result<u8, AgentError> {
    let rules = job.allow_file.as_deref().map(rules::Rules::open).transpose()?;
    let owner = environment::Owner::find();
    let chosen = pieces::choose(&job.workdir, &job.write, &job.read, rules.as_ref(), &owner)?;
    let rules = rules.map(|rules| chosen.hold_rules(rules));
    let secrets = secret::find(&job.secret, &job.env)?;
    let flags = rules::Flags {
        destinations: forms(&job.allow).into_iter().chain(job.secret.iter().map(secret::Wanted::form)).collect(),
        secrets: secrets.keys().map(|variable| (variable.clone(), variable.clone())).collect(),
    };
    let network = rules::combined(&flags, rules.as_ref())?;
    let spec = environment::spec(&job.command, &job.env, job.proxy, &chosen)?;
    let limits = limits(job);
    let memory_bytes = limits.memory_bytes;
    let real = Real {
        user: owner.name,
        home: chosen.home.clone(),
        scratch_bytes: memory_bytes / 2,
        scratch_files: 1 << 20,
        pieces: chosen.pieces.clone(),
    };
    let mut grant = Grant { real, limits, networked: CAN_REACH, secrets, unix_sockets: job.unix_sockets };
    let is_wanted = matches!(&network, Network::Allow(list) if !list.allow.is_empty()) || rules.is_some();
    if is_wanted && !CAN_REACH {
        return Err(AgentError::NoNetwork("this program is built without the feature nftables".to_owned()));
    }
    let plan = run::Plan { spec, flags, network, rules, config: job.config.clone() };
    let done = match run::run(&plan, &grant) {
        // Nothing was to be reached anyway; what would have been refused by name is refused all the same.
        Err(AgentError::NoNetwork(reason)) if !is_wanted => {
            complain(&format!("what it tries to reach can't be told here: {reason}"));
            grant.networked = false;
            run::run(&plan, &grant)
        }
        done => done,
    };
    guard::look_back(&chosen.watched);
    done
}

/// Whether rules of a network can be had at all.
const CAN_REACH: bool = cfg!(feature = "nftables");

/// What the program may use: much, unless something else is said.
fn limits(job: &Job) -> Limits {
    /// Longer than anything runs, and short enough to be reckoned with.
    const FOR_EVER_MS: u64 = 100 * 365 * 86_400_000;
    use nix::sys::resource::{Resource, getrlimit};
    let host_bytes = nix::sys::sysinfo::sysinfo().map_or(4 << 30, |info| info.ram_total());
    // What the host forbids us we can't give.
    let at_most = |resource, wanted: u64| getrlimit(resource).map_or(wanted, |(_, hard)| wanted.min(hard));
    Limits {
        wall_time_ms: job.time.unwrap_or(FOR_EVER_MS),
        cpu_time_ms: FOR_EVER_MS,
        cpu_millis: 1_000 * std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
        memory_bytes: job.memory.unwrap_or(host_bytes - host_bytes / 8).max(64 << 20),
        processes: at_most(Resource::RLIMIT_NPROC, job.processes.unwrap_or(4096)),
        open_files: at_most(Resource::RLIMIT_NOFILE, 65_536),
        file_size_bytes: at_most(Resource::RLIMIT_FSIZE, u64::MAX),
        disk_bytes: 1 << 20,
        disk_files: 64,
        output_bytes: u64::MAX,
        stack_bytes: at_most(Resource::RLIMIT_STACK, 8 << 20),
    }
}
