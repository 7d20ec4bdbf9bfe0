//! Leaf cgroups for programs, in the subtree that was delegated to the launcher; cgroups(7) and
//! the kernel's Documentation/admin-guide/cgroup-v2.rst.
//!
//! Limits are set by crate `cgroups-rs`. Three things it lacks and files do: a directory's
//! descriptor for CLONE_INTO_CGROUP, `cgroup.kill`, and `memory.peak`, which a write resets.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cgroups_rs::MaxValue;
use cgroups_rs::cpu::CpuController;
use cgroups_rs::memory::MemController;
use cgroups_rs::pid::PidController;
use nix::errno::Errno as Number;

use crate::profile::Limits;
use crate::sys::{Call, Errno, Result};

/// Group in which launcher and inits live; systemd's DelegateSubgroup= makes it.
const SUPERVISOR: &str = "supervisor";
/// Its share of the processors beside the leaves, which have 100 each: the most that there is.
const SUPERVISOR_WEIGHT: &str = "10000";
/// Group of all uplinks.
const UPLINKS: &str = "uplinks";
/// Memory of all uplinks together, in bytes: what each needs with all its buffers full, many times over.
const UPLINKS_BYTES: u64 = 1 << 30;
/// Their share of the processors beside the leaves: what a program waits for is the network, not them.
const UPLINKS_WEIGHT: &str = "1000";
/// Controllers without which limits are not held by cgroups.
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];
/// Controllers that are used where they are there.
const USEFUL: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Whether this process may make cgroups, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delegation {
    /// Here.
    Granted(PathBuf),
    /// Not, and why.
    Absent(String),
}

/// Finds the subtree that was delegated to this process: the group that it runs in, or the parent
/// of that where it is called `supervisor`.
#[must_use]
pub fn delegation() -> Delegation {
    let absent = |why: &str| Delegation::Absent(why.to_owned());
    let Some(mount) = unified_mount() else {
        return absent("no cgroup v2 file system is mounted");
    };
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(own) = own.lines().find_map(|line| line.strip_prefix("0::")) else {
        return absent("this process is in no cgroup v2 group");
    };
    let mut group = mount.join(own.trim_start_matches('/'));
    if group.ends_with(SUPERVISOR) {
        group.pop();
    }
    let controllers = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    if let Some(missing) = NEEDED.iter().find(|name| !has_word(&controllers, name)) {
        return Delegation::Absent(format!("the controller {missing} is not available in {}", group.display()));
    }
    if !group.join("memory.peak").exists() {
        return absent("the kernel does not tell the peak of memory (memory.peak, Linux 5.19)");
    }
    // systemd marks what it has handed over; taking anything else would fight with it.
    if !is_marked_delegated(&group) {
        return Delegation::Absent(format!("{} is not delegated (Delegate=yes)", group.display()));
    }
    Delegation::Granted(group)
}

fn unified_mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}

fn is_marked_delegated(group: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].iter().any(|name| crate::sys::fs::attribute(group, name).is_some())
}

/// The delegated subtree.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    free: Vec<Leaf>,
    made: u64,
}

/// Takes the subtree over, as its owner or as root, for the user that the launcher will be: moves
/// what runs in it into the supervisor group and hands the controllers down to the leaves.
pub(super) fn adopt(root: &Path, owner: Option<u32>) -> Result<()> {
    let supervisor = root.join(SUPERVISOR);
    if !supervisor.is_dir() {
        fs::create_dir(&supervisor).call("mkdir")?;
        // Everything that was started in the group: no process may stay where controllers are handed on.
        let there = fs::read_to_string(root.join("cgroup.procs")).call("read")?;
        for pid in there.lines() {
            fs::write(supervisor.join("cgroup.procs"), pid).call("write")?;
        }
    }
    let there = fs::read_to_string(root.join("cgroup.controllers")).call("read")?;
    for controller in USEFUL.iter().filter(|name| has_word(&there, name)) {
        fs::write(root.join("cgroup.subtree_control"), format!("+{controller}")).call("write")?;
    }
    // Else launcher and inits together would get as little as one program of many that never rest, and
    // too little to end them in time. What they use is bounded by what they are asked for. Where the file
    // is not ours to write, it is as it was.
    drop(fs::write(supervisor.join("cpu.weight"), SUPERVISOR_WEIGHT));
    if let Some(owner) = owner {
        for name in
            ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "supervisor", "supervisor/cgroup.procs"]
        {
            std::os::unix::fs::chown(root.join(name), Some(owner), Some(owner)).call("chown")?;
        }
    }
    Ok(())
}

