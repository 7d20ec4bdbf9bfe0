//! The side without a sandbox: processes that are started and waited for, and nothing else.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::load::{Attempt, Worker};
use super::program::find_program;
use crate::runtime::CommandLine;

/// How a process is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// posix_spawn(3): vfork and exec, the fastest that there is.
    Spawn,
    /// fork(2) and exec.
    Fork,
}

impl Start {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Spawn => "posix_spawn",
            Self::Fork => "fork",
        }
    }
}

/// Command lines that are run one after another in a directory.
#[derive(Debug, Clone)]
pub struct Bare {
    /// Compiling first, where that is not done once for all.
    pub commands: Vec<CommandLine>,
    /// Where.
    pub directory: PathBuf,
}

impl Bare {
    /// Of `true`; `None` where the search path has none.
    #[must_use]
    pub fn of_true() -> Option<Self> {
        let argv = vec![find_program("true")?.to_string_lossy().into_owned()];
        Some(Self { commands: vec![CommandLine { argv, env: BTreeMap::new() }], directory: "/".into() })
    }

    /// Runs it once.
    ///
    /// # Errors
    /// A process can't be started, or does not end well.
    pub fn run(&self, start: Start) -> Result<(), String> {
        for line in &self.commands {
            let [program, arguments @ ..] = line.argv.as_slice() else { continue };
            let mut command = Command::new(program);
            command.args(arguments).env_clear().envs(&line.env).current_dir(&self.directory);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            if start == Start::Fork {
                // Whoever changes its user is forked by the standard library; to be who one is
                // already costs next to nothing.
                command.uid(nix::unistd::geteuid().as_raw());
            }
            let status = command.status().map_err(|error| format!("{program}: {}", error.kind()))?;
            if !status.success() {
                return Err(format!("{program}: {status}"));
            }
        }
        Ok(())
    }

    /// Runs it again and again.
    #[must_use]
    pub fn worker(&self, start: Start) -> Worker<'_> {
        Box::new(move || {
            let outcome = self.run(start);
            Attempt { ended: Instant::now(), outcome: outcome.map(|()| None) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare(argv: &[&str]) -> Bare {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        Bare { commands: vec![CommandLine { argv, env: BTreeMap::new() }], directory: "/".into() }
    }

    #[test]
    fn true_runs_either_way() {
        for start in [Start::Spawn, Start::Fork] {
            Bare::of_true().unwrap().run(start).unwrap();
        }
    }

    #[test]
    fn what_does_not_run_well_is_an_error() {
        for start in [Start::Spawn, Start::Fork] {
            assert!(bare(&["/bin/sh", "-c", "exit 3"]).run(start).unwrap_err().contains('3'));
            assert!(bare(&["/nowhere"]).run(start).is_err());
        }
    }
}
