//! Why a stage is said to have ended: the one place that decides.

use super::{Denial, DeniedFlow, Ending, Exit, Status};
use crate::plan::Cause;
use crate::profile::Limits;

/// Status and reason of a stage, from what is known of its end.
///
/// What we did to the program comes before what it did to itself, and a cause that explains a bad
/// end comes before the bad end. A program that met a limit and went on to exit with 0 is `ok`.
#[must_use]
pub fn verdict(ending: &Ending, limits: &Limits) -> (Status, Option<String>) {
    let killed_for = ending.killed_for;
    if killed_for == Some(Cause::Cancelled) {
        return (Status::Cancelled, Some("cancelled by the client".to_owned()));
    }
    if ending.out_of_memory || killed_for == Some(Cause::Memory) {
        return (Status::MemoryExceeded, Some(format!("more than {} bytes of memory", limits.memory_bytes)));
    }
    if killed_for == Some(Cause::Denied) {
        return (Status::SyscallDenied, Some(denied_reason(&ending.denied)));
    }
    let ended_well = killed_for.is_none() && ending.exit == Exit::Code(0);
    if !ended_well && (ending.processes_refused || killed_for == Some(Cause::Processes)) {
        return (Status::ProcessesExceeded, Some(format!("more than {} processes and threads", limits.processes)));
    }
    match killed_for {
        Some(Cause::Output) => {
            return (Status::OutputExceeded, Some(format!("more than {} bytes of output", limits.output_bytes)));
        }
        Some(Cause::CpuTime) => return (Status::CpuTimeExceeded, Some(cpu_reason(limits))),
        Some(Cause::WallTime) => {
            return (Status::WallTimeExceeded, Some(format!("more than {} ms by the clock", limits.wall_time_ms)));
        }
        _ => {}
    }
    match ending.exit {
        Exit::Code(0) => return (Status::Ok, None),
        Exit::Signal(libc::SIGXCPU) => return (Status::CpuTimeExceeded, Some(cpu_reason(limits))),
        Exit::Signal(libc::SIGXFSZ) => {
            return (Status::FileSizeExceeded, Some(file_reason(limits)));
        }
        _ => {}
    }
    if ending.file_at_limit {
        return (Status::FileSizeExceeded, Some(file_reason(limits)));
    }
    if ending.disk_full {
        return (
            Status::DiskExceeded,
            Some(format!("more than {} bytes or {} files on disk", limits.disk_bytes, limits.disk_files)),
        );
    }
    if !ending.denied.is_empty() {
        return (Status::SyscallDenied, Some(denied_reason(&ending.denied)));
    }
    match ending.exit {
        Exit::Code(code) => (Status::NonzeroExit, Some(format!("exit status {code}{}", network_reason(ending)))),
        Exit::Signal(signal) => (Status::Signalled, Some(signal_name(signal))),
        Exit::NotStarted(_, errno) => {
            let why = nix::errno::Errno::from_raw(errno).desc();
            (Status::NonzeroExit, Some(format!("the program could not be started: {why}")))
        }
    }
}

fn cpu_reason(limits: &Limits) -> String {
    format!("more than {} ms of processor time", limits.cpu_time_ms)
}

fn file_reason(limits: &Limits) -> String {
    format!("a file of more than {} bytes", limits.file_size_bytes)
}

fn denied_reason(denied: &[Denial]) -> String {
    let names: Vec<String> = denied.iter().map(ToString::to_string).collect();
    format!("refused: {}", names.join(", "))
}

/// What was amiss with the network of a program that failed, which may be why.
fn network_reason(ending: &Ending) -> String {
    /// Most flows that a reason names.
    const NAMED: usize = 3;
    if let Some(error) = &ending.network_error {
        return format!("; no network: {error}");
    }
    let named: Vec<String> = ending.flows.iter().take(NAMED).map(DeniedFlow::to_string).collect();
    match (named.is_empty(), ending.flows.len().saturating_sub(NAMED)) {
        (true, _) => String::new(),
        (false, 0) => format!("; refused: {}", named.join(", ")),
        (false, more) => format!("; refused: {}, and {more} more", named.join(", ")),
    }
}

