//! Self-tests: shows that a runtime works by running its own small program, and learns its exact
//! version by asking it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Fault, Refused, Scheduler};
use crate::config::Config;
use crate::config::clients::Quota;
use crate::job::{Event, Job, JobId, Outcome, StageRequest, StageResult, Status};
use crate::plan::{ArchivedFile, FilePath};
use crate::profile::Limits;
use crate::runtime::{Baseline, Checked, CommandLine, Program, Runtime, Version};

/// The client in whose name self-tests queue; no other can have it.
const CLIENT: &str = "(self-tests)";
/// Most characters of a program's output in a reason.
const EXCERPT: usize = 200;

/// Runs the self-test of a runtime, under the profile `default`.
///
/// # Errors
/// The test could not be run, which says nothing about the runtime.
pub async fn check(scheduler: &Scheduler, config: &Config, runtime: &Runtime) -> Result<Checked, Fault> {
    let outcome = run(scheduler, config, test_job(config, runtime)?).await?;
    if !printed_the_expected(&outcome, runtime) {
        return Ok(Checked { broken: Some(reason(&outcome, runtime)), version: None, baseline: None });
    }
    let baseline = outcome.run.map(|StageResult { usage, .. }| Baseline {
        wall_time_us: usage.wall_time_us,
        cpu_time_us: usage.cpu_time_us,
        memory_peak_bytes: usage.memory_peak_bytes,
    });
    Ok(Checked { broken: None, version: probe(scheduler, config, runtime).await?, baseline })
}

/// Asks a runtime for its exact version; `None` where it does not tell, or tells one that
/// contradicts what is known.
///
/// # Errors
/// The question could not be asked.
async fn probe(scheduler: &Scheduler, config: &Config, runtime: &Runtime) -> Result<Option<Version>, Fault> {
    let Some(limits) = limits(config) else {
        return Ok(None);
    };
    let job = Job {
        compile: None,
        files: vec![],
        run: stage(runtime.probe_line(), limits.run),
        ..test_job(config, runtime)?
    };
    let outcome = run(scheduler, config, job).await?;
    let Some(result) = outcome.run else {
        return Ok(None);
    };
    let printed = [result.stdout, result.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    let found = regex::Regex::new(&runtime.language.probe.pattern)
        .ok()
        .and_then(|pattern| pattern.captures(&printed)?.get(1).map(|group| group.as_str().to_owned()))
        .and_then(|text| Version::try_from(text).ok());
    Ok(found.filter(|found| runtime.version.as_ref().is_none_or(|known| found.refines(known))))
}

struct StageLimits {
    compile: Limits,
    run: Limits,
}

fn limits(config: &Config) -> Option<StageLimits> {
    config.profiles.get("default").map(|profile| StageLimits { compile: profile.compile, run: profile.run })
}

fn test_job(config: &Config, runtime: &Runtime) -> Result<Job, Fault> {
    let internal = |what: &str| Fault::Internal(format!("{}: {what}", runtime.id));
    let limits = limits(config).ok_or_else(|| internal("there is no profile \"default\""))?;
    let language = &runtime.language;
    let flags = language.variants.iter().find(|variant| variant.default).map_or(&[][..], |variant| &variant.flags);
    let program = Program { main: &language.main, files: &[&language.main], flags };
    let path = FilePath::try_from(language.main.clone().into_bytes()).map_err(|error| internal(&error.to_string()))?;
    Ok(Job {
        install: None,
        only_installs: false,
        id: JobId::random(),
        runtime: runtime.id.clone(),
        profile: "default".to_owned(),
        compile: runtime.compile_line(&program, limits.compile.memory_bytes).map(|line| stage(line, limits.compile)),
        run: stage(runtime.run_line(&program, limits.run.memory_bytes), limits.run),
        files: vec![ArchivedFile {
            path,
            content: Arc::new(language.self_test.source.clone().into_bytes()),
            executable: false,
        }],
        stdin: Arc::new(language.self_test.stdin.clone().into_bytes()),
        outputs: vec![],
        // It shows that the compiler works, not that it once did.
        basis: None,
        warm: false,
        fresh: true,
        network: None,
    })
}

fn stage(line: CommandLine, limits: Limits) -> StageRequest {
    let env: BTreeMap<String, String> = line.env;
    StageRequest { argv: line.argv, env, limits }
}

async fn run(scheduler: &Scheduler, config: &Config, job: Job) -> Result<Outcome, Fault> {
    let quota = Arc::new(Quota::of_one(CLIENT, config));
    let mut ticket = scheduler.submit(job, &quota).map_err(|refused| match refused {
        Refused::Unavailable => Fault::Unavailable,
        Refused::Stopping => Fault::Stopping,
        full => Fault::Internal(full.to_string()),
    })?;
    loop {
        match ticket.next().await {
            Some(Ok(Event::Finished(outcome))) => return Ok(*outcome),
            Some(Ok(_)) => {}
            Some(Err(fault)) => return Err(fault),
            None => return Err(Fault::Unavailable),
        }
    }
}

fn printed_the_expected(outcome: &Outcome, runtime: &Runtime) -> bool {
    outcome
        .run
        .as_ref()
        .is_some_and(|run| run.status == Status::Ok && run.stdout == runtime.language.self_test.expect.as_bytes())
}

fn reason(outcome: &Outcome, runtime: &Runtime) -> String {
    let told = |stage: &StageResult| {
        let text = if stage.stderr.is_empty() { &stage.stdout } else { &stage.stderr };
        String::from_utf8_lossy(text).trim().chars().take(EXCERPT).collect::<String>()
    };
    match (&outcome.compile, &outcome.run) {
        (_, Some(run)) if run.status == Status::Ok => {
            format!("its self-test printed {:?} instead of {:?}", told(run), runtime.language.self_test.expect)
        }
        (_, Some(run)) => format!("its self-test: {}: {}", run.reason.as_deref().unwrap_or_default(), told(run)),
        (Some(compile), None) => {
            format!("compiling its self-test: {}: {}", compile.reason.as_deref().unwrap_or_default(), told(compile))
        }
        (None, None) => "its self-test did not run".to_owned(),
    }
}
