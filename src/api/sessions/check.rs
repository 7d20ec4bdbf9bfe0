//! Makes what the manager takes out of requests, or says what about them is not allowed. Nothing is looked
//! at after this: what comes out is within the configuration's limits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::wire::{
    ContextRequest, ExecRequest, ForkRequest, PromoteRequest, SessionChanges, SessionRequest, SignalName, SizeRequest,
    SnapshotRequest,
};
use crate::api::problem::{Kind, Problem};
use crate::api::{dependencies, network, request};
use crate::config::Config;
use crate::config::clients::Quota;
use crate::config::sessions::Sessions as Bounds;
use crate::job::Install;
use crate::plan::files::Place;
use crate::plan::{FilePath, PathError};
use crate::profile::{LimitChanges, Limits};
use crate::runtime::{Catalogue, CommandLine, Runtime};
use crate::session::types::{Fork, NewExec, NewSession, Size, Update, View};

pub mod programs;

/// The profile of sessions that name none.
pub const PROFILE: &str = "session";
/// Most runtimes of one session.
pub const RUNTIMES: usize = 8;
/// Most labels of one session.
pub const LABELS: usize = 32;
/// Longest key of a label, in bytes.
pub const LABEL_KEY_BYTES: usize = 64;
/// Longest value of a label and longest label of a snapshot, in bytes.
pub const LABEL_VALUE_BYTES: usize = 256;
/// Most rows and most columns of a terminal.
pub const TERMINAL: u16 = 1000;
/// Highest number of a processor that may be named.
const HIGHEST_CPU: u32 = 8191;

/// Shortest time without use and shortest lifetime: less would end a session before its first program.
const LEAST_TIME_MS: u64 = 1000;

/// Checks a request for a session and completes it from the configuration.
///
/// # Errors
/// The first thing that is not allowed, with the field and what would be allowed.
pub fn session(
    request: SessionRequest,
    config: &Config,
    catalogue: &Catalogue,
    quota: &Quota,
    times: &Bounds,
) -> Result<(NewSession, Vec<Arc<Install>>), Problem> {
    let runtimes = runtimes(request.runtime, request.runtimes, catalogue)?;
    let (profile_name, profile) = request::profile(request.profile, PROFILE, config, quota)?;
    let limits = request::limits("limits", profile.run, request.limits, profile)?;
    let mut env = programs::environment(&runtimes, catalogue, limits.memory_bytes);
    env.extend(request::env(request.env.unwrap_or_default())?);
    let chosen: Vec<&Runtime> = runtimes.iter().filter_map(|id| catalogue.by_id(id)).collect();
    let installs = dependencies::check(request.dependencies, &chosen, profile, config)?;
    installs.iter().for_each(|install| dependencies::add_to_environment(&mut env, install.ecosystem));
    let line = CommandLine { argv: vec![], env };
    request::fits_in_a_stage("env", &line, config.service.arguments_bytes)?;
    let new = NewSession {
        runtimes,
        profile: profile_name,
        limits,
        env: line.env,
        labels: labels(request.labels.unwrap_or_default())?,
        idle_timeout_ms: idle_timeout(request.idle_timeout_ms, times)?.unwrap_or(times.idle_timeout_ms),
        lifetime_ms: lifetime(request.lifetime_ms, times)?.unwrap_or(times.lifetime_ms),
        persistent: request.persistent.unwrap_or(false),
        network: network::with_secrets(request.network, request.secrets, &profile.network, config)?,
        trees: Vec::new(),
    };
    Ok((new, installs))
}

/// Checks changes of a session.
///
/// # Errors
/// As [`session`].
pub fn changes(request: SessionChanges, times: &Bounds) -> Result<Update, Problem> {
    Ok(Update {
        labels: request.labels.map(labels).transpose()?,
        idle_timeout_ms: idle_timeout(request.idle_timeout_ms, times)?,
        lifetime_ms: lifetime(request.lifetime_ms, times)?,
    })
}

