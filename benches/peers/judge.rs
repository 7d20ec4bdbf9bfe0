//! Judging a thousand cases of a program that takes a millisecond, and the same as a bare loop: start the program,
//! give it its input, compare what it prints; one after the other, and as many at one time as there are processors.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ours::Ours;
use super::report::{Report, Table, number};

/// Reads two numbers, works for a millisecond of processor time, prints their sum.
const SOURCE: &str = r#"
#include <stdio.h>
#include <time.h>

int main(void) {
    int a, b;
    struct timespec now;
    if (scanf("%d %d", &a, &b) != 2) return 1;
    do {
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    } while (now.tv_sec == 0 && now.tv_nsec < 1000000);
    printf("%d\n", a + b);
    return 0;
}
"#;
const COMPILER: &str = "/usr/bin/gcc-12";

pub(crate) fn measure(report: &mut Report, quick: bool) {
    let (rounds, count) = if quick { (3, 200) } else { (9, 1000) };
    let scratch = tempfile::tempdir().unwrap();
    let (source, program) = (scratch.path().join("main.c"), scratch.path().join("main"));
    std::fs::write(&source, SOURCE).unwrap();
    let compiled = Command::new(COMPILER).args(["-O2", "-o"]).arg(&program).arg(&source).status();
    if !compiled.is_ok_and(|status| status.success()) {
        return report.skip("judging: the host has no C compiler of version 12");
    }
    let parallel = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let ours = Ours::start("codeSandbox", json!({}));
    let cases: Vec<Value> =
        (0..count).map(|n| json!({"stdin": format!("{n} {n}\n"), "expected": format!("{}\n", 2 * n)})).collect();
    let body = json!({"runtime": "c@12", "files": [{"content": SOURCE}], "tests": {"cases": cases}});
    let mut bare: [(usize, Vec<Duration>); 2] = [(1, Vec::new()), (parallel, Vec::new())];
    let mut judged = Vec::new();
    // The first compiles, and is not counted.
    for round in 0..=rounds {
        for (at_once, times) in &mut bare {
            let took = loop_over(&program, count, *at_once);
            if round > 0 {
                times.push(took);
            }
        }
        ours.settle();
        let began = Instant::now();
        let answer = ours.service.run(&body);
        let took = began.elapsed();
        assert_eq!(answer["tests"]["accepted"], count, "{}", answer["tests"]["verdict"]);
        if round > 0 {
            judged.push(took);
        }
    }
    let title = format!("Judging {count} cases of a program that takes 1 ms, {parallel} at a time, {rounds} times");
    let headings = ["contender", "median ms", "ms a case", "× bare loop", "× as many loops as processors"];
    let mut table = Table::new(title, &headings);
    let [alone, together] = bare.each_mut().map(|(_, times)| median(times));
    let mut row = |name: &str, median: f64| {
        let figures = [median, median / f64::from(count), median / alone, median / together];
        table.rows.push([vec![name.to_owned()], figures.map(number).to_vec()].concat());
    };
    row("bare loop", alone);
    row(&format!("{parallel} bare loops"), together);
    let judged = median(&mut judged);
    row(ours.name, judged);
    report.value("judge/one loop".to_owned(), judged / alone);
    report.value("judge/loops".to_owned(), judged / together);
    report.table(table);
}

/// How long it takes to run the program on every input, so many at a time.
fn loop_over(program: &Path, count: u32, parallel: usize) -> Duration {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..parallel {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count as usize {
                        return;
                    }
                    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
                    child.stdin.take().unwrap().write_all(format!("{n} {n}\n").as_bytes()).unwrap();
                    let output = child.wait_with_output().unwrap();
                    assert_eq!(output.stdout, format!("{}\n", 2 * n).into_bytes());
                }
            });
        }
    });
    began.elapsed()
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}
