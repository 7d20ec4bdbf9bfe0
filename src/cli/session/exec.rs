//! `codesandbox session exec`: a program in a session, as if it ran here.

use hyper::Method;
use serde_json::{Map, Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::attach::{self, Attached};
use super::create::{limits, object};
use super::keys::Keys;
use super::link::{Link, escape};
use super::output::{From, pass_on};
use super::state::signal_exec;
use super::wire::{Ending, Exec};
use super::{SessionError, input, print, terminal};
use crate::cli::arguments::variable;
use crate::cli::limit::{self, Limit};
use crate::cli::{complain, exit};

/// Arguments of `codesandbox session exec`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The session
    id: String,
    /// Do not wait for the program: print the name that ps, logs and attach know it by
    #[arg(short, long, conflicts_with = "terminal")]
    detach: bool,
    /// Give it a terminal, and connect this one to it
    #[arg(short, long)]
    terminal: bool,
    /// Pass standard input on to it [default: its input is empty; with --terminal, always]
    #[arg(short = 'i', long)]
    stdin: bool,
    /// A variable for its environment
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Directory to start it in, below /workspace
    #[arg(short, long, value_name = "PATH")]
    workdir: Option<String>,
    /// Change a limit, such as wall=5m; --help lists all
    #[arg(short, long = "limit", value_name = "NAME=VALUE")]
    limits: Vec<Limit>,
    /// Run this text as a shell would, in place of a command
    #[arg(long, value_name = "TEXT", conflicts_with = "command")]
    shell: Option<String>,
    /// Keys that leave the program running
    #[arg(long, value_name = "KEYS", default_value = attach::KEYS, requires = "terminal")]
    detach_keys: Keys,
    /// The program and its arguments
    #[arg(last = true, value_name = "COMMAND", required_unless_present = "shell")]
    command: Vec<String>,
}

/// Examples, limits and exit statuses.
pub(super) fn help() -> String {
    let examples = "Ctrl-C sends SIGINT to the program; a second one ends it.\n\nExamples:\n  codesandbox session exec \
                    3f2a -- python3 main.py --verbose\n  codesandbox session exec 3f2a --shell 'make && ./test'\n  \
                    codesandbox session exec -i 3f2a -- sort < words\n  codesandbox session exec -t 3f2a -- bash\n  \
                    codesandbox session exec -d 3f2a -- python3 -m http.server 8000\n";
    format!("{examples}\n{}\n{}", limit::help(), exit::help())
}

/// Runs it.
pub(super) async fn run(link: &Link, arguments: &Arguments) -> Result<u8, SessionError> {
    let session = link.session(&arguments.id).await?;
    // Before the program is there, so that no signal can end us and leave it.
    let signals = Signals::listen().map_err(SessionError::Output)?;
    let body = request(arguments);
    let exec: Exec = link.post(&format!("{session}/execs"), &body).await?;
    let path = format!("{session}/execs/{}", escape(&exec.id.0));
    if arguments.detach {
        if arguments.stdin {
            send_input(link.clone(), path).await;
        }
        print(format!("{}\n", exec.id.0)).await?;
        return Ok(0);
    }
    if arguments.terminal {
        let attached =
            Attached { path, id: &arguments.id, exec: &exec.id.0, terminal: true, keys: &arguments.detach_keys };
        return attach::converse(link, &attached).await;
    }
    if arguments.stdin {
        tokio::spawn(send_input(link.clone(), path.clone()));
    }
    let followed = follow(link, &path, signals).await;
    if followed.is_err() {
        // It is ours alone, and nobody is left to look at it.
        drop(end(link, &path).await);
    }
    followed
}

fn request(arguments: &Arguments) -> Value {
    let mut request = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            request.insert(name.to_owned(), value);
        }
    };
    match &arguments.shell {
        Some(text) => put("shell", Some(json!(text))),
        None => put("argv", Some(json!(arguments.command))),
    }
    put("env", object(&arguments.env));
    put("cwd", arguments.workdir.as_ref().map(|path| json!(path)));
    put("limits", limits(&arguments.limits));
    put("terminal", arguments.terminal.then(|| json!(terminal::size_or_usual())));
    put("keep_stdin", (arguments.stdin || arguments.terminal).then_some(json!(true)));
    // Always: its output is read from its log, so that a daemon that is started anew costs nothing.
    put("detach", Some(json!(true)));
    Value::Object(request)
}