/// Checks a request for a fork.
///
/// # Errors
/// As [`session`].
pub fn fork(request: ForkRequest, times: &Bounds) -> Result<(Option<u64>, Fork), Problem> {
    let fork = Fork {
        labels: request.labels.map(labels).transpose()?,
        idle_timeout_ms: idle_timeout(request.idle_timeout_ms, times)?,
        lifetime_ms: lifetime(request.lifetime_ms, times)?,
        persistent: request.persistent,
    };
    Ok((request.snapshot, fork))
}

/// Checks which processors are asked for.
///
/// # Errors
/// None are named, one twice, or one that no host has.
pub fn promotion(request: PromoteRequest) -> Result<Option<Vec<u32>>, Problem> {
    let Some(cpus) = request.cpus else {
        return Ok(None);
    };
    if cpus.is_empty() {
        return Err(Problem::field("cpus", "no processor is named").allowing("at least one, or none of the field"));
    }
    let mut seen = BTreeSet::new();
    for (index, cpu) in cpus.iter().enumerate() {
        let field = || format!("cpus[{index}]");
        if *cpu > HIGHEST_CPU {
            return Err(Problem::field(field(), "no host has this processor")
                .allowing(serde_json::json!({ "minimum": 0, "maximum": HIGHEST_CPU })));
        }
        if !seen.insert(*cpu) {
            return Err(Problem::field(field(), "the processor is named twice"));
        }
    }
    Ok(Some(cpus))
}

/// Checks a request for a program in `view`, and completes it.
///
/// # Errors
/// As [`session`].
pub fn exec(request: ExecRequest, view: &View, config: &Config, catalogue: &Catalogue) -> Result<NewExec, Problem> {
    let mut env = request::env(request.env.unwrap_or_default())?;
    let terminal = request.terminal.map(|asked| size("terminal.", asked)).transpose()?;
    if terminal.is_some() && !env.contains_key("TERM") && !view.env.contains_key("TERM") {
        env.insert("TERM".to_owned(), "xterm-256color".to_owned());
    }
    let argv = match (request.argv, request.shell) {
        (Some(_), Some(_)) => {
            return Err(Problem::field("shell", "it contradicts argv, which is there too").allowing("one of the two"));
        }
        (None, None) => return Err(Problem::field("argv", "nothing is to be run").allowing("one of argv and shell")),
        (Some(argv), None) => programs::command_line(words(argv)?, &env, view, catalogue),
        (None, Some(line)) if line.contains('\0') => {
            return Err(Problem::field("shell", "the line has a NUL byte"));
        }
        (None, Some(line)) => vec![programs::shell(view, catalogue), "-c".to_owned(), line],
    };
    let cwd = request.cwd.unwrap_or_default();
    let directory = match place("cwd", &cwd)? {
        Place::Root => String::new(),
        Place::Below(_) => cwd,
    };
    let stdin = request::bytes("stdin", request.stdin, request.stdin_base64)?.unwrap_or_default();
    let limits = request.limits.unwrap_or_default();
    may_have(&limits, view, config)?;
    let whole = CommandLine {
        argv: argv.clone(),
        env: view.env.iter().chain(&env).map(|(name, value)| (name.clone(), value.clone())).collect(),
    };
    request::fits_in_a_stage("argv", &whole, config.service.arguments_bytes)?;
    Ok(NewExec {
        argv,
        env,
        directory,
        stdin,
        keep_stdin: request.keep_stdin.unwrap_or(false) || terminal.is_some(),
        limits,
        terminal,
        detached: request.detach.unwrap_or(false),
    })
}

