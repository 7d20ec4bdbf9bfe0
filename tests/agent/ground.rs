//! A directory to work in, a user to work as, and the command.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::common::skip;

/// A user without anything, by number: nobody.
const NOBODY: u32 = 65534;

/// Who runs the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Whoever runs the tests.
    Caller,
    /// A user without any privilege.
    Nobody,
}

/// A directory of a test's own, with a home directory in it, and a place to work in.
pub(crate) struct Ground {
    who: Who,
    kept: tempfile::TempDir,
}

impl Ground {
    /// One for whoever runs the tests.
    pub(crate) fn new() -> Self {
        Self::of(Who::Caller)
    }

    fn of(who: Who) -> Self {
        let kept = tempfile::tempdir().unwrap();
        fs::set_permissions(kept.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let ground = Self { who, kept };
        for name in ["home", "home/project", "home/secret"] {
            ground.make(name);
        }
        ground
    }

    /// One for each kind of user that there can be here.
    pub(crate) fn each() -> Vec<Self> {
        let mut all = vec![Self::new()];
        if !nix::unistd::geteuid().is_root() {
            skip("only root can become another user");
            return all;
        }
        let nobody = Self::of(Who::Nobody);
        let can = nobody.command(&[]).arg("--version").output();
        let namespaces = nobody.as_user(Path::new("unshare")).args(["--user", "true"]).output();
        match (can, namespaces) {
            (Ok(can), Ok(namespaces)) if can.status.success() && namespaces.status.success() => all.push(nobody),
            (can, namespaces) => {
                skip(&format!("nobody can't run it, or has no user namespaces: {can:?} {namespaces:?}"))
            }
        }
        all
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.kept.path().canonicalize().unwrap().join(name)
    }

    /// A directory that belongs to the user.
    pub(crate) fn make(&self, name: &str) {
        fs::create_dir_all(self.path(name)).unwrap();
        self.give(name);
    }

    /// A file that belongs to the user.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        self.give(name);
    }

    fn give(&self, name: &str) {
        if self.who == Who::Nobody {
            std::os::unix::fs::lchown(self.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    /// Whether a file is the user's own.
    pub(crate) fn owns(&self, name: &str) -> bool {
        let found = fs::symlink_metadata(self.path(name)).unwrap();
        let expected = match self.who {
            Who::Caller => (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
            Who::Nobody => (NOBODY, NOBODY),
        };
        (found.uid(), found.gid()) == expected
    }

    fn as_user(&self, program: &Path) -> Command {
        let mut command = match self.who {
            Who::Caller => Command::new(program),
            Who::Nobody => {
                let mut command = Command::new("setpriv");
                let id = NOBODY.to_string();
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(program);
                command
            }
        };
        command.env("HOME", self.path("home")).current_dir(self.path("home/project")).stdin(Stdio::null());
        command
    }

    /// The command with these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.as_user(Path::new(env!("CARGO_BIN_EXE_codesandbox")));
        command.args(arguments);
        command
    }

    /// A line of bash outside, such as what its user types later.
    pub(crate) fn outside(&self, line: &str) -> Output {
        self.as_user(Path::new("bash")).args(["-c", line]).output().unwrap()
    }

    /// An agent that is a line of bash.
    pub(crate) fn agent(&self, options: &[&str], line: &str) -> Command {
        let mut command = self.command(&["agent"]);
        command.args(options).args(["--", "bash", "-c", line]);
        command
    }

    /// Runs one to its end.
    pub(crate) fn run(&self, options: &[&str], line: &str) -> Output {
        self.agent(options, line).output().unwrap()
    }

    /// Runs one that must end well; what it prints.
    pub(crate) fn told(&self, options: &[&str], line: &str) -> String {
        let output = self.run(options, line);
        assert!(output.status.success(), "{:?} {line}: {output:?}", self.who);
        out(&output)
    }
}

/// Standard output.
pub(crate) fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard error.
pub(crate) fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