impl Tree {
    /// The tree below a group that was adopted; removes leaves that a launcher before left.
    pub(super) fn new(root: PathBuf) -> Self {
        for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with("leaf-") || name.to_string_lossy().starts_with("session-") {
                // One that still holds something is not ours to remove; a new name is used anyway.
                remove_group(&entry.path());
            }
        }
        Self { root, free: Vec::new(), made: 0 }
    }

    /// A leaf with nothing in it.
    pub(super) fn take(&mut self) -> Result<Leaf> {
        if let Some(leaf) = self.free.pop() {
            return Ok(leaf);
        }
        self.made += 1;
        let path = self.root.join(format!("leaf-{}-{}", std::process::id(), self.made));
        fs::create_dir(&path).call("mkdir")?;
        Leaf::new(path, None)
    }

    /// Takes a leaf back whose processes are dead; it is used again where its peaks can be told
    /// apart from those of the next program, and removed where not.
    pub(super) fn give_back(&mut self, mut leaf: Leaf) {
        if leaf.can_be_used_again() {
            self.free.push(leaf);
        } else {
            leaf.remove();
        }
    }

    /// A group for a session, with the limits of all its programs together.
    pub(super) fn group(&mut self, limits: &Limits) -> Result<Group> {
        self.made += 1;
        let path = self.root.join(format!("session-{}-{}", std::process::id(), self.made));
        fs::create_dir(&path).call("mkdir")?;
        let group = Group { leaf: Leaf::new(path, None)?, made: 0 };
        group.set_up(limits)
    }

    /// The group of uplinks, for CLONE_INTO_CGROUP; one that a launcher before left is as good.
    pub(super) fn uplinks(&self) -> Result<OwnedFd> {
        let path = self.root.join(UPLINKS);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error).call("mkdir"),
            _ => {}
        }
        let limits = [("memory.max", UPLINKS_BYTES.to_string()), ("cpu.weight", UPLINKS_WEIGHT.to_owned())];
        for (file, value) in limits {
            fs::write(path.join(file), value).call("write")?;
        }
        fs::File::open(&path).map(OwnedFd::from).call("open")
    }

    /// Removes every leaf that waits, and what nothing lives in any more.
    pub(super) fn clear(&mut self) {
        for leaf in self.free.drain(..) {
            leaf.remove();
        }
        // Where an uplink is about to end, the next launcher uses it again.
        drop(fs::remove_dir(self.root.join(UPLINKS)));
    }
}

/// The group of a session: one leaf below it for each program.
#[derive(Debug)]
pub(super) struct Group {
    /// What a leaf and a group have in common: limits and counters.
    leaf: Leaf,
    made: u64,
}

impl Group {
    fn set_up(mut self, limits: &Limits) -> Result<Self> {
        let prepared = self.leaf.prepare(limits).and_then(|()| {
            // Each program with its own limit is killed alone.
            fs::write(self.leaf.path.join("memory.oom.group"), "0").call("write")?;
            let there = fs::read_to_string(self.leaf.path.join("cgroup.controllers")).call("read")?;
            for controller in NEEDED.iter().chain(&["io"]).filter(|name| has_word(&there, name)) {
                fs::write(self.leaf.path.join("cgroup.subtree_control"), format!("+{controller}")).call("write")?;
            }
            Ok(())
        });
        match prepared {
            Ok(()) => Ok(self),
            Err(error) => {
                self.remove();
                Err(error)
            }
        }
    }

