//! Memory of the service, idle, and of what a sandbox adds to it; proc(5), `smaps_rollup`.

use std::fs;

use super::client::{self, Client};
use super::common::{Service, wait_for};

/// Memory of one process, in KiB.
#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    proportional: u64,
    private: u64,
}

/// The three processes of the service, by name.
pub(crate) fn of_service(service: &Service) -> [(&'static str, Memory); 3] {
    [
        ("daemon", of(service.daemon_pid())),
        ("launcher", of(service.launcher_pid())),
        ("launcher's stub", of(service.launcher_stub_pid())),
    ]
}

/// `fresh` was taken before the first job.
pub(crate) fn print(service: &Service, fresh: &[(&'static str, Memory)]) {
    println!("### Memory, in KiB\n");
    println!("| process | PSS | private | PSS before the first job | private before |");
    println!("|---|--:|--:|--:|--:|");
    let now = of_service(service);
    for ((name, now), (_, fresh)) in now.iter().zip(fresh) {
        println!("| {name} | {} | {} | {} | {} |", now.proportional, now.private, fresh.proportional, fresh.private);
    }
    let sum =
        |of: &[(&str, Memory)], which: fn(&Memory) -> u64| of.iter().map(|(_, memory)| which(memory)).sum::<u64>();
    let [now, fresh] =
        [&now, fresh].map(|of| (sum(of, |memory| memory.proportional), sum(of, |memory| memory.private)));
    println!("| together | {} | {} | {} | {} |", now.0, now.1, fresh.0, fresh.1);
    let init = of_init(service);
    println!("| init of one sandbox | {} | {} | – | – |\n", init.proportional, init.private);
}

/// Init of a sandbox in which a program waits for nothing.
fn of_init(service: &Service) -> Memory {
    let mut client = Client::connect(&service.socket());
    client.send(&client::request("bash", "exec sleep 60\n"));
    let init = || service.sandbox_processes().into_iter().find(|pid| is_init(*pid));
    let sleeps = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
    wait_for("the program to run", || service.sandbox_processes().iter().any(sleeps) && init().is_some());
    let memory = init().map(of).unwrap_or_default();
    drop(client); // which cancels the job
    service.assert_no_sandbox();
    memory
}

/// Whether it is process 1 of the namespace that it is in.
fn is_init(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("NSpid:")).is_some_and(|ids| ids.ends_with("\t1"))
}

fn of(pid: i32) -> Memory {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let sum = |names: &[&str]| {
        let lines = text.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
        lines.filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()).sum()
    };
    Memory { proportional: sum(&["Pss:"]), private: sum(&["Private_Clean:", "Private_Dirty:"]) }
}
