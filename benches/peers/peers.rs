//! Other sandboxes that are installed on this machine, each with what comes nearest to the layers
//! that ours always has; what they lack is said in `docs/PERFORMANCE.md`.

use std::fs;
use std::io::{Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use codesandbox::cli::bench::bare::Bare;
use codesandbox::cli::bench::load::{Attempt, Worker};

use super::oci;

/// Containers of one run have names of their own.
static CONTAINERS: AtomicUsize = AtomicUsize::new(0);

/// A way to run a program as one command.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    words: Vec<String>,
    /// Whether the last word is to be a new container's name.
    is_named: bool,
    pub(crate) user: Option<u32>,
}

impl Peer {
    pub(crate) fn new(name: &'static str, words: Vec<String>) -> Self {
        Self { name, words, is_named: false, user: None }
    }

    pub(crate) fn of_container(name: &'static str, words: Vec<String>) -> Self {
        Self { is_named: true, ..Self::new(name, words) }
    }

    /// Runs it once.
    fn run(&self) -> Attempt {
        let mut complaints = tempfile::tempfile().unwrap();
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).env_clear().env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin");
        if self.is_named {
            command.arg(format!("bench-{}-{}", std::process::id(), CONTAINERS.fetch_add(1, Ordering::Relaxed)));
        }
        if let Some(id) = self.user {
            command.uid(id).gid(id);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(complaints.try_clone().unwrap());
        let status = command.status();
        let ended = Instant::now();
        let outcome = match status {
            Ok(status) if status.success() => Ok(None),
            Ok(status) => {
                let mut why = String::new();
                complaints.rewind().unwrap();
                complaints.read_to_string(&mut why).ok();
                Err(format!("{status}: {}", why.trim().lines().last().unwrap_or_default()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err("not installed".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        Attempt { ended, outcome }
    }

    pub(crate) fn worker(&self) -> Worker<'_> {
        Box::new(|| self.run())
    }
}

/// All that can run this program here, and why the others can't.
pub(crate) fn all(bare: &Bare, directory: &Path) -> (Vec<Peer>, Vec<String>) {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    let argv = argv(bare);
    // What one leaves behind another may not be allowed to replace: each has its own.
    let own = |name: &str| copy(&bare.directory, &directory.join(format!("workspace-{name}")));
    let mut candidates =
        vec![bubblewrap(&argv, &own("bubblewrap")), firejail(&argv, &own("firejail")), nsjail(&argv, &own("nsjail"))];
    candidates.extend(oci::all(&argv, directory, &own));
    let (mut peers, mut skipped): (Vec<Peer>, Vec<String>) = (Vec::new(), Vec::new());
    for peer in candidates {
        // Several ways to start the same one: the first that works.
        if peers.iter().any(|known| known.name == peer.name) {
            continue;
        }
        match peer.run().outcome {
            Ok(_) => peers.push(peer),
            Err(reason) => skipped.push(format!("{}: {reason}", peer.name)),
        }
    }
    skipped.retain(|reason| !peers.iter().any(|peer| reason.starts_with(&format!("{}:", peer.name))));
    (peers, skipped)
}

/// A copy of a directory without directories; the root directory stands for an empty one.
fn copy(from: &Path, to: &Path) -> PathBuf {
    fs::create_dir_all(to).unwrap();
    if from != Path::new("/") {
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    to.to_owned()
}

/// Bubblewrap alone, against which most is measured.
pub(crate) fn bubblewrap_for(bare: &Bare) -> Result<Peer, String> {
    let peer = bubblewrap(&argv(bare), &bare.directory);
    peer.run().outcome.map(|_| peer).map_err(|reason| format!("bubblewrap: {reason}"))
}

/// One command in one sandbox: where there are several, a shell runs them.
fn argv(bare: &Bare) -> Vec<String> {
    if let [only] = bare.commands.as_slice() {
        return only.argv.clone();
    }
    let quoted = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
    let lines = bare.commands.iter().map(|line| line.argv.iter().map(quoted).collect::<Vec<_>>().join(" "));
    vec!["/bin/sh".to_owned(), "-c".to_owned(), lines.collect::<Vec<_>>().join(" && ")]
}

pub(crate) fn words(text: &str, more: &[String]) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).chain(more.iter().cloned()).collect()
}

/// Root directory of a program that has no files: nothing may be bound over it.
fn is_root(workspace: &Path) -> bool {
    workspace == Path::new("/")
}

fn bubblewrap(argv: &[String], workspace: &Path) -> Peer {
    let workspace = if is_root(workspace) {
        "--tmpfs /workspace".to_owned()
    } else {
        format!("--bind {} /workspace", workspace.display())
    };
    let options = format!(
        "bwrap --unshare-all --die-with-parent --new-session --ro-bind /usr /usr --symlink usr/bin /bin \
         --symlink usr/lib /lib --symlink usr/lib64 /lib64 --ro-bind /etc /etc --proc /proc --dev /dev --tmpfs /tmp \
         {workspace} --chdir /workspace --clearenv --setenv PATH /usr/bin:/bin"
    );
    Peer::new("bubblewrap", words(&options, argv))
}

fn firejail(argv: &[String], workspace: &Path) -> Peer {
    let workspace = if is_root(workspace) { String::new() } else { format!("={}", workspace.display()) };
    let options = format!(
        "firejail --quiet --noprofile --net=none --private{workspace} --private-tmp --private-dev \
         --caps.drop=all --seccomp --nonewprivs --"
    );
    Peer::new("firejail", words(&options, argv))
}

fn nsjail(argv: &[String], workspace: &Path) -> Peer {
    let workspace =
        if is_root(workspace) { "-T /workspace".to_owned() } else { format!("-B {}:/workspace", workspace.display()) };
    let options = format!(
        "nsjail -Mo -q --rlimit_as max --rlimit_fsize max -R /usr -R /etc -s usr/bin:/bin -s usr/lib:/lib \
         -s usr/lib64:/lib64 -T /tmp {workspace} -D /workspace -E PATH=/usr/bin:/bin --"
    );
    Peer::new("nsjail", words(&options, argv))
}

/// Names and versions of what is there.
pub(crate) fn versions() -> Vec<(String, String)> {
    let commands = [
        ("bubblewrap", "bwrap"),
        ("firejail", "firejail"),
        ("runc", "runc"),
        ("crun", "crun"),
        ("runsc", "runsc"),
        ("podman", "podman"),
        ("python", "/usr/bin/python3"),
        ("node", "/usr/bin/node"),
        ("gcc", "/usr/bin/gcc"),
        ("java", "/usr/bin/java"),
    ];
    let version = |(name, program): (&str, &str)| {
        let output = Command::new(program).arg("--version").env("PATH", "/usr/bin:/usr/sbin").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let word = text
            .split_ascii_whitespace()
            .find(|word| word.trim_start_matches('v').starts_with(|first: char| first.is_ascii_digit()))?;
        Some((name.to_owned(), word.trim_start_matches('v').trim_end_matches(')').to_owned()))
    };
    commands.into_iter().filter_map(version).collect()
}
