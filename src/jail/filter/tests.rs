//! Filters, decided as the kernel would.

use super::*;
use crate::sys::seccomp::SECCOMP_IOCTL_NOTIF_SEND;

const TEXT: &str = include_str!("../../../profiles/seccomp/default.toml");
const TEXT_OF_INIT: &str = include_str!("../../../profiles/seccomp/init.toml");
const TEXT_OF_WORKER: &str = include_str!("../../../profiles/seccomp/worker.toml");

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
fn init_can_make_no_process_and_no_socket() {
    for renewable in [false, true] {
        let filter = Filter::of_init(renewable).unwrap();
        for call in [Sysno::clone, Sysno::clone3, Sysno::execve, Sysno::socket, Sysno::ptrace, Sysno::setns] {
            assert_eq!(on(&filter, call, 0, 0), REFUSED, "{call}");
        }
        assert_eq!(on(&filter, Sysno::ioctl, 0, libc::TIOCSTI), REFUSED);
        assert_eq!(on(&filter, Sysno::ioctl, 0, SECCOMP_IOCTL_NOTIF_SEND), ALLOWED);
        assert_eq!(on(&filter, Sysno::kill, 0, 0), ALLOWED);
        // What empties a sandbox, and nothing besides.
        let expected = if renewable { ALLOWED } else { REFUSED };
        assert_eq!(on(&filter, Sysno::mount, 0, 0), expected);
        assert_eq!(on(&filter, Sysno::umount2, 0, 0), expected);
        assert_eq!(on(&filter, Sysno::unshare, u64::from(libc::CLONE_NEWIPC.cast_unsigned()), 0), expected);
        for flags in [0, libc::CLONE_NEWUSER, libc::CLONE_NEWIPC | libc::CLONE_NEWNET] {
            assert_eq!(on(&filter, Sysno::unshare, u64::from(flags.cast_unsigned()), 0), REFUSED, "{flags}");
        }
    }
}

#[test]
fn a_worker_can_make_no_process_and_reaches_the_internet_protocols_only() {
    let filter = Filter::of_worker().unwrap();
    for call in [
        Sysno::clone,
        Sysno::clone3,
        Sysno::execve,
        Sysno::execveat,
        Sysno::kill,
        Sysno::tgkill,
        Sysno::pidfd_send_signal,
        Sysno::mount,
        Sysno::ptrace,
        Sysno::setns,
        Sysno::mknodat,
        Sysno::fchownat,
        Sysno::bind,
        Sysno::listen,
        Sysno::ioctl,
        Sysno::prctl,
    ] {
        assert_eq!(on(&filter, call, 0, 0), REFUSED, "{call}");
    }
    for (family, expected) in [(libc::AF_INET, ALLOWED), (libc::AF_INET6, ALLOWED), (libc::AF_UNIX, REFUSED)] {
        assert_eq!(on(&filter, Sysno::socket, u64::from(family.unsigned_abs()), 0), expected, "{family}");
    }
    assert_eq!(on(&filter, Sysno::inotify_add_watch, 0, 0), ALLOWED);
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
    // None, and AUDIT_ARCH_I386 and AUDIT_ARCH_ARM, whose programs the kernels of x86_64 and aarch64 run too.
    for architecture in [0, 0x4000_0003, 0x4000_0028, 0x4000_003e] {
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

/// Every call that a file names.
fn names(text: &str) -> Vec<String> {
    let Source { allow, quiet, argument } = toml::from_str(text).unwrap();
    let allow = allow.into_iter().flat_map(|group| group.calls);
    let quiet = quiet.into_iter().flat_map(|group| group.calls);
    allow.chain(quiet).chain(argument.into_iter().map(|entry| entry.call)).collect()
}

/// In kernels newer than the tables of the crate.
const NEWER: [&str; 1] = ["rseq_slice_yield"];

#[test]
fn every_name_in_a_file_is_a_call_somewhere() {
    // Calls that one architecture lacks are passed over there; a misspelling would be, everywhere.
    for name in [TEXT, TEXT_OF_INIT, TEXT_OF_WORKER].into_iter().flat_map(names) {
        let known = call_named::<syscalls::x86_64::Sysno>(&name).is_some()
            || call_named::<syscalls::aarch64::Sysno>(&name).is_some();
        assert!(known || NEWER.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn what_aarch64_lacks_has_a_successor_in_the_same_file() {
    // As C libraries have it; the last ones mean something on x86_64 alone.
    let successors = [
        ("access", "faccessat"),
        ("alarm", "setitimer"),
        ("chown", "fchownat"),
        ("creat", "openat"),
        ("dup2", "dup3"),
        ("epoll_create", "epoll_create1"),
        ("epoll_wait", "epoll_pwait"),
        ("eventfd", "eventfd2"),
        ("fork", "clone"),
        ("futimesat", "utimensat"),
        ("getdents", "getdents64"),
        ("getpgrp", "getpgid"),
        ("inotify_init", "inotify_init1"),
        ("lchown", "fchownat"),
        ("link", "linkat"),
        ("lstat", "newfstatat"),
        ("mkdir", "mkdirat"),
        ("mknod", "mknodat"),
        ("open", "openat"),
        ("pause", "ppoll"),
        ("pipe", "pipe2"),
        ("poll", "ppoll"),
        ("readlink", "readlinkat"),
        ("rename", "renameat"),
        ("rmdir", "unlinkat"),
        ("select", "pselect6"),
        ("signalfd", "signalfd4"),
        ("stat", "newfstatat"),
        ("symlink", "symlinkat"),
        ("time", "clock_gettime"),
        ("unlink", "unlinkat"),
        ("utime", "utimensat"),
        ("utimes", "utimensat"),
        ("vfork", "clone"),
    ];
    let of_x86_64 = ["arch_prctl", "uprobe", "uretprobe"];
    // Init changes modes by descriptor only.
    let chmod = ("chmod", "fchmod");
    for names in [TEXT, TEXT_OF_INIT, TEXT_OF_WORKER].map(names) {
        for name in &names {
            if call_named::<syscalls::aarch64::Sysno>(name).is_some()
                || NEWER.contains(&name.as_str())
                || of_x86_64.contains(&name.as_str())
            {
                continue;
            }
            let (_, successor) =
                successors.iter().chain([&chmod]).find(|(old, _)| old == name).unwrap_or_else(|| panic!("{name}"));
            assert!(names.iter().any(|other| other == successor), "{name} without {successor}");
            assert!(call_named::<syscalls::aarch64::Sysno>(successor).is_some(), "{successor}");
        }
    }
}