    /// A new leaf for one program.
    pub(super) fn leaf(&mut self) -> Result<Leaf> {
        self.made += 1;
        let path = self.leaf.path.join(format!("exec-{}", self.made));
        fs::create_dir(&path).call("mkdir")?;
        Leaf::new(path, Some(&self.leaf.path))
    }

    /// Stops all processes, or lets them go on. They have stopped when [`Group::is_frozen`] says so.
    pub(super) fn freeze(&self, on: bool) -> Result<()> {
        fs::write(self.leaf.path.join("cgroup.freeze"), if on { "1" } else { "0" }).call("write")
    }

    /// Whether everything in it has stopped.
    pub(super) fn is_frozen(&self) -> bool {
        self.leaf.flat("cgroup.events", "frozen") == 1
    }

    /// Processor time of all that ever ran in it, in microseconds.
    pub(super) fn cpu_us(&self) -> u64 {
        self.leaf.cpu_us()
    }

    /// Has the kernel take back so much of its memory as it can do without; what is nowhere but in
    /// memory stays, for there is no swap.
    pub(super) fn reclaim(&self) {
        // It tells EAGAIN where it could take back less, which is as good.
        drop(fs::write(self.leaf.path.join("memory.reclaim"), self.leaf.number("memory.current").to_string()));
    }

    /// Holds it to these processors, or to none in particular. The kernel would take the number of one that
    /// is not there, and then let the group have all.
    pub(super) fn pin(&self, processors: &[u32]) -> std::result::Result<(), String> {
        let above = self.leaf.path.parent().unwrap_or(&self.leaf.path);
        let Ok(there) = fs::read_to_string(above.join("cpuset.cpus.effective")) else {
            return Err("the controller cpuset is not handed to the launcher".to_owned());
        };
        if let Some(missing) = processors.iter().find(|number| !is_listed(there.trim(), **number)) {
            return Err(format!("processor {missing} is none of those that sessions may have: {}", there.trim()));
        }
        // A group in which something lives can't give its list up again (ENOSPC), but it can name all.
        let list = match processors {
            [] => there.trim().to_owned(),
            some => some.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
        };
        let written = fs::write(self.leaf.path.join("cpuset.cpus"), list).call("write");
        written.map_err(|errno| errno.to_string())
    }

    /// Removes it and its leaves; every process in it is dead.
    pub(super) fn remove(self) {
        remove_group(&self.leaf.path);
    }
}

/// Removes a group and those below it. Where something is left in one, the next launcher removes it.
fn remove_group(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            drop(fs::remove_dir(entry.path()));
        }
    }
    drop(fs::remove_dir(path));
}

/// Whether a number is in a list as the kernel writes it: `0-3,8`.
fn is_listed(list: &str, number: u32) -> bool {
    let number_of = |text: &str| text.parse::<u32>().ok();
    list.split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        number_of(first).zip(number_of(last)).is_some_and(|(first, last)| (first..=last).contains(&number))
    })
}

fn has_word(text: &str, word: &str) -> bool {
    text.split_ascii_whitespace().any(|there| there == word)
}

/// One leaf group.
#[derive(Debug)]
pub(super) struct Leaf {
    path: PathBuf,
    /// Where forks are counted that were refused by the limit of all programs of a session together.
    refused_above: Option<PathBuf>,
    directory: OwnedFd,
    /// The reset of `memory.peak` holds for the descriptor that wrote it.
    peak: File,
    before: Counters,
    killed: bool,
    /// Limits that are in force, so that only those are written which change.
    memory_bytes: Option<u64>,
    processes: Option<u64>,
    quota_us: Option<u64>,
}

/// Counters that only grow.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    cpu_us: u64,
    oom_kills: u64,
    pids_refused: u64,
    read_bytes: u64,
    written_bytes: u64,
}

/// What the processes of a leaf have used since it was prepared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LeafUsage {
    pub(super) cpu_us: u64,
    pub(super) memory_peak_bytes: u64,
    pub(super) processes_peak: u64,
    pub(super) out_of_memory: bool,
    pub(super) processes_refused: bool,
    pub(super) read_bytes: u64,
    pub(super) written_bytes: u64,
}