/// A program may have as much time and print as much as its profile allows, and of all else no more
/// than its session has.
fn may_have(changes: &LimitChanges, view: &View, config: &Config) -> Result<(), Problem> {
    let most = config.profiles.get(&view.profile).map_or(view.limits, |profile| profile.maximum);
    let most = Limits {
        wall_time_ms: most.wall_time_ms,
        cpu_time_ms: most.cpu_time_ms,
        output_bytes: most.output_bytes,
        file_size_bytes: most.file_size_bytes,
        open_files: most.open_files,
        stack_bytes: most.stack_bytes,
        ..view.limits
    };
    view.limits.changed(changes, &most).map(drop).map_err(|error| {
        Problem::field(format!("limits.{}", error.field), error.to_string())
            .allowing(serde_json::json!({ "minimum": error.least, "maximum": error.most }))
    })
}

fn words(argv: Vec<String>) -> Result<Vec<String>, Problem> {
    if argv.first().is_none_or(String::is_empty) {
        return Err(Problem::field("argv", "the first argument names the program").allowing("a path or a name"));
    }
    match argv.iter().position(|arg| arg.contains('\0')) {
        Some(index) => Err(Problem::field(format!("argv[{index}]"), "the argument has a NUL byte")),
        None => Ok(argv),
    }
}

/// Ids of the runtimes that selectors choose, none of them twice.
fn runtimes(one: Option<String>, several: Option<Vec<String>>, catalogue: &Catalogue) -> Result<Vec<String>, Problem> {
    let id = |selector: &str| request::runtime(selector, catalogue).map(|choice| choice.runtime.id.clone());
    let selectors = match (one, several) {
        (Some(_), Some(_)) => {
            return Err(
                Problem::field("runtimes", "it contradicts runtime, which is there too").allowing("one of the two")
            );
        }
        (Some(selector), None) => return Ok(vec![id(&selector)?]),
        (None, None) => return Err(Problem::field("runtime", "missing field `runtime`")),
        (None, Some(selectors)) => selectors,
    };
    if !(1..=RUNTIMES).contains(&selectors.len()) {
        return Err(Problem::field("runtimes", format!("{} runtimes are not a number of them", selectors.len()))
            .allowing(serde_json::json!({ "minimum": 1, "maximum": RUNTIMES })));
    }
    let mut ids: Vec<String> = Vec::with_capacity(selectors.len());
    for (index, selector) in selectors.iter().enumerate() {
        let field = || Some(format!("runtimes[{index}]"));
        let id = id(selector).map_err(|problem| Problem { field: field(), ..problem })?;
        if ids.contains(&id) {
            return Err(Problem {
                field: field(),
                ..Problem::new(Kind::InvalidField, format!("{id} is there already"))
            });
        }
        ids.push(id);
    }
    Ok(ids)
}

