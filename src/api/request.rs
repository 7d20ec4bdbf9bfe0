//! Makes a job out of a request, or says what about it is not allowed. Nothing is looked at
//! after this: what comes out is within the configuration's limits.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use globset::GlobBuilder;

use crate::config::clients::Quota;
use crate::config::{Config, Service};
use crate::job::{Basis, Job, JobId, StageRequest};
use crate::plan::{ArchivedFile, FilePath};
use crate::profile::{LimitChanges, Limits, Policy, Profile};
use crate::runtime::{Catalogue, Choice, CommandLine, Health, Program, Runtime, UnknownRuntime};

use super::answer::About;
use super::problem::{Kind, Problem};
use super::wire::{FileRequest, RunRequest, RuntimeUsed};
use super::{dependencies, network};

/// Most patterns of files to hand out.
pub const PATTERNS: usize = 32;
/// Longest pattern, in bytes.
pub const PATTERN_BYTES: usize = 256;
/// What execve(2) keeps for an argument or variable besides its bytes: a NUL and a pointer.
pub const ARGUMENT_OVERHEAD: usize = 9;

/// A job, and what its answer says of its runtime.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The job.
    pub job: Job,
    /// The runtime that was chosen.
    pub runtime: RuntimeUsed,
    /// Variables that hold placeholders of secrets; none where its profile has no secrets.
    pub secrets: Option<Vec<String>>,
}

impl Accepted {
    /// The job, and what its answer says of it.
    pub(super) fn into_parts(self) -> (Job, About) {
        let Self { job, runtime, secrets } = self;
        let about = About {
            id: job.id.clone(),
            runtime,
            profile: job.profile.clone(),
            limits: job.run.limits,
            secrets,
            installs: job.install.as_ref().map(|install| install.ecosystem),
        };
        (job, about)
    }
}

/// Finds the uploaded file that a field names; blocks.
pub type Uploaded<'a> = &'a mut dyn FnMut(&str, &str) -> Result<Arc<Vec<u8>>, Problem>;

/// Finds none: for dialects that have no word for them.
pub(super) fn none_uploaded(field: &str, _: &str) -> Result<Arc<Vec<u8>>, Problem> {
    Err(Problem::field(field, "no file can be named here"))
}

/// Checks a request and completes it from the configuration.
///
/// # Errors
/// The first thing that is not allowed, with the field and what would be allowed.
pub fn check(
    request: RunRequest,
    config: &Config,
    catalogue: &Catalogue,
    quota: &Quota,
    uploaded: Uploaded<'_>,
) -> Result<Accepted, Problem> {
    check_for(runtime(&request.runtime, catalogue)?, request, config, quota, uploaded)
}

