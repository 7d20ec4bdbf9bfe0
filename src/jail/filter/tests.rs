//! Filters, decided as the kernel would.

use super::*;
use crate::sys::seccomp::SECCOMP_IOCTL_NOTIF_SEND;

const TEXT: &str = include_str!("../../../profiles/seccomp/default.toml");

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
    let filter = Filter::of_init().unwrap();
    let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    for call in [Sysno::clone, Sysno::clone3, Sysno::execve, Sysno::socket, Sysno::mount, Sysno::ptrace, Sysno::setns] {
        assert_eq!(on(&filter, call, 0, 0), refused, "{call}");
    }
    assert_eq!(on(&filter, Sysno::ioctl, 0, libc::TIOCSTI), refused);
    assert_eq!(on(&filter, Sysno::ioctl, 0, SECCOMP_IOCTL_NOTIF_SEND), ALLOWED);
    assert_eq!(on(&filter, Sysno::kill, 0, 0), ALLOWED);
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
