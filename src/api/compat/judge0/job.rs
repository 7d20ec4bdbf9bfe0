//! A job out of a submission: files, command lines and limits, held to the configuration as every other request is.

use crate::api::answer::About;
use crate::api::problem::{Kind as Refusal, Problem};
use crate::api::request::{self, none_uploaded};
use crate::api::wire::{FileRequest, RunRequest};
use crate::config::Config;
use crate::config::clients::Quota;
use crate::config::judge0::Judge0 as Maxima;
use crate::job::{Job, StageRequest};
use crate::profile::{Closed, LimitChanges, NetworkForm};
use crate::runtime::Catalogue;

use super::archive::Extracted;
use super::languages::{EXECUTABLE, Kind, TEXT};
use super::params::{Checked, Errors};
use super::record::Settings;

/// Scripts of a project, the first that there is.
const COMPILE: [&str; 2] = ["compile.sh", "compile"];
const RUN: [&str; 2] = ["run.sh", "run"];
/// Has a shell give standard output as standard error, and become the program.
const REDIRECT: [&str; 3] = ["/bin/sh", "-c", "exec \"$0\" \"$@\" 2>&1"];
/// Least limits of ours where they are above those of Judge0.
const LEAST_MEMORY_BYTES: u64 = 4 << 20;
const LEAST_STACK_BYTES: u64 = 64 << 10;

/// What is run, as often as it is to be.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    /// The job; each run has an id of its own.
    pub(super) job: Job,
    /// What is told of it.
    pub(super) about: About,
    /// Processor time without what a program has beyond its limit, in microseconds.
    pub(super) cpu_time_us: u64,
}

/// Makes the job.
///
/// # Errors
/// What is not allowed.
pub(super) fn prepare(
    checked: &Checked,
    config: &Config,
    catalogue: &Catalogue,
    quota: &Quota,
) -> Result<Prepared, Problem> {
    let request = request(checked, config);
    let (mut job, about) = request::check(request, config, catalogue, quota, &mut none_uploaded)?.into_parts();
    let scripts = Scripts::of(&checked.files);
    match checked.found.entry.kind {
        Kind::Program => {
            if let Some(compile) = &mut job.compile {
                let place = checked.found.entry.options_at.unwrap_or(compile.argv.len()).min(compile.argv.len());
                compile.argv.splice(place..place, checked.options.iter().cloned());
            }
        }
        Kind::Text => in_shell(&mut job, &format!("cat {TEXT}")),
        Kind::Executable => {
            let arguments = checked.arguments.iter().cloned();
            job.run.argv = std::iter::once(format!("./{EXECUTABLE}")).chain(arguments).collect();
            (job.warm, job.basis) = (false, None);
        }
        Kind::Project => {
            (job.warm, job.basis) = (false, None);
            job.compile = scripts.compile.map(|script| compile_script(&job.run, script, config));
        }
    }
    if checked.settings.redirect_stderr_to_stdout {
        job.run.argv.splice(0..0, REDIRECT.map(str::to_owned));
        job.warm = false;
    }
    let cpu_time_us = milliseconds(cpu_time(&checked.settings, &config.judge0)).saturating_mul(1000);
    Ok(Prepared { job, about, cpu_time_us })
}

/// What a problem is about, in Judge0's words; none where it is about nothing that was sent.
pub(super) fn told(problem: &Problem, kind: Kind) -> Option<Errors> {
    let field = match problem.kind {
        Refusal::UnknownRuntime | Refusal::BrokenRuntime => "language_id",
        Refusal::InvalidField => match problem.field.as_deref().unwrap_or_default() {
            "files" | "files[0].path" | "files[0].content" if kind != Kind::Project => "source_code",
            "args" => "command_line_arguments",
            field if field.starts_with("files") => "additional_files",
            field if field.starts_with("args[") => "command_line_arguments",
            field if field.starts_with("network") => "enable_network",
            _ => "base",
        },
        _ => return None,
    };
    Some(Errors::one(field, problem.detail.clone()))
}

