//! The other sides: the bare program, and sandboxes that are installed beside ours.
//!
//! Each gets what comes nearest to the layers that ours always has; what it lacks is said in
//! `docs/PERFORMANCE.md`.

use std::fs;
use std::io::{Read, Seek};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::latency::Workload;

/// Who runs runc: root would make cgroups.
const NOBODY: u32 = 65534;

/// A way to run the workload as one command.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    argv: Vec<String>,
    directory: PathBuf,
    user: Option<u32>,
}

impl Peer {
    fn new(name: &'static str, argv: Vec<String>, directory: &Path) -> Self {
        Self { name, argv, directory: directory.to_owned(), user: None }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.argv[0]);
        command.args(&self.argv[1..]).current_dir(&self.directory).stdin(Stdio::null());
        command.env_clear().env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin");
        if let Some(id) = self.user {
            command.uid(id).gid(id);
        }
        command
    }

    /// Runs it once and returns how long that took, or why it failed.
    pub(crate) fn run(&self) -> Result<Duration, String> {
        let mut complaints = tempfile::tempfile().unwrap();
        let mut command = self.command();
        command.stdout(Stdio::null()).stderr(complaints.try_clone().unwrap());
        let began = Instant::now();
        let status = command.status();
        let took = began.elapsed();
        let status = status.map_err(|error| format!("{}: {error}", self.name))?;
        if status.success() {
            return Ok(took);
        }
        let mut why = String::new();
        complaints.rewind().unwrap();
        complaints.read_to_string(&mut why).unwrap();
        Err(format!("{}: {status}: {}", self.name, why.trim()))
    }
}

/// All that can run here, and why the others can't.
pub(crate) fn peers(workload: &Workload, directory: &Path) -> (Vec<Peer>, Vec<String>) {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    let workspace = directory.join("workspace");
    fs::create_dir(&workspace).unwrap();
    fs::write(workspace.join(workload.file), workload.source).unwrap();
    let argv = || workload.argv.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let all = [
        Peer::new("`/bin/true`, bare", vec!["/bin/true".to_owned()], &workspace),
        Peer::new("bare", argv(), &workspace),
        bubblewrap(argv(), &workspace),
        runc(argv(), directory, &workspace),
        firejail(argv(), &workspace),
    ];
    let (mut peers, mut skipped) = (Vec::new(), Vec::new());
    for peer in all {
        match peer.run() {
            Ok(_) => peers.push(peer),
            Err(reason) => skipped.push(reason),
        }
    }
    (peers, skipped)
}

fn words(text: &str, more: Vec<String>) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).chain(more).collect()
}

fn bubblewrap(argv: Vec<String>, workspace: &Path) -> Peer {
    let options = format!(
        "bwrap --unshare-all --die-with-parent --new-session --ro-bind /usr /usr --symlink usr/bin /bin \
         --symlink usr/lib /lib --symlink usr/lib64 /lib64 --proc /proc --dev /dev --tmpfs /tmp \
         --bind {} /workspace --chdir /workspace --clearenv",
        workspace.display()
    );
    Peer::new("bubblewrap", words(&options, argv), workspace)
}

fn firejail(argv: Vec<String>, workspace: &Path) -> Peer {
    let options = format!(
        "firejail --quiet --noprofile --net=none --private={} --private-tmp --private-dev --caps.drop=all \
         --seccomp --nonewprivs --",
        workspace.display()
    );
    Peer::new("firejail", words(&options, argv), workspace)
}

/// Rootless and without a cgroup path: the machine's cgroups are left alone.
fn runc(argv: Vec<String>, directory: &Path, workspace: &Path) -> Peer {
    let bundle = directory.join("bundle");
    let state = directory.join("state");
    let rootfs = bundle.join("rootfs");
    for name in ["usr", "proc", "dev", "tmp", "workspace"] {
        fs::create_dir_all(rootfs.join(name)).unwrap();
    }
    for name in ["bin", "lib", "lib64"] {
        symlink(Path::new("usr").join(name), rootfs.join(name)).unwrap();
    }
    fs::create_dir(&state).unwrap();
    let own = nix::unistd::geteuid();
    let id = if own.is_root() { NOBODY } else { own.as_raw() };
    chown(&state, Some(id), Some(id)).unwrap();
    fs::write(bundle.join("config.json"), bundle_config(&argv, workspace, id).to_string()).unwrap();
    let options = format!("runc --root {} --rootless=true run --bundle {}", state.display(), bundle.display());
    let mut peer = Peer::new("runc, rootless, no cgroups", words(&options, vec!["bench".to_owned()]), workspace);
    peer.user = own.is_root().then_some(id);
    peer
}

fn bundle_config(argv: &[String], workspace: &Path, id: u32) -> Value {
    let tmpfs = |at: &str| json!({"destination": at, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=755"]});
    let bind = |from: &Path, to: &str, how: &str| json!({"destination": to, "type": "bind", "source": from, "options": ["rbind", how, "nosuid", "nodev"]});
    let namespaces = ["user", "mount", "pid", "ipc", "uts", "network", "cgroup"];
    let map = json!([{"containerID": 0, "hostID": id, "size": 1}]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": argv,
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/workspace",
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "sandbox",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            tmpfs("/dev"),
            tmpfs("/tmp"),
            bind(Path::new("/usr"), "/usr", "ro"),
            bind(workspace, "/workspace", "rw"),
        ],
        "linux": {
            "namespaces": namespaces.map(|kind| json!({"type": kind})),
            "uidMappings": map,
            "gidMappings": map,
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