/// What the user says by signals.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// Passes output on until the program ends, and signals to it.
async fn follow(link: &Link, path: &str, mut signals: Signals) -> Result<u8, SessionError> {
    let mut output = std::pin::pin!(pass_on(link, path, From::START, true));
    let mut interrupted = false;
    loop {
        tokio::select! {
            ending = &mut output => return Ok(tell(ending?)),
            _ = signals.interrupt.recv() => {
                if interrupted {
                    end(link, path).await?;
                    return Ok(exit::INTERRUPTED);
                }
                interrupted = true;
                // Beside all else: a daemon that does not answer must not keep the second Ctrl-C from us.
                let (link, path) = (link.clone(), path.to_owned());
                tokio::spawn(async move {
                    if let Err(error) = signal_exec(&link, &path, "SIGINT").await {
                        complain(&error);
                    }
                });
            }
            _ = signals.terminate.recv() => {
                end(link, path).await?;
                return Ok(exit::TERMINATED);
            }
            _ = signals.hang_up.recv() => {
                end(link, path).await?;
                return Ok(exit::HUNG_UP);
            }
        }
    }
}

/// Tells how a program ended; the exit status for it.
pub(super) fn tell(ending: Option<Ending>) -> u8 {
    let Some(ending) = ending else { return exit::FAILURE };
    for line in ending.refusals() {
        complain(&line);
    }
    if let Some(verdict) = ending.verdict() {
        complain(&verdict);
    }
    ending.exit_status()
}

async fn end(link: &Link, path: &str) -> Result<(), SessionError> {
    link.call(Method::DELETE, path, None).await?;
    Ok(())
}

/// Sends our input to the program until one of them ends.
async fn send_input(link: Link, path: String) {
    if let Err(error) = forward_input(&link, &path, input::pieces()).await {
        // A program that has ended, or has closed its input, wants no more: that is told by its output.
        if !matches!(&error, SessionError::Client(crate::client::ClientError::Refused(refusal)) if refusal.status < 500)
        {
            complain(&format!("standard input: {error}"));
        }
    }
}

async fn forward_input(link: &Link, path: &str, mut pieces: mpsc::Receiver<Vec<u8>>) -> Result<(), SessionError> {
    const BYTES: &str = "application/octet-stream";
    let mut client = link.connect().await?;
    let path = format!("{path}/stdin");
    while let Some(piece) = pieces.recv().await {
        client.upload(Method::POST, &path, BYTES, crate::client::full(piece)).await?;
    }
    client.upload(Method::POST, &format!("{path}?close=true"), BYTES, crate::client::full(Vec::new())).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parsed(words: &[&str]) -> Result<Value, clap::Error> {
        Line::try_parse_from([&["exec"], words].concat()).map(|line| request(&line.arguments))
    }

    #[test]
    fn what_follows_two_dashes_is_the_program() {
        let request = parsed(&["abcd", "-e", "A=1", "-w", "src", "--", "ls", "-l", "--", "x"]).unwrap();
        assert_eq!(request, json!({"argv": ["ls", "-l", "--", "x"], "env": {"A": "1"}, "cwd": "src", "detach": true}));
    }

    #[test]
    fn a_text_for_a_shell_takes_the_place_of_a_program() {
        let request = parsed(&["-i", "abcd", "--shell", "a | b"]).unwrap();
        assert_eq!(request, json!({"shell": "a | b", "keep_stdin": true, "detach": true}));
        assert!(parsed(&["abcd", "--shell", "x", "--", "y"]).is_err());
        assert!(parsed(&["abcd"]).is_err());
        assert!(parsed(&["-d", "-t", "abcd", "--", "y"]).is_err());
    }

    #[test]
    fn a_terminal_has_a_size_and_input() {
        let request = parsed(&["-t", "abcd", "--", "bash"]).unwrap();
        assert!(request["terminal"]["rows"].as_u64() > Some(0) && request["keep_stdin"] == true, "{request}");
    }
}
