//! Packages that a request asks for: held to what may be asked for, and made into what an installer is to do.
//!
//! An installer takes much more than names and versions: addresses, paths, commands of version control, options.
//! Nothing of that comes through here. What is written into its files was taken apart and put together again.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;
use super::request::toolchain;
use crate::config::Config;
use crate::config::dependencies::{MODULES, Tool, UV};
use crate::job::{Install, Job, JobId, StageRequest, Toolchain};
use crate::plan::tree::Ecosystem;
use crate::plan::{ArchivedFile, FilePath};
use crate::profile::{Limits, Profile};
use crate::runtime::Runtime;

mod npm;
mod python;

/// Most requirements that are listed for one language.
pub const LISTED: usize = 64;
/// Most packages that a lock file has.
pub const LOCKED: usize = 4096;
/// Longest requirement, in bytes.
pub const REQUIREMENT_BYTES: usize = 256;

/// Packages to install before the program runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Dependencies {
    /// For Python: requirements, or a lock file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<PythonDependencies>,
    /// For Node.js: packages with ranges of versions, or a lock file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub npm: Option<NpmDependencies>,
}

/// Packages for Python.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a list of requirements, or an object with \"lock\"")]
pub enum PythonDependencies {
    /// Names with extras, versions and markers: `requests[socks]==2.*; python_version > "3.8"`.
    Listed(Vec<String>),
    /// Exact versions with hashes.
    Locked(PythonLock),
}

/// A lock file for Python.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PythonLock {
    /// Text of a file of requirements with hashes, as `uv pip compile --generate-hashes` writes it.
    pub lock: String,
}

/// Packages for Node.js.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a list of packages, or an object with \"package\" and \"lock\"")]
pub enum NpmDependencies {
    /// Names with ranges of versions: `lodash@4`, `@types/node@^20`.
    Listed(Vec<String>),
    /// Exact versions with hashes.
    Locked(NpmLock),
}

/// A lock file for Node.js.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NpmLock {
    /// Text of `package.json`.
    pub package: String,
    /// Text of the `package-lock.json` that belongs to it.
    pub lock: String,
}

/// What one installer reads, and whether that leaves something open.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    files: Vec<(&'static str, String)>,
    floats: bool,
}

/// What is wrong about packages, and where: behind the name of the field.
type Wrong = (String, String);

/// What is to be installed for programs of these runtimes, the first of which is meant where two could be.
///
/// # Errors
/// The first thing that is not allowed, with its field.
pub fn check(
    asked: Option<Dependencies>,
    runtimes: &[&Runtime],
    profile: &Profile,
    config: &Config,
) -> Result<Vec<Arc<Install>>, Problem> {
    let Some(Dependencies { python, npm }) = asked else {
        return Ok(Vec::new());
    };
    let mut wanted = Vec::new();
    if let Some(python) = python {
        wanted.push((Ecosystem::Python, python::written(python)));
    }
    if let Some(npm) = npm {
        let registry = config.dependencies.npm.registry().unwrap_or_default();
        wanted.push((Ecosystem::Npm, npm::written(npm, registry)));
    }
    let mut installs = Vec::new();
    for (ecosystem, written) in wanted {
        let field = format!("dependencies.{}", ecosystem.name());
        let Some(runtime) = runtimes.iter().find(|runtime| runtime.language.ecosystem() == Some(ecosystem)) else {
            return Err(Problem::field(
                field,
                format!("no runtime of this request takes packages of {}", title(ecosystem)),
            )
            .allowing("packages for Python or Node.js, as the runtime is"));
        };
        let written = written.map_err(|(place, detail)| Problem::field(format!("{field}{place}"), detail))?;
        // An empty list is none.
        if written.files.is_empty() {
            continue;
        }
        if !profile.dependencies {
            return Err(Problem::field(field, "the profile of this request allows no packages"));
        }
        installs.push(Arc::new(install(ecosystem, runtime, written, config).ok_or_else(|| {
            Problem::field(field, format!("this service installs no packages of {}", title(ecosystem)))
        })?));
    }
    Ok(installs)
}

/// A job that installs and does nothing else.
#[must_use]
pub fn job(install: &Arc<Install>) -> Job {
    Job {
        id: JobId::random(),
        runtime: install.runtime.clone(),
        profile: install.profile.clone(),
        install: Some(Arc::clone(install)),
        only_installs: true,
        compile: None,
        run: install.stage.clone(),
        files: Vec::new(),
        stdin: Arc::default(),
        outputs: Vec::new(),
        basis: None,
        warm: false,
        fresh: false,
        network: None,
    }
}

fn title(ecosystem: Ecosystem) -> &'static str {
    match ecosystem {
        Ecosystem::Python => "Python",
        Ecosystem::Npm => "Node.js",
    }
}