/// Name of a signal, such as `SIGSEGV`.
#[must_use]
pub fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal)
        .map_or_else(|_| format!("signal {signal}"), |signal| signal.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{DenialReason, Usage};

    fn limits() -> Limits {
        let profile: crate::profile::Profile =
            toml::from_str(crate::profile::BUILT_IN.iter().find(|(name, _)| *name == "default").unwrap().1).unwrap();
        profile.run
    }

    fn ending(exit: Exit) -> Ending {
        Ending {
            exit,
            killed_for: None,
            out_of_memory: false,
            processes_refused: false,
            file_at_limit: false,
            disk_full: false,
            denied: vec![],
            flows: vec![],
            network_error: None,
            usage: Usage::default(),
            started_us: 0,
            ended_us: 0,
        }
    }

    fn status(ending: &Ending) -> Status {
        verdict(ending, &limits()).0
    }

    #[test]
    fn an_exit_of_zero_is_ok_whatever_was_refused() {
        let denied = vec![Denial { syscall: "mount".into(), argument: None, count: 1 }];
        let ending = Ending { denied, processes_refused: true, disk_full: true, ..ending(Exit::Code(0)) };
        assert_eq!(status(&ending), Status::Ok);
    }

    #[test]
    fn a_refused_call_explains_a_bad_end() {
        let denied = vec![Denial { syscall: "socket".into(), argument: Some("AF_INET".into()), count: 2 }];
        let (status, reason) = verdict(&Ending { denied, ..ending(Exit::Code(1)) }, &limits());
        assert_eq!((status, reason.as_deref()), (Status::SyscallDenied, Some("refused: socket(AF_INET)")));
    }

    #[test]
    fn a_refused_flow_is_named_where_nothing_else_explains_a_bad_end() {
        let flow = |name: Option<&str>, address: Option<&str>, port, reason| DeniedFlow {
            name: name.map(str::to_owned),
            address: address.map(|address| address.parse().unwrap()),
            port: Some(port),
            protocol: crate::job::Protocol::Tcp,
            reason,
            count: 2,
        };
        let flows = vec![
            flow(Some("example.org"), None, 443, DenialReason::NotListed),
            flow(None, Some("2001:4860::1"), 25, DenialReason::Port),
        ];
        let failed = Ending { flows: flows.clone(), ..ending(Exit::Code(1)) };
        let text = "exit status 1; refused: example.org:443 (not listed), [2001:4860::1]:25 (not at this port)";
        assert_eq!(verdict(&failed, &limits()), (Status::NonzeroExit, Some(text.to_owned())));
        let many = Ending { flows: [&flows[..], &flows[..]].concat(), ..ending(Exit::Code(1)) };
        assert!(verdict(&many, &limits()).1.unwrap().ends_with(", and 1 more"));
        assert_eq!(verdict(&Ending { flows: flows.clone(), ..ending(Exit::Code(0)) }, &limits()), (Status::Ok, None));
        let without = Ending { network_error: Some("it broke".to_owned()), flows, ..ending(Exit::Code(1)) };
        assert_eq!(verdict(&without, &limits()).1.as_deref(), Some("exit status 1; no network: it broke"));
    }

    #[test]
    fn refused_flows_are_counted_together_and_bounded() {
        let flow = |number: usize| DeniedFlow {
            name: Some(format!("{number}.{}", "a".repeat(200))),
            address: None,
            port: None,
            protocol: crate::job::Protocol::Dns,
            reason: DenialReason::NotListed,
            count: 1,
        };
        let mut all = Vec::new();
        for _ in 0..3 {
            DeniedFlow::gather(&mut all, (0..1000).map(flow));
        }
        assert!(all.len() > 20 && all.iter().all(|flow| flow.count == 3), "{}", all.len());
        assert!(postcard::to_allocvec(&all).unwrap().len() <= 8 << 10);
    }

    #[test]
    fn every_cause_has_its_verdict() {
        for (cause, expected) in [
            (Cause::WallTime, Status::WallTimeExceeded),
            (Cause::CpuTime, Status::CpuTimeExceeded),
            (Cause::Memory, Status::MemoryExceeded),
            (Cause::Processes, Status::ProcessesExceeded),
            (Cause::Output, Status::OutputExceeded),
            (Cause::Denied, Status::SyscallDenied),
            (Cause::Cancelled, Status::Cancelled),
        ] {
            let ending = Ending { killed_for: Some(cause), ..ending(Exit::Signal(libc::SIGKILL)) };
            assert_eq!(status(&ending), expected, "{cause:?}");
        }
    }

    #[test]
    fn signals_of_limits_are_limits() {
        assert_eq!(status(&ending(Exit::Signal(libc::SIGXCPU))), Status::CpuTimeExceeded);
        assert_eq!(status(&ending(Exit::Signal(libc::SIGXFSZ))), Status::FileSizeExceeded);
        assert_eq!(status(&ending(Exit::Signal(libc::SIGSEGV))), Status::Signalled);
    }

    #[test]
    fn memory_comes_before_the_signal_that_it_caused() {
        let ending = Ending { out_of_memory: true, ..ending(Exit::Signal(libc::SIGKILL)) };
        assert_eq!(status(&ending), Status::MemoryExceeded);
    }

    #[test]
    fn a_killed_fork_bomb_is_about_processes() {
        let ending = Ending {
            processes_refused: true,
            killed_for: Some(Cause::WallTime),
            ..ending(Exit::Signal(libc::SIGKILL))
        };
        assert_eq!(status(&ending), Status::ProcessesExceeded);
    }
}