/// The same of a request whose runtime is chosen already, whatever the request says of it.
pub(super) fn check_for(
    choice: Choice<'_>,
    request: RunRequest,
    config: &Config,
    quota: &Quota,
    uploaded: Uploaded<'_>,
) -> Result<Accepted, Problem> {
    let (profile_name, profile) = profile(request.profile, "default", config, quota)?;
    let run_limits = limits("limits", profile.run, request.limits, profile)?;
    let compile_limits = limits("compile_limits", profile.compile, request.compile_limits, profile)?;
    let files = files(request.files, &choice.runtime.language.main, &config.service, uploaded)?;
    let disk_bytes = match choice.runtime.language.compile {
        Some(_) => run_limits.disk_bytes.max(compile_limits.disk_bytes),
        None => run_limits.disk_bytes,
    };
    fits_on_disk(&files, disk_bytes)?;
    let stdin = (request.stdin, request.stdin_base64, request.stdin_file);
    let stdin = content("stdin", stdin, uploaded)?.unwrap_or_default();
    let args = args(request.args.unwrap_or_default())?;
    let env = env(request.env.unwrap_or_default())?;
    let outputs = outputs(request.outputs.unwrap_or_default())?;
    let network = network::with_secrets(request.network, request.secrets, &profile.network, config)?;

    let mut installs = dependencies::check(request.dependencies, &[choice.runtime], profile, config)?;
    let install = installs.pop();

    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let flags = choice.variant.map_or(&[][..], |variant| &variant.flags);
    let program = Program { main: names[0], files: &names, flags };
    let mut compile = choice.runtime.compile_line(&program, compile_limits.memory_bytes);
    let mut run = choice.runtime.run_line(&program, run_limits.memory_bytes);
    let is_plain = args.is_empty() && env.is_empty() && names[0] == choice.runtime.language.main;
    let warm = config.pool.warm && fits_warm(choice.runtime, &run_limits, &profile.run, &env, is_plain);
    run.argv.extend(args);
    run.env.extend(env);
    // An interpreter that has started already has not seen them.
    let warm = warm && install.is_none();
    if let Some(install) = &install {
        let lines = [Some(&mut run), compile.as_mut()].into_iter().flatten();
        lines.for_each(|line| dependencies::add_to_environment(&mut line.env, install.ecosystem));
    }
    if let Some(line) = &compile {
        fits_in_a_stage("files", line, config.service.arguments_bytes)?;
    }
    fits_in_a_stage("args", &run, config.service.arguments_bytes)?;

    let usual = profile.policy();
    let policy = Policy { network: network.clone().unwrap_or(usual.network), ..usual };
    let secrets = profile.network.has_secrets().then(|| policy.network.variables());
    // What a compiler fetches may be another thing tomorrow.
    let is_closed = !network::leads_outside(&policy.network);
    let may_be_cached = request.cache.unwrap_or(true) && compile.is_some() && is_closed && install.is_none();
    let basis = may_be_cached.then(|| Basis { policy, toolchain: toolchain::of(choice.runtime) });
    let stage = |line: CommandLine, limits| StageRequest { argv: line.argv, env: line.env, limits };
    let job = Job {
        id: JobId::random(),
        runtime: choice.runtime.id.clone(),
        profile: profile_name,
        install,
        only_installs: false,
        compile: compile.map(|line| stage(line, compile_limits)),
        run: stage(run, run_limits),
        files: files.into_iter().map(|(_, file)| file).collect(),
        stdin,
        outputs,
        basis,
        warm,
        fresh: false,
        network,
    };
    Ok(Accepted { job, runtime: used(&choice), secrets })
}

/// Whether an interpreter that was started under the profile's own limits, with the variables that every
/// program gets, is as good for a job as one that is started for it.
fn fits_warm(
    runtime: &Runtime,
    limits: &Limits,
    usual: &Limits,
    env: &BTreeMap<String, String>,
    is_plain: bool,
) -> bool {
    let shape = |limits: &Limits| (limits.memory_bytes, limits.stack_bytes, limits.open_files);
    runtime.warm().is_some_and(|warm| {
        shape(limits) == shape(usual) && (is_plain || !warm.fixed) && env.keys().all(|name| warm.allows(name))
    })
}

fn used(choice: &Choice<'_>) -> RuntimeUsed {
    RuntimeUsed {
        language: choice.runtime.language.name.clone(),
        version: choice.runtime.version.as_ref().map(ToString::to_string),
        variant: choice.variant.map(|variant| variant.name.clone()),
        path: choice.runtime.program().to_string_lossy().into_owned(),
    }
}

pub(super) fn runtime<'a>(selector: &str, catalogue: &'a Catalogue) -> Result<Choice<'a>, Problem> {
    let (_, lot) = uuid::Uuid::new_v4().as_u64_pair();
    let choice = catalogue.draw(selector, lot).map_err(unknown_runtime)?;
    match &choice.runtime.health {
        Health::Broken { reason } => Err(Problem {
            field: Some("runtime".to_owned()),
            ..Problem::new(Kind::BrokenRuntime, format!("the self-test of {} failed: {reason}", choice.runtime.id))
        }),
        Health::Unchecked | Health::Working => Ok(choice),
    }
}

/// A selector that no runtime fits, with what resembles it.
pub(super) fn unknown_runtime(unknown: UnknownRuntime) -> Problem {
    let detail = format!("{unknown}; GET /v1/runtimes lists what there is");
    Problem {
        field: Some("runtime".to_owned()),
        near: Some(unknown.near.into()),
        ..Problem::new(Kind::UnknownRuntime, detail)
    }
}

