//! The system call filter: from data in `profiles/seccomp/` to a BPF program; seccomp(2).
//!
//! A call is let through, quietly refused with an errno, or *held*: the kernel stops it and asks
//! init, which refuses it with EPERM and takes its name down. The program is a binary search over
//! call numbers; a linear list, as common filter libraries make it, costs the kernel several
//! hundred thousand steps when it precomputes its cache of allowed calls at installation.

use std::collections::BTreeMap;

use serde::Deserialize;
use syscalls::Sysno;

use crate::sys::seccomp::Instruction;

/// A filter as written in its file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    allow: Vec<Group>,
    quiet: Vec<QuietGroup>,
    argument: Vec<Argument>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(rename = "why")]
    _why: String,
    calls: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct QuietGroup {
    #[serde(rename = "why")]
    _why: String,
    errno: String,
    calls: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Argument {
    #[serde(rename = "why")]
    _why: String,
    call: String,
    index: u8,
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    allow_with_loopback: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
    #[serde(default)]
    deny_bits: Vec<String>,
    #[serde(default)]
    quiet: Vec<String>,
    errno: Option<String>,
}

/// A filter that can't be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The file does not have the right form.
    #[error("the filter's file: {0}")]
    Syntax(String),
    /// A constant has no known value.
    #[error("the filter's file names {0:?}, whose value is not known")]
    UnknownName(String),
    /// A call stands in two places.
    #[error("the filter's file names the call {0} twice")]
    Twice(String),
    /// An entry with an argument lacks or doubles its lists.
    #[error("the entry of {0} must have one of allow, deny and deny_bits, and an errno where it has quiet")]
    BadArgument(String),
}

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Allow,
    Errno(u32),
    Hold,
    /// Depends on the low 32 bits of an argument, which is all that the kernel looks at in the
    /// calls that are filtered so: the entries in order, then the rest.
    Argument {
        index: u8,
        tests: Vec<(Test, Action)>,
        otherwise: Box<Action>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Equals(u32),
    AnyBit(u32),
}

/// A filter, ready to be installed.
#[derive(Debug, Clone)]
pub struct Filter {
    program: Vec<Instruction>,
}

impl Filter {
    /// Builds the filter of a file of `profiles/seccomp/`; `loopback` lets internet sockets through.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn build(text: &str, loopback: bool) -> Result<Self, FilterError> {
        let source: Source = toml::from_str(text).map_err(|error| FilterError::Syntax(error.to_string()))?;
        Ok(Self { program: compile(&actions(&source, loopback)?) })
    }

    /// The BPF program.
    #[must_use]
    pub fn program(&self) -> &[Instruction] {
        &self.program
    }
}

/// What happens to each call that the file names and this architecture has.
fn actions(source: &Source, loopback: bool) -> Result<BTreeMap<u32, Action>, FilterError> {
    let mut actions = BTreeMap::new();
    let mut put = |name: &str, action: Action| match name.parse::<Sysno>() {
        Ok(call) => match actions.insert(number_of(call), action) {
            None => Ok(()),
            Some(_) => Err(FilterError::Twice(name.to_owned())),
        },
        Err(()) => Ok(()),
    };
    for group in &source.allow {
        for call in &group.calls {
            put(call, Action::Allow)?;
        }
    }
    for group in &source.quiet {
        let errno = value_of(&group.errno)?;
        for call in &group.calls {
            put(call, Action::Errno(errno))?;
        }
    }
    for entry in &source.argument {
        put(&entry.call, argument_action(entry, loopback)?)?;
    }
    Ok(actions)
}