impl Leaf {
    fn new(path: PathBuf, above: Option<&Path>) -> Result<Self> {
        let directory = File::open(&path).call("open")?.into();
        let peak = File::options().read(true).write(true).open(path.join("memory.peak"));
        // Read-only before Linux 6.12, which has no reset.
        let peak = peak.or_else(|_| File::open(path.join("memory.peak"))).call("open")?;
        Ok(Self {
            path,
            refused_above: above.map(|above| above.join("pids.events.local")),
            directory,
            peak,
            before: Counters::default(),
            killed: false,
            memory_bytes: None,
            processes: None,
            quota_us: None,
        })
    }

    /// For CLONE_INTO_CGROUP.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Sets the limits and notes where the counters stand.
    pub(super) fn prepare(&mut self, limits: &Limits) -> Result<()> {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        // Before the limits: one that is below what is in use already has its effect at once.
        self.before = self.counters();
        // What an interpreter took to start is not its program's. Where there is no reset, it is counted.
        self.peak.write_all(b"reset").ok();
        if self.memory_bytes.is_none() {
            // No swap, and one process that is out of memory takes all along; cgroups-rs has no name
            // for the second file.
            if self.path.join("memory.swap.max").exists() {
                MemController::new(self.path.clone(), true).set_memswap_limit(0).map_err(|_| last_error())?;
            }
            fs::write(self.path.join("memory.oom.group"), "1").call("write")?;
        }
        if self.memory_bytes != Some(limits.memory_bytes) {
            let memory = MemController::new(self.path.clone(), true);
            memory.set_limit(signed(limits.memory_bytes)).map_err(|_| last_error())?;
            self.memory_bytes = Some(limits.memory_bytes);
        }
        if self.processes != Some(limits.processes) {
            let pids = PidController::new(self.path.clone(), true);
            pids.set_pid_max(MaxValue::Value(signed(limits.processes))).map_err(|_| last_error())?;
            self.processes = Some(limits.processes);
        }
        // cpu.max: so many microseconds in each period of a tenth of a second.
        const PERIOD_US: u64 = 100_000;
        let quota = limits.cpu_millis.saturating_mul(PERIOD_US / 1000).max(1000);
        if self.quota_us != Some(quota) {
            CpuController::new(self.path.clone(), true)
                .set_cfs_quota_and_period(Some(signed(quota)), Some(PERIOD_US))
                .map_err(|_| last_error())?;
            self.quota_us = Some(quota);
        }
        Ok(())
    }