pub(super) fn profile<'a>(
    name: Option<String>,
    usual: &str,
    config: &'a Config,
    quota: &Quota,
) -> Result<(String, &'a Profile), Problem> {
    let name = name.unwrap_or_else(|| usual.to_owned());
    let allowed = || config.profiles.keys().map(String::as_str).filter(|name| quota.allows(name)).collect::<Vec<_>>();
    match config.profiles.get(&name) {
        Some(profile) if quota.allows(&name) => Ok((name, profile)),
        Some(_) => {
            let detail = format!("the client {:?} may not use the profile {name:?}", quota.client);
            let problem = Problem { field: Some("profile".to_owned()), ..Problem::new(Kind::ForbiddenProfile, detail) };
            Err(problem.allowing(allowed()))
        }
        None => Err(Problem::field("profile", "there is no profile of this name").allowing(allowed())),
    }
}

pub(super) fn limits(
    field: &str,
    normal: Limits,
    changes: Option<LimitChanges>,
    profile: &Profile,
) -> Result<Limits, Problem> {
    normal.changed(&changes.unwrap_or_default(), &profile.maximum).map_err(|error| {
        Problem::field(format!("{field}.{}", error.field), error.to_string())
            .allowing(serde_json::json!({ "minimum": error.least, "maximum": error.most }))
    })
}

/// Files with their names; the first has one even where the request gives none.
fn files(
    requests: Vec<FileRequest>,
    main: &str,
    service: &Service,
    uploaded: Uploaded<'_>,
) -> Result<Vec<(String, ArchivedFile)>, Problem> {
    let most = service.input_files;
    if requests.is_empty() {
        return Err(Problem::field("files", "there is no file to run").allowing("at least one file"));
    }
    if requests.len() > most {
        return Err(Problem::field("files", format!("{} files are too many", requests.len()))
            .allowing(serde_json::json!({ "maximum": most })));
    }
    let mut files = Vec::with_capacity(requests.len());
    let mut total = 0;
    for (index, request) in requests.into_iter().enumerate() {
        let is_named = request.content_file.is_some();
        let (name, file) = file(index, request, main, uploaded)?;
        // One that is named ten times is written ten times.
        total += if is_named { file.content.len() } else { 0 };
        if total > service.body_bytes {
            let detail = "uploaded files are larger together than a request may be that brings them";
            return Err(Problem::field(format!("files[{index}].content_file"), detail)
                .allowing(serde_json::json!({ "maximum": service.body_bytes })));
        }
        files.push((name, file));
    }
    stand_apart(&files)?;
    Ok(files)
}

fn file(
    index: usize,
    request: FileRequest,
    main: &str,
    uploaded: Uploaded<'_>,
) -> Result<(String, ArchivedFile), Problem> {
    let field = format!("files[{index}].path");
    let name = match request.path {
        Some(name) => name,
        None if index == 0 => main.to_owned(),
        None => {
            return Err(Problem::field(field, "only the first file may be without a path"));
        }
    };
    let path = FilePath::try_from(name.clone().into_bytes()).map_err(|error| {
        Problem::field(field, error.to_string()).allowing("a relative path without empty parts, \".\" or \"..\"")
    })?;
    let field = format!("files[{index}].content");
    let given = (request.content, request.content_base64, request.content_file);
    let content = content(&field, given, uploaded)?.ok_or_else(|| {
        Problem::field(field, "the file has no content").allowing("one of content, content_base64 and content_file")
    })?;
    Ok((name, ArchivedFile { path, content, executable: request.executable.unwrap_or(false) }))
}

/// No path twice, and none that is both a file and the directory of another.
fn stand_apart(files: &[(String, ArchivedFile)]) -> Result<(), Problem> {
    let mut seen: HashMap<&str, usize> = HashMap::with_capacity(files.len());
    for (index, (name, _)) in files.iter().enumerate() {
        if let Some(other) = seen.insert(name, index) {
            return Err(Problem::field(format!("files[{index}].path"), format!("files[{other}] has the same path")));
        }
    }
    for (index, (name, _)) in files.iter().enumerate() {
        for (slash, _) in name.match_indices('/') {
            if let Some(other) = seen.get(&name[..slash]) {
                let detail = format!("files[{other}] is a file, and cannot be a directory too");
                return Err(Problem::field(format!("files[{index}].path"), detail));
            }
        }
    }
    Ok(())
}

