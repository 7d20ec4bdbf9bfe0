//! All that a jail must do, as plain data: what daemon, launcher and jail tell one another.
//!
//! A [`Template`] says what a runtime's sandboxes see, a [`Jail`] what one sandbox is, [`Rlimits`]
//! and a [`Watch`] what one program in it may use. A [`Spec`] and an [`Archive`] hold the client's bytes: they
//! travel in sealed memory files that only the jail itself opens.

pub mod files;
pub mod real;
pub mod tree;
pub mod workspace;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What every sandbox of one runtime sees; built once, then cloned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Host paths and where they stand inside; read-only there.
    pub binds: Vec<Bind>,
    /// Symbolic links: where they stand, and what they say.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Small files with fixed text, such as `/etc/passwd`.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// Real directories of the host, for a template that has one sandbox only.
    pub real: Option<real::Real>,
    /// Directories besides those that every sandbox has, for what is mounted on them.
    pub directories: Vec<PathBuf>,
}

/// A host path that is visible inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Path on the host.
    pub source: PathBuf,
    /// Path inside.
    pub target: PathBuf,
}

/// One sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jail {
    /// Who its processes are.
    pub identity: Identity,
    /// Size of its writable file system, in bytes.
    pub disk_bytes: u64,
    /// Number of files in it.
    pub disk_files: u64,
    /// How the workspace of a session is put together, which brings its own file system along.
    pub workspace: Option<workspace::Overlay>,
    /// Whether its template has all that it can write already: it is that of real directories.
    pub furnished: bool,
    /// Where trees are mounted that it may read, in the order in which they come along.
    pub trees: Vec<tree::Ecosystem>,
    /// Whether it can be emptied after a program, so that another finds it as the first one did.
    pub renewable: bool,
}

/// What one sandbox has besides what all of its runtime have, in a memory file that init reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Additions {
    /// Variables of every program that has none of the same name.
    pub variables: BTreeMap<String, String>,
    /// Certificates that programs trust, in PEM, in the place of the usual ones.
    pub certificates: Vec<u8>,
}

/// Where every sandbox that may reach something has the certificates that programs trust.
pub const CERTIFICATES: &str = "/runtime/ca-certificates.crt";
/// Where programs of most systems look for them; not every sandbox has it.
pub const USUAL_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Largest memory file with [`Additions`], in bytes.
pub const ADDITIONS_BYTES: usize = 5 << 20;

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// Who the processes of a sandbox are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// Init and program each have an id that no other live sandbox has.
    Own {
        /// Id of init in the launcher's user namespace; root inside.
        init: u32,
        /// Id of the program in the launcher's user namespace; 1000 inside.
        program: u32,
    },
    /// Init and program share the launcher's only id, as where no range of ids is at hand.
    Shared,
}

/// User and group id of the program inside its sandbox.
pub const PROGRAM_ID: u32 = 1000;

/// Resource limits of every process of a stage; `None` leaves it to the cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimits {
    /// RLIMIT_CPU, in whole seconds, rounded up.
    pub cpu_seconds: u64,
    /// RLIMIT_DATA, in bytes. RLIMIT_AS would end Node, Go and the JVM, which reserve much more than
    /// they use.
    pub data_bytes: Option<u64>,
    /// RLIMIT_NPROC.
    pub processes: Option<u64>,
    /// RLIMIT_NOFILE.
    pub open_files: u64,
    /// RLIMIT_FSIZE, in bytes.
    pub file_size_bytes: u64,
    /// RLIMIT_STACK, in bytes.
    pub stack_bytes: u64,
}

/// What init itself watches, where no cgroup does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Memory of all processes and of the writable file system, in bytes.
    pub memory_bytes: u64,
    /// Processor time of all processes, in milliseconds.
    pub cpu_time_ms: u64,
    /// Processes and threads that are allowed; RLIMIT_NPROC lets through one more.
    pub processes: u64,
    /// Processor time that the program had used before its job was known, in microseconds.
    pub cpu_before_us: u64,
    /// Whether more processes than are allowed end the program: the kernel holds root to no number.
    pub ends_for_processes: bool,
}

/// The client's part of a stage: read by nobody before it is inside the jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Arguments, the program first.
    pub argv: Vec<Vec<u8>>,
    /// The whole environment.
    pub env: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Where it is executed, where that is not the usual place.
    pub directory: Option<Vec<u8>>,
}

/// Largest [`Spec`] that is read, in bytes.
pub const SPEC_BYTES: usize = 4 << 20;

