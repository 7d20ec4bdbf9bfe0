//! Peers that run a bundle of the Open Container Initiative: runc, crun, runsc, and podman on top.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::peers::{Peer, words};

/// Who runs runc: root would make cgroups.
const NOBODY: u32 = 65534;

/// Every way that may work, for one program; of those with the same name the first that does. `own`
/// gives each a workspace.
pub(crate) fn all(argv: &[String], directory: &Path, own: &dyn Fn(&str) -> PathBuf) -> Vec<Peer> {
    let user = nix::unistd::geteuid();
    let id = if user.is_root() { NOBODY } else { user.as_raw() };
    let bundle = |name: &str, rootless: bool| {
        let bundle = directory.join(name);
        let (state, workspace) = (bundle.join("state"), own(name));
        make_root(&bundle.join("rootfs"));
        fs::create_dir_all(&state).unwrap();
        if rootless {
            chown_all(&state, id);
            chown_all(&workspace, id);
        }
        let config = bundle_config(argv, &workspace, rootless.then_some(id));
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        (bundle, state)
    };
    let mut peers = Vec::new();
    let (at, state) = bundle("runc", true);
    let options = format!("runc --root {} --rootless=true run --bundle {}", state.display(), at.display());
    let mut runc = Peer::of_container("runc", words(&options, &[]));
    runc.user = user.is_root().then_some(id);
    peers.push(runc);
    let (at, state) = bundle("crun", false);
    let options = format!("crun --root {} --cgroup-manager=disabled run --bundle {}", state.display(), at.display());
    peers.push(Peer::of_container("crun", words(&options, &[])));
    let (at, state) = bundle("runsc", false);
    // Not KVM, which in a virtual machine may be there and never answer.
    for platform in ["systrap", "ptrace"] {
        let options = format!(
            "runsc --root {} --network=none --ignore-cgroups --platform={platform} run --bundle {}",
            state.display(),
            at.display()
        );
        peers.push(Peer::of_container("runsc", words(&options, &[])));
    }
    for runtime in ["crun --cgroups=disabled", "runc"] {
        peers.push(podman(argv, directory, &own("podman"), runtime));
    }
    peers
}

/// No image, as nothing is to be fetched: the same root as the others have.
fn podman(argv: &[String], directory: &Path, workspace: &Path, runtime: &str) -> Peer {
    let home = directory.join("podman");
    let root = home.join("rootfs");
    make_root(&root);
    let (runtime, more) = runtime.split_once(' ').unwrap_or((runtime, ""));
    let at = |name: &str| home.join(name).display().to_string();
    let options = format!(
        "podman --root {} --runroot {} --tmpdir {} --storage-driver=vfs --cgroup-manager=cgroupfs \
         --events-backend=none --runtime={runtime} run --rm --network=none {more} --read-only \
         --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 --security-opt=no-new-privileges --cap-drop=all \
         -v /usr:/usr:ro -v {}:/workspace -w /workspace --rootfs {}",
        at("storage"),
        at("run"),
        at("tmp"),
        workspace.display(),
        root.display()
    );
    Peer::new("podman", words(&options, argv))
}

/// A directory and the files in it.
fn chown_all(directory: &Path, id: u32) {
    chown(directory, Some(id), Some(id)).unwrap();
    for entry in fs::read_dir(directory).unwrap() {
        chown(entry.unwrap().path(), Some(id), Some(id)).unwrap();
    }
}

fn make_root(root: &Path) {
    for name in ["usr", "proc", "dev", "tmp", "workspace", "etc", "sys", "run"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    for name in ["bin", "lib", "lib64"] {
        if !root.join(name).is_symlink() {
            symlink(Path::new("usr").join(name), root.join(name)).unwrap();
        }
    }
}

/// Rootless where there is an id: with a user namespace of its own.
fn bundle_config(argv: &[String], workspace: &Path, id: Option<u32>) -> Value {
    let tmpfs = |at: &str| json!({"destination": at, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]});
    let bind = |from: &Path, to: &str, how: &str| json!({"destination": to, "type": "bind", "source": from, "options": ["rbind", how, "nosuid", "nodev"]});
    let mut namespaces = vec!["mount", "pid", "ipc", "uts", "network"];
    let mut linux = json!({
        "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    });
    if let Some(id) = id {
        namespaces.extend(["user", "cgroup"]);
        let map = json!([{"containerID": 0, "hostID": id, "size": 1}]);
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
    }
    linux["namespaces"] = namespaces.iter().map(|kind| json!({"type": kind})).collect();
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
            bind(Path::new("/etc"), "/etc", "ro"),
            bind(workspace, "/workspace", "rw"),
        ],
        "linux": linux,
    })
}