fn argument_action(entry: &Argument, loopback: bool) -> Result<Action, FilterError> {
    let lists = [&entry.allow, &entry.deny, &entry.deny_bits].iter().filter(|list| !list.is_empty()).count();
    if lists != 1 || entry.quiet.is_empty() != entry.errno.is_none() {
        return Err(FilterError::BadArgument(entry.call.clone()));
    }
    let mut tests = Vec::new();
    let mut add = |names: &[String], action: &Action| {
        for name in names {
            tests.push((Test::Equals(value_of(name)?), action.clone()));
        }
        Ok::<(), FilterError>(())
    };
    add(&entry.allow, &Action::Allow)?;
    if loopback {
        add(&entry.allow_with_loopback, &Action::Allow)?;
    }
    add(&entry.deny, &Action::Hold)?;
    if let Some(errno) = &entry.errno {
        add(&entry.quiet, &Action::Errno(value_of(errno)?))?;
    }
    let mut bits = 0;
    for name in &entry.deny_bits {
        bits |= value_of(name)?;
    }
    if bits != 0 {
        tests.push((Test::AnyBit(bits), Action::Hold));
    }
    let otherwise = if entry.allow.is_empty() { Action::Allow } else { Action::Hold };
    Ok(Action::Argument { index: entry.index, tests, otherwise: Box::new(otherwise) })
}

fn number_of(call: Sysno) -> u32 {
    u32::try_from(call.id()).expect("numbers of system calls are small and positive")
}

/// The name of a held call, and of what in its argument was refused.
#[must_use]
pub fn describe(number: i32, arguments: [u64; 2]) -> (String, Option<String>) {
    let name = usize::try_from(number)
        .ok()
        .and_then(Sysno::new)
        .map_or_else(|| format!("syscall_{number}"), |call| call.name().to_owned());
    let [first, second] = arguments.map(low_bits);
    let argument = match name.as_str() {
        "socket" | "socketpair" => Some(name_of("AF_", first)),
        "fcntl" => Some(name_of("F_", second)),
        "ioctl" => Some(name_of("TIOC", second)),
        "prctl" => Some(name_of("PR_", first)),
        "clone" => {
            let flags: Vec<&str> = CONSTANTS
                .iter()
                .filter(|(name, bit)| name.starts_with("CLONE_") && first & bit != 0)
                .map(|(name, _)| *name)
                .collect();
            Some(flags.join("|"))
        }
        "personality" => Some(format!("{first:#x}")),
        _ => None,
    };
    (name, argument)
}