/// A [`Spec`] in the form that execve(2) takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orders {
    /// Arguments, the program first.
    pub argv: Vec<CString>,
    /// `NAME=VALUE`.
    pub env: Vec<CString>,
    /// Where it is executed, where that is not the usual place.
    pub directory: Option<Vec<u8>>,
}

impl Spec {
    /// These arguments and variables.
    #[must_use]
    pub fn new(argv: &[String], env: &BTreeMap<String, String>) -> Self {
        let bytes = |text: &String| text.clone().into_bytes();
        Self {
            argv: argv.iter().map(bytes).collect(),
            env: env.iter().map(|(name, value)| (bytes(name), bytes(value))).collect(),
            directory: None,
        }
    }

    /// In the form in which it goes to the program, whatever language that is written in: strings,
    /// each with a NUL byte after it. The number of arguments in decimal, and, behind a blank, the
    /// directory where there is one; the arguments; and the variables as `NAME=VALUE`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut head = self.argv.len().to_string().into_bytes();
        if let Some(directory) = &self.directory {
            head.push(b' ');
            head.extend_from_slice(directory);
        }
        let variables = self.env.iter().map(|(name, value)| [name.as_slice(), value].join(&b'='));
        let strings = std::iter::once(head).chain(self.argv.iter().cloned()).chain(variables);
        strings.flat_map(|string| string.into_iter().chain([0])).collect()
    }

    /// What [`Spec::encode`] wrote; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Orders> {
        let mut strings = bytes.strip_suffix(&[0])?.split(|byte| *byte == 0);
        let head = strings.next()?;
        let (count, directory) = match head.iter().position(|byte| *byte == b' ') {
            Some(at) => (head.get(..at)?, Some(head.get(at + 1..)?.to_vec())),
            None => (head, None),
        };
        let count: usize = std::str::from_utf8(count).ok()?.parse().ok()?;
        let mut strings = strings.map(|string| CString::new(string).expect("it was split at NUL bytes"));
        let argv: Vec<CString> = strings.by_ref().take(count).collect();
        (argv.len() == count && count > 0).then(|| Orders { argv, env: strings.collect(), directory })
    }
}

impl Additions {
    /// Adds the variables to a [`Spec`] in the form in which it goes to the program.
    pub fn add_to(&self, spec: &mut Vec<u8>) {
        let Some(orders) = Spec::decode(spec) else { return };
        for (name, value) in &self.variables {
            let is_there = |known: &CString| {
                known.to_bytes().strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'='))
            };
            if !orders.env.iter().any(is_there) {
                spec.extend_from_slice(&[name.as_bytes(), b"=", value.as_bytes(), &[0]].concat());
            }
        }
    }
}

/// What init and the program leave word of on their way, for the launcher to read when it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    /// The job is given to the program, at this time of the monotonic clock in microseconds. Before
    /// this, nothing of what the client sent can have had any effect.
    Given(u64),
    /// The program is about to be executed, at this time.
    Executing(u64),
    /// A step has failed, with this errno.
    Failed(Step, i32),
}

impl Mark {
    /// What was written to a pipe, one after another, as far as it makes sense.
    #[must_use]
    pub fn read_all(mut bytes: &[u8]) -> Vec<Self> {
        let mut marks = Vec::new();
        while let Ok((mark, rest)) = postcard::take_from_bytes(bytes) {
            marks.push(mark);
            bytes = rest;
        }
        marks
    }
}

/// Files to write into `/workspace`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// The files, in order.
    pub files: Vec<ArchivedFile>,
}

/// One file of an [`Archive`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedFile {
    /// Path below `/workspace`.
    pub path: FilePath,
    /// Its bytes.
    pub content: Arc<Vec<u8>>,
    /// Whether it may be executed.
    pub executable: bool,
}

/// What to hand out at the end, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Patterns in the syntax of glob(7), with `**` for any number of directories.
    pub patterns: Vec<String>,
    /// Most files.
    pub files: u64,
    /// Most bytes in all files together.
    pub bytes: u64,
    /// Most directories above a file.
    pub depth: u64,
    /// Most entries that are looked at.
    pub entries: u64,
    /// Most time for all of it, in milliseconds.
    pub time_ms: u64,
    /// Whether what is handed out must stand for the whole directory: what files alone do not tell, such
    /// as an empty directory, is then told as left out.
    pub whole: bool,
    /// Directory below `/workspace` that is handed out as a [tree] in place of what the patterns match.
    pub tree: Option<FilePath>,
}