/// `None` where the configuration lacks something that it takes.
fn install(ecosystem: Ecosystem, runtime: &Runtime, written: Written, config: &Config) -> Option<Install> {
    let section = &config.dependencies;
    let tool = section.of(ecosystem);
    let name = section.profile.clone()?;
    let profile = config.profiles.get(&name)?;
    let (argv, env) = command(ecosystem, runtime, tool, &written, config)?;
    let limits = Limits { wall_time_ms: section.max_time_ms.min(profile.maximum.wall_time_ms), ..profile.run };
    let plain = |path: &str| FilePath::try_from(path.as_bytes().to_vec()).ok();
    let files = written.files.into_iter().map(|(path, text)| {
        Some(ArchivedFile { path: plain(path)?, content: Arc::new(text.into_bytes()), executable: false })
    });
    // A tool of a store never changes under its name; any other is seen to have changed by itself.
    let of_tool = Toolchain {
        closure: tool.paths.iter().chain(&tool.closure).cloned().collect(),
        root: "/".into(),
        replaced: tool.path.iter().cloned().collect(),
    };
    Some(Install {
        ecosystem,
        runtime: runtime.id.clone(),
        policy: profile.policy(),
        profile: name,
        toolchains: vec![toolchain::of(runtime), of_tool],
        stage: StageRequest { argv, env, limits },
        files: files.collect::<Option<_>>()?,
        output: plain(output(ecosystem))?,
        max_bytes: section.max_bytes,
        max_files: section.max_files,
        lifetime_ms: written.floats.then_some(section.lifetime_ms),
    })
}

/// The directory below `/workspace` that an installer fills.
fn output(ecosystem: Ecosystem) -> &'static str {
    match ecosystem {
        Ecosystem::Python => "installed",
        Ecosystem::Npm => "node_modules",
    }
}

/// Arguments and environment of an installer.
fn command(
    ecosystem: Ecosystem,
    runtime: &Runtime,
    tool: &Tool,
    written: &Written,
    config: &Config,
) -> Option<(Vec<String>, BTreeMap<String, String>)> {
    let registry = tool.registry()?;
    tool.path.as_ref()?;
    let program = runtime.program().to_str()?;
    let mut env = runtime.probe_line().env;
    if config.network.certificates().is_file() {
        let name = if ecosystem == Ecosystem::Python { "SSL_CERT_FILE" } else { "NODE_EXTRA_CA_CERTS" };
        env.insert(name.to_owned(), "/etc/ssl/certs/ca-certificates.crt".to_owned());
    }
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let argv = match ecosystem {
        Ecosystem::Python => {
            // The runtime's own interpreter and no other, whatever the registry has.
            env.insert("UV_PYTHON_DOWNLOADS".to_owned(), "never".to_owned());
            let mut argv = words("pip install --no-config --no-cache --no-progress --color never --link-mode copy");
            argv.insert(0, UV.to_owned());
            argv.extend(words("--target /workspace/installed -r /workspace/requirements.txt --python"));
            argv.extend([program.to_owned(), "--default-index".to_owned(), registry.to_owned()]);
            if !written.floats {
                argv.push("--require-hashes".to_owned());
            }
            argv
        }
        Ecosystem::Npm => {
            let (_, begins) = tool.modules()?;
            let mut argv = vec![program.to_owned(), format!("{MODULES}/{}", begins.to_str()?)];
            // What some distributions have beside it and not in it.
            env.insert("NODE_PATH".to_owned(), MODULES.to_owned());
            argv.push(if written.floats { "install" } else { "ci" }.to_owned());
            argv.extend(words(
                "--no-audit --no-fund --no-update-notifier --no-progress --color=false --cache=/tmp/npm \
                 --globalconfig=/dev/null --install-strategy=hoisted --replace-registry-host=never",
            ));
            // By itself it would wait for minutes between attempts.
            argv.extend(words("--fetch-retries=2 --fetch-retry-mintimeout=500 --fetch-retry-maxtimeout=2000"));
            if written.floats {
                argv.push("--no-package-lock".to_owned());
            }
            argv.push(format!("--registry={registry}/"));
            argv
        }
    };
    Some((argv, env))
}

/// Has programs find what was installed, behind what they are told otherwise.
pub fn add_to_environment(env: &mut BTreeMap<String, String>, ecosystem: Ecosystem) {
    let mut behind = |name: &str, place: &str| {
        let value = env.entry(name.to_owned()).or_default();
        if !value.is_empty() {
            value.push(':');
        }
        value.push_str(place);
    };
    behind("PATH", ecosystem.programs());
    if ecosystem == Ecosystem::Python {
        behind("PYTHONPATH", ecosystem.place());
    }
}

fn too_many(place: &str, count: usize, most: usize) -> Wrong {
    (place.to_owned(), format!("{count} are too many: there may be {most}"))
}

#[cfg(test)]
mod tests;
