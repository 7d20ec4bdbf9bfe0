//! Makes a job out of what a client asked for, or refuses it: in Piston's words and in its order, so that clients
//! that look at messages see those that they know.

use std::collections::BTreeMap;

use super::asked::Asked;
use super::files::{self, clipped, refused};
use super::versions;
use crate::api::compat::loose::{List, Scalar};
use crate::api::problem::Problem;
use crate::api::request::{self, Accepted, none_uploaded};
use crate::api::wire::RunRequest;
use crate::config::Config;
use crate::config::clients::Quota;
use crate::config::piston::Configured;
use crate::profile::{LimitChanges, Profile};
use crate::runtime::{Catalogue, Choice};

/// A job, and what its answer says of its runtime.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) accepted: Accepted,
    /// The language, by its first name.
    pub(super) language: String,
    pub(super) version: String,
}

/// How a client hears what its program prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// All of it when it has ended.
    AtTheEnd,
    /// Each piece as it comes, which is no reason to end a program that prints much.
    AtOnce,
}

/// Checks a request and completes it from the configuration.
pub(super) fn check(
    asked: Asked,
    told: Told,
    config: &Config,
    catalogue: &Catalogue,
    quota: &Quota,
) -> Result<Checked, Problem> {
    let language = required(&asked.language, "language")?;
    let version = required(&asked.version, "version")?;
    let files = files::read(asked.files, config.service.input_files)?;
    let runtime = versions::newest(catalogue, language, version, true)
        .ok_or_else(|| refused(format!("{}-{} runtime is unknown", clipped(language), clipped(version))))?;
    if !files::has_source(&files) {
        return Err(refused("files must include at least one utf8 encoded file"));
    }
    let profile_name = &config.piston.profile;
    let (_, profile) = request::profile(Some(profile_name.clone()), profile_name, config, quota)?;
    let limits = config.piston.limits(&runtime.language.name);
    let given = Constraints {
        memory: [&asked.compile_memory_limit, &asked.run_memory_limit],
        wall: [&asked.compile_timeout, &asked.run_timeout],
        cpu: [&asked.compile_cpu_time, &asked.run_cpu_time],
    };
    let [compile_limits, run_limits] = given.changes(&limits, told, profile)?;

    let chosen = files::choose(files, &runtime.language)?;
    let mut stdin = match asked.stdin {
        Scalar::Nothing => String::new(),
        Scalar::Text(text) => text,
        _ => return Err(refused("stdin must be a string")),
    };
    if !stdin.ends_with('\n') {
        stdin.push('\n');
    }
    let language = runtime.language.name.clone();
    let request = RunRequest {
        files: chosen.files,
        stdin: Some(stdin),
        args: Some(args(asked.args)?),
        env: Some(BTreeMap::from([("PISTON_LANGUAGE".to_owned(), language.clone())])),
        profile: Some(profile_name.clone()),
        limits: Some(run_limits),
        compile_limits: Some(compile_limits),
        ..RunRequest::default()
    };
    let variant = runtime.language.variants.iter().find(|variant| variant.default);
    let mut accepted = request::check_for(Choice { runtime, variant }, request, config, quota, &mut none_uploaded)?;
    // What is not written as a text is data, whatever its name looks like.
    if let Some(compile) = &mut accepted.job.compile {
        compile.argv.retain(|word| !chosen.data.contains(word));
    }
    Ok(Checked { accepted, language, version: versions::shown(runtime) })
}

fn required<'a>(given: &'a Scalar, name: &str) -> Result<&'a str, Problem> {
    match given {
        Scalar::Text(text) if !text.is_empty() => Ok(text),
        _ => Err(refused(format!("{name} is required as a string"))),
    }
}

fn args(given: List<Scalar>) -> Result<Vec<String>, Problem> {
    let (items, count) = match given {
        List::Nothing => return Ok(Vec::new()),
        List::Items(items, count) => (items, count),
        List::Other => return Err(refused("args must be an array of strings")),
    };
    if count > items.len() {
        return Err(refused(format!("args: {count} arguments are too many, there may be {}", items.len())));
    }
    let text = |(index, item)| match item {
        Scalar::Text(text) => Ok(text),
        _ => Err(refused(format!("args[{index}] must be a string"))),
    };
    items.into_iter().enumerate().map(text).collect()
}

/// What a request says of limits: of the compile stage, and of the run stage.
struct Constraints<'a> {
    memory: [&'a Scalar; 2],
    wall: [&'a Scalar; 2],
    cpu: [&'a Scalar; 2],
}

impl Constraints<'_> {
    /// Limits of both stages that differ from the profile's.
    fn changes(self, configured: &Configured, told: Told, profile: &Profile) -> Result<[LimitChanges; 2], Problem> {
        let stages = [("compile", &profile.compile), ("run", &profile.run)];
        // What is only passed on takes no room, so that a small bound on answers is none on what is streamed.
        let mut changes = stages.map(|(_, usual)| LimitChanges {
            output_bytes: configured
                .output_max_size
                .filter(|most| told == Told::AtTheEnd || *most > usual.output_bytes),
            processes: configured.max_process_count,
            open_files: configured.max_open_files,
            file_size_bytes: configured.max_file_size,
            ..LimitChanges::default()
        });
        let limits = [
            (
                "memory_limit",
                "memory_bytes",
                self.memory,
                [configured.compile_memory_limit, configured.run_memory_limit],
            ),
            ("timeout", "wall_time_ms", self.wall, [configured.compile_timeout, configured.run_timeout]),
            ("cpu_time", "cpu_time_ms", self.cpu, [configured.compile_cpu_time, configured.run_cpu_time]),
        ];
        for (constraint, limit, given, configured) in limits {
            for (stage, (name, _)) in stages.iter().enumerate() {
                let name = format!("{name}_{constraint}");
                if let Some(value) = value(&name, limit, given[stage], configured[stage], profile)? {
                    changes[stage].set(limit, value);
                }
            }
        }
        Ok(changes)
    }
}

/// A limit that a request gives, or else the configured one; absent: that of the profile.
fn value(
    name: &str,
    limit: &str,
    given: &Scalar,
    configured: Option<u64>,
    profile: &Profile,
) -> Result<Option<u64>, Problem> {
    if given.is_falsy() {
        return Ok(configured);
    }
    let Some(value) = given.number() else {
        return Err(refused(format!("If specified, {name} must be a number")));
    };
    if value < 0.0 {
        // That is how clients say that they want no limit, where Piston has none.
        return match configured {
            Some(_) => Err(refused(format!("{name} must be non-negative"))),
            None => Ok(None),
        };
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a number that is too large becomes the largest, and is refused"
    )]
    let whole = value.ceil() as u64;
    let exceeds = |most: u64| refused(format!("{name} cannot exceed the configured limit of {most}"));
    if let Some(most) = configured.filter(|most| whole > *most) {
        return Err(exceeds(most));
    }
    let mut changes = LimitChanges::default();
    changes.set(limit, whole);
    match profile.run.changed(&changes, &profile.maximum) {
        Ok(_) => Ok(Some(whole)),
        Err(error) if whole > error.most => Err(exceeds(error.most)),
        Err(error) => Err(refused(format!("{name} must be at least {}", error.least))),
    }
}

#[cfg(test)]
mod tests;