fn fits_on_disk(files: &[(String, ArchivedFile)], disk_bytes: u64) -> Result<(), Problem> {
    let total: u64 = files.iter().map(|(_, file)| file.content.len() as u64).sum();
    if total > disk_bytes {
        return Err(Problem::field("files", format!("{total} bytes of files do not fit in disk_bytes"))
            .allowing(serde_json::json!({ "maximum": disk_bytes })));
    }
    Ok(())
}

/// Bytes that come as text, as base64, or in a file that was uploaded.
pub(super) fn content(
    field: &str,
    (text, base64, file): (Option<String>, Option<String>, Option<String>),
    uploaded: Uploaded<'_>,
) -> Result<Option<Arc<Vec<u8>>>, Problem> {
    match file {
        Some(_) if text.is_some() || base64.is_some() => {
            Err(Problem::field(format!("{field}_file"), format!("it contradicts {field}, which is there too"))
                .allowing("one of them"))
        }
        Some(file) => uploaded(&format!("{field}_file"), &file).map(Some),
        None => Ok(bytes(field, text, base64)?.map(Arc::new)),
    }
}

/// Bytes that come either as text or as base64.
pub(super) fn bytes(field: &str, text: Option<String>, base64: Option<String>) -> Result<Option<Vec<u8>>, Problem> {
    match (text, base64) {
        (Some(_), Some(_)) => {
            Err(Problem::field(format!("{field}_base64"), format!("it contradicts {field}, which is there too"))
                .allowing("one of the two"))
        }
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, Some(base64)) => STANDARD.decode(base64).map(Some).map_err(|error| {
            Problem::field(format!("{field}_base64"), format!("this is not base64: {error}"))
                .allowing("base64 in the standard alphabet, with padding, without line breaks")
        }),
        (None, None) => Ok(None),
    }
}

fn args(args: Vec<String>) -> Result<Vec<String>, Problem> {
    match args.iter().position(|arg| arg.contains('\0')) {
        Some(index) => Err(Problem::field(format!("args[{index}]"), "the argument has a NUL byte")),
        None => Ok(args),
    }
}

pub(super) fn env(env: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Problem> {
    for (name, value) in &env {
        let wrong = if name.is_empty() {
            "a variable has an empty name"
        } else if name.contains(['=', '\0']) {
            "the variable's name has \"=\" or a NUL byte"
        } else if value.contains('\0') {
            "the variable's value has a NUL byte"
        } else {
            continue;
        };
        let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        return Err(Problem::field(format!("env.{name}"), wrong));
    }
    Ok(env)
}

fn outputs(patterns: Vec<String>) -> Result<Vec<String>, Problem> {
    if patterns.len() > PATTERNS {
        return Err(Problem::field("outputs", format!("{} patterns are too many", patterns.len()))
            .allowing(serde_json::json!({ "maximum": PATTERNS })));
    }
    for (index, pattern) in patterns.iter().enumerate() {
        let field = format!("outputs[{index}]");
        if pattern.len() > PATTERN_BYTES {
            return Err(Problem::field(field, "the pattern is too long")
                .allowing(serde_json::json!({ "maximum": PATTERN_BYTES })));
        }
        // Neither could match anything, and whoever writes one expects that it does.
        if pattern.is_empty() || pattern.starts_with('/') || pattern.split('/').any(|part| part == "..") {
            return Err(Problem::field(field, "the pattern is empty, absolute or has a part \"..\"")
                .allowing("a pattern of paths below /workspace"));
        }
        if let Err(error) = GlobBuilder::new(pattern).literal_separator(true).build() {
            return Err(Problem::field(field, format!("this is no pattern: {}", error.kind()))
                .allowing("*, **, ?, [a-z], {one,other}"));
        }
    }
    Ok(patterns)
}

pub(super) fn fits_in_a_stage(field: &str, line: &CommandLine, most: usize) -> Result<(), Problem> {
    let args = line.argv.iter().map(|arg| arg.len() + ARGUMENT_OVERHEAD);
    let env = line.env.iter().map(|(name, value)| name.len() + 1 + value.len() + ARGUMENT_OVERHEAD);
    let total: usize = args.chain(env).sum();
    if total > most {
        return Err(Problem::field(field, format!("arguments and environment take {total} bytes together"))
            .allowing(serde_json::json!({ "maximum": most })));
    }
    Ok(())
}

pub(super) mod toolchain;

#[cfg(test)]
mod tests;