/// What stands before each file that is handed out, or in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// A file; this many bytes of content follow.
    File {
        /// Path below `/workspace`, byte for byte.
        path: Vec<u8>,
        /// Bytes of content.
        size: u64,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A file that matched and is left out.
    Omitted {
        /// Path below `/workspace`, byte for byte.
        path: Vec<u8>,
        /// Why.
        reason: Omission,
    },
    /// Nothing follows.
    End,
    /// Of a tree: a directory that has nothing in it.
    Directory {
        /// Path below the top of the tree.
        path: Vec<u8>,
    },
    /// Of a tree: a symbolic link.
    Link {
        /// Path below the top of the tree.
        path: Vec<u8>,
        /// What it says.
        target: Vec<u8>,
    },
}

/// Why a file that matched is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Omission {
    /// It is a link, a FIFO, a socket or a device.
    NotRegular,
    /// It does not fit in what is left of the bytes.
    TooLarge,
    /// There are enough files already.
    TooMany,
    /// It lies too deep.
    TooDeep,
    /// The time for it was up.
    TooLate,
    /// It could not be opened or read.
    Unreadable,
    /// It is a directory that has nothing in it.
    EmptyDirectory,
}

/// A relative path that stays below where it starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct FilePath(Vec<u8>);

/// Longest path of an input file, in bytes.
pub const PATH_BYTES: usize = 1024;
/// Longest name of one file or directory, in bytes; path_resolution(7).
pub const NAME_BYTES: usize = 255;
/// Most directories above an input file.
pub const PATH_DEPTH: usize = 32;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PathError {
    /// It is empty.
    #[error("the path is empty")]
    Empty,
    /// It begins with a slash.
    #[error("the path is absolute; give it relative to /workspace")]
    Absolute,
    /// It has a NUL byte.
    #[error("the path has a NUL byte")]
    Nul,
    /// It has an empty part, `.` or `..`.
    #[error("the path has an empty part, \".\" or \"..\"")]
    Irregular,
    /// It or one of its parts is too long, or it has too many parts.
    #[error(
        "the path is longer than {PATH_BYTES} bytes, deeper than {PATH_DEPTH} directories, or has a name of more than {NAME_BYTES} bytes"
    )]
    TooLong,
}

impl FilePath {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Vec<u8>> for FilePath {
    type Error = PathError;

    fn try_from(path: Vec<u8>) -> Result<Self, PathError> {
        if path.is_empty() {
            return Err(PathError::Empty);
        }
        if path.starts_with(b"/") {
            return Err(PathError::Absolute);
        }
        if path.contains(&0) {
            return Err(PathError::Nul);
        }
        let parts = || path.split(|byte| *byte == b'/');
        if parts().any(|part| matches!(part, b"" | b"." | b"..")) {
            return Err(PathError::Irregular);
        }
        if path.len() > PATH_BYTES || parts().count() > PATH_DEPTH + 1 || parts().any(|part| part.len() > NAME_BYTES) {
            return Err(PathError::TooLong);
        }
        Ok(Self(path))
    }
}

impl From<FilePath> for Vec<u8> {
    fn from(path: FilePath) -> Self {
        path.0
    }
}

/// Why we ended a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Its time by the clock was up.
    WallTime,
    /// Its processor time was used up.
    CpuTime,
    /// Its memory was used up.
    Memory,
    /// It had too many processes.
    Processes,
    /// It had printed too much.
    Output,
    /// It made a refused system call under a profile that ends programs for it.
    Denied,
    /// The client wanted so.
    Cancelled,
}

/// Steps of making a jail and of starting a program in it, in order; each with the reason why it
/// stands where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Step {
    /// clone3 into new namespaces.
    CloneInit,
    /// Write the id maps.
    MapIds,
    /// Become root inside.
    BecomeInit,
    /// A host name of its own.
    SetHostName,
    /// Mount `/proc`.
    MountProc,
    /// Mask what of `/proc` tells of the host.
    MaskProc,
    /// Mount the writable file system.
    MountScratch,
    /// Give up all capabilities that init does not need.
    ConfineInit,
    /// clone3 into the leaf cgroup and the pid namespace.
    CloneProgram,
    /// Join the jail's other namespaces.
    JoinJail,
    /// A session of its own.
    NewSession,
    /// Close all descriptors but 0, 1, 2.
    CloseDescriptors,
    /// A keyring of its own.
    NewKeyring,
    /// Empty the bounding set.
    DropBounding,
    /// Become the program's user.
    BecomeProgram,
    /// Empty all capability sets.
    DropCapabilities,
    /// Die with the launcher.
    DieWithLauncher,
    /// no_new_privs.
    NoNewPrivileges,
    /// Wait for init.
    AwaitMounts,
    /// A terminal, for programs that are to have one.
    TakeTerminal,
    /// Landlock.
    RestrictFiles,
    /// seccomp.
    FilterSyscalls,
    /// Set resource limits.
    SetLimits,
    /// Wait for arguments and environment.
    ReadSpec,
    /// execve.
    Execute,
}