/// Checks labels.
///
/// # Errors
/// There are too many, or one has a key or value that is not allowed.
pub fn labels(labels: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Problem> {
    if labels.len() > LABELS {
        return Err(Problem::field("labels", format!("{} labels are too many", labels.len()))
            .allowing(serde_json::json!({ "maximum": LABELS })));
    }
    for (key, value) in &labels {
        let is_plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
        let shown: String = key.chars().filter(|c| !c.is_control()).take(LABEL_KEY_BYTES).collect();
        if !is_plain || !(1..=LABEL_KEY_BYTES).contains(&key.len()) {
            return Err(Problem::field(format!("labels.{shown}"), "this is no key of a label")
                .allowing("from 1 to 64 letters, digits, \"-\", \"_\", \".\" and \"/\""));
        }
        if value.len() > LABEL_VALUE_BYTES || value.chars().any(char::is_control) {
            return Err(Problem::field(format!("labels.{shown}"), "this is no value of a label")
                .allowing("at most 256 bytes without control characters"));
        }
    }
    Ok(labels)
}

/// Checks what a snapshot shall be called.
///
/// # Errors
/// It is empty, too long, or has control characters.
pub fn snapshot(request: SnapshotRequest) -> Result<Option<String>, Problem> {
    let is_wrong =
        |label: &String| !(1..=LABEL_VALUE_BYTES).contains(&label.len()) || label.chars().any(char::is_control);
    match request.label {
        Some(label) if is_wrong(&label) => Err(Problem::field("label", "this is no name of a snapshot")
            .allowing("from 1 to 256 bytes without control characters")),
        label => Ok(label),
    }
}

/// Checks which language a context shall have: its name, where one of the session's runtimes is of it.
///
/// # Errors
/// None is.
pub fn context(request: &ContextRequest, view: &View, catalogue: &Catalogue) -> Result<(String, String), Problem> {
    let runtimes = || view.runtimes.iter().filter_map(|id| catalogue.by_id(id));
    let asked = request.language.to_lowercase();
    let named = runtimes().find(|found| found.language.name == asked || found.language.aliases.contains(&asked));
    let program = |runtime: &Runtime| runtime.program().to_string_lossy().into_owned();
    named.map(|runtime| (runtime.language.name.clone(), program(runtime))).ok_or_else(|| {
        let names: Vec<&str> = runtimes().map(|runtime| runtime.language.name.as_str()).collect();
        Problem::field("language", "the session has no runtime of this language").allowing(names)
    })
}

fn idle_timeout(asked: Option<u64>, times: &Bounds) -> Result<Option<u64>, Problem> {
    time("idle_timeout_ms", asked, times.maximum_idle_timeout_ms)
}

fn lifetime(asked: Option<u64>, times: &Bounds) -> Result<Option<u64>, Problem> {
    time("lifetime_ms", asked, times.maximum_lifetime_ms)
}

fn time(field: &str, asked: Option<u64>, most: u64) -> Result<Option<u64>, Problem> {
    match asked {
        Some(asked) if !(LEAST_TIME_MS..=most).contains(&asked) => {
            Err(Problem::field(field, format!("{field} is {asked}, but must be from {LEAST_TIME_MS} to {most}"))
                .allowing(serde_json::json!({ "minimum": LEAST_TIME_MS, "maximum": most })))
        }
        asked => Ok(asked),
    }
}

/// Checks the size of a terminal; `prefix` stands before the names of its fields.
///
/// # Errors
/// It has no rows or columns, or too many.
pub fn size(prefix: &str, asked: SizeRequest) -> Result<Size, Problem> {
    for (name, value) in [("rows", asked.rows), ("columns", asked.columns)] {
        if !(1..=TERMINAL).contains(&value) {
            return Err(Problem::field(format!("{prefix}{name}"), format!("a terminal cannot have {value} {name}"))
                .allowing(serde_json::json!({ "minimum": 1, "maximum": TERMINAL })));
        }
    }
    Ok(Size { rows: asked.rows, columns: asked.columns })
}

/// The number of a signal: `SIGINT`, `INT`, `int`, `2` or 2.
///
/// # Errors
/// There is no such signal.
pub fn signal(asked: &SignalName) -> Result<i32, Problem> {
    let number = match asked {
        SignalName::Number(number) => i32::try_from(*number).ok(),
        SignalName::Name(name) if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) => {
            name.parse().ok()
        }
        SignalName::Name(name) => {
            let name = name.to_ascii_uppercase();
            let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
            name.parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
        }
    };
    number.filter(|number| (1..=64).contains(number)).ok_or_else(|| {
        Problem::field("signal", "there is no such signal").allowing("a name such as SIGINT or INT, or from 1 to 64")
    })
}

/// Checks a path below `/workspace`.
///
/// # Errors
/// It is none, or leads out of it.
pub fn path(field: &str, path: &str) -> Result<FilePath, Problem> {
    FilePath::try_from(path.as_bytes().to_vec()).map_err(|error| wrong_path(field, error))
}

/// The same, where `/workspace` itself may be meant: by nothing, or by `.`.
///
/// # Errors
/// As [`path`].
pub fn place(field: &str, path: &str) -> Result<Place, Problem> {
    Place::try_from(path.as_bytes().to_vec()).map_err(|error| wrong_path(field, error))
}

fn wrong_path(field: &str, error: PathError) -> Problem {
    Problem::field(field, error.to_string()).allowing("a relative path without empty parts, \".\" or \"..\"")
}

#[cfg(test)]
mod tests;
