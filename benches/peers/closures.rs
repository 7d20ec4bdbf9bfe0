//! What a run costs when its runtime is forty paths of a store, or four hundred.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::ours::Ours;
use super::report::{Report, Table, number};
use super::turns::{Side, one_after_another, take_turns};

const SIZES: [usize; 4] = [40, 100, 200, 400];

pub(crate) fn measure(report: &mut Report, quick: bool) {
    // Neither in /tmp nor in /var/tmp, where a sandbox has directories of its own.
    let store = match tempfile::Builder::new().prefix("codesandbox-bench-").tempdir_in("/var/lib") {
        Ok(store) => store,
        Err(error) => return report.skip(format!("closures: /var/lib: {error}")),
    };
    fs::set_permissions(store.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if let Err(why) = build(store.path()) {
        return report.skip(format!("closures: no static program can be made: {why}"));
    }
    let manifest = store.path().join("runtimes.json");
    fs::write(&manifest, manifest_of(store.path()).to_string()).unwrap();
    let ours = Ours::cold(json!({"runtimes": {"host": false, "manifest": manifest}}));
    let rounds = if quick { 20 } else { 150 };
    let body = |size: usize| json!({"runtime": format!("true@{size}"), "files": [{"content": ""}]});
    let side = |size: &usize| Side::new(size.to_string(), ours.workers(&body(*size), 1)).settled_by(|| ours.settle());
    let mut sides: Vec<_> = SIZES.iter().map(side).collect();
    take_turns(&mut sides, rounds, 1, &one_after_another());
    sides.sort_by_key(|side| side.name.parse::<usize>().unwrap());
    let mut table =
        Table::new(format!("true, cold, {rounds} rounds"), &["closure paths", "p50 ms", "p95 ms", "× 40 paths"]);
    let basis = sides[0].sample().summary().p50;
    for side in &sides {
        let latency = side.sample().summary();
        let cells = [latency.p50, latency.p95, latency.p50 / basis].map(number);
        table.rows.push([side.name.clone()].into_iter().chain(cells).collect());
        table.notes.extend(side.failures());
        report.value(format!("closures/{}", side.name), latency.p50);
    }
    report.table(table);
}

fn path(store: &Path, number: usize) -> String {
    store.join(format!("{number:03}-part")).display().to_string()
}

/// Directories with a small file each; the first has a program that needs none of the others.
fn build(store: &Path) -> Result<(), String> {
    for number in 0..SIZES.into_iter().max().unwrap_or(0) {
        let directory = path(store, number);
        fs::create_dir(&directory).unwrap();
        fs::write(Path::new(&directory).join("file"), "something\n").unwrap();
    }
    let source = store.join("true.c");
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let program = format!("{}/true", path(store, 0));
    let output = Command::new("gcc").args(["-static", "-O2", "-o", &program]).arg(&source).output();
    let output = output.map_err(|error| format!("gcc: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn manifest_of(store: &Path) -> Value {
    let runtime = |size: usize| {
        let closure: Vec<String> = (0..size).map(|number| path(store, number)).collect();
        json!({
            "language": "true", "version": size.to_string(), "programs": {"it": format!("{}/true", path(store, 0))},
            "path": [], "closure": closure, "closure_bytes": null,
        })
    };
    json!({"runtimes": SIZES.map(runtime)})
}