fn request(checked: &Checked, config: &Config) -> RunRequest {
    let kind = checked.found.entry.kind;
    let mut files = Vec::with_capacity(checked.files.len() + 1);
    let main = match kind {
        Kind::Program => checked.found.source_file.as_deref(),
        Kind::Text => Some(TEXT),
        Kind::Executable => Some(EXECUTABLE),
        Kind::Project => None,
    };
    if main.is_some() {
        let path = (kind != Kind::Program).then(|| main.unwrap_or_default().to_owned());
        let source = checked.texts.source_code.as_deref().unwrap_or_default();
        files.push(FileRequest { path, executable: Some(kind == Kind::Executable), ..content(source) });
    }
    let scripts = Scripts::of(&checked.files);
    // The first file of a request is what is run; where there is no script, there is nothing.
    let run = checked.files.iter().filter(|file| kind == Kind::Project && Some(&*file.path) == scripts.run);
    // What was sent as the source stays, whatever the archive has in its place.
    let others = checked.files.iter().filter(|file| Some(&*file.path) != main);
    let others = others.filter(|file| kind != Kind::Project || Some(&*file.path) != scripts.run);
    files.extend(run.chain(others).map(|file| FileRequest {
        path: Some(file.path.clone()),
        executable: Some(file.executable),
        ..content(&file.content)
    }));
    if kind == Kind::Project && scripts.run.is_none() {
        files.clear();
    }
    let stdin = content(checked.texts.stdin.as_deref().unwrap_or_default());
    let takes_arguments = kind == Kind::Program;
    RunRequest {
        runtime: checked.found.selector.to_owned(),
        files,
        stdin: stdin.content,
        stdin_base64: stdin.content_base64,
        args: takes_arguments.then(|| checked.arguments.clone()),
        profile: Some(config.judge0.profile.clone()),
        limits: Some(limits(&checked.settings, config)),
        network: (!checked.settings.enable_network).then_some(NetworkForm::Closed(Closed::None)),
        ..RunRequest::default()
    }
}

/// Bytes in the form in which requests have them.
fn content(bytes: &[u8]) -> FileRequest {
    use base64::Engine;
    match str::from_utf8(bytes) {
        Ok(text) => FileRequest { content: Some(text.to_owned()), ..FileRequest::default() },
        Err(_) => FileRequest {
            content_base64: Some(base64::engine::general_purpose::STANDARD.encode(bytes)),
            ..FileRequest::default()
        },
    }
}

/// Limits of the run stage. A limit of 0 is none there; here it is the most that there may be.
fn limits(settings: &Settings, config: &Config) -> LimitChanges {
    let most = &config.judge0;
    let kilobytes = |value: u64, most: u64| (if value == 0 { most } else { value }).saturating_mul(1024);
    let file_size = kilobytes(settings.max_file_size, most.max_max_file_size);
    LimitChanges {
        wall_time_ms: Some(milliseconds(settings.wall_time_limit)),
        cpu_time_ms: Some(milliseconds(cpu_time(settings, most) + settings.cpu_extra_time)),
        memory_bytes: Some(kilobytes(settings.memory_limit, most.max_memory_limit).max(LEAST_MEMORY_BYTES)),
        processes: Some(settings.max_processes_and_or_threads),
        file_size_bytes: Some(file_size),
        // What is printed there goes to a file.
        output_bytes: Some(file_size),
        stack_bytes: Some(kilobytes(settings.stack_limit, most.max_stack_limit).max(LEAST_STACK_BYTES)),
        ..LimitChanges::default()
    }
}

fn cpu_time(settings: &Settings, most: &Maxima) -> f64 {
    if settings.cpu_time_limit == 0.0 { most.max_cpu_time_limit } else { settings.cpu_time_limit }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds within a profile's limits")]
fn milliseconds(seconds: f64) -> u64 {
    ((seconds * 1000.0).round() as u64).max(1)
}

/// Has the shell that a job runs in read a line, in place of a file.
fn in_shell(job: &mut Job, line: &str) {
    job.run.argv.truncate(1);
    job.run.argv.extend(["--noprofile", "--norc", "-c", line].map(str::to_owned));
    (job.warm, job.basis) = (false, None);
}

/// A project's script as a compile stage.
fn compile_script(run: &StageRequest, script: &str, config: &Config) -> StageRequest {
    let mut argv = run.argv.clone();
    if let Some(last) = argv.last_mut() {
        script.clone_into(last);
    }
    let limits = config.profiles.get(&config.judge0.profile).map_or(run.limits, |profile| profile.compile);
    StageRequest { argv, env: run.env.clone(), limits }
}

/// The scripts of a project.
struct Scripts<'a> {
    compile: Option<&'a str>,
    run: Option<&'a str>,
}

impl<'a> Scripts<'a> {
    fn of(files: &'a [Extracted]) -> Self {
        let first = |names: [&str; 2]| {
            names.into_iter().find_map(|name| files.iter().map(|file| &*file.path).find(|path| *path == name))
        };
        Self { compile: first(COMPILE), run: first(RUN) }
    }
}