impl Step {
    /// Every step, in order: those of init, then those of a program.
    pub const ALL: &[Self] = &[
        Self::CloneInit,
        Self::MapIds,
        Self::BecomeInit,
        Self::SetHostName,
        Self::MountProc,
        Self::MaskProc,
        Self::MountScratch,
        Self::ConfineInit,
        Self::CloneProgram,
        Self::CloseDescriptors,
        Self::JoinJail,
        Self::NewSession,
        Self::NewKeyring,
        Self::DropBounding,
        Self::BecomeProgram,
        Self::DropCapabilities,
        Self::DieWithLauncher,
        Self::NoNewPrivileges,
        Self::AwaitMounts,
        Self::TakeTerminal,
        Self::RestrictFiles,
        Self::FilterSyscalls,
        Self::SetLimits,
        Self::ReadSpec,
        Self::Execute,
    ];

    /// What the step does and why it stands where it stands.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::CloneInit => {
                "new user, mount, pid, ipc, uts and cgroup namespaces in one clone3, from the runtime's mounts and \
                 into a network namespace that has nothing in it; first, because everything after it happens inside"
            }
            Self::MapIds => "by the launcher, because only a process outside may map ids that are not its own",
            Self::BecomeInit => "after the map, without which no id inside means anything",
            Self::SetHostName => "while init still has CAP_SYS_ADMIN over its own namespaces",
            Self::MountProc => "from inside the new pid namespace, so that it shows these processes and no others",
            Self::MaskProc => "after the mount that it covers, before any program can look",
            Self::MountScratch => "a fresh tmpfs for /workspace, /tmp and /dev/shm, owned by the program's user",
            Self::ConfineInit => {
                "after the last mount: init keeps what it needs to kill, to read and to write the program's files, \
                 loses the rest for good, is held to the system calls that it makes for that, and is not dumpable, so \
                 that the program cannot look into it"
            }
            Self::CloneProgram => {
                "by the launcher, into the leaf cgroup, so that no process is ever moved between groups; init stays \
                 outside of the leaf and survives its out-of-memory killer"
            }
            Self::CloseDescriptors => {
                "before the jail is joined, so that nothing of the launcher's is open inside (CVE-2024-21626)"
            }
            Self::JoinJail => "all namespaces in one setns by pidfd, so that there is no moment between two of them",
            Self::NewSession => "no controlling terminal, and no process group shared with anything outside",
            Self::NewKeyring => "before the user changes, so that no key of the launcher's session is reachable",
            Self::DropBounding => "before the user changes, because it needs CAP_SETPCAP",
            Self::BecomeProgram => "groups, group, user: in the other order the first two would be forbidden",
            Self::DropCapabilities => "after the user change, which itself needs CAP_SETUID",
            Self::DieWithLauncher => "after the changes of credentials, each of which resets it",
            Self::NoNewPrivileges => "before landlock and seccomp, which demand it",
            Self::AwaitMounts => {
                "init mounts meanwhile, on another processor where there is one; the next step names what it mounts"
            }
            Self::TakeTerminal => {
                "in sessions, where asked for: from the sandbox's own devpts, which init has mounted, and before \
                 Landlock, whose rules are for what is opened later"
            }
            Self::RestrictFiles => "before seccomp, so that the filter need not allow landlock's calls",
            Self::FilterSyscalls => "after all of the above, so that the filter need not allow any of it",
            Self::SetLimits => {
                "by the launcher, from outside, when the job is known: a sandbox may have waited for it, and the \
                 filter is the same for all of a profile"
            }
            Self::ReadSpec => {
                "behind every wall, because nothing that holds privilege may read client bytes; a parked sandbox \
                 waits here, a warm one for its second time"
            }
            Self::Execute => "the program's first instruction runs behind every wall",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(step: Step) -> usize {
        Step::ALL.iter().position(|known| *known == step).unwrap()
    }

    #[test]
    fn nothing_that_needs_privilege_comes_after_the_filter() {
        let after = &Step::ALL[position(Step::FilterSyscalls) + 1..];
        assert_eq!(after, [Step::SetLimits, Step::ReadSpec, Step::Execute]);
    }

    #[test]
    fn no_new_privileges_comes_before_landlock_and_seccomp() {
        assert!(position(Step::NoNewPrivileges) < position(Step::RestrictFiles));
        assert!(position(Step::RestrictFiles) < position(Step::FilterSyscalls));
    }

    #[test]
    fn descriptors_are_closed_before_the_jail_is_joined() {
        assert!(position(Step::CloseDescriptors) < position(Step::JoinJail));
    }

    #[test]
    fn client_bytes_are_read_behind_every_wall() {
        for wall in [Step::JoinJail, Step::DropCapabilities, Step::RestrictFiles, Step::FilterSyscalls] {
            assert!(position(wall) < position(Step::ReadSpec), "{wall:?}");
        }
    }

    #[test]
    fn a_spec_survives_the_way_byte_for_byte() {
        let env = [(b"A".to_vec(), b"b=c\xff".to_vec()), (b"EMPTY".to_vec(), vec![])];
        for directory in [None, Some(b"a dir/\xfe".to_vec())] {
            let argv = vec![b"/bin/x".to_vec(), vec![], b"\n".to_vec()];
            let spec = Spec { argv, env: env.clone().into(), directory: directory.clone() };
            let orders = Spec::decode(&spec.encode()).unwrap();
            assert_eq!(orders.argv, [c"/bin/x", c"", c"\n"]);
            assert_eq!(orders.env, [c"A=b=c\xff", c"EMPTY="]);
            assert_eq!(orders.directory, directory);
        }
    }

    #[test]
    fn what_is_no_spec_is_refused() {
        for bytes in [&b""[..], b"\0", b"0\0", b"2\0a\0", b"1\0a", b"x\0a\0", b"-1\0a\0", b"99999999999999999999\0a\0"]
        {
            assert_eq!(Spec::decode(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn variables_are_added_that_a_program_does_not_have() {
        let variables = [("A", "ours"), ("B", "ours"), ("AB", "")].map(|(name, value)| (name.into(), value.into()));
        let additions = Additions { variables: variables.into(), certificates: Vec::new() };
        let own = [("B", "its"), ("ABC", "its")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut spec = Spec::new(&["/bin/sh".to_owned()], &own.into()).encode();
        additions.add_to(&mut spec);
        let orders = Spec::decode(&spec).unwrap();
        assert_eq!(
            (orders.argv, orders.env),
            (vec![c"/bin/sh".into()], [c"ABC=its", c"B=its", c"A=ours", c"AB="].map(Into::into).into())
        );
        // What is no spec stays what it is.
        let mut nothing = Vec::new();
        additions.add_to(&mut nothing);
        assert!(nothing.is_empty());
    }

    #[test]
    fn marks_are_read_one_after_another() {
        let marks = [Mark::Given(7), Mark::Failed(Step::Execute, 2)];
        let bytes: Vec<u8> = marks.iter().flat_map(|mark| postcard::to_allocvec(mark).unwrap()).collect();
        assert_eq!(Mark::read_all(&bytes), marks);
        assert_eq!(Mark::read_all(&bytes[..bytes.len() - 1]), marks[..1]);
    }

    #[test]
    fn paths_that_leave_or_confuse_are_refused() {
        for (path, error) in [
            (&b""[..], PathError::Empty),
            (b"/etc/passwd", PathError::Absolute),
            (b"a\0b", PathError::Nul),
            (b"../a", PathError::Irregular),
            (b"a/../b", PathError::Irregular),
            (b"a//b", PathError::Irregular),
            (b"a/", PathError::Irregular),
            (b"./a", PathError::Irregular),
        ] {
            assert_eq!(FilePath::try_from(path.to_vec()), Err(error), "{path:?}");
        }
        assert_eq!(FilePath::try_from(vec![b'a'; 256]), Err(PathError::TooLong));
        assert_eq!(FilePath::try_from(b"a/".repeat(40).split_last().unwrap().1.to_vec()), Err(PathError::TooLong));
        assert!(FilePath::try_from(b"src/\xff\n.py".to_vec()).is_ok());
    }
}