    /// Kills every process of the leaf at one moment. A process that is cloned into a leaf that was
    /// killed once may be killed at birth (seen on Linux 6.12), so it is not used again.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.killed = true;
        fs::write(self.path.join("cgroup.kill"), "1").call("write")
    }

    /// Processor time since it was prepared, in microseconds.
    pub(super) fn cpu_us(&self) -> u64 {
        self.flat("cpu.stat", "usage_usec").saturating_sub(self.before.cpu_us)
    }

    pub(super) fn usage(&mut self) -> LeafUsage {
        let (now, before) = (self.counters(), self.before);
        LeafUsage {
            cpu_us: now.cpu_us.saturating_sub(before.cpu_us),
            memory_peak_bytes: self.memory_peak(),
            processes_peak: self.number("pids.peak").max(1),
            out_of_memory: now.oom_kills > before.oom_kills,
            processes_refused: now.pids_refused > before.pids_refused,
            read_bytes: now.read_bytes.saturating_sub(before.read_bytes),
            written_bytes: now.written_bytes.saturating_sub(before.written_bytes),
        }
    }

    /// Whether anything lives in it.
    pub(super) fn is_populated(&self) -> bool {
        self.flat("cgroup.events", "populated") == 1
    }

    /// `pids.peak` can't be reset, but one that never rose above 1 tells the next program's as well. Shared memory
    /// outlives processes: the kernel frees segments of System V some time after their ipc namespace, and memory files
    /// that were sent and never received when it finds out (unix(7)). Until then the next program would pay for them.
    pub(super) fn can_be_used_again(&mut self) -> bool {
        !self.killed
            && self.number("pids.peak") <= 1
            && self.number("pids.current") == 0
            && self.flat("memory.stat", "shmem") == 0
            && self.peak.write_all(b"reset").is_ok()
    }

    /// Removes it; every process in it is dead. Memory that is still charged to it is no hindrance: that goes to the
    /// group above as long as it lasts.
    pub(super) fn remove(self) {
        // Where something is left in it, the next launcher removes it; it limits nobody else.
        drop(fs::remove_dir(&self.path));
    }

    fn counters(&self) -> Counters {
        let (read_bytes, written_bytes) = self.io();
        Counters {
            cpu_us: self.flat("cpu.stat", "usage_usec"),
            oom_kills: self.flat("memory.events", "oom_kill"),
            pids_refused: self.flat("pids.events", "max") + self.refused_above(),
            read_bytes,
            written_bytes,
        }
    }

    /// Since Linux 6.11 a refusal is counted where the limit is, and before, where the program is.
    fn refused_above(&self) -> u64 {
        self.refused_above.as_ref().map_or(0, |path| value_of(path, "max"))
    }

    fn memory_peak(&mut self) -> u64 {
        let mut text = String::new();
        let read = self.peak.seek(SeekFrom::Start(0)).and_then(|_| self.peak.read_to_string(&mut text));
        read.ok().and_then(|_| text.trim().parse().ok()).unwrap_or(0)
    }

    fn number(&self, file: &str) -> u64 {
        fs::read_to_string(self.path.join(file)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// A value of a file of `key value` lines.
    fn flat(&self, file: &str, key: &str) -> u64 {
        value_of(&self.path.join(file), key)
    }

    fn io(&self) -> (u64, u64) {
        let text = fs::read_to_string(self.path.join("io.stat")).unwrap_or_default();
        let sum = |key: &str| {
            text.split_ascii_whitespace().filter_map(|field| field.strip_prefix(key)?.parse::<u64>().ok()).sum()
        };
        (sum("rbytes="), sum("wbytes="))
    }
}

/// A value of a file of `key value` lines; 0 where there is none.
fn value_of(path: &Path, key: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// Errors of `cgroups-rs` keep no errno of their own; the failed write was the last call.
fn last_error() -> Errno {
    Errno { call: "write", errno: Number::last() }
}

#[cfg(test)]
mod tests {
    use super::{Leaf, fs, is_listed};

    #[test]
    fn a_leaf_is_used_again_where_nothing_of_the_program_before_can_be_told() {
        let group = tempfile::tempdir().unwrap();
        let usual = [
            ("memory.peak", "4096\n"),
            ("pids.peak", "1\n"),
            ("pids.current", "0\n"),
            ("memory.stat", "anon 0\nfile 8192\nshmem 0\nshmem_thp 0\n"),
        ];
        for (changed, good) in [
            (("memory.peak", "0\n"), true),
            (("pids.peak", "2\n"), false),
            (("pids.current", "1\n"), false),
            (("memory.stat", "anon 0\nfile 8192\nshmem 4096\nshmem_thp 0\n"), false),
        ] {
            for (name, content) in usual.iter().chain([&changed]) {
                fs::write(group.path().join(name), content).unwrap();
            }
            let mut leaf = Leaf::new(group.path().to_owned(), None).unwrap();
            assert_eq!(leaf.can_be_used_again(), good, "{changed:?}");
            leaf.killed = true;
            assert!(!leaf.can_be_used_again());
        }
    }

    #[test]
    fn lists_of_processors_are_read_as_the_kernel_writes_them() {
        let listed: Vec<u32> = (0..12).filter(|number| is_listed("0-2,5,9-10", *number)).collect();
        assert_eq!(listed, [0, 1, 2, 5, 9, 10]);
        assert!(!is_listed("", 0));
    }
}
