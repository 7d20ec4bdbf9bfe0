//! What a run costs while many sandboxes live.

use std::io::Write;
use std::os::unix::net::UnixStream;

use codesandbox::cli::bench::bare::Start;
use codesandbox::cli::bench::client::{Connector, request};
use codesandbox::cli::bench::program::Program;
use serde_json::json;

use super::common::wait_for;
use super::latency::case;
use super::memory::{as_mib, name, of_service};
use super::ours::Ours;
use super::report::{Report, Table, number};
use super::turns::{Side, one_after_another, take_turns};

/// Longer than the bench takes.
const FOREVER_MS: u64 = 3_600_000;

pub(crate) fn measure(report: &mut Report, quick: bool) {
    let (steps, rounds): (&[usize], _) = if quick { (&[1, 10, 100], 20) } else { (&[1, 10, 100, 300, 1000], 100) };
    let scratch = tempfile::tempdir().unwrap();
    let case = match case(Program::True, &scratch) {
        Ok(case) => case,
        Err(why) => return report.skip(why),
    };
    let bare = case.bare.clone().expect("checked when it was drawn up");
    let limits = json!({"wall_time_ms": FOREVER_MS, "cpu_time_ms": FOREVER_MS});
    let ours = Ours::cold(json!({
        "service": {
            "concurrency": 1010, "memory_budget_bytes": 1_u64 << 50, "queue_length": 2000,
            "queue_length_per_client": 2000,
        },
        // Where no cgroup counts, a thousand samplers at the usual pace would be all that is measured.
        "launcher": {"sandboxes": 1010, "sample_interval_us": 500_000},
        "profiles": {"default": {"run": limits, "maximum": limits}},
    }));
    let columns = ["live sandboxes", "p50 ms", "p95 ms", "bare p50 ms", "× bare", "daemon and launcher, MiB"];
    let mut table = Table::new(format!("true, cold, beside live sandboxes, {rounds} rounds"), &columns);
    let mut live: Vec<UnixStream> = Vec::new();
    for step in steps {
        grow(&ours, &mut live, *step);
        let mut sides =
            vec![Side::new("bare", vec![bare.worker(Start::Spawn)]), Side::new("ours", ours.workers(&case.body, 1))];
        take_turns(&mut sides, rounds, 1, &one_after_another());
        sides.sort_by(|a, b| a.name.cmp(&b.name));
        let [bare, own] = [0, 1].map(|index: usize| sides[index].sample().summary());
        let resident = of_service(&ours.service).iter().map(|(_, memory)| memory.resident).sum::<u64>();
        let cells = [own.p50, own.p95, bare.p50, own.p50 / bare.p50, as_mib(resident)].map(number);
        table.rows.push([step.to_string()].into_iter().chain(cells).collect());
        table.notes.extend(sides.iter().filter_map(Side::failures));
        report.value(format!("live/{step}"), own.p50);
    }
    table.notes.push("without cgroups, each live sandbox is sampled twice a second here".to_owned());
    report.table(table);
    drop(live); // which cancels them all
    ours.service.assert_no_sandbox();
}

/// Starts sleepers until so many live.
fn grow(ours: &Ours, live: &mut Vec<UnixStream>, count: usize) {
    let limits = json!({"memory_bytes": 16 << 20, "processes": 8});
    let body = json!({"runtime": "sleep", "files": [{"content": ""}], "args": ["3000"], "limits": limits}).to_string();
    let request = request("POST", "/v1/run", body.as_bytes(), false);
    while live.len() < count {
        let mut stream = Connector::Path(ours.service.socket()).connect().unwrap();
        stream.write_all(&request).unwrap();
        live.push(stream);
        // Not all at once: the queue is not what this is about.
        if live.len().is_multiple_of(20) || live.len() == count {
            let alive = || ours.service.sandbox_processes().into_iter().filter(|pid| name(*pid) == "sleep");
            wait_for("the sleepers to sleep", || alive().count() >= live.len());
        }
    }
}
