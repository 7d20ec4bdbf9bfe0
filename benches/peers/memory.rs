//! Memory of the service, and of sandboxes that are parked, warm or running; proc(5), `smaps_rollup`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use codesandbox::cli::bench::client::{Connector, request};
use serde_json::json;

use super::common::{Service, wait_for};
use super::ours::Ours;
use super::report::{Report, Table};

/// Memory of some processes, in KiB.
#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    pub(crate) proportional: u64,
    pub(crate) private: u64,
}

impl std::ops::Add for Memory {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            resident: self.resident + other.resident,
            proportional: self.proportional + other.proportional,
            private: self.private + other.private,
        }
    }
}

/// The three processes of the service, by name.
pub(crate) fn of_service(service: &Service) -> [(&'static str, Memory); 3] {
    [
        ("daemon", of(service.daemon_pid())),
        ("launcher", of(service.launcher_pid())),
        ("launcher's stub", of(service.launcher_stub_pid())),
    ]
}

pub(crate) fn measure(report: &mut Report, ours: &[Ours]) {
    let Some(first) = ours.first() else { return };
    let columns = ["process", "resident", "PSS", "private", "resident before the first job", "private before"];
    let mut table = Table::new(format!("Memory of {}, in KiB", first.name), &columns);
    let now = of_service(&first.service);
    let sum = |all: &[(&str, Memory)]| all.iter().fold(Memory::default(), |sum, (_, one)| sum + *one);
    let rows = now.iter().zip(&first.fresh).map(|((name, now), (_, fresh))| (*name, *now, *fresh));
    for (name, now, fresh) in rows.chain([("together", sum(&now), sum(&first.fresh))]) {
        let numbers = [now.resident, now.proportional, now.private, fresh.resident, fresh.private];
        table.rows.push([name.to_owned()].into_iter().chain(numbers.map(|number| number.to_string())).collect());
    }
    table.notes.push("resident counts pages that the three share once for each".to_owned());
    report.value("memory/service_mib", as_mib(sum(&now).resident));
    report.table(table);
    of_sandboxes(report, ours);
}

/// Each state's sandboxes, init and all below it together.
fn of_sandboxes(report: &mut Report, ours: &[Ours]) {
    let mut table = Table::new("Private memory of one sandbox, in KiB", &["sandbox", "how many", "least", "most"]);
    let mut states: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for one in ours {
        // So that demand is known, and what waits for it waits.
        for runtime in ["python", "node", "true"] {
            for mut worker in one.workers(&json!({"runtime": runtime, "files": [{"content": ""}]}), 1) {
                (0..3).for_each(|_| drop(worker()));
            }
        }
        one.settle();
        for sandbox in sandboxes(&one.service) {
            states.entry(state(&sandbox)).or_default().push(private(&sandbox));
        }
    }
    if let Some(one) = ours.last() {
        states.entry("running: sleep".to_owned()).or_default().push(of_running(one));
    }
    for (state, sizes) in &states {
        let (least, most) = (sizes.iter().min().copied(), sizes.iter().max().copied());
        let cells = [sizes.len() as u64, least.unwrap_or(0), most.unwrap_or(0)];
        table.rows.push([state.clone()].into_iter().chain(cells.map(|cell| cell.to_string())).collect());
        if let Some(most) = most {
            report.value(format!("memory/{state}"), most as f64);
        }
    }
    report.table(table);
}

/// Processes of each live sandbox, its init among them: those that share a namespace of processes.
fn sandboxes(service: &Service) -> Vec<Vec<i32>> {
    let mut all: BTreeMap<PathBuf, Vec<i32>> = BTreeMap::new();
    for pid in service.sandbox_processes() {
        if let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/pid")) {
            all.entry(namespace).or_default().push(pid);
        }
    }
    all.into_values().collect()
}

/// `parked`, or `warm: python3.11`.
fn state(sandbox: &[i32]) -> String {
    let program = sandbox.iter().find(|pid| !is_init(**pid));
    // Until it is given a job, the program of a parked one is the launcher's own code.
    let warm = program.map(|program| name(*program)).filter(|name| !name.starts_with("codesandbox"));
    warm.map_or("parked".to_owned(), |name| format!("warm: {name}"))
}

/// Whether it is process 1 of the namespace that it is in.
fn is_init(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("NSpid:")).is_some_and(|ids| ids.ends_with("\t1"))
}

pub(crate) fn name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Of a sandbox in which a program waits for nothing.
fn of_running(ours: &Ours) -> u64 {
    let body = json!({"runtime": "sleep", "files": [{"content": ""}], "args": ["60"]}).to_string();
    let mut stream = Connector::Path(ours.service.socket()).connect().unwrap();
    std::io::Write::write_all(&mut stream, &request("POST", "/v1/run", body.as_bytes(), false)).unwrap();
    let running = || {
        let mut all = sandboxes(&ours.service).into_iter();
        all.find(|sandbox| sandbox.iter().any(|pid| name(*pid) == "sleep"))
    };
    wait_for("the program to run", || running().is_some());
    let size = running().map(|sandbox| private(&sandbox)).unwrap_or_default();
    drop(stream); // which cancels the job
    wait_for("the sandbox to be gone", || running().is_none());
    size
}

fn private(sandbox: &[i32]) -> u64 {
    sandbox.iter().map(|pid| of(*pid).private).sum()
}

/// Of one process; nothing where it is gone.
pub(crate) fn of(pid: i32) -> Memory {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let sum = |names: &[&str]| {
        let lines = text.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
        lines.filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()).sum()
    };
    Memory {
        resident: sum(&["Rss:"]),
        proportional: sum(&["Pss:"]),
        private: sum(&["Private_Clean:", "Private_Dirty:"]),
    }
}

pub(crate) fn as_mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