/// Which arguments of a call tell one refusal from another; the rest are counted together.
#[must_use]
pub fn relevant_arguments(number: i32, arguments: [u64; 2]) -> [u64; 2] {
    match describe(number, arguments).1 {
        Some(_) => arguments.map(|value| u64::from(low_bits(value))),
        None => [0, 0],
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the kernel looks at the low half only, and so do we")]
fn low_bits(value: u64) -> u32 {
    value as u32
}

fn name_of(prefix: &str, value: u32) -> String {
    CONSTANTS
        .iter()
        .find(|(name, known)| name.starts_with(prefix) && *known == value)
        .map_or_else(|| format!("{value:#x}"), |(name, _)| (*name).to_owned())
}

fn value_of(name: &str) -> Result<u32, FilterError> {
    CONSTANTS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
        .ok_or_else(|| FilterError::UnknownName(name.to_owned()))
}

macro_rules! constants {
    ($($name:ident)+) => { &[$((stringify!($name), libc::$name.cast_unsigned()),)+] };
}

/// Values of the names that filters use: `(name, value)`.
static CONSTANTS: std::sync::LazyLock<Vec<(&'static str, u32)>> = std::sync::LazyLock::new(|| {
    let named: &[(&str, u32)] = constants! {
        ENOSYS EPERM EINVAL EAFNOSUPPORT EACCES
        CLONE_NEWNS CLONE_NEWCGROUP CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNET
        AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_ALG AF_VSOCK AF_BLUETOOTH AF_KEY AF_XDP AF_CAN AF_TIPC
        PR_SET_PDEATHSIG PR_GET_PDEATHSIG PR_GET_DUMPABLE PR_SET_DUMPABLE PR_SET_NAME PR_GET_NAME PR_GET_SECCOMP
        PR_SET_SECCOMP PR_CAPBSET_READ PR_CAPBSET_DROP PR_GET_TIMERSLACK PR_SET_TIMERSLACK PR_SET_CHILD_SUBREAPER
        PR_GET_CHILD_SUBREAPER PR_GET_NO_NEW_PRIVS PR_SET_NO_NEW_PRIVS PR_GET_TID_ADDRESS PR_SET_THP_DISABLE
        PR_GET_THP_DISABLE PR_GET_SPECULATION_CTRL PR_SET_SPECULATION_CTRL PR_SET_VMA PR_GET_KEEPCAPS
        PR_SET_KEEPCAPS PR_GET_SECUREBITS PR_SET_SECUREBITS PR_SET_MM PR_SET_PTRACER PR_MCE_KILL PR_CAP_AMBIENT
        PR_SET_FP_MODE F_NOTIFY
    };
    let mut all = named.to_vec();
    all.extend([
        ("PR_GET_AUXV", 0x4155_5856), // linux/prctl.h; libc has no name for it
        ("PR_SVE_SET_VL", 50),
        ("PR_SVE_GET_VL", 51),
        ("PER_LINUX", 0),
        ("PER_LINUX_QUERY", 0xffff_ffff), // personality(2): asks and changes nothing
    ]);
    for (name, value) in [
        ("TIOCSTI", libc::TIOCSTI),
        ("TIOCLINUX", libc::TIOCLINUX),
        ("TIOCSETD", 0x5423), // asm-generic/ioctls.h; libc has no name for it
        ("TIOCCONS", libc::TIOCCONS),
    ] {
        all.push((name, u32::try_from(value).expect("requests fit 32 bits")));
    }
    all
});

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCHITECTURE: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64, linux/audit.h
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCHITECTURE: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64, linux/audit.h

/// Numbers from here on are the x32 ABI's on x86_64; syscall(2).
const X32_BIT: u32 = 0x4000_0000;

const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

/// The whole program: check the architecture, then search for the number.
fn compile(actions: &BTreeMap<u32, Action>) -> Vec<Instruction> {
    let mut ranges: Vec<(u32, Action)> = vec![(0, Action::Hold)];
    let mut next = 0;
    let mut put = |start: u32, action: &Action| {
        if ranges.last().is_some_and(|(_, last)| last != action) {
            if ranges.last().is_some_and(|(last, _)| *last == start) {
                ranges.pop();
            }
            ranges.push((start, action.clone()));
        }
    };
    for (number, action) in actions {
        if *number > next {
            put(next, &Action::Hold);
        }
        put(*number, action);
        next = number + 1;
    }
    put(next, &Action::Hold);
    put(X32_BIT, &Action::Errno(libc::ENOSYS.cast_unsigned()));
    let mut program = vec![
        load(OFFSET_ARCHITECTURE),
        jump(libc::BPF_JEQ, AUDIT_ARCHITECTURE, 1, 0),
        finish(libc::SECCOMP_RET_KILL_PROCESS),
        load(OFFSET_NUMBER),
    ];
    program.extend(search(&ranges));
    program
}

/// Code that finds the range of the number in the accumulator and does what it says.
fn search(ranges: &[(u32, Action)]) -> Vec<Instruction> {
    if let [(_, action)] = ranges {
        return act(action);
    }
    let (below, above) = ranges.split_at(ranges.len() / 2);
    let (pivot, _) = above.first().expect("half of two or more ranges");
    let below = search(below);
    let mut code = match u8::try_from(below.len()) {
        Ok(distance) => vec![jump(libc::BPF_JGE, *pivot, distance, 0)],
        // Conditional jumps reach 255 instructions; an unconditional one reaches any.
        Err(_) => vec![jump(libc::BPF_JGE, *pivot, 0, 1), jump_always(below.len())],
    };
    code.extend(below);
    code.extend(search(above));
    code
}

fn act(action: &Action) -> Vec<Instruction> {
    match action {
        Action::Allow => vec![finish(libc::SECCOMP_RET_ALLOW)],
        Action::Errno(errno) => vec![finish(libc::SECCOMP_RET_ERRNO | errno)],
        Action::Hold => vec![finish(libc::SECCOMP_RET_USER_NOTIF)],
        Action::Argument { index, tests, otherwise } => {
            let mut code = vec![load(OFFSET_ARGUMENTS + 8 * u32::from(*index))];
            for (test, action) in tests {
                let (kind, value) = match test {
                    Test::Equals(value) => (libc::BPF_JEQ, value),
                    Test::AnyBit(bits) => (libc::BPF_JSET, bits),
                };
                code.push(jump(kind, *value, 0, 1));
                code.extend(act(action));
            }
            code.extend(act(otherwise));
            code
        }
    }
}

fn load(offset: u32) -> Instruction {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

fn finish(value: u32) -> Instruction {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, value)
}

fn jump(kind: u32, value: u32, if_true: u8, if_false: u8) -> Instruction {
    instruction(libc::BPF_JMP | kind | libc::BPF_K, if_true, if_false, value)
}

fn jump_always(distance: usize) -> Instruction {
    instruction(libc::BPF_JMP | libc::BPF_JA, 0, 0, u32::try_from(distance).expect("programs are short"))
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code: u16::try_from(code).expect("opcodes fit 16 bits"), jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../../profiles/seccomp/default.toml");

    /// Runs a filter as the kernel would.
    fn decide(filter: &Filter, architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_le_bytes());
        data.extend(architecture.to_le_bytes());
        data.extend(0u64.to_le_bytes());
        for argument in arguments {
            data.extend(argument.to_le_bytes());
        }
        let (mut at, mut accumulator) = (0usize, 0u32);
        loop {
            let Instruction { code, jt, jf, k } = filter.program[at];
            at += 1;
            let code = u32::from(code);
            let taken = |yes: bool| usize::from(if yes { jt } else { jf });
            if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS {
                accumulator = u32::from_le_bytes(data[k as usize..k as usize + 4].try_into().unwrap());
            } else if code == libc::BPF_RET | libc::BPF_K {
                return k;
            } else if code == libc::BPF_JMP | libc::BPF_JA {
                at += k as usize;
            } else if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K {
                at += taken(accumulator == k);
            } else if code == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K {
                at += taken(accumulator >= k);
            } else if code == libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K {
                at += taken(accumulator & k != 0);
            } else {
                panic!("unexpected opcode {code:#x}");
            }
        }
    }

    fn on(filter: &Filter, call: Sysno, first: u64, second: u64) -> u32 {
        decide(filter, AUDIT_ARCHITECTURE, number_of(call), [first, second, 0, 0, 0, 0])
    }

    fn filter(loopback: bool) -> Filter {
        Filter::build(TEXT, loopback).unwrap()
    }

    const HELD: u32 = libc::SECCOMP_RET_USER_NOTIF;
    const ALLOWED: u32 = libc::SECCOMP_RET_ALLOW;

    #[test]
    fn every_number_is_decided_as_the_file_says() {
        let source: Source = toml::from_str(TEXT).unwrap();
        let filter = filter(false);
        let actions = actions(&source, false).unwrap();
        for number in 0..2000 {
            let expected = match actions.get(&number) {
                Some(Action::Allow) => ALLOWED,
                Some(Action::Errno(errno)) => libc::SECCOMP_RET_ERRNO | errno,
                Some(Action::Hold) | None => HELD,
                Some(Action::Argument { .. }) => continue,
            };
            assert_eq!(decide(&filter, AUDIT_ARCHITECTURE, number, [0; 6]), expected, "{number}");
        }
    }

    #[test]
    fn dangerous_calls_are_held() {
        let filter = filter(true);
        for call in [
            Sysno::mount,
            Sysno::umount2,
            Sysno::pivot_root,
            Sysno::unshare,
            Sysno::setns,
            Sysno::ptrace,
            Sysno::bpf,
            Sysno::keyctl,
            Sysno::add_key,
            Sysno::request_key,
            Sysno::reboot,
            Sysno::kexec_load,
            Sysno::init_module,
            Sysno::finit_module,
            Sysno::swapon,
            Sysno::open_by_handle_at,
            Sysno::process_vm_readv,
            Sysno::chroot,
            Sysno::process_vm_writev,
            Sysno::open_tree,
            Sysno::move_mount,
            Sysno::fsopen,
            Sysno::fanotify_init,
            Sysno::kcmp,
            Sysno::pidfd_getfd,
            Sysno::syslog,
            Sysno::acct,
            Sysno::quotactl,
            Sysno::settimeofday,
        ] {
            assert_eq!(on(&filter, call, 0, 0), HELD, "{call}");
        }
    }

    #[test]
    fn another_architecture_is_killed() {
        for architecture in [0, 0x4000_0003, 0x4000_003e] {
            assert_eq!(decide(&filter(false), architecture, 0, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
        }
    }

    #[test]
    fn calls_of_the_x32_abi_do_not_exist() {
        let number = X32_BIT | number_of(Sysno::mount);
        assert_eq!(
            decide(&filter(false), AUDIT_ARCHITECTURE, number, [0; 6]),
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned()
        );
    }

    #[test]
    fn high_halves_of_arguments_change_nothing() {
        let high = 0xdead_beef_0000_0000;
        assert_eq!(on(&filter(false), Sysno::ioctl, 0, libc::TIOCSTI | high), HELD);
        assert_eq!(on(&filter(false), Sysno::socket, libc::AF_INET.unsigned_abs().into(), 0), HELD);
        assert_eq!(on(&filter(false), Sysno::socket, u64::from(libc::AF_INET.unsigned_abs()) | high, 0), HELD);
        assert_eq!(on(&filter(false), Sysno::clone, libc::CLONE_NEWUSER.unsigned_abs().into(), 0), HELD);
    }

    #[test]
    fn internet_sockets_need_loopback() {
        let family = u64::from(libc::AF_INET6.unsigned_abs());
        assert_eq!(on(&filter(false), Sysno::socket, family, 0), HELD);
        assert_eq!(on(&filter(true), Sysno::socket, family, 0), ALLOWED);
        assert_eq!(on(&filter(true), Sysno::socket, libc::AF_PACKET.unsigned_abs().into(), 0), HELD);
    }

    #[test]
    fn threads_are_allowed_and_namespaces_are_not() {
        let thread = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND;
        assert_eq!(on(&filter(false), Sysno::clone, thread.unsigned_abs().into(), 0), ALLOWED);
        assert_eq!(on(&filter(false), Sysno::clone, (thread | libc::CLONE_NEWNET).unsigned_abs().into(), 0), HELD);
    }

    #[test]
    fn a_held_call_is_named_with_what_was_refused() {
        let number = |call: Sysno| i32::try_from(number_of(call)).unwrap();
        let family = u64::from(libc::AF_INET.unsigned_abs());
        assert_eq!(describe(number(Sysno::socket), [family, 1]), ("socket".into(), Some("AF_INET".into())));
        assert_eq!(describe(number(Sysno::mount), [1, 2]), ("mount".into(), None));
        assert_eq!(describe(-1, [0, 0]).0, "syscall_-1");
        assert_eq!(
            describe(number(Sysno::clone), [libc::CLONE_NEWNET.unsigned_abs().into(), 0]).1.unwrap(),
            "CLONE_NEWNET"
        );
    }

    #[test]
    fn every_name_in_the_file_is_a_call_somewhere() {
        // Calls that one architecture lacks are passed over there; a misspelling would be, everywhere.
        let source: Source = toml::from_str(TEXT).unwrap();
        let newer = ["futex_waitv", "rseq_slice_yield", "uprobe"];
        let names = source.allow.iter().flat_map(|group| &group.calls);
        let names = names.chain(source.quiet.iter().flat_map(|group| &group.calls));
        for name in names {
            let known = name.parse::<Sysno>().is_ok() || newer.contains(&name.as_str());
            assert!(known || cfg!(not(target_arch = "x86_64")), "{name}");
        }
    }
}
